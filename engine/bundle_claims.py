"""What a bundle's claims say against each other: ids against sources, shares against bits, intervals against shares. No program runs here.

An honest bundle passes whatever machine wrote it. What cannot be told without running a program or asking a model is left to `importing.py`; of suites with weights, whose
weights a bundle does not have, only that shares lie where weights of that effective number can move them (`_by_bits`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from scipy.special import bdtr

from benchmarks.statistics import anytime_interval, wilson_share
from engine.bundle import Against, Bundle, DevScore, Entry, HeldOut, Interval, Test, Transfer
from engine.errors import UserError
from merges.contract import program_id
from merges.errors import one_line
from sandbox import check, signature_of

NEAR = 1e-6
"""Of shares and ends of intervals, which another version of a library may round otherwise."""

Fault = tuple[str, object, object]
"""What, what its other half says, what the bundle says."""


def check_claims(path: Path, bundle: Bundle) -> None:
    """Refuse a bundle whose claims do not hold together.

    Raises:
        UserError: the first that does not, by its program; one line.
    """
    for entry in bundle.programs:
        for what, expected, got in _faults(entry):
            raise UserError(
                one_line(
                    f"bundle '{path}': program {entry.id}: {what}: expected {_said(expected)}, got {_said(got)}; it was changed or is broken, so nothing of it is taken: get it again"
                )
            )


def _said(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:120]


def _faults(entry: Entry) -> Iterator[Fault]:
    """Everything of one program that is not as the rest of it says."""
    if program_id(entry.source) != entry.id:
        yield "id", f"{program_id(entry.source)} as its source gives", entry.id
    if check(entry.source).ok and dict(signature_of(entry.source).parameters) != entry.parameters:
        yield "parameters", f"{dict(signature_of(entry.source).parameters)} as its source declares", entry.parameters
    if entry.dev:
        yield from (("dev: " + what, *rest) for what, *rest in _dev(entry.dev))  # type: ignore[misc]
    if entry.test:
        yield from (("test: " + what, *rest) for what, *rest in _test(entry.test))  # type: ignore[misc]
    for transfer in entry.transfer:
        yield from (("transfer: " + what, *rest) for what, *rest in _transfer(transfer))  # type: ignore[misc]
    if entry.measured and len(entry.measured.experts) != entry.behaviour.experts:
        yield "behaviour: experts", f"{len(entry.measured.experts)} as of its scores", entry.behaviour.experts
    if entry.measured is None and (entry.dev or entry.test):
        yield "measured", "what its scores were taken on", "nothing"
    inputs = entry.measured.inputs if entry.measured else None
    if inputs and entry.dev and inputs.scorer != entry.dev.scorer:
        yield "dev: scorer", inputs.scorer, entry.dev.scorer
    if inputs and entry.measured and len(inputs.experts) != len(entry.measured.experts):
        yield "measured: experts", f"{len(inputs.experts)} as of the hashes", len(entry.measured.experts)


def _dev(dev: DevScore) -> Iterator[Fault]:
    if not len(dev.bits) == len(dev.strict_bits) == len(dev.lenient_bits) == dev.of:
        yield "bits", f"{dev.of} of each reading", sorted({len(dev.bits), len(dev.strict_bits), len(dev.lenient_bits)})
        return
    if dev.n != dev.of - dev.bits.count("-") or not dev.n:
        yield "n", dev.of - dev.bits.count("-") or "a problem that was asked", dev.n
        return
    for bit, strict, lenient in zip(dev.bits, dev.strict_bits, dev.lenient_bits, strict=True):
        if bit not in (strict, lenient) or (strict == "-") != (lenient == "-"):
            yield "bits", "those of one of the two readings", f"{bit} of {strict} and {lenient}"
            return
    yield from _counted(dev.effective_n, dev.n)
    readings = (("share", dev.share, dev.bits), ("strict", dev.strict, dev.strict_bits))
    for what, claimed, bits in (*readings, ("lenient", dev.lenient, dev.lenient_bits)):
        yield from _by_bits(what, bits, dev.effective_n, claimed)
    usual = wilson_share if dev.n == dev.of else anytime_interval
    found = usual(dev.share, dev.effective_n)
    yield from _ends(dev.interval, (found.low, found.high))


def _held_out(score: HeldOut) -> Iterator[Fault]:
    if "-" in score.bits:
        yield "bits", "every problem asked", "some that were not"
        return
    yield from _counted(score.effective_n, len(score.bits))
    yield from _by_bits("share", score.bits, score.effective_n, score.share)


def _own_interval(score: HeldOut) -> Iterator[Fault]:
    found = wilson_share(score.share, score.effective_n)
    yield from _ends(score.interval, (found.low, found.high))


def _test(test: Test) -> Iterator[Fault]:
    yield from _held_out(test.score)
    if test.simultaneous:  # how many hold together is not said: it is as wide as one alone at least
        found = wilson_share(test.score.share, test.score.effective_n)
        low, high = test.score.interval
        if not 0 <= low <= found.low + NEAR or not found.high - NEAR <= high <= 1:
            yield "interval", f"one around [{found.low:.4f}, {found.high:.4f}]", test.score.interval
    else:
        yield from _own_interval(test.score)
    if test.against:
        yield from _against(test.against, test.score, together=test.simultaneous)


def _transfer(transfer: Transfer) -> Iterator[Fault]:
    if (transfer.score is None) == (transfer.fault is None):
        yield "score", "a score or a fault", "both" if transfer.score else "neither"
        return
    for human in transfer.humans:
        low, high = human.interval
        if not 0 <= low <= human.share <= high <= 1:
            yield f"{human.name}: interval", f"one around {human.share:.4f}", human.interval
    if transfer.score is None:
        if transfer.against:
            yield "against", "nothing of a program that failed", "a difference"
        return
    yield from _held_out(transfer.score)
    yield from _own_interval(transfer.score)
    if transfer.against:
        yield from _against(transfer.against, transfer.score, together=False)
        first = next((one for one in transfer.humans if one.name == transfer.against.name), None)
        if first is None:
            yield "against", "one of its human-made merges", transfer.against.name
        elif (first.share, first.parameters) != (transfer.against.human.share, transfer.against.parameters):
            yield f"against: {first.name}", f"{first.share:.4f}", f"{transfer.against.human.share:.4f}"


def _against(against: Against, score: HeldOut, *, together: bool) -> Iterator[Fault]:
    """A paired difference on the same problems; together with others p is a multiple and the interval wider."""
    yield from _held_out(against.human)
    yield from _own_interval(against.human)
    if len(against.human.bits) != len(score.bits):
        yield "against: bits", len(score.bits), len(against.human.bits)
        return
    yield from _differ("against: effective_n", score.effective_n, against.human.effective_n)
    yield from _differ("against: difference", score.share - against.human.share, against.difference)
    low, high = against.interval
    if not -1 <= low <= against.difference + NEAR or not against.difference - NEAR <= high <= 1:
        yield "against: interval", f"one around {against.difference:.4f}", against.interval
    p = _mcnemar(score.bits, against.human.bits)
    if together and against.p < p * (1 - NEAR):
        yield "against: p", f"{p:.3g} at least", against.p
    elif not together and not math.isclose(p, against.p, rel_tol=NEAR, abs_tol=1e-300):
        yield "against: p", p, against.p


def _mcnemar(one: str, other: str) -> float:
    """As `benchmarks.statistics.mcnemar`, in constant time: a hostile bundle may have a hundred thousand problems, and exact sums would take hours."""
    pairs = list(zip(one, other, strict=True))
    first, second = pairs.count(("1", "0")), pairs.count(("0", "1"))
    return min(1.0, 2 * float(bdtr(min(first, second), first + second, 0.5))) if first + second else 1.0


def _counted(effective: float, n: int) -> Iterator[Fault]:
    """Kish's number of `n` problems lies between that of one which counts alone and that of all which count alike."""
    if effective > n + NEAR:
        yield "effective_n", f"{n} at most", effective
    if effective < 1 - NEAR:
        yield "effective_n", "1 at least", effective


def _by_bits(what: str, bits: str, effective: float, claimed: float) -> Iterator[Fault]:
    """A share against its bits. With weights w of sum 1 whose effective number is e = 1 / sum w^2, Cauchy-Schwarz bounds how far it lies from the share p of bits that
    count alike: |share - p| <= sqrt(p (1 - p) (n / e - 1)), which is 0 where e = n.
    """
    n = len(bits) - bits.count("-")
    alike = bits.count("1") / n
    room = math.sqrt(alike * (1 - alike) * max(0.0, n / effective - 1))
    if abs(alike - claimed) > room + NEAR:
        yield what, f"{alike:.6g} ± {room:.2g} as its bits give" if room > NEAR else alike, claimed


def _differ(what: str, expected: float, got: float) -> Iterator[Fault]:
    if abs(expected - got) > NEAR:
        yield what, expected, got


def _ends(got: Interval, expected: Interval) -> Iterator[Fault]:
    if max(abs(a - b) for a, b in zip(got, expected, strict=True)) > NEAR:
        yield "interval", f"[{expected[0]:.4f}, {expected[1]:.4f}]", f"[{got[0]:.4f}, {got[1]:.4f}]"
