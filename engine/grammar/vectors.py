"""Steps on the task vectors before they are combined: one at a time (PER_VECTOR) or looking at all of them (JOINT)."""

from __future__ import annotations

from collections.abc import Callable

from engine.grammar.writer import Writer

PerVector = Callable[[Writer, str], None]
Joint = Callable[[Writer], None]


def mask(w: Writer, v: str, keep: str, drop: str) -> None:
    """Zero the entries of `v` where `keep` is false; `drop` is the same condition turned round."""
    w.line(
        w.pick(
            f"{v} = {v} * ({keep})",
            f"{v} = torch.where({keep}, {v}, torch.zeros_like({v}))",
            f"{v} = {v} * ({keep}).float()",
            f"{v} = {v}.masked_fill({drop}, 0.0)",
        )
    )


def keep_largest(w: Writer, v: str) -> None:
    w.say("keep the largest entries", "trim small entries", "drop the smallest changes", "sparsify by magnitude")
    keep = w.number(w.label("density", "keep", "top"), 0.05, 0.95)
    cut = w.label("cut", "threshold", "bar")
    way = w.pick("quantile", "topk", "topk", "kth")
    if way == "quantile":
        w.line(f"{cut} = torch.quantile({v}.abs().flatten(), 1 - {keep})")
    elif way == "topk":
        w.line(f"k = max(1, int({keep} * {v}.numel()))")
        w.line(f"{cut} = {v}.abs().flatten().topk(k).values" + w.pick(".min()", "[-1]"))
    else:
        w.line(f"k = max(1, int((1 - {keep}) * {v}.numel()))")
        w.line(f"{cut} = {v}.abs().flatten().kthvalue(k).values")
    mask(w, v, f"{v}.abs() >= {cut}", f"{v}.abs() < {cut}")
    if w.chance(0.2):
        w.line(f"{v} = {v} / {keep}")


def drop_largest(w: Writer, v: str) -> None:
    w.say("remove the outliers", "drop the very largest entries", "cut extreme changes")
    share = w.number(w.label("top", "outliers", "share"), 0.002, 0.2, log=True)
    w.line(f"cut = {v}.abs().flatten().topk(max(1, int({share} * {v}.numel()))).values[-1]")
    mask(w, v, f"{v}.abs() <= cut", f"{v}.abs() > cut")


def above_mean(w: Writer, v: str) -> None:
    w.say("keep entries above the mean size", "zero what is below average", "mask weak entries")
    factor = w.number(w.label("factor", "tau", "strength"), 0.1, 2.5)
    size = w.pick(f"{v}.abs().mean()", f"{v}.pow(2).mean().sqrt()", f"{v}.abs().median()")
    mask(w, v, f"{v}.abs() > {factor} * {size}", f"{v}.abs() <= {factor} * {size}")


def clip(w: Writer, v: str) -> None:
    w.say("clamp outliers", "clip large changes", "limit every entry")
    bound = w.number(w.label("bound", "clip", "sigmas"), 0.3, 4.0)
    size = w.pick(f"{v}.abs().mean()", f"{v}.pow(2).mean().sqrt()", f"{v}.abs().median()")
    w.line(f"edge = {bound} * {size}")
    w.line(
        w.pick(
            f"{v} = {v}.clamp(-edge, edge)",
            f"{v} = torch.clamp({v}, -edge, edge)",
            f"{v} = {v}.clamp(min=-edge, max=edge)",
        )
    )


def soft_threshold(w: Writer, v: str) -> None:
    w.say("soft-threshold each vector", "shrink entries toward zero", "subtract a margin from the magnitudes")
    margin = w.number(w.label("margin", "lam", "shrink"), 0.02, 1.5)
    w.line(f"{v} = {v}.sign() * ({v}.abs() - {margin} * {v}.abs().mean()).clamp(min=0)")


def random_drop(w: Writer, v: str) -> None:
    w.say("drop entries at random and rescale", "random masks", "keep a random part of each vector")
    rate = w.number(w.label("drop", "p", "rate"), 0.05, 0.9)
    rng = w.use("rng")
    w.line(
        w.pick(
            f"kept = torch.rand({v}.shape, generator={rng}) >= {rate}",
            f"kept = (torch.rand({v}.shape, generator={rng}) > {rate}).float()",
            f"kept = torch.bernoulli(torch.full_like({v}, 1 - {rate}), generator={rng})",
        )
    )
    w.line(f"{v} = {v} * kept" + (f" / (1 - {rate})" if w.chance(0.7) else ""))


def low_rank(w: Writer, v: str) -> None:
    w.say("keep the top singular directions", "truncate the SVD", "low-rank part of each matrix", "denoise by SVD")
    share = w.number(w.label("rank", "frac", "ratio"), 0.03, 0.7)
    with w.block(f"if {v}.{w.pick('ndim', 'dim()')} == 2:"):
        w.line(f"u, s, vh = torch.linalg.svd({v}, full_matrices=False)")
        w.line(f"k = max(1, int({share} * {w.pick('s.numel()', 'len(s)', 's.shape[0]')}))")
        w.line(
            w.pick(
                f"{v} = (u[:, :k] * s[:k]) @ vh[:k]",
                f"{v} = u[:, :k] @ torch.diag(s[:k]) @ vh[:k, :]",
                f"{v} = torch.matmul(u[:, :k] * s[:k], vh[:k])",
            )
        )


def spectrum(w: Writer, v: str) -> None:
    w.say("reshape the spectrum", "soften the singular values", "rescale singular values")
    amount = w.number(w.label("power", "gamma", "level"), 0.2, 1.8)
    with w.block(f"if {v}.ndim == 2:"):
        w.line(f"u, s, vh = torch.linalg.svd({v}, full_matrices=False)")
        change = w.pick(
            f"s = (s - {amount} * s.mean()).clamp(min=0)",
            f"s = s.clamp(max={amount} * s.mean())",
            f"s = s.sum() * s.pow({amount}) / (s.pow({amount}).sum() + {w.eps})",
            f"s = s * (s > {amount} * s.mean())",
        )
        w.line(change)
        w.line(w.pick(f"{v} = (u * s) @ vh", f"{v} = u @ torch.diag(s) @ vh"))


def power(w: Writer, v: str) -> None:
    w.say("compress the magnitudes", "raise magnitudes to a power", "bend magnitudes, keep signs")
    exponent = w.number(w.label("power", "gamma", "exponent"), 0.3, 2.5)
    w.line(f"bent = {w.pick(f'{v}.sign()', f'torch.sign({v})')} * {v}.abs().pow({exponent})")
    w.line(f"{v} = bent * {v}.norm() / (bent.norm() + {w.eps})")


def squash(w: Writer, v: str) -> None:
    w.say("squash with tanh", "saturate large entries", "smooth clipping")
    width = w.number(w.label("width", "sharp", "soft"), 0.4, 5.0)
    w.line(f"unit = {width} * {w.pick(f'{v}.abs().mean()', f'{v}.pow(2).mean().sqrt()')} + {w.eps}")
    w.line(f"{v} = unit * torch.tanh({v} / unit)")


def row_balance(w: Writer, v: str) -> None:
    dim, what = w.form.choice(((1, "rows"), (0, "columns"), (-1, "rows")))
    w.say(f"balance the {what}", f"equalise norms of {what}", f"reweight {what} by their norm")
    with w.block(f"if {v}.ndim {w.pick('== 2', '>= 2', '> 1')}:"):
        w.line(f"{what} = {v}.norm(dim={dim}, keepdim=True)")
        if w.chance(0.5):
            w.line(
                f"{v} = {v} * ({what}.mean() / ({what} + {w.eps}))"
                + (f".clamp(max={w.number('cap', 1.1, 4.0)})" if w.chance(0.4) else "")
            )
        else:
            w.line(f"{v} = {v} * ({what} / ({what}.mean() + {w.eps})).pow({w.number('power', 0.2, 2.0)})")


def row_select(w: Writer, v: str) -> None:
    w.say("keep the strongest rows", "drop weak rows", "select rows by norm")
    keep = w.number(w.label("part", "keep", "share"), 0.1, 0.95)
    with w.block(f"if {v}.ndim == 2:"):
        w.line(f"size = {v}.norm(dim=1)")
        w.line(f"k = max(1, int({keep} * len(size)))")
        w.line("cut = size.topk(k).values[-1]")
        w.line(f"{v} = {v} * (size >= cut).{w.pick('unsqueeze(1)', 'view(-1, 1)')}")


def remove_mean(w: Writer, v: str) -> None:
    w.say("center each vector", "remove the mean shift", "subtract the average entry")
    amount = w.pick("", f"{w.number('shift', 0.1, 1.0)} * ")
    w.line(f"{v} = {v} - {amount}{v}.mean()")


def unit_norm(w: Writer, v: str) -> None:
    w.say("limit the norm of each vector", "soften differences in norm", "damp large vectors")
    power_ = w.number(w.label("damp", "power", "beta"), 0.1, 1.0)
    size = w.pick("norm()", "pow(2).mean().sqrt()", "abs().mean()")
    scale = "" if size == "norm()" else f"{w.literal(0.0005, 0.02, log=True)} * "
    if size == "norm()":
        w.line(f"{v} = {v} / ({v}.norm() + {w.eps}).pow({power_})")
    else:
        w.line(f"{v} = {v} * ({scale}1.0 / ({v}.{size} + {w.eps})).pow({power_})")


def base_gate(w: Writer, v: str) -> None:
    base = w.use("base")
    w.say("weigh changes by the base weights", "gate by the size of the base", "scale relative to base")
    way = w.pick("cap", "gate", "ratio", "small")
    if way == "cap":
        cap = w.number("cap", 0.02, 1.5, log=True)
        w.line(f"edge = {cap} * {w.pick(f'({base}.abs() + {base}.abs().mean())', f'{base}.abs().mean()')}")
        w.line(f"{v} = torch.maximum(torch.minimum({v}, edge), -edge)")
    elif way == "gate":
        w.line(
            f"{v} = {v} * {v}.abs() / ({v}.abs() + {w.number('beta', 0.005, 0.5, log=True)} * {base}.abs() + {w.eps})"
        )
    elif way == "ratio":
        w.line(
            f"{v} = {v} * ({base}.abs() / ({base}.abs().mean() + {w.eps})).clamp({w.literal(0.05, 0.6)}, {w.literal(1.0, 3.0)})"
        )
    else:
        w.line(f"{v} = {v} / (1 + {w.number('beta', 0.05, 2.0)} * {base}.abs() / ({base}.abs().mean() + {w.eps}))")


PER_VECTOR: dict[str, tuple[float, PerVector]] = {
    "keep_largest": (3.0, keep_largest),
    "drop_largest": (1.0, drop_largest),
    "above_mean": (2.0, above_mean),
    "clip": (1.5, clip),
    "soft_threshold": (1.0, soft_threshold),
    "random_drop": (1.5, random_drop),
    "low_rank": (2.0, low_rank),
    "spectrum": (1.0, spectrum),
    "power": (1.0, power),
    "squash": (0.8, squash),
    "row_balance": (1.0, row_balance),
    "row_select": (0.8, row_select),
    "remove_mean": (0.5, remove_mean),
    "unit_norm": (0.7, unit_norm),
    "base_gate": (1.0, base_gate),
}


# Steps that look at all vectors.


def equal_norms(w: Writer) -> None:
    w.say("bring all vectors to the same norm", "equalise the norms", "match norms")
    vs, v = w.vectors(), w.names["vector"]
    goal = w.pick("mean", "max", "min")
    if goal == "mean":
        w.line(f"target = sum({v}.norm() for {v} in {vs}) / len({vs})")
    else:
        w.line(f"target = {goal}({v}.norm() for {v} in {vs})")
    if w.chance(0.3):
        w.line(f"{vs} = [{v} * (target / ({v}.norm() + {w.eps})) ** {w.number('blend', 0.2, 1.0)} for {v} in {vs}]")
    else:
        w.line(f"{vs} = [{v} * target / ({v}.norm() + {w.eps}) for {v} in {vs}]")


def toward_mean(w: Writer) -> None:
    w.say("pull every vector toward the mean", "interpolate toward the average", "shrink differences to the mean")
    vs, v, ref = w.vectors(), w.names["vector"], w.names["reference"]
    amount = w.number(w.label("pull", "lam", "blend"), 0.05, 0.95)
    w.line(
        w.pick(
            f"{ref} = sum({vs}) / len({vs})",
            f"{ref} = torch.stack({vs}).mean(0)",
            f"{ref} = torch.stack({vs}).median(0).values",
        )
    )
    w.line(
        w.pick(
            f"{vs} = [torch.lerp({v}, {ref}, {amount}) for {v} in {vs}]",
            f"{vs} = [{v} + {amount} * ({ref} - {v}) for {v} in {vs}]",
        )
    )


def away_from_mean(w: Writer) -> None:
    w.say("remove part of the common direction", "emphasise what is special", "project out the mean direction")
    vs, v, ref = w.vectors(), w.names["vector"], w.names["reference"]
    amount = w.number(w.label("amount", "alpha", "strength"), 0.05, 0.9)
    w.line(f"{ref} = {w.pick(f'sum({vs}) / len({vs})', f'torch.stack({vs}).mean(dim=0)')}")
    if w.chance(0.5):
        w.line(f"{vs} = [{v} - {amount} * {ref} for {v} in {vs}]")
    else:
        w.line(f"{ref} = {ref} / ({ref}.norm() + {w.eps})")
        w.line(f"{vs} = [{v} - {amount} * ({v} * {ref}).sum() * {ref} for {v} in {vs}]")


def sort_by_norm(w: Writer) -> None:
    order = w.pick("", ", reverse=True")
    w.say(f"sort by norm, {'largest' if order else 'smallest'} first", "order the vectors by norm")
    vs, v = w.vectors(), w.names["vector"]
    key = w.pick(
        f"lambda {v}: {v}.norm().item()", f"lambda {v}: float({v}.norm())", f"lambda {v}: float({v}.abs().mean())"
    )
    w.line(w.pick(f"{vs} = sorted({vs}, key={key}{order})", f"{vs}.sort(key={key}{order})"))


def drop_extreme(w: Writer) -> None:
    which = w.pick("largest", "smallest", "least typical")
    w.say(f"leave out the {which} vector", f"skip the {which} expert")
    vs, v = w.vectors(), w.names["vector"]
    with w.block(f"if len({vs}) > {w.pick('1', '2', '2')}:"):
        if which == "least typical":
            w.line(f"center = sum({vs}) / len({vs})")
            key = w.pick(f"({v} - center).norm()", f"-({v} * center).sum() / ({v}.norm() + {w.eps})")
            w.line(f"{vs} = sorted({vs}, key=lambda {v}: float({key}))[:-1]")
        else:
            part = "[:-1]" if which == "largest" else "[1:]"
            w.line(f"{vs} = sorted({vs}, key=lambda {v}: {v}.norm().item()){part}")


def cap_norms(w: Writer) -> None:
    w.say("cap norms at the median norm", "no vector may dominate", "limit the strongest vectors")
    vs, v = w.vectors(), w.names["vector"]
    w.line(f"norms = torch.stack([{v}.norm() for {v} in {vs}])")
    w.line(f"ceiling = {w.number('limit', 0.5, 1.5)} * norms.{w.pick('median()', 'mean()', 'min()')}")
    w.line(f"{vs} = [{v} * (ceiling / ({v}.norm() + {w.eps})).clamp(max=1.0) for {v} in {vs}]")


JOINT: dict[str, tuple[float, Joint]] = {
    "equal_norms": (1.5, equal_norms),
    "toward_mean": (1.0, toward_mean),
    "away_from_mean": (1.0, away_from_mean),
    "sort_by_norm": (1.2, sort_by_norm),
    "drop_extreme": (0.8, drop_extreme),
    "cap_norms": (0.8, cap_norms),
}
