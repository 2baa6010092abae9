"""vLLM as an evaluator: the model resident in a process of its own, its weights overwritten from shared memory.

Here are the weights as they should be, the names, the token ids and the texts; `vllm_process.py` keeps the child alive and
`vllm_worker.py` is what runs in it. A swap copies the named tensors into the shared memory and has vLLM read those again, and
those only that it packs with them.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.child import Message
from benchmarks.decoding import Stop, Texts
from benchmarks.errors import BenchmarkError
from benchmarks.evaluators import Prompt
from benchmarks.model_folder import ModelFolder
from benchmarks.prompting import Prompting, check_swap
from benchmarks.vllm_process import VLLMProcess, VLLMSettings
from benchmarks.weight_buffer import Layout, attach, reserve


@dataclass(frozen=True)
class Draw:
    """How one continuation is drawn; `top_k` 0 is every token, and the same seed draws the same."""

    temperature: float
    top_p: float
    top_k: int
    seed: int


class VLLMEvaluator:
    """A Hugging Face causal LM in vLLM, on whatever device that vLLM was built for.

    An answer is a function of the weights and of the prompts asked together, as prefixes are forgotten between calls:
    what was asked before never moves a float. Memory: two times the weights on the host, once shared and once, on a
    CPU, in vLLM.

    Args:
        folder: model folder or hub id; safetensors only, never with remote code.
        dtype: resident dtype.
        settings: which Python, how much memory, when it counts as dead.

    Raises:
        BenchmarkUserError: that Python has no vLLM.
        BenchmarkError: the model does not fit into memory, or vLLM died twice.
        ModelFolderError: the model or its tokenizer cannot be loaded, or they do not fit each other.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        settings: VLLMSettings | None = None,
    ) -> None:
        settings = settings or VLLMSettings()
        self._base = ModelFolder(folder)
        layout = Layout(self._base.shapes, str(dtype).removeprefix("torch."))
        self._texts = Texts(self._base.tokenizer, self._base.end_ids, self._base.rows)
        with ExitStack() as opened:
            memory, stored = _shared(folder, layout, opened)
            for name, view in stored.items():
                view.copy_(self._base[name])
            self._views = {name: stored[owner] for name, owner in self._base.owner.items()}
            self._dirty: set[str] = set()
            self._process = VLLMProcess(settings, self._load_request(layout, settings), memory)
            opened.callback(self._process.close)
            proved = self._process.ask({"do": "prove", "halves": halves(layout.shapes)})
            context = min(self._base.context, proved["context"])
            self.engine = f"vllm {proved['version']}"
            self.batch: int | None = None
            self._opened = opened.pop_all()
        self._prompting = Prompting(self._base.tokenizer, self._texts, context)

    @property
    def incidents(self) -> Mapping[str, int]:
        """See `Evaluator.incidents`."""
        return {"restarted": self.restarts} if self.restarts else {}

    @property
    def restarts(self) -> int:
        """How often vLLM died or hung and was started again."""
        return self._process.restarts

    @torch.inference_mode()
    def swap(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Evaluator.swap`.

        Raises:
            BenchmarkError: vLLM died twice.
        """
        check_swap(tensors, self._views)
        given = {self._base.owner[name]: tensor for name, tensor in tensors.items()}
        changed = self._dirty | given.keys()
        self._dirty = changed  # should the copying be interrupted
        for name in changed - given.keys():
            self._views[name].copy_(self._base[name])
        for name, tensor in given.items():
            self._views[name].copy_(tensor)
        self._dirty = set(given)
        if changed:
            self._process.ask(self._reload(changed), before=self._now())

    def restore(self) -> None:
        """See `Evaluator.restore`."""
        self.swap({})

    def check(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> None:
        """See `Evaluator.check`."""
        self._prompting.encode(prompts, max_new_tokens)

    def answer(self, prompts: Sequence[Prompt], *, max_new_tokens: int, stop: Stop) -> list[str]:
        """See `Evaluator.answer`.

        Raises:
            BenchmarkError: vLLM died twice, or its memory did not suffice.
        """
        return [stop.cut(self._texts.decode(ids)) for ids in self.answer_ids(prompts, max_new_tokens, stop)]

    def sample(
        self, prompts: Sequence[Sequence[int]], draws: Sequence[Draw], *, max_new_tokens: int
    ) -> list[list[int]]:
        """One continuation for every prompt, drawn as its `draws` say; token ids in and out, without the end token.

        Raises:
            BenchmarkError: vLLM died twice, or its memory did not suffice.
            PromptTooLongError: prompt and continuation exceed the context.
        """
        assert len(draws) == len(prompts)
        self._prompting.check(prompts, max_new_tokens)
        return self._continued(prompts, max_new_tokens, Stop(), draws)

    def answer_ids(self, prompts: Sequence[Prompt], max_new_tokens: int, stop: Stop) -> list[list[int]]:
        """The answers as token ids, without end tokens and not yet cut."""
        return self._continued(self._prompting.encode(prompts, max_new_tokens), max_new_tokens, stop)

    def _continued(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, stop: Stop, draws: Sequence[Draw] = ()
    ) -> list[list[int]]:
        """Greedy where there are no `draws`."""
        assert max_new_tokens >= 1
        if not prompts:
            return []
        request = {
            "do": "answer",
            "prompts": [list(prompt) for prompt in prompts],
            "max_new_tokens": max_new_tokens,
            "stop": {"strings": stop.strings, "final_line": stop.final_line},
            "draws": [asdict(draw) for draw in draws],
        }
        ids: list[list[int]] = self._process.ask(request, before=self._now())["answers"]
        return ids

    def close(self) -> None:
        """See `Evaluator.close`."""
        self._views = {}
        self._opened.close()

    def _load_request(self, layout: Layout, settings: VLLMSettings) -> Message:
        aliases = {name: owner for name, owner in self._base.owner.items() if name != owner}
        return {
            "do": "load",
            "model": str(self._base.path),
            "dtype": layout.dtype,
            "shapes": list(layout.shapes.items()),
            "aliases": aliases,
            "rows": self._base.rows,
            "end_ids": sorted(self._base.end_ids),
            "tensor_parallel": settings.tensor_parallel,
            "memory_share": settings.memory,
            "eager": settings.eager,
        }

    def _now(self) -> list[Message]:
        """What a child that starts from the folder must be told to hold the weights of now."""
        return [self._reload(self._dirty)] if self._dirty else []

    def _reload(self, changed: Iterable[str]) -> Message:
        return {"do": "swap", "names": with_packed(changed, self._base.shapes)}


def with_packed(changed: Iterable[str], names: Iterable[str]) -> list[str]:
    """Those of `names` that vLLM must read again when `changed` have changed, in the order of `names`.

    vLLM makes one matrix of several (q, k and v; gate and up; all experts) and can write it only whole. What it packs
    always stands in one module of one layer, so that module's tensors are taken together; names outside the numbered
    layers stand alone.
    """
    groups = {_group(name) for name in changed}
    return [name for name in names if _group(name) in groups]


def halves(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names in two halves that cut between all neighbouring groups: a reading of one half then touches every cut."""
    even: list[str] = []
    odd: list[str] = []
    groups: dict[str, int] = {}
    for name in names:
        number = groups.setdefault(_group(name), len(groups))
        (odd if number % 2 else even).append(name)
    return even, odd


def _group(name: str) -> str:
    parts = name.split(".")
    numbers = [at for at, part in enumerate(parts) if part.isdecimal()]
    if not numbers:
        return ".".join(parts[:-1])  # weight and bias of one module
    if len(numbers) > 1:
        return ".".join(parts[: numbers[1]])  # experts
    return ".".join(parts[:-2])


def _shared(folder: str | Path, layout: Layout, opened: ExitStack) -> tuple[int, dict[str, Tensor]]:
    """Descriptor of memory for the weights, closed with `opened`, and the tensors on it."""
    try:
        memory = reserve(layout)
        opened.callback(os.close, memory)
        return memory, attach(memory, layout)
    except OSError as error:
        raise BenchmarkError(
            f"model '{folder}': expected {layout.size} bytes of memory for its weights, got: {error.strerror}; "
            "free some, or choose a smaller models.dtype"
        ) from error
