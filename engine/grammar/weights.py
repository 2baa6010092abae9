"""How much of each vector: equal, by hand, measured on the vectors, ranked, or entry by entry.

Each rule leaves the chosen name for weights bound to a list of numbers or a one-dimensional tensor with one entry per vector.
MEASURES are expressions in one vector `{v}`, some in a reference `{ref}`; what is made of them (shares, inverse, softmax,
powers, clamps) is drawn apart, so that the two multiply.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.grammar.writer import Writer

WeightRule = Callable[[Writer], None]

MEASURES: dict[str, tuple[str, ...]] = {
    "norm": ("{v}.norm()", "torch.linalg.norm({v})", "{v}.pow(2).sum().sqrt()", "torch.norm({v})"),
    "mean magnitude": ("{v}.abs().mean()", "torch.mean(torch.abs({v}))"),
    "variance": ("{v}.pow(2).mean()", "{v}.var(unbiased=False)"),
    "peak": ("{v}.abs().max()", "{v}.abs().amax()"),
    "peakedness": (
        "{v}.abs().max() / ({v}.abs().mean() + {eps})",
        "{v}.pow(4).mean() / ({v}.pow(2).mean() ** 2 + {eps})",
    ),
    "density": (
        "({v}.abs() > {v}.abs().mean()).float().mean()",
        "({v}.abs().mean() / ({v}.pow(2).mean().sqrt() + {eps}))",
    ),
}
REFERENCE_MEASURES: dict[str, tuple[str, ...]] = {
    "cosine": (
        "({v} * {ref}).sum() / ({v}.norm() * {ref}.norm() + {eps})",
        "torch.cosine_similarity({v}.flatten(), {ref}.flatten(), dim=0)",
        "torch.nn.functional.cosine_similarity({v}.flatten(), {ref}.flatten(), dim=0)",
    ),
    "agreement in sign": (
        "({v}.sign() == {ref}.sign()).float().mean()",
        "(({v} * {ref}) > 0).float().mean()",
    ),
    "distance": ("({v} - {ref}).norm()", "({v} - {ref}).abs().mean()", "torch.dist({v}, {ref})"),
    "projection": ("({v} * {ref}).sum() / ({ref}.norm() + {eps})",),
}


def _reference(w: Writer) -> str:
    ref = w.names["reference"]
    w.line(
        w.pick(
            f"{ref} = sum({w.vectors()}) / len({w.vectors()})",
            f"{ref} = torch.stack({w.vectors()}).mean({w.pick('0', 'dim=0')})",
            f"{ref} = torch.stack({w.vectors()}).median(dim=0).values",
            f"{ref} = torch.stack({w.vectors()}).sum(0)",
        )
    )
    return ref


def equal(w: Writer) -> None:
    w.say("equal weights", "a plain average", "treat all experts alike")
    vs, ws = w.vectors(), w.names["weights"]
    w.line(
        w.pick(
            f"{ws} = [1 / len({vs})] * len({vs})",
            f"{ws} = [1.0 / len({vs}) for _ in {vs}]",
            f"{ws} = torch.ones(len({vs})) / len({vs})",
        )
    )


def by_hand(w: Writer) -> None:
    w.say("fixed weights per expert", "hand-set weights", "different weight for each expert")
    vs, ws, a = w.vectors(), w.names["weights"], w.names["weight"]
    way = w.pick("cycle", "cycle", "three", "first", "hyper")
    if way in ("cycle", "three"):
        values = ", ".join(w.literal(0.02, 1.0) for _ in range(3))
        if way == "three":
            w.line(f"{ws} = [{values}]")
        else:
            w.line(f"hand = {w.pick(f'[{values}]', f'({values})')}")
            w.line(f"{ws} = [hand[i % len(hand)] for i in range(len({vs}))]")
    elif way == "first":
        place = w.pick("0", "-1", "1 % len(" + vs + ")")
        w.line(f"{ws} = [{w.number('rest', 0.05, 0.8)}] * len({vs})")
        w.line(f"{ws}[{place}] = {w.number('lead', 0.05, 1.4)}")
    else:
        names = [w.number(f"{a}{i}", 0.02, 1.0) for i in (1, 2, 3)]
        w.line(f"{ws} = ([{', '.join(names)}] * len({vs}))[:len({vs})]")


def decay(w: Writer) -> None:
    w.say("geometric weights", "weights decay along the list", "each next expert counts less")
    vs, ws = w.vectors(), w.names["weights"]
    rate = w.number(w.label("decay", "rate", "gamma"), 0.3, 1.3)
    w.line(f"{ws} = [{rate} ** i for i in range(len({vs}))]")
    if w.chance(0.6):
        total = w.names["weight"]
        w.line(f"{ws} = [{total} / sum({ws}) for {total} in {ws}]")


def measured(w: Writer) -> None:
    """Shares, inverses, softmaxes or powers of something measured on each vector."""
    with_reference = w.chance(0.5)
    table = REFERENCE_MEASURES if with_reference else MEASURES
    what = w.pick(*table)
    turn = w.pick("share", "share", "inverse", "softmax", "softmin", "power", "clamp")
    spoken = {
        "share": "proportional to",
        "inverse": "inverse to",
        "softmax": "from a softmax of",
        "softmin": "from a softmax of minus",
    }
    w.say(
        f"weights {spoken.get(turn, 'from')} {what}",
        f"weigh by {what}" if turn != "inverse" else f"weigh by inverse {what}",
    )
    vs, v, scores = w.vectors(), w.names["vector"], w.names["scores"]
    ref = _reference(w) if with_reference else ""
    expression = w.pick(*table[what]).format(v=v, ref=ref, eps=w.eps)
    listed = turn != "softmax" and turn != "softmin" and w.chance(0.4)
    if listed:
        w.line(f"{scores} = [float({expression}) for {v} in {vs}]")
        _turn_list(w, turn, scores, signed=with_reference)
    elif w.chance(0.25):
        w.line(f"{scores} = []")
        with w.block(f"for {v} in {vs}:"):
            w.line(f"{scores}.append({expression})")
        w.line(f"{scores} = torch.stack({scores})")
        _turn_tensor(w, turn, scores, signed=with_reference)
    else:
        w.line(f"{scores} = torch.stack([{expression} for {v} in {vs}])")
        _turn_tensor(w, turn, scores, signed=with_reference)


def _turn_list(w: Writer, turn: str, scores: str, *, signed: bool) -> None:
    ws, s = w.names["weights"], w.names["score"]
    if signed:
        w.line(
            f"{scores} = [{w.pick(f'max({s}, 0.0)', f'abs({s})', f'max({s}, {w.literal(0.01, 0.2)})')} for {s} in {scores}]"
        )
    if turn == "inverse":
        w.line(f"{scores} = [1 / ({s} + {w.pick(w.eps, w.literal(0.01, 1.0))}) for {s} in {scores}]")
    elif turn in ("power", "clamp"):
        w.line(f"{scores} = [{s} ** {w.number('power', 0.3, 3.0)} for {s} in {scores}]")
    if w.chance(0.5):
        w.line(f"total = sum({scores}) + {w.eps}")
        w.line(f"{ws} = [{s} / total for {s} in {scores}]")
    else:
        w.line(f"{ws} = [{s} / (sum({scores}) + {w.eps}) for {s} in {scores}]")


def _turn_tensor(w: Writer, turn: str, scores: str, *, signed: bool) -> None:
    ws = w.names["weights"]
    if turn in ("softmax", "softmin"):
        temperature = w.number(w.label("temperature", "temp", "tau"), 0.02, 5.0, log=True)
        minus = "-" if turn == "softmin" else ""
        scaled = w.pick(
            scores, f"{scores} / ({scores}.abs().mean() + {w.eps})", f"{scores} / ({scores}.abs().max() + {w.eps})"
        )
        w.line(
            w.pick(
                f"{ws} = torch.softmax({minus}{scaled} / {temperature}, dim=0)",
                f"{ws} = ({minus}{scaled} / {temperature}).softmax(0)",
            )
        )
        return
    if signed:
        w.line(f"{scores} = {scores}.{w.pick('clamp(min=0)', 'abs()', 'relu()', f'clamp(min={w.literal(0.01, 0.3)})')}")
    if turn == "inverse":
        w.line(f"{scores} = 1 / ({scores} + {w.pick(w.eps, w.literal(0.01, 1.0))})")
    elif turn == "power":
        w.line(f"{scores} = {scores} ** {w.number('power', 0.3, 3.0)}")
    elif turn == "clamp":
        w.line(
            f"{scores} = ({scores} / ({scores}.mean() + {w.eps})).clamp({w.literal(0.1, 0.7)}, {w.literal(1.0, 2.5)})"
        )
    w.line(
        w.pick(f"{ws} = {scores} / ({scores}.sum() + {w.eps})", f"{ws} = {scores} / {scores}.sum().clamp(min={w.eps})")
    )


def ranked(w: Writer) -> None:
    w.say("weights by rank of the norm", "rank the experts by norm", "more weight to higher ranks")
    vs, v, ws, scores = w.vectors(), w.names["vector"], w.names["weights"], w.names["scores"]
    rate = w.number(w.label("rate", "decay", "drop"), 0.2, 1.6)
    w.line(f"{scores} = [{w.pick(f'{v}.norm().item()', f'float({v}.abs().mean())')} for {v} in {vs}]")
    w.line(f"order = sorted(range(len({vs})), key=lambda i: {scores}[i]{w.pick('', ', reverse=True')})")
    w.line(f"{ws} = [0.0] * len({vs})")
    with w.block("for rank, i in enumerate(order):"):
        w.line(f"{ws}[i] = {w.pick(f'{rate} ** rank', f'1 / (1 + {rate} * rank)')}")
    a = w.names["weight"]
    if w.chance(0.7):
        w.line(f"{ws} = [{a} / sum({ws}) for {a} in {ws}]")


def pairwise(w: Writer) -> None:
    novel = w.chance(0.5)
    w.say(
        *(
            ("reward vectors unlike the others", "novelty weights")
            if novel
            else ("reward vectors like the others", "similarity weights")
        )
    )
    vs, v, ws = w.vectors(), w.names["vector"], w.names["weights"]
    w.line(
        f"flat = torch.stack([{w.pick(f'{v}.flatten()', f'{v}.reshape(-1)')} / ({v}.norm() + {w.eps}) for {v} in {vs}])"
    )
    w.line(w.pick("sim = flat @ flat.T", "sim = flat @ flat.t()", "sim = torch.matmul(flat, flat.T)"))
    score = (
        f"(1 - sim.mean({w.pick('1', 'dim=1', '0')}))"
        if novel
        else f"sim.{w.pick('mean(1)', 'sum(dim=1)', 'mean(dim=0)')}"
    )
    if w.chance(0.6):
        w.line(f"{ws} = torch.softmax({score} / {w.number('temperature', 0.02, 3.0, log=True)}, dim=0)")
    else:
        w.line(f"{ws} = {score}.clamp(min=0)")
        w.line(f"{ws} = {ws} / ({ws}.sum() + {w.eps})")


def by_depth(w: Writer) -> None:
    depth = w.use("depth")
    w.say(
        "shift weight between experts along the depth",
        "early layers favour the first expert",
        "depth decides who leads",
    )
    vs, ws = w.vectors(), w.names["weights"]
    if w.chance(0.5):
        w.line(f"n = len({vs})")
        width = w.number(w.label("width", "spread"), 0.2, 2.0)
        w.line(f"{ws} = torch.tensor([-abs({depth} - i / max(1, n - 1)) / {width} for i in range(n)]).softmax(0)")
    else:
        first, last = w.literal(0.05, 0.95), w.literal(0.05, 0.95)
        w.line(f"lead = {first} + ({last} - {first}) * {depth}")
        w.line(f"{ws} = [lead] + [(1 - lead) / max(1, len({vs}) - 1)] * (len({vs}) - 1)")


def dirichlet(w: Writer) -> None:
    rng = w.use("rng")
    w.say("random mixing weights", "draw the mixture at random")
    vs, ws = w.vectors(), w.names["weights"]
    floor = f" + {w.number('floor', 0.05, 1.5)}" if w.chance(0.5) else ""
    w.line(f"{ws} = torch.rand(len({vs}), generator={rng}){floor}")
    w.line(f"{ws} = {ws} / {ws}.sum()")


WEIGHTS: dict[str, tuple[float, WeightRule]] = {
    "equal": (0.8, equal),
    "by_hand": (3.0, by_hand),
    "decay": (1.0, decay),
    "measured": (6.0, measured),
    "ranked": (1.0, ranked),
    "pairwise": (1.3, pairwise),
    "by_depth": (1.0, by_depth),
    "dirichlet": (0.3, dirichlet),
}
