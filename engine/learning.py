"""Learning from measured programs: preference pairs by dev score, then DPO (TRL).

Self-Developing (https://arxiv.org/abs/2410.15639): chosen are the top 3 % by dev score, rejected the bottom 10 %, and from the second
iteration the top 3 of every earlier one are chosen too. The paper leaves the pairing open; ours: the i-th chosen program meets
`pairs_per_chosen` rejected ones in turn, so no program dominates. Small runs have floors: 3 % of a hundred scored programs would be three.
Only dev scores enter, only programs that ran and were new: a duplicate would count its original twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from engine.config import LearnSection
from engine.errors import HostError
from engine.hashing import weights_hash
from engine.records import Candidate, Outcome


@dataclass(frozen=True)
class Pair:
    """One preference: `chosen` scored higher on dev than `rejected`. `margin` is the difference of dev shares, 0..1."""

    prompt: str
    chosen: str
    rejected: str
    chosen_number: int
    rejected_number: int
    margin: float


def best_first(candidate: Candidate) -> tuple[bool, bool, float, int]:
    """Sorts candidates by dev score, best first; of equals the earlier one first, those without a score last.

    Candidates that were stopped in a race come after all that were not, by what they had shown: they could not reach the best any more.
    """
    return candidate.score is None, not candidate.complete, -(candidate.score or 0.0), candidate.number


def scored_best_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    """New, working candidates, sorted by `best_first`."""
    return sorted((c for c in candidates if c.assessment.outcome is Outcome.OK), key=best_first)


def choose_pairs(by_iteration: Mapping[int, Sequence[Candidate]], section: LearnSection) -> list[Pair]:
    """Preference pairs of the latest iteration in `by_iteration`, with the elite of the earlier ones carried over.

    Never pairs programs of equal score. Empty where fewer than two different scores exist.
    """
    latest = max(by_iteration)
    ranked = scored_best_first(by_iteration[latest])
    top = ranked[: min(len(ranked) // 2, section.top(len(ranked)))]
    bottom = ranked[len(top) :][-section.bottom(len(ranked)) :]
    elite = [
        c for i in sorted(by_iteration) if i != latest for c in scored_best_first(by_iteration[i])[: section.elite]
    ]
    pairs = []
    for index, chosen in enumerate(top + elite):
        for offset in range(min(section.pairs_per_chosen, len(bottom))):
            rejected = bottom[(index * section.pairs_per_chosen + offset) % len(bottom)]
            margin = (chosen.score or 0.0) - (rejected.score or 0.0)
            if margin > 0:
                pairs.append(
                    Pair(
                        rejected.program.prompt,
                        chosen.program.text,
                        rejected.program.text,
                        chosen.number,
                        rejected.number,
                        margin,
                    )
                )
    return pairs


def train_dpo(
    source: str,
    pairs: Sequence[Pair],
    target: Path,
    section: LearnSection,
    *,
    seed: int,
    threads: int,
    device: str = "cpu",
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Train the generator in folder `source` on `pairs` and write the result to `target`, whole or not at all.

    The reference model is the generator before this update. With `lora_rank` > 0 a LoRA adapter (alpha = rank) is trained and merged
    into the weights, so every generator in a run is a plain model folder; 0 trains all weights.

    Args:
        device: "cpu" or "cuda".
        check: called after every step; what it raises stops the training, and nothing is written.

    Returns:
        Figures of the training: steps, losses, share of pairs the trained model ranks rightly, folder's hash.

    Raises:
        HostError: the result cannot be written.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    work = target.parent / f".training-{target.name}"
    try:
        shutil.rmtree(work, ignore_errors=True)  # left by a run that was killed while it trained
        work.mkdir()
        figures = _train(source, pairs, work, section, seed=seed, device=device, check=check)
        figures["generator_hash"] = weights_hash((work / "model").glob("*.safetensors"))
        if target.exists():  # left by a run that died between this rename and the archive's row
            shutil.rmtree(target)
        os.replace(work / "model", target)
    except (OSError, SafetensorError) as error:
        raise HostError(
            f"generator '{target}': it could not be written ({error}); free space, then resume: the training is repeated"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        torch.set_num_threads(before)
    return figures


def _train(
    source: str,
    pairs: Sequence[Pair],
    work: Path,
    section: LearnSection,
    *,
    seed: int,
    device: str,
    check: Callable[[], None],
) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import DPOTrainer

    class Checking(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: object, **__: object) -> None:
            check()

    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(source, dtype="float32", use_safetensors=True)
    rows = [{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs]
    lora = (
        LoraConfig(
            r=section.lora_rank, lora_alpha=section.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        if section.lora_rank
        else None
    )
    trainer = DPOTrainer(
        model=model,
        args=_arguments(section, work, seed, device),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
    )
    trainer.remove_callback(PrinterCallback)  # it prints raw figures; ours go into the archive
    trainer.add_callback(Checking())
    trainer.train()
    trained = trainer.model.merge_and_unload() if lora else trainer.model
    trained.save_pretrained(work / "model")
    _save_tokenizer(tokenizer, work / "model")
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "steps": trainer.state.global_step,
        "loss_first": history[0]["loss"] if history else None,
        "loss_last": history[-1]["loss"] if history else None,
        "pairs_ranked_rightly": history[-1].get("rewards/accuracies") if history else None,
    }


def _arguments(section: LearnSection, work: Path, seed: int, device: str) -> Any:
    from trl import DPOConfig

    return DPOConfig(
        output_dir=str(work / "trainer"),
        beta=section.beta,
        learning_rate=section.learning_rate,
        num_train_epochs=section.epochs,
        per_device_train_batch_size=section.batch,
        lr_scheduler_type="cosine",
        warmup_steps=2,
        seed=seed,
        use_cpu=device == "cpu",
        bf16=False,
        dataloader_pin_memory=False,
        max_length=None,
        save_strategy="no",
        logging_strategy="epoch",
        report_to=[],
        disable_tqdm=True,
        gradient_checkpointing=False,
    )


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    try:
        tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # the tokenizers library has no class of its own for a write that failed
        raise OSError(str(error)) from error
