"""The published problem sets: two files or the same on the hub, and how they are split.

| splits | dev | test |
|---|---|---|
| `clean` (default) | from the train problems | the official test problems |
| `paper` | drawn from the official test problems | the others of them |

`paper` are the sizes of Self-Developing (https://arxiv.org/abs/2410.15639), which tunes on a part of the test set; its paper
says how many problems and not which, so the draw is ours: SPLIT_SEED, over the texts, the same from a file and from the hub.
With `clean` splits no test problem is ever tuned on, and scores can be compared with those that others publish.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.checkers import Checker
from benchmarks.errors import ProblemFileError, UnknownBenchmarkError
from benchmarks.problems import Fields, Problem, draw, load_jsonl, problem_of, without

SPLITS = ("clean", "paper")
SPLIT_SEED = 2410_15639
"""The number of the paper; any would do, as long as it stays."""

Parts = tuple[tuple[Problem, ...], tuple[Problem, ...]]


@dataclass(frozen=True)
class OfficialSet:
    """A published problem set.

    Attributes:
        name: of the benchmark, for messages.
        hub_id: where it lies on the hub.
        configs: the hub's names of its parts, which follow each other in this order.
        fields, checker: see `load_jsonl`.
        carve: the official train problems -> (those left to train on, the dev problems of the clean splits). Raises
            ProblemFileError where they are too few; the second argument says where they come from.
        test_size: problems in the official test set.
        paper_dev: how many of them are dev in the paper splits.
    """

    name: str
    hub_id: str
    configs: tuple[str, ...]
    fields: Fields
    checker: Checker
    carve: Callable[[tuple[Problem, ...], str], Parts]
    test_size: int
    paper_dev: int

    def load(
        self, data: str | Path | None, split: str, splits: str = "clean", *, ask_hub: bool = True
    ) -> tuple[Problem, ...]:
        """The problems of a split.

        Args:
            data: a folder with the official `train.jsonl` and `test.jsonl`; or one JSONL file, which the clean splits
                take whole whatever the split, and the paper splits take for the official test file; or a hub id;
                None: `hub_id`.
            split: "dev" or "test"; of the clean splits "train" too, for whoever fine-tunes a model that will be scored.
            splits: one of SPLITS.
            ask_hub: False: of what lies on the hub the copy is read that was once loaded on this machine, and nothing is
                asked over the network.

        Raises:
            UnknownBenchmarkError: no such split.
            ProblemFileError: a file, the hub or the copy cannot be read, or holds too few problems or others than it should.
        """
        assert splits in SPLITS
        known = ("dev", "test") if splits == "paper" else ("train", "dev", "test")
        if split not in known:
            raise UnknownBenchmarkError(
                f"benchmark '{self.name}': expected split {' or '.join((', '.join(known[:-1]), known[-1]))}, got '{split}'; "
                "use one of them"
            )
        official = partial(self._official, data, self._from_hub if ask_hub else self._from_copy)
        if splits == "paper":
            return self._paper(data, split, official)
        if data is not None and Path(data).is_file():
            return load_jsonl(data, fields=self.fields, checker=self.checker)
        if split == "test":
            return official("test")
        rest, dev = self.carve(official("train"), str(data or self.hub_id))
        if split == "train":
            return rest
        if data is not None and Path(data).is_dir() and not (Path(data) / "test.jsonl").is_file():
            return dev
        return without(dev, official("test"))

    def _paper(
        self, data: str | Path | None, split: str, official: Callable[[str], tuple[Problem, ...]]
    ) -> tuple[Problem, ...]:
        if data is not None and Path(data).is_file():
            test = load_jsonl(data, fields=self.fields, checker=self.checker)
        else:
            test = official("test")
        if len(test) != self.test_size:
            raise ProblemFileError(
                f"{self.name} data '{data or self.hub_id}': expected the {self.test_size} problems of the official test set, "
                f"from which the paper splits are cut, got {len(test)}; give the official test.jsonl, or use splits clean"
            )
        dev, rest = draw(test, self.paper_dev, seed=SPLIT_SEED)
        return rest if split == "test" else without(dev, rest)

    def _official(
        self, data: str | Path | None, rows_of: Callable[[str, str, str], list[Any]], part: str
    ) -> tuple[Problem, ...]:
        if data is not None and Path(data).is_dir():
            file = Path(data) / f"{part}.jsonl"
            if part == "train" and not file.is_file():
                raise ProblemFileError(
                    f"{self.name} data '{data}': expected a train.jsonl, from which the clean splits take dev, got none; "
                    "add it, or use splits paper, which cuts dev from the test problems"
                )
            return load_jsonl(file, fields=self.fields, checker=self.checker)
        if data is not None and not _is_hub_id(str(data)):
            raise ProblemFileError(
                f"{self.name} data '{data}': expected a JSONL file, a folder with train.jsonl and test.jsonl, or a hub "
                "id, got nothing of that name; check the path"
            )
        hub_id = str(data or self.hub_id)
        rows = [row for config in self.configs for row in rows_of(hub_id, config, part)]
        return tuple(
            problem_of(
                row,
                where=f"{hub_id}/{part} row {at}",
                default_id=f"{part}-{at:05d}",
                fields=self.fields,
                checker=self.checker,
            )
            for at, row in enumerate(rows, start=1)  # As lines are counted, so that hub and file give the same ids.
        )

    def _from_hub(self, hub_id: str, config: str, part: str) -> list[Any]:
        import datasets

        try:
            rows = list(datasets.load_dataset(hub_id, config, split=part))
        except (OSError, ValueError, RuntimeError) as error:  # What datasets and the hub client raise share no root.
            raise ProblemFileError(
                f"{self.name} data '{hub_id}': expected a data set on the hub, got: {_first_line(error)}; "
                "check the connection, or give a folder with train.jsonl and test.jsonl as data"
            ) from error
        return rows

    def _from_copy(self, hub_id: str, config: str, part: str) -> list[Any]:
        """Rows that an earlier `_from_hub` left on this machine, by what datasets itself takes where the hub is out of reach: `load_dataset`
        asks first, and its offline mode would hold for every thread of the process.
        """
        from datasets.packaged_modules.cache import cache

        cache.logger.setLevel(logging.ERROR)  # it tells of every copy that it finds
        try:
            found = cache.Cache(
                repo_id=hub_id, dataset_name=hub_id.split("/")[1], config_name=config, version="auto", hash="auto"
            )
            rows = list(found.as_dataset(split=part))
        except (OSError, ValueError, RuntimeError) as error:
            raise ProblemFileError(
                f"{self.name} data '{hub_id}': expected a copy of it on this machine, got: {_first_line(error)}; "
                "ask the hub for it, or give a folder with train.jsonl and test.jsonl as data"
            ) from error
        return rows


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".")
