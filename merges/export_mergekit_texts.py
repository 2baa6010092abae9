"""The fixed parts of what an export for mergekit is made of. `export_mergekit.py` puts the program and its facts between them.

`METHOD_IMPORTS` and `METHOD_BODY` are Python that runs in mergekit's environment, where nothing of ours is installed: what they say of
depth, selection, seeds and names is said in `checkpoints`, `selection`, `task_vectors` and `engine.bench` too, and
`tests/merges/test_exported_method.py` holds the two together.
"""

from __future__ import annotations

__all__ = ["METHOD_BODY", "METHOD_HEAD", "METHOD_IMPORTS", "README", "RUNNER"]

METHOD_HEAD = '''\
"""Program {id} of Mergewright as a merge method of mergekit {version}, `{method}`.

NOT SANDBOXED: inside mergekit the program may do whatever you may. Read it (`PROGRAM`, below) before you run it.

It is handed what `mergewright apply` hands it: for every tensor the task vectors (expert - base) in float32, in the order of the experts,
and what it declares of `name`, `depth`, `base` and `rng`; all random generators are seeded by (seed, program, tensor). What it returns is
added to the base in float32 and rounded once. mergekit looks for methods in its own files only, so import this one first: run.py does.
"""
'''

METHOD_IMPORTS = """
import fnmatch
import functools
import random
import re
import struct
import threading
import traceback
from pathlib import PurePath

import numpy as np
import torch
from mergekit.common import ModelReference
from mergekit.io.tasks import LoaderCache
from mergekit.merge_methods import BasePolicy, GroupMergeMethod, InputContract, MergeMethodSpec, ParameterScope, register
from mergekit.merge_methods.base import ParameterSpec
"""

METHOD_BODY = '''\


class ProgramFailed(ValueError):
    """A tensor was not merged; str() is one line."""


class Method(GroupMergeMethod):
    """Calls the program once for every tensor; its hyper-parameters are parameters of the method."""

    spec = MergeMethodSpec(
        name=METHOD,
        pretty_name=f"Mergewright program {PROGRAM_ID}",
        contract=InputContract(base=BasePolicy.REQUIRED, min_non_base=1),
        parameters=(
            ParameterSpec("mergewright_seed", int, ParameterScope.SHARED, 0),
            ParameterSpec("mergewright_merge", str, ParameterScope.SHARED, "all"),
            *(
                ParameterSpec(name, int | float if isinstance(default, int) else float, ParameterScope.SHARED, default)
                for name, default in PARAMETERS.items()
            ),
        ),
    )

    def merge_group(self, group, /, *, mergewright_seed, mergewright_merge, **parameters):
        """The merged tensor, in the dtype that mergekit handed over; the base's where the selection leaves it out."""
        name, tensor = group.metadata.name or "", group.base.tensor
        if not is_merged(name, mergewright_merge):
            see_that_it_picks(group.base.id, mergewright_merge)
            return tensor
        seed = tensor_seed(mergewright_seed, name)
        with ONE_AT_A_TIME, torch.inference_mode(False), torch.enable_grad():
            base = in_float32(tensor, name, "the base")
            called = names_of([entry.id for entry in group.non_base])
            vectors = {
                expert: in_float32(entry.tensor, name, f"expert {expert!r}") - base
                for expert, entry in zip(called, group.non_base)
            }
            given = {
                "name": lambda: name,
                "depth": lambda: depth_of(name, layer_count(stored_names(group.base.id))),
                "base": base.clone,
                "rng": lambda: torch.Generator().manual_seed(seed),
            }
            keywords = {**parameters, **{wanted: given[wanted]() for wanted in WANTS}}
            merged = result_of(call(name, vectors, tensor.device, keywords, seed), name, tensor)
            return plus_base(tensor, merged, name)


ONE_AT_A_TIME = threading.Lock()
"""With several GPUs mergekit merges in several threads, and the global random generators are one for all of them."""

CODE = compile("\\n" * (FIRST_LINE - 1) + PROGRAM, __file__, "exec", dont_inherit=True)


def call(name, vectors, device, keywords, seed):
    """Run the program as for the first time: in names of its own, random generators seeded. What it prints is dropped."""
    torch.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)
    namespace = {"__name__": __name__, "__file__": __file__, "print": lambda *_, **__: None}
    try:
        exec(CODE, namespace)
        return namespace["merge_models"](vectors, device, **keywords)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = [frame.lineno for frame in frames if frame.filename == __file__][-1]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ProgramFailed(f"tensor {name!r}: program {PROGRAM_ID} failed in line {line} of {__file__}: {text}") from error


def result_of(result, name, tensor):
    """What the program returned, as a float32 tensor that fits."""
    if not isinstance(result, torch.Tensor):
        got = type(result).__name__
    elif result.layout is not torch.strided or not result.is_floating_point() or result.shape != tensor.shape:
        got = f"{result.layout} {result.dtype} of shape {tuple(result.shape)}"
    else:
        return in_float32(result.detach().to(tensor.device), name, f"what program {PROGRAM_ID} returned")
    expected = f"a dense floating tensor of shape {tuple(tensor.shape)}"
    raise ProgramFailed(f"tensor {name!r}: expected {expected} from program {PROGRAM_ID}, got {got}")


def in_float32(tensor, name, owner):
    """Finite values in float32."""
    wide = tensor.to(torch.float32).contiguous()
    if not torch.isfinite(wide).all():
        raise ProgramFailed(f"tensor {name!r}: expected finite values in {owner}, got NaN or infinity")
    return wide


def plus_base(tensor, merged, name):
    """The base plus the merged task vector, added in float32 (float64 for a float64 base) and rounded once."""
    wide = tensor if tensor.dtype is torch.float64 else tensor.to(torch.float32)
    total = (wide + merged).to(tensor.dtype)
    if not torch.isfinite(total).all():
        raise ProgramFailed(f"tensor {name!r}: overflows {tensor.dtype} once it is added to the base")
    return total


def is_merged(name, selection):
    """Whether a selection (all, mlp, patterns with `*`; several by commas) picks this tensor."""
    return any(_picks(part.strip(), name) for part in selection.split(",") if part.strip())


def _picks(pattern, name):
    if pattern == "mlp":
        return not MLP.isdisjoint(name.split("."))
    return pattern == "all" or fnmatch.fnmatchcase(name, pattern)


MLP = frozenset({"mlp", "feed_forward", "ffn", "block_sparse_moe", "DenseReluDense", "fc1", "fc2"})


@functools.lru_cache(maxsize=None)
def see_that_it_picks(base, selection):
    """A selection that picks nothing would give the base again, and nobody would notice."""
    if not any(is_merged(name, selection) for name in stored_names(base)):
        raise ProgramFailed(f"mergewright_merge {selection!r}: expected all, mlp or a pattern that fits a tensor, got none that does")


@functools.lru_cache(maxsize=None)
def stored_names(model):
    """The names of a model's tensors, as its files have them."""
    if not isinstance(model, ModelReference):
        raise ProgramFailed(f"expected the models of a mergekit configuration, whose layers can be counted; got {model!r}")
    return tuple(LoaderCache().get(model).index.tensor_paths)


def names_of(models):
    """Names for the experts: the last part of each path, made unique by a number where two agree."""
    names = []
    for model in models:
        name = plain = PurePath(str(model).rstrip("/")).name or "expert"
        number = 1
        while name in names:
            number += 1
            name = f"{plain}_{number}"
        names.append(name)
    return names


LAYER = re.compile(r"(?:^|\\.)(?:layers|layer|h|blocks|block)\\.(\\d+)(?:\\.|$)")
FIRST = re.compile(r"(?:^|\\.)(?:embed\\w*|wte|wpe|word_embeddings\\w*)(?:\\.|$)")


def layer_count(names):
    """The highest layer number plus one, or 0."""
    return max((int(match.group(1)) + 1 for match in map(LAYER.search, names) if match), default=0)


def depth_of(name, layers):
    """0.0 for the embedding and the first layer, 1.0 for the last and the head."""
    match = LAYER.search(name)
    if match:
        return min(int(match.group(1)) / (layers - 1), 1.0) if layers > 1 else 0.0
    return 0.0 if FIRST.search(name) else 1.0


def tensor_seed(run_seed, name):
    """63 bits of BLAKE3 over the run's seed, the program and the tensor."""
    text = f"tensor seed\\x00{run_seed}\\x00{PROGRAM_ID}\\x00{name}".encode()
    return int.from_bytes(blake3(text), "little") >> 1


VALUES = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
STEPS = (
    *((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)),
    *((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)),
)


def blake3(text):
    """The first 8 bytes of BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs) of at most 1024 bytes, one chunk of it:
    mergekit's environment need not have the blake3 package."""
    if len(text) > 1024:
        raise ProgramFailed(f"expected a seed's text of at most 1024 bytes, got {len(text)}; the tensor's name is too long")
    value, blocks = VALUES, [text[at : at + 64] for at in range(0, len(text), 64)] or [b""]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        flags = (1 if number == 0 else 0) | (2 | 8 if last else 0)
        value = _compressed(value, block, flags)
    return struct.pack("<2I", *value[:2])


def _compressed(value, block, flags):
    words = struct.unpack("<16I", block.ljust(64, b"\\x00"))
    state = [*value, *VALUES[:4], 0, 0, len(block), flags]
    for _ in range(7):
        for number, (a, b, c, d) in enumerate(STEPS):
            for word, (by_d, by_b) in zip(words[2 * number : 2 * number + 2], ((16, 12), (8, 7))):
                state[a] = (state[a] + state[b] + word) & 0xFFFFFFFF
                state[d] = _turned(state[d] ^ state[a], by_d)
                state[c] = (state[c] + state[d]) & 0xFFFFFFFF
                state[b] = _turned(state[b] ^ state[c], by_b)
        words = [words[at] for at in ORDER]
    return tuple(low ^ high for low, high in zip(state[:8], state[8:]))


def _turned(word, by):
    return (word >> by | word << (32 - by)) & 0xFFFFFFFF


register(Method())
'''

RUNNER = '''\
"""mergekit-yaml with one more merge method: python run.py CONFIG OUT [any option of mergekit-yaml].

mergekit {version} has no way to be told of methods that are not among its own files, so this imports ours first, then calls mergekit's command.
The program is NOT SANDBOXED here: read {module}.py before you run it.
"""

import sys

from {module} import ProgramFailed
from mergekit.scripts.run_yaml import main

if __name__ == "__main__":
    try:
        main(prog_name="run.py")
    except ProgramFailed as error:
        sys.exit(f"run.py: {{error}}")
'''

README = """\
# `{method}`: a merge program in mergekit

Mergewright's program `{id}` ({origin}) as a merge method of mergekit {version}. **Inside mergekit the program is not sandboxed: it may do
whatever you may. Read it in `{module}.py` before you run it.**

    pip install mergekit=={version}
    python run.py merge.yaml merged --num-threads 1

The first installs mergekit, in an environment of its own if you like; nothing of Mergewright is needed there. The second writes the merged
model to `merged`; all options of `mergekit-yaml` are understood.{placeholders}

- `{module}.py` has the program, unchanged, and the method around it.
- `merge.yaml` uses it. Beside the program's hyper-parameters there are `mergewright_seed`, from which all random numbers follow, and
  `mergewright_merge`: which tensors are merged (`all`, `mlp`, or patterns such as `model.layers.*.mlp.*`, several by commas); the others are
  the base's. mergekit's gradients and filters work for the hyper-parameters.
- `run.py` registers the method and calls mergekit, which has no way of its own to find it.

## What is equal to `mergewright apply`, and what may differ

Weights are the same bit for bit where torch, processor and thread count are the same: hence `--num-threads 1`, with more of which sums may
differ in their last bits. (Of Mergewright's own library those that take norms are summed in blocks by `apply`: there one bfloat16 value in two
thousand differs by its last bit.) What else there is to know:

- **dtype.** Tensors come out as mergekit hands them over: in the widest dtype among the models. Where experts are stored wider than the base, add
  `out_dtype:` with the base's. Do not set `dtype:`: the inputs would be rounded to it before they are merged.
- **Tensors.** mergekit merges those that it knows of the architecture, by its own names; `apply` all of the base's, by the names there. Where the two
  differ, so do random numbers and what the program reads from `name`. A tied head that only an expert stores is written too (and read by nobody).
- **Shapes.** mergekit wants every tensor in one shape, those that are not merged too; for vocabularies it has `tokenizer: {{source: base}}`.
- **Slices.** With `slices:` the layers are numbered as in the output, and `depth` counts the base's. Equal numbers are promised for `models:`.
- **Chance.** Generators that a program makes without a seed (`numpy.random.default_rng()`, `random.Random()`) take one from the operating system;
  `torch.empty` has whatever was in memory; sets of tensors, or of texts unless PYTHONHASHSEED=0 is set, are walked in any order.
- **Limits.** There are none of time and memory.
"""
