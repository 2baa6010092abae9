"""Everything this package raises, in one tree.

    BenchmarkError                     a fault of the host or of an outside part (out of memory, a dead server)
    └── BenchmarkUserError             something the user gave; str() is one line: what, expected, got, what to do
        ├── ProblemFileError           a problem file that is missing, empty or malformed (names file and line)
        ├── UnknownBenchmarkError      a benchmark or split that does not exist
        ├── ModelFolderError           a model or tokenizer that cannot be loaded, or the two do not fit each other
        ├── DeviceError                a device that this machine does not have
        ├── SwapError                  tensors that do not fit the resident model
        └── PromptTooLongError         prompt and answer do not fit the model's context

A model that answers badly is not an error: it is a low score. A scorer that breaks is one: it must never become a zero.
"""


class BenchmarkError(Exception):
    """Root of the package's errors. On its own: the host's fault, not the user's and not a candidate's."""


class BenchmarkUserError(BenchmarkError):
    """Something the user gave cannot be used. str() is one line that says what, expected, got and what to do."""


class ProblemFileError(BenchmarkUserError):
    """A problem file is missing, empty or malformed."""


class UnknownBenchmarkError(BenchmarkUserError):
    """No benchmark, or no split of it, has this name."""


class ModelFolderError(BenchmarkUserError):
    """A model folder cannot be loaded, or its tokenizer does not fit the model."""


class DeviceError(BenchmarkUserError):
    """A device that this machine does not have."""


class SwapError(BenchmarkUserError):
    """Tensors to swap in do not fit the resident model."""


class PromptTooLongError(BenchmarkUserError):
    """A prompt and its answer do not fit into the model's context."""
