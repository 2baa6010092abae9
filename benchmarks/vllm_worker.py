"""What runs in vLLM's environment: `python -m benchmarks.vllm_worker DESCRIPTOR`, started and ended by `vllm_process.py`.

It answers requests, one at a time, until the socket closes:

| do | gives |
|---|---|
| load: model, dtype, shapes, aliases, end_ids, rows, memory, memory_share, tensor_parallel, eager | context |
| prove: halves | – (the shared memory holds the model's own weights: reading them must change nothing) |
| swap: names | – (these tensors are read again from the shared memory) |
| answer: prompts, max_new_tokens, stop | answers, all as token ids; before them a sign of life every second |

What it cannot do because of the user or of memory is a reply with error and kind; anything else ends it, with a traceback for
the last words. Only what this environment has for certain is imported: vLLM, torch, transformers, the standard library.
"""

import inspect
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.child import Message, receive, send
from benchmarks.decoding import Stop, Texts
from benchmarks.errors import BenchmarkError, BenchmarkUserError, ModelFolderError
from benchmarks.host import is_want_of_memory, memory_for
from benchmarks.vllm_process import GRACE_SECONDS
from benchmarks.weight_buffer import Layout, attach

EXTENSION = "benchmarks.vllm_worker.SharedWeights"
"""By this name, for here the module is called __main__, and in the workers it is not."""
CPU_CACHE_GIB = 2.0
"""For the cache of keys and values; left to itself vLLM takes nine tenths of the machine's memory."""
SIGN_OF_LIFE_SECONDS = 1.0
PROOF_PROMPTS = PROOF_TOKENS = 8
"""Asked before and after the first reading of weights, tokens of each prompt and of each answer."""


class SharedWeights:
    """Mixed into each of vLLM's workers (its `worker_extension_cls`); called by name through `LLM.collective_rpc`."""

    model_runner: Any

    def mergewright_attach(
        self, path: str, shapes: Mapping[str, tuple[int, ...]], dtype: str, aliases: Mapping[str, str]
    ) -> bool:
        """Maps the shared weights; can this vLLM read weights from memory?

        Args:
            path: of the memory, as any process of this user can open it.
            aliases: further name of a tied weight -> its checkpoint name.
        """
        self._mergewright_views = attach(Path(path), Layout(shapes, dtype))
        model = self.model_runner.get_model()
        self._mergewright_aliases: dict[str, list[str]] = {}
        for alias, name in aliases.items():
            if _has_module(model, alias.rpartition(".")[0]):
                self._mergewright_aliases.setdefault(name, []).append(alias)
        _remove_names_of_shared_memory()
        return "weights_iterator" in inspect.signature(self.model_runner.reload_weights).parameters

    def mergewright_reload(self, names: Sequence[str], revealing: bool = False) -> None:
        """Reads these checkpoint tensors again; each packed matrix must be named whole.

        Args:
            revealing: what of a matrix is not read becomes NaN, and is not by chance what it was.
        """
        before = torch.are_deterministic_algorithms_enabled()
        if revealing:
            torch.use_deterministic_algorithms(True, warn_only=True)  # new memory is then filled with NaN
        try:
            self.model_runner.reload_weights(weights_iterator=self._mergewright_read(names))
        finally:
            torch.use_deterministic_algorithms(before)

    def _mergewright_read(self, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        for name in names:
            yield name, self._mergewright_views[name]
            # On a CPU the head multiplies with a packed copy of its own: of a tied embedding it must be told, too.
            for alias in self._mergewright_aliases.get(name, ()):
                yield alias, self._mergewright_views[name]


def _has_module(model: Any, name: str) -> bool:
    try:
        model.get_submodule(name)
    except AttributeError:
        return False
    return True


def _remove_names_of_shared_memory() -> None:
    """vLLM's CPU workers share memory by name and never remove the names; by now all of them have mapped it."""
    ours = os.environ.get("VLLM_DIST_IDENT")
    for file in Path("/dev/shm").glob(f"{ours}-*-cpushm_*") if ours else ():
        file.unlink(missing_ok=True)


class Resident:
    """The model in vLLM."""

    def __init__(self, job: Message) -> None:
        from transformers import AutoTokenizer
        from vllm import LLM, __version__
        from vllm.platforms import current_platform

        share = job["memory_share"]
        memory: dict[str, Any] = {} if share is None else {"gpu_memory_utilization": share}
        if current_platform.is_cpu():
            memory = {"kv_cache_memory_bytes": int((share or CPU_CACHE_GIB) * (1 << 30))}
        self.model: str = job["model"]
        self._llm = LLM(
            self.model,
            skip_tokenizer_init=True,  # token ids go in and come out
            dtype=job["dtype"],
            tensor_parallel_size=job["tensor_parallel"],
            enforce_eager=job["eager"],
            max_model_len=-1,  # the model's context, or as much of it as the cache can hold
            enable_prefix_caching=True,
            worker_extension_cls=EXTENSION,
            seed=0,
            **memory,
        )
        self._engine = self._llm.llm_engine
        self.context: int = self._engine.model_config.max_model_len
        tokenizer = AutoTokenizer.from_pretrained(self.model)
        self._rows: int = job["rows"]
        self._texts = Texts(tokenizer, frozenset(job["end_ids"]), self._rows)
        path = f"/proc/{os.getpid()}/fd/{job['memory']}"
        shapes = {name: tuple(shape) for name, shape in job["shapes"]}
        if not all(self._call("mergewright_attach", path, shapes, job["dtype"], job["aliases"])):
            raise BenchmarkUserError(
                f"vLLM: expected one whose weights can be overwritten from memory, got {__version__}; install a newer one"
            )
        self._asked = 0
        self.version: str = __version__

    def swap(self, names: Sequence[str]) -> None:
        """Has every worker read these tensors again."""
        self._call("mergewright_reload", list(names))

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop: Stop,
        alive: Callable[[], None] = lambda: None,
        draws: Sequence[Message] = (),
    ) -> list[list[int]]:
        """Answers as token ids, each up to the token that ends it, cut by the same rule as in `decoding.greedy`; greedy where there are no `draws`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        # The weights may be others by now; and what was asked before must not move a float of what is asked now.
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not reset its prefix cache")
        ends, triggers = self._texts.end_ids, self._texts.triggers(stop)
        greedy: Message = {"temperature": 0}
        first, self._asked = self._asked, self._asked + len(prompts)  # no number is given twice
        for at, prompt in enumerate(prompts):
            settings = SamplingParams(
                **(draws[at] if draws else greedy),
                max_tokens=max_new_tokens,
                stop_token_ids=sorted(ends),
                ignore_eos=True,  # ours are above
                detokenize=False,
                output_kind=RequestOutputKind.DELTA,
            )
            self._engine.add_request(str(first + at), {"prompt_token_ids": list(prompt)}, settings)
        answers: list[list[int]] = [[] for _ in prompts]
        running = set(range(len(prompts)))
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                at = int(output.request_id) - first
                for token in output.outputs[0].token_ids:
                    if at not in running:
                        break
                    if token in ends:
                        running.discard(at)
                        break
                    answers[at].append(token)
                    if token in triggers and stop.end(self._texts.decode(answers[at])) is not None:
                        running.discard(at)
                        self._engine.abort_request([output.request_id])
            alive()
        return answers

    def prove(self, halves: Sequence[Sequence[str]]) -> None:
        """Does the model stay itself when its own weights are read from the shared memory, one half and then the other?

        In vLLM not every kind of model does, and none complains: https://github.com/vllm-project/vllm/issues/48312

        Raises:
            ModelFolderError: it does not.
        """
        rows = list(range(3, 3 + PROOF_PROMPTS))
        prompts = [[row * at % self._rows for at in range(1, PROOF_TOKENS + 1)] for row in rows]
        before = self.answer(prompts, PROOF_TOKENS, Stop())
        for half in halves:
            self._call("mergewright_reload", list(half), True)
        after = self.answer(prompts, PROOF_TOKENS, Stop())
        same = sum(
            a == b for ours, theirs in zip(before, after, strict=True) for a, b in zip(ours, theirs, strict=False)
        )
        if 2 * same < sum(map(len, before)):  # half: near ties may fall differently on a GPU
            raise ModelFolderError(
                f"model '{self.model}': expected the same answers after vLLM has read its weights again, got others; "
                "use evaluator transformers"
            )

    def _call(self, method: str, *arguments: object) -> list[Any]:
        results: list[Any] = self._llm.collective_rpc(method, args=arguments)
        return results


@contextmanager
def refusals(model: str) -> Iterator[None]:
    """Turns whatever vLLM raises over a model into our terms.

    Raises:
        BenchmarkError: the memory does not suffice.
        ModelFolderError: vLLM cannot run it.
    """
    try:
        yield
    except BenchmarkError:
        raise
    except Exception as error:  # the edge to foreign code, which raises what it likes
        said = " ".join(str(error).partition(" [type=")[0].split())[:240] or type(error).__name__
        if is_want_of_memory(error) or "memory" in said.lower():
            raise BenchmarkError(
                f"loading '{model}' in vLLM: expected enough memory, got none ({said}); "
                "free some, or set another evaluator.memory"
            ) from error
        raise ModelFolderError(
            f"model '{model}': expected one that vLLM can run, got: {said}; use evaluator transformers or another model"
        ) from error


def serve(connection: socket.socket) -> None:
    """Answers requests until the other side closes."""
    resident: Resident | None = None
    spoken = time.monotonic()

    def alive() -> None:
        nonlocal spoken
        if time.monotonic() - spoken >= SIGN_OF_LIFE_SECONDS:
            spoken = time.monotonic()
            send(connection, {"alive": True})

    while True:
        try:
            request = receive(connection)
        except ConnectionError:
            return
        try:
            if request["do"] == "load":
                with refusals(request["model"]):
                    resident = Resident(request)
            assert resident is not None
            reply = _reply(resident, request, alive)
        except BenchmarkError as error:
            reply = {"error": str(error), "kind": type(error).__name__}
        send(connection, reply)


def _reply(resident: Resident, request: Message, alive: Callable[[], None]) -> Message:
    if request["do"] == "prove":
        with refusals(resident.model):
            resident.prove(request["halves"])
    with memory_for("asking vLLM", "free some, or start anew with another evaluator.memory"):
        if request["do"] == "swap":
            resident.swap(request["names"])
        elif request["do"] == "answer":
            stop = Stop(tuple(request["stop"]["strings"]), request["stop"]["final_line"])
            return {
                "answers": resident.answer(
                    request["prompts"], request["max_new_tokens"], stop, alive, request.get("draws", ())
                )
            }
    return {"context": resident.context, "version": resident.version}


def end_with(connection: socket.socket) -> None:
    """Ends the process group some time after the other side is gone, whatever vLLM is busy with."""
    watch = select.poll()
    watch.register(connection, select.POLLRDHUP)
    watch.poll()
    time.sleep(GRACE_SECONDS)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """See the module."""
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        threading.Thread(target=end_with, args=(connection,), daemon=True).start()
        serve(connection)


if __name__ == "__main__":
    main()
