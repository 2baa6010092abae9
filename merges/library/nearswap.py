"""NearSwap: take over small changes whole, and of large ones only so much.

https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001 (the method; see also https://en.wikipedia.org/wiki/Soft-thresholding)

    tau = min(1, t / |tau_1|) * tau_1

so no value moves by more than t from the base. For one expert. Same numbers as mergekit's `nearswap`, which treats changes below 1e-6
as 1e-6.
"""


def merge_models(model_dict, device, *, t=0.001):
    """Limit how far each value moves."""
    vectors = [vector.to(device) for vector in model_dict.values()]
    if len(vectors) != 1:
        raise ValueError("nearswap merges exactly one model into the base")
    weight = (t / vectors[0].abs().clamp(min=1e-6)).clamp(min=0, max=1)
    return weight * vectors[0]
