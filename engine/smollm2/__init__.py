"""SmolLM2-135M as real input of a campaign: the seed from a package index, three experts by LoRA (`python -m engine.smollm2`)."""
