"""A generator in training: the resident model itself, with an adapter on it or with all of its weights, so nothing is held twice while it learns.

| | `keep_as` "model" | "adapter" |
|---|---|---|
| trained | a fresh LoRA adapter (alpha = rank), merged when kept; `lora_rank` 0: all weights | one adapter over the first generator, trained on |
| reference of DPO and KTO | the model that the lesson starts from, asked before the first step | the same; a frozen copy of the adapter, for the gate's divergence |
| with `reference` "base" | the untrained model, held beside it until it has been asked | the same |
| a version on disk | a plain model folder | the adapter alone |

What is not kept is undone by reading the version before again. For the gate's divergence alone that version is held beside the new one for a moment,
where no adapter can be switched off to get it: of all weights, from the base on, and after two lessons.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError

from benchmarks.errors import BenchmarkError
from benchmarks.host import is_want_of_memory, memory_for
from engine.config_learning import LearnSection
from engine.errors import HostError
from engine.generators import ResidentModel
from engine.generators.resident import restored
from engine.hashing import weights_hash
from engine.learning.lesson import Lesson
from engine.whole_file import move_whole

WARM_UP = 2
FEW_STEPS = 10  # below, the warm-up's first step, whose rate is 0, would be a waste
AGAIN = "free some and resume: the training is repeated"
REFERENCE = "ref"  # the name that TRL gives to the frozen copy of an adapter


class Student:
    """One update of the generator: any number of attempts, of which at most one is kept.

    Args:
        resident: the model to be trained; it holds the version before.
        section: of the campaign.
        previous: folder of the version before, or the name that the resident model was opened by.
        start: whether training goes on from that version or from the untrained model.
        folder: where versions lie; what is in work lies beside them until it is whole.
        device: "cpu" or "cuda".
    """

    def __init__(
        self,
        resident: ResidentModel,
        section: LearnSection,
        *,
        previous: str,
        start: Literal["previous", "base"],
        folder: Path,
        device: str = "cpu",
    ) -> None:
        self._resident, self._section = resident, section
        self._previous, self._device = resident.folder_of(previous), device
        self._start = self._previous if start == "previous" else resident.base
        self._work = folder / ".training"
        self._batch = section.batch
        self._precision = precision_in_force(section.precision, device)
        self._lessons = 0
        self._fresh = False  # whether the adapter began as nothing, over the weights of `start`

    def begin(self) -> None:
        """A new attempt, from where the method starts; an earlier one is forgotten."""
        self._drop_reference()
        self._resident.touched()
        self._resident.adopt(self._start)
        self._fresh = False
        self._lessons = 0

    def train(
        self, lesson: Lesson, *, rate: float, seed: int, check: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Train on `lesson`, after those that this attempt has learnt already.

        Want of memory halves the batch, which is made up for by more of them before a step.

        Args:
            rate: highest learning rate.
            check: called after every step; what it raises stops the training.

        Returns:
            Figures: examples, steps, first and last loss (None where none is finite), held-out losses by epoch, batch, rate, precision.

        Raises:
            BenchmarkError: the memory does not suffice for the smallest batch.
            HostError: the disk does not suffice.
        """
        while True:
            try:
                return self._learn(lesson, rate, seed, check)
            except (MemoryError, RuntimeError) as error:
                if not is_want_of_memory(error):
                    raise
                # Of all weights, those of an earlier lesson are nowhere else: it cannot be taken again.
                whole_again = self._section.lora_rank or not self._lessons
                if self._batch <= lesson.least_batch or not whole_again:
                    raise BenchmarkError(
                        f"training the generator: expected enough memory for a batch of {self._batch}, got none; free some and resume, or start a new run with a lower learn.lora_rank"
                    ) from error
                self._batch = max(lesson.least_batch, self._batch // 2)

    def _learn(self, lesson: Lesson, rate: float, seed: int, check: Callable[[], None]) -> dict[str, Any]:
        resident, section = self._resident, self._section
        shutil.rmtree(self._work, ignore_errors=True)  # left by a run that was killed while it trained
        self._settle()
        goes_on = resident.has_adapter  # trained further; there is none with keep_as "model"
        adapted = bool(section.lora_rank) and not goes_on
        resident.touched()
        before = _adapter_of(resident.model) if goes_on else {}
        lesson = _begun_once(lesson, resident.tokenizer)
        torch.manual_seed(seed)
        history: list[Mapping[str, float]] = []
        with _disk_for(self._work):
            try:
                trainer = lesson.trainer(
                    resident.model,
                    lesson,
                    section,
                    self._common(rate, seed, len(lesson.rows)),
                    processing_class=resident.tokenizer,
                    peft_config=_lora(section.lora_rank) if adapted else None,
                    callbacks=[_watching(check, history)],
                    **self._reference(lesson),
                )
                trainer.ref_model = None  # it has been asked about every example by now
                _silence(trainer)
                resident.model = trainer.accelerator.unwrap_model(trainer.model)
                try:
                    trainer.train()
                finally:  # else the programs of the gate's probe would be written with the products of the training
                    trainer.accelerator.unwrap_model(resident.model, keep_fp32_wrapper=False)
            except BaseException:
                self._unlearn(before, adapted=adapted)
                raise
            finally:
                resident.model.eval()
        self._fresh, self._lessons = adapted and not self._lessons, self._lessons + 1
        figures = _figures(history, trainer.state, batch=self._batch, rate=rate, examples=len(lesson.rows))
        return {**figures, "precision": self._precision}

    def _reference(self, lesson: Lesson) -> dict[str, Any]:
        """For the trainer: the model that stands for what is not to be left, where that is not the one which the lesson starts from."""
        starts_there = self._start == self._resident.base and not self._lessons
        if not lesson.compares or self._section.reference == "start" or starts_there:
            return {}
        return {"ref_model": self._version(self._resident.base)}

    def _version(self, folder: str) -> Any:
        """Another model beside the resident one."""
        dtype = str(self._resident.model.dtype).removeprefix("torch.")
        other = ResidentModel(self._resident.base, device=self._device, dtype=dtype)
        other.adopt(folder)
        return other.model

    def _settle(self) -> None:
        """Make what an earlier lesson taught the model that the next one starts from."""
        self._drop_reference()
        if self._resident.has_adapter and self._section.keep_as == "model":
            self._resident.model = self._resident.model.merge_and_unload()
        if not self._resident.has_adapter:
            restored(self._resident.model)

    def _unlearn(self, adapter: Mapping[str, torch.Tensor], *, adapted: bool) -> None:
        """After a lesson that broke off: the model as it was before, so that the lesson can be taken again."""
        self._drop_reference()
        if adapted:
            self._resident.without_adapter()
        elif adapter:
            with torch.no_grad():
                for name, tensor in _adapter_of(self._resident.model, copied=False).items():
                    tensor.copy_(adapter[name])
        elif not self._lessons:
            self._resident.adopt(self._start)
            self._resident.touched()

    def _drop_reference(self) -> None:
        if self._resident.has_adapter and REFERENCE in self._resident.model.peft_config:
            self._resident.model.delete_adapter(REFERENCE)

    def _common(self, rate: float, seed: int, examples: int) -> dict[str, Any]:
        """Arguments of every trainer."""
        section = self._section
        steps = section.epochs * examples / section.batch
        return {
            "output_dir": str(self._work / "trainer"),
            "learning_rate": rate,
            "num_train_epochs": section.epochs,
            "per_device_train_batch_size": self._batch,
            "per_device_eval_batch_size": self._batch,
            "gradient_accumulation_steps": max(1, section.batch // self._batch),
            "lr_scheduler_type": "cosine",
            "warmup_steps": WARM_UP if steps >= FEW_STEPS else 0,
            "seed": seed,
            "use_cpu": self._device == "cpu",
            "bf16": self._precision == "bfloat16",
            "dataloader_pin_memory": False,
            "save_strategy": "no",
            "save_only_model": True,
            "logging_strategy": "steps",
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "report_to": [],
            "disable_tqdm": True,
            "gradient_checkpointing": False,
        }

    @contextmanager
    def before(self) -> Iterator[Callable[[], AbstractContextManager[Any]]]:
        """A switch to the version before: `with switch() as model`. It is this model with its adapter as it was, where that is enough, else read."""
        model = self._resident.model
        if self._fresh and self._start == self._previous:  # of two lessons the first is in the weights by now
            yield lambda: _without_adapter(model)
        elif self._lessons == 1 and self._resident.has_adapter and REFERENCE in model.peft_config:
            yield lambda: _with_reference(model)
        else:
            other = self._version(self._previous)
            yield lambda: nullcontext(other)

    def keep(self, target: Path) -> str:
        """Make the last attempt the generator: in memory, and as a version in `target`, whole or not at all; it is on the disk when this returns.

        Returns:
            Hash of the version's weights.

        Raises:
            HostError: it cannot be written.
            BenchmarkError: the memory does not suffice.
        """
        resident, made = self._resident, self._work / "model"
        with memory_for("keeping the trained generator", AGAIN), _disk_for(target):
            self._settle()
            resident.model.save_pretrained(made)
            _save_tokenizer(resident.tokenizer, made)
            digest = weights_hash(made.glob("*.safetensors"))
            if target.exists():  # left by a run that died between this rename and the archive's row
                shutil.rmtree(target)
            move_whole(made, target)  # before the archive's row says that it is there
        resident.adopt(str(target))
        return digest

    def forget(self) -> None:
        """Make the version before the generator again."""
        self._drop_reference()
        self._resident.touched()
        self._resident.adopt(self._previous)

    def close(self) -> None:
        """Remove what is left of the work."""
        shutil.rmtree(self._work, ignore_errors=True)


def precision_in_force(precision: str, device: str) -> str:
    """ "float32" or "bfloat16": "auto" is bfloat16 where it is the faster one."""
    if precision != "auto":
        return precision
    if device == "cpu":
        units: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # torch of old has no such question
        return "bfloat16" if units.get("amx_bf16") else "float32"  # without AMX it is the slower one
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def _begun_once(lesson: Lesson, tokenizer: Any) -> Lesson:
    """Without the begin token of a chat template, where TRL's tokenising puts one there itself: a program is never asked for behind two."""
    begin = tokenizer.bos_token
    if not begin or tokenizer(begin).input_ids[:2] != 2 * [tokenizer.bos_token_id]:
        return lesson
    train, held_out = (
        [{**row, "prompt": str(row["prompt"]).removeprefix(begin)} for row in rows]
        for rows in (lesson.rows, lesson.held_out)
    )
    return replace(lesson, rows=train, held_out=held_out)


def _adapter_of(model: Any, *, copied: bool = True) -> dict[str, torch.Tensor]:
    """The trained tensors of an adapter, by name."""
    held = ((name, tensor.detach()) for name, tensor in model.named_parameters() if ".default." in name)
    return {name: tensor.clone() if copied else tensor for name, tensor in held}


@contextmanager
def _without_adapter(model: Any) -> Iterator[Any]:
    with model.disable_adapter():
        yield model


@contextmanager
def _with_reference(model: Any) -> Iterator[Any]:
    model.set_adapter(REFERENCE)
    try:
        yield model
    finally:
        model.set_adapter("default")


def _lora(rank: int) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")


def _watching(check: Callable[[], None], history: list[Mapping[str, float]]) -> Any:
    """A callback that asks whether to stop, keeps the figures, and ends a training whose loss is no number any more."""
    from transformers import TrainerCallback

    class Watching(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            check()

        def on_log(self, _args: Any, _state: Any, control: Any, logs: Mapping[str, float], **__: Any) -> None:
            history.append(dict(logs))
            if not math.isfinite(logs.get("loss", 0.0)):
                control.should_training_stop = True

    return Watching()


def _silence(trainer: Any) -> None:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # it prints raw figures; ours go into the archive


def _figures(
    history: list[Mapping[str, float]], state: Any, *, batch: int, rate: float, examples: int
) -> dict[str, Any]:
    losses = [logs["loss"] for logs in history if "loss" in logs]
    held_out = [round(logs["eval_loss"], 5) for logs in history if "eval_loss" in logs]
    ranked = [logs["rewards/accuracies"] for logs in history if "rewards/accuracies" in logs]
    finite = all(math.isfinite(loss) for loss in losses)
    tail = losses[-max(1, len(losses) // 4) :]
    return {
        "examples": examples,
        "steps": state.global_step,
        "loss_first": losses[0] if losses and finite else None,
        "loss_last": sum(tail) / len(tail) if losses and finite else None,
        "held_out_losses": held_out,
        "pairs_ranked_rightly": ranked[-1] if ranked else None,
        "batch": batch,
        "learning_rate": rate,
    }


@contextmanager
def _disk_for(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise HostError(
            f"generator '{target}': it could not be written ({error}); free space, then resume: the training is repeated"
        ) from error


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    try:
        tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # the tokenizers library has no class of its own for a write that failed
        raise OSError(str(error)) from error
