"""One update of the generator: choose what to learn from, train, look at what came of it, and keep it or take it back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.host import memory_for
from engine import rundir
from engine.bench import Bench
from engine.evaluating import thread_count
from engine.generators import Draft, LanguageModelGenerator
from engine.hashing import derived_seed
from engine.learning.gate import NO_NUMBERS, Probe, broken, divergence, probe, refusals
from engine.learning.lesson import Lesson
from engine.learning.methods import method_named
from engine.learning.pairs import Past
from engine.learning.student import AGAIN, Student
from engine.records import Sampling, Task
from engine.store import Store
from engine.suites import describe, weights_of

NOTHING = "nothing to learn from: no two programs differ in what they are worth"


@dataclass(frozen=True)
class Update:
    """Everything that an update of a campaign's generator needs.

    Attributes:
        bench: runs the gate's programs.
        generator: resident; it is what is trained.
        folder: of the run.
        store: of the run; read only.
        check: a safe point, after every step; what it raises stops the update, and nothing of it is kept.
    """

    bench: Bench
    generator: LanguageModelGenerator
    folder: Path
    store: Store
    check: Callable[[], None] = lambda: None

    def run(self, iteration: int, previous: str) -> dict[str, Any]:
        """Update the generator on what was measured up to `iteration`.

        Args:
            previous: folder of the generator as it is.

        Returns:
            The archive's report. `trained`: whether there is a new version; `attempts`: for each the figures of its lessons, its probe, and why it was
            taken back (`refused`, empty where it was kept); what was learnt from, as the method records it; `refused` where that was nothing.

        Raises:
            HostError, BenchmarkError: memory or disk do not suffice.
        """
        config = self.bench.config
        assert config.learns
        method, seed = method_named(config.learn.method), derived_seed(config.campaign.seed, "learn", iteration, 0)
        past = self._past(iteration, seed)
        student = Student(
            self.generator.resident,
            config.learn,
            previous=previous,
            start=config.learn.start or method.start,
            folder=self.folder / "generators",
            device=config.models.device,
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(thread_count(config.models))
        try:
            with closing(student):
                return self._attempts(student, lambda: method.lessons(past, config, self.generator), iteration, seed)
        finally:
            torch.set_num_threads(threads)

    def _past(self, iteration: int, seed: int) -> Past:
        by_iteration = {i: self.store.candidates(i) for i in range(1, iteration + 1)}
        weights = weights_of(describe(self.bench.dev))
        return Past(by_iteration, self.generator.forms.prompt(Task()), weights, seed, self.store.trials())

    def _attempts(
        self, student: Student, lessons: Callable[[], Iterator[Lesson]], iteration: int, seed: int
    ) -> dict[str, Any]:
        """Train, at half the rate each time the gate refuses; the version before where it always does."""
        config = self.bench.config
        known = {c.program.id for c in self.store.candidates()}
        attempts: list[dict[str, Any]] = []
        report: dict[str, Any] = {"trained": False, "attempts": attempts}
        before = self._probe(self._drafts(iteration), known) if config.gate.programs else None
        for attempt in range(1 + config.gate.retries):
            student.begin()
            rate, trained = config.learn.learning_rate / 2**attempt, []
            for lesson in lessons():
                report |= lesson.record
                if lesson.rows:
                    trained.append(student.train(lesson, rate=rate, seed=seed, check=self.check))
                if trained and trained[-1]["loss_last"] is None:
                    break
            if not trained:
                student.forget()
                return report | {"refused": NOTHING}
            after, refused = self._looked_at(student, before, known, trained, iteration)
            attempts.append({"lessons": trained, "probe": asdict(after) if after else None, "refused": refused})
            if not refused:
                digest = student.keep(rundir.generator_folder(self.folder, iteration))
                report |= {"trained": True, "generator_hash": digest}
                break
            student.forget()
        return report | {"probe_before": asdict(before) if before else None}

    def _looked_at(
        self,
        student: Student,
        before: Probe | None,
        known: set[str],
        trained: Sequence[Mapping[str, Any]],
        iteration: int,
    ) -> tuple[Probe | None, list[str]]:
        """What the trained generator writes, and why it is refused."""
        if trained[-1]["loss_last"] is None:
            return None, ["the loss was no number any more"]
        with memory_for("looking at the trained generator", AGAIN):
            reasons = broken(self.generator.resident.model, self._prompt_tokens())
        if reasons or before is None:
            return None, reasons
        drafts = self._drafts(iteration)
        after = self._probe(drafts, known)
        with memory_for("comparing the generator with the version before", AGAIN), student.before() as switch:
            kl = divergence(lambda: nullcontext(self.generator.resident.model), switch, self._tokens(drafts))
        if not math.isfinite(kl):
            return after, [NO_NUMBERS]
        after = replace(after, kl=kl)
        return after, refusals(self.bench.config.gate, before, after)

    def _drafts(self, iteration: int) -> list[Draft]:
        """The gate's programs, by the generator as it is now, sampled as in the next iteration; the same seeds each time."""
        config, section = self.bench.config, self.bench.config.generator
        temperature = section.temperature_in(iteration + 1)
        seeds = [derived_seed(config.campaign.seed, "gate", row) for row in range(config.gate.programs)]
        places = [Sampling(temperature, section.top_p, seed, 0, row, section.top_k) for row, seed in enumerate(seeds)]
        size, drafts = config.generator.batch, []
        for start in range(0, len(places), size):
            self.check()
            part = places[start : start + size]
            drafts += self.generator.write(part, [Task()] * len(part))
        return drafts

    def _probe(self, drafts: list[Draft], known: set[str]) -> Probe:
        return probe(drafts, self.bench.probe, known)

    def _prompt_tokens(self) -> list[int]:
        ((prompt, _),) = self._tokens([Draft(self.generator.forms.prompt(Task()), "", "")])
        return prompt

    def _tokens(self, drafts: list[Draft]) -> list[tuple[list[int], list[int]]]:
        tokenizer, begun = self.generator.resident.tokenizer, self.generator.forms.special_tokens
        return [
            (
                tokenizer(d.prompt, add_special_tokens=begun).input_ids,
                tokenizer(d.text, add_special_tokens=False).input_ids,
            )
            for d in drafts
        ]
