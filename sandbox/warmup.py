"""Everything that must have happened once before a child is locked in: imports, CPU dispatch, LAPACK, lazy paths,
formatting.

Without it torch would fall back to other kernels inside (and numbers would change), or a lazy import would end an
honest program.
"""

from __future__ import annotations

import enum
import importlib
import random
import sys
import types
import warnings

import numpy as np
import torch
import torch.nn.functional as F

from sandbox import classes, fresh, identity, symbols
from sandbox.confinement import seccomp
from sandbox.confinement.linux import MACHINE
from sandbox.confinement.syscall_numbers import ARCHITECTURES
from sandbox.facade import Facade, build_facades
from sandbox.words import words

_LAZY_MODULES = words(
    """
    torch._tensor_str torch._lowrank torch._linalg_utils torch._lobpcg torch.functional torch.autograd.grad_mode
    torch.overrides torch._jit_internal torch.special torch.fft numpy.linalg numpy.random numpy.fft numpy.polynomial
    numpy._core._methods numpy._core._dtype numpy._core._internal numpy._core._exceptions numpy.lib._histograms_impl
    fractions decimal statistics encodings.idna encodings.unicode_escape encodings.ascii encodings.latin_1 string
    RestrictedPython.transformer traceback linecache tokenize sandbox.runner sandbox.confinement.layers
    """
)
"""`sandbox.runner` among them: imported by each child it would cost 7 ms a candidate."""


def warm_up() -> dict[str, Facade]:
    """Import and exercise everything once, in this process; returns the module stand-ins for the children."""
    torch.set_num_threads(1)
    symbols.stand_in()
    warnings.simplefilter("ignore")  # a warning would be formatted with its source line, which opens a file
    for name in sorted(_LAZY_MODULES):
        importlib.import_module(name)
    identity.number_tensors()
    enum.EnumType.__call__ = classes.call_enum  # type: ignore[method-assign, assignment]
    sys.modules["candidate"] = types.ModuleType("candidate")  # dataclasses look up the module of a class
    _exercise_torch()
    _exercise_numpy()
    facades = build_facades()
    _exercise_gate(facades)
    if MACHINE in ARCHITECTURES:
        seccomp.program(1, ARCHITECTURES[MACHINE])  # remembers all but the one rule that differs
    random.seed(0)
    fresh.clear_caches()
    return facades


def _exercise_torch() -> None:
    a = torch.linspace(-1.0, 1.0, 64 * 64).view(64, 64).clone().requires_grad_()
    (a @ a.mT).tanh().norm().backward()
    b = a.detach()
    for function in (
        torch.linalg.svd,
        torch.linalg.qr,
        torch.linalg.eigh,
        torch.linalg.pinv,
        torch.linalg.svdvals,
        torch.sort,
    ):
        function(b @ b.T + torch.eye(64))
    torch.linalg.solve(b + 4 * torch.eye(64), b)
    torch.quantile(b, 0.5), torch.topk(b.flatten(), 5), torch.einsum("ij,jk->ik", b, b), torch.svd_lowrank(b, q=4)
    (
        F.cosine_similarity(b, b),
        F.softmax(b, -1),
        F.normalize(b),
        F.conv1d(b[None], b[None, :, :3].permute(1, 2, 0)[:1].mT[..., :1].expand(1, 64, 1)),
    )
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        (b.to(dtype) @ b.to(dtype)).float().sum().item()
    (
        torch.bernoulli(torch.full((8,), 0.5)),
        torch.randn(8).normal_(),
        torch.randperm(8),
        torch.multinomial(torch.ones(4), 2),
    )
    torch.fft.fft(b[0]), str(b), repr(b[:2, :2].to(torch.bfloat16)), f"{b[0, 0]:.3f}", b.numpy().sum(), torch.stft
    torch.Generator().manual_seed(1), hash(b)
    torch.vmap(torch.dot)(b, b)
    for bad in (
        lambda: torch.unravel_index(torch.tensor([9]), (2, 0)),
        lambda: b @ b[:3],
        lambda: torch.linalg.cholesky(-torch.eye(3)),
        lambda: torch.zeros(3)[7],
    ):
        try:
            bad()
        except (RuntimeError, IndexError) as error:
            str(error)


def _exercise_numpy() -> None:
    x = np.linspace(-1.0, 1.0, 64, dtype=np.float32).reshape(8, 8)
    np.linalg.svd(x), np.linalg.norm(x), np.quantile(x, 0.5), np.median(x), np.sort(x), np.einsum("ij,jk->ik", x, x)
    (
        np.random.seed(0),
        np.random.randn(3),
        np.random.default_rng(0).normal(size=3),
        np.histogram(x),
        np.polyfit(x[0], x[1], 1),
    )
    (
        str(x),
        repr(x),
        x.mean(),
        x.std(),
        x.var(),
        x.any(),
        x.all(),
        x.max(),
        x.clip(0, 1),
        np.fft.fft(x[0]),
        np.percentile(x, 3),
    )


def _exercise_gate(facades: dict[str, Facade]) -> None:
    from sandbox.gate import compile_program
    from sandbox.guards import Guards

    source = (
        "import torch\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 0\n"
        "def merge_models(m, d):\n    print(f'{P().x}', '{:.2f}'.format(1.0))\n    return sum(m.values())\n"
    )
    names = Guards(facades, 1000).namespace()
    exec(compile_program(source), names)  # our own text: warms the compiler and the guards
    names["merge_models"]({"a": torch.ones(2)}, torch.device("cpu"))
