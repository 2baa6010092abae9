"""From the vectors to one merged tensor. Rules in WEIGHTED use the weights of the stage before; the others stand alone."""

from __future__ import annotations

from collections.abc import Callable

from engine.grammar.weights import MEASURES
from engine.grammar.writer import Writer

Combine = Callable[[Writer], None]


def weighted_sum(w: Writer) -> None:
    vs, v, ws, a, out = (w.names[role] for role in ("vectors", "vector", "weights", "weight", "merged"))
    way = w.pick("sum", "sum", "loop", "loop", "index", "dot", "view")
    if way == "sum":
        w.line(f"{out} = sum({a} * {v} for {a}, {v} in zip({ws}, {vs}))")
    elif way == "loop":
        w.line(w.pick(f"{out} = torch.zeros_like({vs}[0])", f"{out} = 0"))
        with w.block(f"for {a}, {v} in zip({ws}, {vs}):"):
            w.line(w.pick(f"{out} = {out} + {a} * {v}", f"{out} += {a} * {v}"))
    elif way == "index":
        w.line(f"{out} = {ws}[0] * {vs}[0]")
        with w.block(f"for i in range(1, len({vs})):"):
            w.line(f"{out} = {out} + {ws}[i] * {vs}[i]")
    elif way == "dot":
        w.line(f"{out} = torch.tensordot(torch.as_tensor({ws}), {w.stack()}, dims=1)")
    else:
        stack = w.stack()
        w.line(f"{ws} = torch.as_tensor({ws}).view(-1, *[1] * ({stack}.ndim - 1))")
        w.line(f"{out} = ({ws} * {stack}).sum({w.pick('0', 'dim=0')})")


def plain_loop(w: Writer) -> None:
    """One pass over the dictionary, the per-vector steps inside it; a plain sum where a list of vectors exists already."""
    if w.has_list:
        w.say("add them up", "sum what is left")
        w.line(f"{w.names['merged']} = sum({w.vectors()}){w.pick('', f' / len({w.vectors()})')}")
        return
    w.say("add the vectors", "sum in one pass", "accumulate")
    v, out, a = w.names["vector"], w.names["merged"], w.names["weight"]
    w.line(f"{out} = {w.pick('0', 'torch.zeros_like(next(iter(model_dict.values())))', '0.0')}")
    mean = w.chance(0.5)
    weighted = w.chance(0.5)
    if weighted:
        w.line("total = 0.0" if out != "total" else "norm_sum = 0.0")
    counter = "total" if out != "total" else "norm_sum"
    with w.block(f"for {v} in model_dict.values():"):
        w.flush(v)
        if weighted:
            what = w.pick(*MEASURES)
            w.line(
                f"{a} = {w.pick(*MEASURES[what]).format(v=v, eps=w.eps)}{w.pick('', '', ' ** ' + w.number('power', -2.0, 2.0))}"
            )
            w.line(f"{out} = {out} + {a} * {v}")
            w.line(f"{counter} = {counter} + {a}")
            w.note(f"weigh by {what}")
        else:
            w.line(w.pick(f"{out} = {out} + {v}", f"{out} += {v}"))
    if weighted:
        w.line(f"{out} = {out} / ({counter} + {w.eps})")
    elif mean:
        w.line(f"{out} = {out} / len(model_dict)")


def named_three(w: Writer) -> None:
    w.say("three experts, three roles", "combine the three by hand", "one formula for three vectors")
    vs, out = w.vectors(), w.names["merged"]
    w.line(w.pick(f"p, q, o = {vs}[:3]", f"p, q, o = {vs}[0], {vs}[1], {vs}[2]"))
    terms = [f"{w.number(f'alpha{i}', 0.02, 1.0)} * {x}" for i, x in enumerate("pqo", 1)]
    joint = w.pick(" + ", " + ", " - ")
    w.line(f"{out} = {terms[0]} + {terms[1]}{joint}{terms[2]}")
    if w.chance(0.3):
        pair = w.pick("p * q", "q * o", "p * o")
        w.line(f"{out} = {out} + {w.literal(0.1, 20.0, log=True)} * {pair}")


def elect(w: Writer) -> None:
    w.say("elect a sign per entry and keep who agrees", "majority sign", "resolve sign conflicts")
    stack, out = w.stack(), w.names["merged"]
    vote = w.pick(
        f"{stack}.sum({w.pick('0', 'dim=0')}).sign()",
        f"torch.sign({stack}.sum(dim=0))",
        f"{stack}.sign().sum(0).sign()",
    )
    w.line(f"sign = {vote}")
    w.line(
        w.pick(
            f"agree = ({stack}.sign() == sign).float()",
            f"agree = ({stack} * sign > 0).float()",
            f"agree = torch.eq(torch.sign({stack}), sign).float()",
        )
    )
    if w.chance(0.75):
        w.line(f"{out} = ({stack} * agree).sum(0) / agree.sum(0).clamp(min=1)")
    else:
        w.line(f"{out} = ({stack} * agree).sum(dim=0)")


def median(w: Writer) -> None:
    w.say("take the entry-wise median", "median of the vectors")
    stack, out = w.stack(), w.names["merged"]
    w.line(
        f"{out} = {w.pick(f'{stack}.median(dim=0).values', f'torch.median({stack}, dim=0).values', f'{stack}.quantile({w.literal(0.3, 0.7)}, dim=0)')}"
    )


def trimmed(w: Writer) -> None:
    w.say("trimmed mean", "drop the extremes per entry, average the rest", "robust average")
    stack, out = w.stack(), w.names["merged"]
    w.line(f"{out} = {w.pick(f'{stack}.sort(dim=0).values', f'torch.sort({stack}, dim=0).values')}")
    with w.block(f"if len({out}) > 2:"):
        w.line(f"{out} = {out}[{w.pick('1:-1', '1:-1', '1:', ':-1')}]")
    w.line(f"{out} = {out}.mean({w.pick('0', 'dim=0')})")


def largest(w: Writer) -> None:
    w.say("take the largest change per entry", "strongest entry wins", "max magnitude selection")
    stack, out = w.stack(), w.names["merged"]
    w.line(f"idx = {stack}.abs().argmax({w.pick('dim=0, keepdim=True', '0, keepdim=True')})")
    w.line(f"{out} = {stack}.gather(0, idx){w.pick('.squeeze(0)', '[0]')}")
    if w.chance(0.5):
        mix = w.number(w.label("mix", "blend"), 0.05, 0.95)
        w.line(f"{out} = {mix} * {out} + (1 - {mix}) * {stack}.mean(0)")


def entrywise(w: Writer) -> None:
    w.say("softmax over experts for every entry", "entry-wise weights", "let each entry choose its expert")
    stack, out = w.stack(), w.names["merged"]
    temp = w.number(w.label("temperature", "temp", "sharp"), 0.1, 5.0, log=True)
    size = f"{stack}.abs()"
    w.line(
        w.pick(
            f"gate = torch.softmax({size} / ({temp} * {size}.mean() + {w.eps}), dim=0)", f"gate = {size}.pow({temp})"
        )
    )
    w.line(f"{out} = (gate * {stack}).sum(0) / (gate.sum(0) + {w.eps})")


def rowwise(w: Writer) -> None:
    w.say("weights per row", "each row by its norm", "row-wise mixing")
    stack, out = w.stack(), w.names["merged"]
    w.line(
        f"rows = {stack}.norm(dim=-1, keepdim=True)"
        if w.chance(0.6)
        else f"rows = {stack}.abs().mean(-1, keepdim=True)"
    )
    if w.chance(0.5):
        w.line(f"rows = torch.softmax(rows / ({w.number('temp', 0.05, 3.0, log=True)} * rows.mean() + {w.eps}), dim=0)")
    else:
        w.line(f"rows = rows.pow({w.number('power', -1.5, 2.5)})")
        w.line(f"rows = rows / (rows.sum(0) + {w.eps})")
    w.line(f"{out} = (rows * {stack}).sum(dim=0)")


def consensus(w: Writer) -> None:
    w.say("scale the mean by agreement", "trust entries on which experts agree", "consensus of signs")
    stack, out = w.stack(), w.names["merged"]
    share = w.pick(f"{stack}.sign().mean(0).abs()", f"{stack}.sum(0).abs() / ({stack}.abs().sum(0) + {w.eps})")
    w.line(f"trust = {share}")
    way = w.pick("power", "threshold", "floor")
    if way == "power":
        w.line(f"{out} = {stack}.mean(0) * trust.pow({w.number('power', 0.2, 3.0)})")
    elif way == "threshold":
        w.line(f"{out} = {stack}.{w.pick('mean', 'sum')}(0) * (trust >= {w.number('agreement', 0.2, 0.99)})")
    else:
        floor = w.number("floor", 0.05, 0.9)
        w.line(f"{out} = {stack}.{w.pick('mean', 'sum')}(dim=0) * ({floor} + (1 - {floor}) * trust)")


def stock(w: Writer) -> None:
    w.say("ratio from the angle between vectors", "model-stock ratio", "shrink by the mean cosine")
    vs, v, out = w.vectors(), w.names["vector"], w.names["merged"]
    w.line(f"n = len({vs})")
    w.line(f"flat = torch.stack([{v}.flatten() / ({v}.norm() + {w.eps}) for {v} in {vs}])")
    w.line("cos = ((flat @ flat.T).sum() - n) / max(1, n * (n - 1))")
    ratio = w.pick(
        "n * cos / (1 + (n - 1) * cos)",
        "n * cos / (1 + (n - 1) * cos)",
        f"cos.abs().pow({w.number('power', 0.1, 1.5)})",
    )
    w.line(f"ratio = {ratio}")
    w.line(f"{out} = ratio{w.pick('', '', '.clamp(0, 1)', '.abs().sqrt()')} * sum({vs}) / n")


def gram_schmidt(w: Writer) -> None:
    w.say("add only what is new in each vector", "orthogonalise one after the other", "remove overlap before adding")
    vs, v, out = w.vectors(), w.names["vector"], w.names["merged"]
    w.line(f"{out} = {vs}[0]{w.pick('', '', '.clone()')}")
    with w.block(f"for {v} in {vs}[1:]:"):
        w.line(f"overlap = ({v} * {out}).sum() / ({out}.pow(2).sum() + {w.eps})")
        keep = w.number(w.label("keep", "strength", "amount"), 0.1, 1.0)
        new = f"({v} - {w.pick('overlap', 'overlap', 'overlap.clamp(min=0)', 'overlap.clamp(max=0)')} * {out})"
        w.line(w.pick(f"{out} = {out} + {keep} * {new}", f"{out} = {out} + {new}"))


def running(w: Writer) -> None:
    w.say("fold the vectors one by one", "running interpolation", "mix sequentially")
    vs, v, out = w.vectors(), w.names["vector"], w.names["merged"]
    rate = w.number(w.label("rate", "step", "mix"), 0.1, 0.9)
    w.line(f"{out} = {vs}[{w.pick('0', '-1')}]")
    with w.block(f"for {v} in {vs}{w.pick('[1:]', '[1:]', '')}:"):
        w.line(
            w.pick(
                f"{out} = {out} + {rate} * ({v} - {out})",
                f"{out} = torch.lerp({out}, {v}, {rate})",
                f"{out} = (1 - {rate}) * {out} + {rate} * {v}",
            )
        )


def slerp(w: Writer) -> None:
    w.imports.add("math")
    w.say("walk on the sphere from vector to vector", "spherical interpolation", "slerp through the experts")
    vs, v, out = w.vectors(), w.names["vector"], w.names["merged"]
    t = w.number("t", 0.1, 0.9)
    w.line(f"{out} = {vs}[0]")
    with w.block(f"for {v} in {vs}[1:]:"):
        w.line(f"cos = float(({out} * {v}).sum() / ({out}.norm() * {v}.norm() + {w.eps}))")
        w.line("angle = math.acos(max(-0.999, min(0.999, cos)))")
        w.line(f"{out} = (math.sin((1 - {t}) * angle) * {out} + math.sin({t} * angle) * {v}) / math.sin(angle)")


def power_mean(w: Writer) -> None:
    w.say("power mean of magnitudes with the sign of the sum", "generalised mean")
    stack, out = w.stack(), w.names["merged"]
    p = w.number("p", 0.3, 4.0)
    w.line(f"size = {stack}.abs().pow({p}).mean(0).pow(1 / {p})")
    w.line(f"{out} = {stack}.sum(0).sign() * size")


def shrink(w: Writer) -> None:
    w.say("shrink entries where experts disagree", "signal over signal plus variance", "damp noisy entries")
    stack, out = w.stack(), w.names["merged"]
    mean = w.names["reference"]
    w.line(f"{mean} = {stack}.mean(0)")
    w.line(w.pick(f"noise = {stack}.var(dim=0, unbiased=False)", f"noise = ({stack} - {mean}).pow(2).mean(0)"))
    w.line(
        f"{out} = {mean} * {mean}.pow(2) / ({mean}.pow(2) + {w.number(w.pick('lam', 'noise_weight'), 0.05, 4.0, log=True)} * noise + {w.eps})"
    )


def product(w: Writer) -> None:
    w.say("add an element-wise product term", "let products of vectors boost the mean", "interaction between experts")
    stack, out, mean = w.stack(), w.names["merged"], w.names["reference"]
    w.line(f"{mean} = {stack}.mean({w.pick('0', 'dim=0')})")
    if w.chance(0.5):
        w.line(
            f"term = {stack}.abs().{w.pick('log().mean(0).exp()', f'clamp(min={w.eps}).log().mean(0).exp()')} * {mean}.sign()"
        )
    else:
        w.line(f"term = {stack}[0] * {stack}[-1]")
        w.line(f"term = term * {mean}.norm() / (term.norm() + {w.eps})")
    if w.chance(0.5):
        w.line(f"{out} = {mean} + {w.number('boost', -0.6, 1.2)} * term")
    else:
        w.line(f"{out} = {w.literal(0.1, 1.0)} * {mean} + {w.literal(0.1, 1.0)} * term")


def low_rank_sum(w: Writer) -> None:
    w.say(
        "low-rank sum of the vectors", "stack the matrices and keep the shared directions", "merge in a common subspace"
    )
    vs, out = w.vectors(), w.names["merged"]
    w.line(f"{out} = sum({vs}){w.pick('', f' / len({vs})')}")
    with w.block(f"if {out}.ndim == 2:"):
        w.line(f"u, s, vh = torch.linalg.svd(torch.cat({vs}, dim=1), full_matrices=False)")
        w.line(f"k = max(1, int({w.number('rank', 0.05, 0.9)} * len(s)))")
        w.line(f"{out} = u[:, :k] @ (u[:, :k].T @ {out})")


WEIGHTED: dict[str, tuple[float, Combine]] = {"weighted_sum": (1.0, weighted_sum)}

ALONE: dict[str, tuple[float, Combine]] = {
    "plain_loop": (3.0, plain_loop),
    "named_three": (0.8, named_three),
    "elect": (2.5, elect),
    "median": (0.8, median),
    "trimmed": (0.8, trimmed),
    "largest": (1.0, largest),
    "entrywise": (1.0, entrywise),
    "rowwise": (1.0, rowwise),
    "consensus": (1.5, consensus),
    "stock": (1.0, stock),
    "gram_schmidt": (1.0, gram_schmidt),
    "running": (0.8, running),
    "slerp": (0.6, slerp),
    "power_mean": (0.6, power_mean),
    "shrink": (1.0, shrink),
    "product": (1.0, product),
    "low_rank_sum": (0.8, low_rank_sum),
}
