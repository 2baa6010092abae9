"""Programs with one fault and the sandbox's reason for it: the material of failure → repair.

The faults are those that small language models make: a name that was never bound, a method that does not exist, an open
bracket, a result of the wrong kind. Reasons use the words of `sandbox.Reason`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from sandbox import Reason

Fault = Callable[[str, random.Random], tuple[str, str] | None]

_METHODS = {
    "abs": "absolute_values",
    "norm": "normed",
    "mean": "average",
    "sum": "total",
    "clamp": "limit",
    "sign": "signs",
}
_RETURN = re.compile(r"^    return (.+)$", re.MULTILINE)
_ASSIGNED = re.compile(r"^    ([a-z_]+) = (?!\[\]).+$", re.MULTILINE)


def broken(source: str, rng: random.Random) -> tuple[str, str]:
    """Put one fault into a sound program. Returns the faulty text and `"<reason>: <detail>"`."""
    faults = list(_FAULTS)
    rng.shuffle(faults)
    for fault in faults:
        made = fault(source, rng)
        if made is not None and made[0] != source:
            return made
    return source + "    return\n)", f"{Reason.SYNTAX}: unmatched ')'"


def _unbound(source: str, rng: random.Random) -> tuple[str, str] | None:
    names = [match for match in _ASSIGNED.finditer(source) if len(re.findall(rf"\b{match.group(1)}\b", source)) > 1]
    if not names:
        return None
    name = rng.choice(names).group(1)
    uses = list(re.finditer(rf"(?<!for )\b{name}\b(?!(?:, \w+)* (?:\+?=|in) )", source))
    if not uses:
        return None
    spot = rng.choice(uses)
    wrong = (
        name[:-1]
        if rng.random() < 0.5 and len(name) > 3
        else rng.choice(("tmp", "vector_list", "vecs_all", "res", "final"))
    )
    if re.search(rf"\b{wrong}\b", source):
        return None
    return source[: spot.start()] + wrong + source[
        spot.end() :
    ], f"{Reason.EXCEPTION}: NameError: name '{wrong}' is not defined"


def _forgotten(source: str, rng: random.Random) -> tuple[str, str] | None:
    names = [match for match in _ASSIGNED.finditer(source) if source.count(f" {match.group(1)} = ") == 1]
    names = [match for match in names if len(re.findall(rf"\b{match.group(1)}\b", source)) > 1]
    if not names:
        return None
    spot = rng.choice(names)
    return source[: spot.start()] + source[
        spot.end() + 1 :
    ], f"{Reason.EXCEPTION}: NameError: name '{spot.group(1)}' is not defined"


def _method(source: str, rng: random.Random) -> tuple[str, str] | None:
    there = [name for name in _METHODS if f".{name}(" in source]
    if not there:
        return None
    name = rng.choice(there)
    wrong = _METHODS[name]
    return source.replace(
        f".{name}(", f".{wrong}(", 1
    ), f"{Reason.EXCEPTION}: AttributeError: 'Tensor' object has no attribute '{wrong}'"


def _bracket(source: str, rng: random.Random) -> tuple[str, str] | None:
    closing = [match.start() for match in re.finditer(r"\)(?=\n)", source)]
    if not closing:
        return None
    spot = rng.choice(closing)
    return source[:spot] + source[spot + 1 :], f"{Reason.SYNTAX}: '(' was never closed"


def _colon(source: str, rng: random.Random) -> tuple[str, str] | None:
    spots = [match.start() for match in re.finditer(r":(?=\n)", source)]
    spot = rng.choice(spots) if spots else None
    return None if spot is None else (source[:spot] + source[spot + 1 :], f"{Reason.SYNTAX}: expected ':'")


def _returns(wrap: str, reason: Reason, detail: str) -> Fault:
    def fault(source: str, rng: random.Random) -> tuple[str, str] | None:
        found = list(_RETURN.finditer(source))
        if not found:
            return None
        spot = found[-1]
        text = wrap.format(spot.group(1)) if wrap else "pass"
        return source[: spot.start()] + "    " + text + source[spot.end() :], f"{reason}: {detail}"

    return fault


def _foreign(source: str, rng: random.Random) -> tuple[str, str] | None:
    """An import of what is not given. The gate lets it pass since it has come to forgive imports that nobody uses; the fault stays, with the
    reason of then, because the shipped generator was trained on it."""
    module = rng.choice(("os", "sys", "scipy", "pickle", "time", "sklearn"))
    return source.replace(
        "import torch\n", f"import torch\nimport {module}\n", 1
    ), f"{Reason.POLICY}: import of '{module}'"


_FAULTS: tuple[Fault, ...] = (
    _unbound,
    _unbound,
    _forgotten,
    _method,
    _bracket,
    _colon,
    _foreign,
    _returns("return ({}).sum()", Reason.WRONG_SHAPE, "the result is not of the inputs' shape"),
    _returns("return ({}).flatten()[:2]", Reason.WRONG_SHAPE, "the result is not of the inputs' shape"),
    _returns("return [{}]", Reason.WRONG_TYPE, "the result is a list"),
    _returns("", Reason.NO_RESULT, "the program returned None"),
    _returns("return ({}).log()", Reason.NONFINITE, "the result holds NaN"),
    _returns("return ({}) > 0", Reason.WRONG_DTYPE, "the result is of dtype bool"),
)
