"""What happens to the merged tensor: a branch or a clean-up, and always a last word on its size."""

from __future__ import annotations

from collections.abc import Callable

from engine.grammar.writer import Writer

Finish = Callable[[Writer], None]

SCALE = (0.2, 1.6)  # of the whole; wide on purpose: which size is good is for scores to say
_KINDS = ("mlp", "attn", "down_proj", "up_proj", "gate", "q_proj", "v_proj", "o_proj", "norm", "embed")


def match_norm(w: Writer) -> None:
    out, v = w.names["merged"], w.names["vector"]
    goal = w.pick("mean", "max", "min", "total")
    w.say(
        "restore the norm", f"rescale to the {'mean' if goal == 'total' else goal} norm", "keep the size of the inputs"
    )
    each = f"{v}.norm() for {v} in model_dict.values()"
    if goal == "mean":
        w.line(f"target = sum({each}) / len(model_dict)")
    elif goal == "total":
        w.line(f"target = sum({each.replace('norm()', 'pow(2).sum()')}).sqrt()")
    else:
        w.line(f"target = {goal}({each})")
    w.line(
        f"{out} = {out} * {w.pick('target', '(target', 'target')} / ({out}.norm() + {w.eps})".replace(
            "(target /", "target /"
        )
    )


def clamp_merged(w: Writer) -> None:
    w.say("clamp the result", "clip extreme merged entries", "bound the merged entries")
    out = w.names["merged"]
    bound = w.number(w.label("bound", "clip", "limit"), 0.5, 6.0)
    w.line(f"top = {bound} * {w.pick(f'{out}.abs().mean()', f'{out}.pow(2).mean().sqrt()')}")
    w.line(f"{out} = {w.pick(f'{out}.clamp(-top, top)', f'torch.clamp({out}, -top, top)')}")


def sparsify(w: Writer) -> None:
    w.say("keep the strongest merged entries", "sparsify the result", "mask the weak entries of the result")
    out = w.names["merged"]
    keep = w.number(w.label("density", "keep", "final_keep"), 0.1, 0.95)
    if w.chance(0.5):
        w.line(f"size = {out}.abs().flatten()")
        w.line(f"floor = size.kthvalue(max(1, int((1 - {keep}) * size.numel()))).values")
    else:
        w.line(f"floor = {w.literal(0.1, 1.2)} * {out}.abs().mean()")
    w.line(
        w.pick(
            f"{out} = {out} * ({out}.abs() >= floor)",
            f"{out} = torch.where({out}.abs() >= floor, {out}, {w.literal(0.05, 0.8)} * {out})",
        )
    )


def svd_merged(w: Writer) -> None:
    w.say("keep the main directions of the result", "low-rank result for matrices", "cut the tail of the spectrum")
    out = w.names["merged"]
    with w.block(f"if {out}.{w.pick('ndim', 'dim()')} == 2:"):
        w.line(f"u, s, vh = torch.linalg.svd({out}, full_matrices=False)")
        if w.chance(0.6):
            w.line(f"k = max(1, int({w.number('rank', 0.05, 0.9)} * len(s)))")
            w.line(f"{out} = (u[:, :k] * s[:k]) @ vh[:k]")
        else:
            w.line(f"s = s * (s > {w.number('cutoff', 0.02, 0.6)} * s{w.pick('[0]', '.max()', '.mean()')})")
            w.line(f"{out} = (u * s) @ vh")


def blend_mean(w: Writer) -> None:
    w.say("blend with the plain mean", "interpolate toward the average", "mix in the simple average")
    out = w.names["merged"]
    mix = w.number(w.label("mix", "blend", "beta"), 0.05, 0.95)
    w.line("plain = sum(model_dict.values()) / len(model_dict)")
    w.line(
        w.pick(
            f"{out} = {mix} * {out} + (1 - {mix}) * plain",
            f"{out} = torch.lerp({out}, plain, {mix})",
            f"{out} = {out} + {mix} * (plain - {out})",
        )
    )


def base_cap(w: Writer) -> None:
    base = w.use("base")
    w.say("limit the change relative to the base", "never move far from the base", "cap by the base norm")
    out = w.names["merged"]
    cap = w.number(w.label("cap", "max_change"), 0.01, 1.0, log=True)
    if w.chance(0.5):
        with w.block(f"if {out}.norm() > {cap} * {base}.norm():"):
            w.line(f"{out} = {out} * {cap} * {base}.norm() / ({out}.norm() + {w.eps})")
    else:
        w.line(f"ratio = {base}.norm() / ({out}.norm() + {w.eps})")
        w.line(f"{out} = {out} * ({cap} * ratio).clamp(max={w.literal(0.8, 1.5)})")


def vector_branch(w: Writer) -> None:
    w.say(
        "treat vectors and matrices apart",
        "plain average for one-dimensional parameters",
        "small scale for biases and norms",
    )
    out = w.names["merged"]
    with w.block(f"if {out}.{w.pick('ndim < 2', 'ndim == 1', 'dim() < 2')}:"):
        w.line(
            w.pick(
                f"{out} = {w.number('vector_scale', 0.05, 1.6)} * {out}",
                f"{out} = {w.literal(*SCALE)} * sum(model_dict.values()) / len(model_dict)",
            )
        )


def name_branch(w: Writer) -> None:
    name = w.use("name")
    kind = w.pick(*_KINDS)
    w.say(f"treat {kind} apart", f"another scale for {kind}")
    out = w.names["merged"]
    with w.block(f"if {w.pick(repr(kind), repr(kind)).replace(chr(39), chr(34))} in {name}:"):
        w.line(f"{out} = {out} * {w.number(w.pick('special', 'extra'), 0.1, 2.0)}")
    if w.chance(0.25):
        other = w.pick(*[k for k in _KINDS if k != kind])
        with w.block(f'elif "{other}" in {name}:'):
            w.line(f"{out} = {out} * {w.literal(0.1, 2.0)}")


def size_branch(w: Writer) -> None:
    w.say("scale large tensors differently", "adapt to the size of the tensor")
    out = w.names["merged"]
    w.line(
        w.pick(
            f"{out} = {out} * ({w.literal(0.4, 1.4)} if {out}.numel() > {w.pick('1000', '4096', '10000', '50000')} else {w.literal(0.4, 1.4)})",
            f"{out} = {out} * (1 + {w.literal(-0.3, 0.5)} * ({out}.shape[0] > {out}.shape[-1]))",
        )
    )


POLISH: dict[str, tuple[float, Finish]] = {
    "match_norm": (2.0, match_norm),
    "clamp_merged": (0.8, clamp_merged),
    "sparsify": (1.2, sparsify),
    "svd_merged": (1.2, svd_merged),
    "blend_mean": (1.3, blend_mean),
    "base_cap": (0.8, base_cap),
    "vector_branch": (1.2, vector_branch),
    "name_branch": (1.3, name_branch),
    "size_branch": (0.5, size_branch),
}


def constant(w: Writer) -> None:
    out = w.names["merged"]
    scale = w.number(w.label("scale", "scale", "lam", "alpha", "scaling"), *SCALE)
    w.line(w.pick(f"return {scale} * {out}", f"return {scale} * {out}", f"return {out} * {scale}"))


def nothing(w: Writer) -> None:
    w.line(f"return {w.names['merged']}")


def depth_line(w: Writer) -> None:
    depth = w.use("depth")
    w.say("scale grows or falls with depth", "linear schedule over depth", "deeper layers get another scale")
    out = w.names["merged"]
    low, high = w.number(w.label("early", "start"), *SCALE), w.number(w.label("late", "end"), *SCALE)
    w.line(f"scale = {w.pick(f'{low} + ({high} - {low}) * {depth}', f'(1 - {depth}) * {low} + {depth} * {high}')}")
    w.line(f"return {w.pick(f'scale * {out}', f'{out} * scale')}")


def depth_bell(w: Writer) -> None:
    depth = w.use("depth")
    w.say("strongest in the middle layers", "weaker at both ends", "bell over depth")
    out = w.names["merged"]
    peak, floor = w.number("peak", *SCALE), w.literal(0.05, 1.2)
    shape = w.pick(f"(1 - abs(2 * {depth} - 1))", f"4 * {depth} * (1 - {depth})", f"math.sin(math.pi * {depth})")
    if "math" in shape:
        w.imports.add("math")
    w.line(
        f"scale = {floor} + {peak} * {shape}"
        if w.chance(0.6)
        else f"scale = {peak} * (1 - {w.literal(0.1, 0.9)} * {shape})"
    )
    w.line(f"return scale * {out}")


def depth_step(w: Writer) -> None:
    depth = w.use("depth")
    w.say("one scale for early layers, another for late", "switch at some depth", "step over depth")
    out = w.names["merged"]
    where, low, high = w.number("switch", 0.15, 0.85), w.literal(*SCALE), w.literal(*SCALE)
    if w.chance(0.5):
        w.line(f"scale = {low} if {depth} < {where} else {high}")
        w.line(f"return scale * {out}")
    else:
        with w.block(f"if {depth} {w.pick('<', '>')} {where}:"):
            w.line(f"return {low} * {out}")
        w.line(f"return {high} * {out}")


def adaptive(w: Writer) -> None:
    w.say("scale by how much survives the merge", "adaptive scale from norms", "let the norms set the scale")
    out, v = w.names["merged"], w.names["vector"]
    w.line(f"mean_norm = sum({v}.norm() for {v} in model_dict.values()) / len(model_dict)")
    scale = w.number("scale", *SCALE)
    w.line(
        f"return {scale} * {out} * (mean_norm / ({out}.norm() + {w.eps})) ** {w.number(w.pick('power', 'blend'), 0.05, 0.95)}"
    )


LAST: dict[str, tuple[float, Finish]] = {
    "constant": (6.0, constant),
    "nothing": (1.5, nothing),
    "depth_line": (1.5, depth_line),
    "depth_bell": (0.7, depth_bell),
    "depth_step": (0.8, depth_step),
    "adaptive": (0.7, adaptive),
}
