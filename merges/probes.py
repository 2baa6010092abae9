"""Fixed small tensors on which every program is tried, and a hash of what it does with them.

Two programs that behave alike on the probes are taken for duplicates before any score is paid for. The probes are
therefore unequal on purpose: as many models as the campaign has experts, of different norm, that share a direction; several
shapes (1-D, 2-D, 3-D); every kind of parameter that a Llama has, at eight depths; so that norms, cosines, signs, orders,
schedules and branches on names all leave a trace. Not covered: a branch that needs one kind at one depth that no probe has.

The numbers come out of BLAKE3 by exact arithmetic, not out of a library's generator: they, and with them every
behaviour hash in an archive, stay the same over versions of torch and numpy.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3
from torch import Tensor

from merges.errors import OptionError
from sandbox import TensorJob

__all__ = ["PROBE_MODELS", "behaves_as", "behaviour_hash", "probe_jobs"]

PROBE_MODELS = tuple(f"model_{i}" for i in range(8))
MIN_EXPERTS, DEFAULT_EXPERTS, MAX_EXPERTS = 2, 3, len(PROBE_MODELS)
HASH_CHARACTERS = 16

_PROBES: tuple[tuple[str, float, tuple[int, ...]], ...] = (
    ("model.embed_tokens.weight", 0.0, (20, 12)),
    ("model.layers.0.mlp.gate_proj.weight", 0.0, (15, 8)),
    ("model.layers.1.self_attn.q_proj.weight", 1 / 7, (12, 12)),
    ("model.layers.1.input_layernorm.weight", 1 / 7, (24,)),
    ("model.layers.2.self_attn.v_proj.weight", 2 / 7, (6, 16)),
    ("model.layers.3.mlp.up_proj.weight", 3 / 7, (18, 8)),
    ("model.layers.4.self_attn.k_proj.weight", 4 / 7, (8, 14)),
    ("model.layers.5.mlp.down_proj.weight", 5 / 7, (10, 24)),
    ("model.layers.5.post_attention_layernorm.weight", 5 / 7, (20,)),
    ("model.layers.6.self_attn.o_proj.weight", 6 / 7, (14, 10)),
    ("model.layers.7.mlp.experts.up_proj.weight", 1.0, (2, 6, 10)),
    ("model.norm.weight", 1.0, (33,)),
    ("lm_head.weight", 1.0, (16, 12)),
)
_NORMS = (0.010, 0.004, 0.022, 0.007, 0.031, 0.013, 0.0025, 0.017)
"""Root mean squares of the task vectors, in the range of real fine-tunes."""
_SHARED = 0.45  # weight of the direction that all models share
_BASE_RMS = 0.25

_PROJECTIONS = 2
_DECIMALS = 4
_EDGE = 0.2
"""Of the unit that numbers are rounded to: how near to an edge one may lie that another processor rounds to the other side."""
_MOST_LOOSE = 12  # 4096 hashes, a tenth of a second


def probe_jobs(experts: int = DEFAULT_EXPERTS) -> tuple[TensorJob, ...]:
    """Build the probe tensors: fresh copies, the same values always, with `base` and a fixed seed for each.

    Args:
        experts: number of task vectors per probe, 2 to 8: as many as the programs will be given, or a weight that only a
            fourth expert gets leaves no trace, and a program for two experts fails. Fewer are the first of more.

    Raises:
        OptionError: another number of experts.
    """
    if not MIN_EXPERTS <= experts <= MAX_EXPERTS:
        raise OptionError(
            f"experts: expected {MIN_EXPERTS} to {MAX_EXPERTS} for the probes, got {experts}; give as many"
        )
    return tuple(_probe(name, depth, shape, experts) for name, depth, shape in _PROBES)


def behaviour_hash(outputs: Mapping[str, Tensor]) -> str:
    """Hash what a program made of the probes: 16 hex digits, equal for equal behaviour.

    Rounding every element would split equals: among a thousand elements some always lie at a rounding edge, where the
    float noise of another order of summation tips them. So each tensor is summed up by its root mean square and a few
    fixed random projections of its normalised values (each near a unit normal), rounded to 4 decimals, which float32
    noise (1e-7) tips about once in a thousand. Programs whose outputs differ by less than 1e-4 relative are equal.

    Args:
        outputs: probe name -> merged task vector, as `Sandbox.execute` returns them for `probe_jobs()`. Order is free.
    """
    return _hash([(head, [round(number) for number in numbers]) for head, numbers in _summaries(outputs)])


def behaves_as(outputs: Mapping[str, Tensor], told: str) -> bool:
    """Whether a program with these outputs has the behaviour hash `told`, be it one that another processor has taken.

    Other kernels sum in another order, and some programs enlarge that (truncated spectra above all): of a few programs in a hundred, at the most, a number
    then lies on the other side of a rounding edge (`benchmarks/LOG.md`, 2026-11-23). So whatever the numbers nearest to an edge may be rounded to counts.

    Args:
        outputs: as for `behaviour_hash`.
        told: 16 hex digits.
    """
    summaries = _summaries(outputs)
    places = [(part, at) for part, (_, numbers) in enumerate(summaries) for at in range(len(numbers))]
    to_edge = {(part, at): abs(summaries[part][1][at] % 1.0 - 0.5) for part, at in places}
    loose = [place for place in sorted(places, key=to_edge.__getitem__) if to_edge[place] <= _EDGE][:_MOST_LOOSE]
    parts = [(head, [round(number) for number in numbers]) for head, numbers in summaries]
    for sides in itertools.product((0, 1), repeat=len(loose)):
        for (part, at), side in zip(loose, sides, strict=True):
            parts[part][1][at] = math.floor(summaries[part][1][at]) + side
        if _hash(parts) == told:
            return True
    return False


def _hash(parts: Iterable[tuple[str, Sequence[int]]]) -> str:
    digest = blake3(b"behaviour 2")
    for head, numbers in parts:
        digest.update(head.encode())
        digest.update(",".join(map(str, numbers)).encode())
    return digest.hexdigest()[:HASH_CHARACTERS]


def _summaries(outputs: Mapping[str, Tensor]) -> list[tuple[str, list[float]]]:
    """Of each tensor, by name: its name and shape, and its numbers, in units of what they are rounded to."""
    return [
        (
            f"|{name}{tuple(outputs[name].shape)}",
            _summary(name, outputs[name].detach().to(torch.float64).reshape(-1).numpy()),
        )
        for name in sorted(outputs)
    ]


def _summary(name: str, values: npt.NDArray[np.float64]) -> list[float]:
    rms = math.sqrt(float(np.mean(values * values))) if values.size else 0.0
    if not rms > 0.0 or not math.isfinite(rms):
        return []
    scale = 10**_DECIMALS
    projected = [float(values @ d) / (rms * math.sqrt(values.size)) for d in _directions(name, values.size)]
    return [scale * number for number in (math.log(rms), *projected)]


@functools.lru_cache(maxsize=4 * len(_PROBES))
def _directions(name: str, size: int) -> tuple[npt.NDArray[np.float64], ...]:
    return tuple(_numbers(f"projection {k} of {name}", size) for k in range(_PROJECTIONS))


def _probe(name: str, depth: float, shape: tuple[int, ...], experts: int) -> TensorJob:
    size = math.prod(shape)
    shared = _numbers(f"shared of {name}", size)
    vectors = {}
    for model, rms in zip(PROBE_MODELS[:experts], _NORMS[:experts], strict=True):
        own = _numbers(f"{model} of {name}", size)
        mixed = _SHARED * shared + math.sqrt(1 - _SHARED**2) * own
        vectors[model] = torch.from_numpy((rms * mixed).astype(np.float32)).reshape(shape)
    base = torch.from_numpy((_BASE_RMS * _numbers(f"base of {name}", size)).astype(np.float32)).reshape(shape)
    seed = int.from_bytes(blake3(f"seed of {name}".encode()).digest(length=8), "little") >> 1
    return TensorJob(name=name, depth=depth, vectors=vectors, base=base, seed=seed)


def _numbers(label: str, size: int) -> npt.NDArray[np.float64]:
    """`size` float64 numbers of mean 0 and variance 1, nearly normal: sums of 12 uniforms less 6, exact everywhere."""
    raw = blake3(b"probe\x00" + label.encode()).digest(length=24 * size)
    uniforms = np.frombuffer(raw, dtype="<u2").astype(np.int64).reshape(size, 12)
    sums: npt.NDArray[np.float64] = (uniforms.sum(axis=1) - 6 * 65535).astype(np.float64)
    return sums / 65536.0
