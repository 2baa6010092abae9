"""The gate: what an update must not break. A generator that writes nothing that works, one thing only, or what it knew by heart, is taken back.

After each update a fixed number of programs is written with the fixed prompt and the same seeds, before and after, and run on the probe tensors:
nothing is scored. The divergence is that of the new generator from the one before, over whole distributions, at every token of what the new one wrote.
A model that is none any more is taken back before anything is written, and where nothing is to be (`broken`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from engine.config_learning import GateSection
from engine.generators import Draft
from merges.contract import program_id
from merges.probes import behaviour_hash
from sandbox import ExecutionResult

LEAST_OF_BEFORE = 0.25
"""Share of what worked before that has to work after, of a generator whose programs seldom work."""

NO_NUMBERS = "its probabilities are no numbers any more"


@dataclass(frozen=True)
class Probe:
    """What a generator writes, in figures.

    Attributes:
        programs: how many were written.
        valid: share that passes the gate of the sandbox and gives sound results on the probe tensors, 0..1.
        distinct: share of the valid ones that behave differently, 0..1; 1 where none is valid.
        repeats: share whose syntax tree occurs twice among them, or is in the archive, 0..1.
        characters: mean length of a program.
        kl: divergence from the generator before, nats a token, 0 or more; None where there was nothing to compare with.
    """

    programs: int
    valid: float
    distinct: float
    repeats: float
    characters: float
    kl: float | None = None


def probe(
    drafts: Sequence[Draft],
    run: Callable[[str], ExecutionResult],
    known: Collection[str],
    kl: float | None = None,
) -> Probe:
    """The figures of some drafts.

    Args:
        drafts: what the generator wrote.
        run: of a program on the probe tensors.
        known: ids of the programs in the archive.
        kl: see Probe.
    """
    ids = [program_id(draft.source) for draft in drafts]
    count = Counter(ids)
    results = [run(draft.source) for draft in drafts]
    behaviours = [behaviour_hash(r.outputs) for r in results if r.ok and r.outputs is not None]
    return Probe(
        programs=len(drafts),
        valid=len(behaviours) / len(drafts),
        distinct=len(set(behaviours)) / len(behaviours) if behaviours else 1.0,
        repeats=sum(count[one] > 1 or one in known for one in ids) / len(drafts),
        characters=sum(len(draft.source) for draft in drafts) / len(drafts),
        kl=kl,
    )


def refusals(section: GateSection, before: Probe, after: Probe) -> list[str]:
    """Why an update is taken back, one text for each bound that does not hold; none: it stays."""
    reasons = []
    least = max(before.valid - section.valid_drop, before.valid * LEAST_OF_BEFORE)
    if after.valid < least:
        reasons.append(f"valid {100 * after.valid:.0f} % after {100 * before.valid:.0f} %, below {100 * least:.0f} %")
    if after.distinct < section.distinct:
        reasons.append(
            f"distinct behaviour {100 * after.distinct:.0f} % of the valid, below {100 * section.distinct:.0f} %"
        )
    if after.repeats > section.repeats:
        reasons.append(f"exact repeats {100 * after.repeats:.0f} %, above {100 * section.repeats:.0f} %")
    if after.kl is not None and after.kl > section.kl:
        reasons.append(f"KL {after.kl:.3f} nats a token, above {section.kl:g}")
    return reasons


Switch = Callable[[], AbstractContextManager[Any]]
"""`with switch() as model`: a model to be asked."""


def divergence(after: Switch, before: Switch, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> float:
    """Mean KL of the first model from the second over what the first wrote, nats a token; not finite where a model gives no numbers.

    Args:
        texts: token ids of prompts and of what was written after them.
    """
    total, tokens = 0.0, 0
    for prompt, written in texts:
        if not written:
            continue
        with after() as model:
            new = _log_probabilities(model, prompt, written)
        with before() as model:
            old = _log_probabilities(model, prompt, written)
        total += float((new.exp() * (new - old)).sum(dtype=torch.float64))
        tokens += len(written)
    mean = total / max(1, tokens)
    return 0.0 if mean < 0.0 else mean  # rounding; no number stays no number


@torch.no_grad()
def broken(model: Any, prompt: Sequence[int]) -> list[str]:
    """Why a model is none any more, whatever it may write; none: it is one.

    Args:
        prompt: token ids, three at least and not all the same.
    """
    ends = (end for weights in model.parameters() for end in weights.aminmax())  # of no numbers neither is one
    if not all(math.isfinite(end) for end in ends):
        return ["its weights are no numbers any more"]
    found = _log_probabilities(model, prompt[:1], prompt[1:])
    if not found.isfinite().all():
        return [NO_NUMBERS]
    if (found == found[0]).all():  # a norm of numbers whose squares are none is 0, and so is all that follows
        return ["it goes on in the same way whatever it has read"]
    return []


@torch.no_grad()
def _log_probabilities(model: Any, prompt: Sequence[int], written: Sequence[int]) -> torch.Tensor:
    """Of every next token where `written` follows `prompt`: tokens × vocabulary, float32."""
    device = next(model.parameters()).device
    ids = torch.tensor([[*prompt, *written]], device=device)
    logits = model(input_ids=ids, logits_to_keep=len(written) + 1).logits[0, :-1]
    return torch.log_softmax(logits.float(), -1)
