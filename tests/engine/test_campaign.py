"""The whole loop on the pocket world: every fate a row, nothing paid twice, the same end however often it is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import PromptTooLongError, evaluators
from benchmarks.evaluators import TransformersEvaluator
from engine import campaign, rundir
from engine.bench import Bench
from engine.campaign import run_campaign
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.errors import HostError, Interrupted, RunError
from engine.generators import ScriptedGenerator
from engine.hashing import derived_seed
from engine.progress import Progress
from engine.records import Outcome
from engine.store import Store
from engine.suites import open_suite, problems_of
from tests.engine.chat_server import Answer, said
from tests.engine.chat_server import Server as ChatServer
from tests.engine.conftest import WEIGHTED_SUM, Call
from tests.postgresql import Server

ROOT = Path(__file__).parents[2]


def start(config: CampaignConfig, folder: Path) -> Store:
    rundir.new_folder(config, folder, "now")
    run_campaign(folder, Progress(config))
    return Store.in_folder(folder)


def changed(config: CampaignConfig, *settings: str) -> CampaignConfig:
    return build_config(config.model_dump(mode="json"), settings)


def kept_at(config: CampaignConfig, archive_url: str | None) -> CampaignConfig:
    """The campaign with its archive in a database."""
    return changed(config, *([] if archive_url is None else [f"archive.url={archive_url}"]))


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> CampaignConfig:
    """A campaign of scripted programs of every fate, each proposed twice."""
    from tests.engine import conftest

    programs = conftest.programs_folder.__wrapped__(tmp_path_factory.mktemp("p"))  # type: ignore[attr-defined]
    return changed(
        conftest.small_config.__wrapped__(),
        "generator.kind=scripted",
        f"generator.script={programs}",
        "campaign.programs=8",
    )  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def scripted(
    script: CampaignConfig, tmp_path_factory: pytest.TempPathFactory, archive_url: str | None
) -> tuple[CampaignConfig, Path]:
    """One finished run of it, in each database."""
    folder = tmp_path_factory.mktemp("runs") / "scripted"
    config = kept_at(script, archive_url)
    start(config, folder).close()
    return config, folder


def test_every_fate_is_a_row_with_its_reason(scripted: tuple[CampaignConfig, Path]) -> None:
    rows = Store.in_folder(scripted[1]).candidates(1)
    fates = [(c.assessment.outcome.value, c.assessment.reason) for c in rows]
    assert fates == [
        ("ok", None),
        ("duplicate", None),
        ("rejected", "policy"),
        ("failed", "exception"),
        ("failed", "wrong_shape"),
        ("rejected", "syntax"),
        ("ok", None),
        ("ok", None),
    ]
    assert rows[1].assessment.duplicate_of == rows[0].program.id


def test_only_new_working_programs_have_a_score(scripted: tuple[CampaignConfig, Path]) -> None:
    for c in Store.in_folder(scripted[1]).candidates():
        assert (c.score is not None) == (c.assessment.outcome is Outcome.OK)


def test_a_program_of_an_earlier_iteration_is_a_duplicate(scripted: tuple[CampaignConfig, Path]) -> None:
    second = Store.in_folder(scripted[1]).candidates(2)
    assert not [c for c in second if c.assessment.outcome is Outcome.OK]
    assert [c.assessment.outcome for c in second].count(Outcome.DUPLICATE) == 4


def test_test_problems_are_touched_once_by_each_finalist_only(scripted: tuple[CampaignConfig, Path]) -> None:
    finals = Store.in_folder(scripted[1]).finals()
    kinds = [f.kind for f in finals]
    assert kinds == ["seed", "expert", "expert", "expert", "human", "human", "discovered", "discovered"]
    assert len({(f.kind, f.name) for f in finals}) == len(finals)


def test_no_model_reads_a_test_problem_before_the_final(
    scripted: tuple[CampaignConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = scripted
    questions = {p.question for p in problems_of(open_suite(config, "test"))}
    log: list[str] = []
    answer, run_final = TransformersEvaluator.answer, campaign.run_final

    def spying(self: TransformersEvaluator, prompts: Sequence[str], **options: Any) -> list[str]:
        seen = [prompt for prompt in prompts if any(question in prompt for question in questions)]
        log.append(f"{len(seen)} of {len(prompts)} prompts are of test")
        return answer(self, prompts, **options)

    def marking(*arguments: Any) -> None:
        log.append("final")
        run_final(*arguments)

    monkeypatch.setattr(TransformersEvaluator, "answer", spying)
    monkeypatch.setattr(campaign, "run_final", marking)
    subjects = len(start(config, tmp_path / "spied").finals())
    before, after = log[: log.index("final")], log[log.index("final") + 1 :]
    assert set(before) == {"0 of 3 prompts are of test"}, "eight blocks of the race"
    assert after == ["24 of 24 prompts are of test"] * subjects


def test_the_same_seed_gives_the_same_archive(scripted: tuple[CampaignConfig, Path], tmp_path: Path) -> None:
    config, folder = scripted
    assert start(config, tmp_path / "again").digest() == Store.in_folder(folder).digest()


def test_a_finished_run_is_not_run_again(scripted: tuple[CampaignConfig, Path]) -> None:
    config, folder = scripted
    before = Store.in_folder(folder).digest()
    run_campaign(folder, Progress(config))
    assert Store.in_folder(folder).digest() == before


def test_the_manifest_names_versions_inputs_and_isolation(scripted: tuple[CampaignConfig, Path]) -> None:
    manifest = json.loads((scripted[1] / "manifest.json").read_text())
    assert set(manifest["versions"]) >= {"torch", "transformers", "python"}
    assert set(manifest["inputs"]["experts"]) == {"expert_a", "expert_b", "expert_c"}
    assert manifest["isolation"]["level"] in ("FULL", "REDUCED")


def test_a_stop_asked_for_is_kept_and_resumed(scripted: tuple[CampaignConfig, Path], tmp_path: Path) -> None:
    config, folder = scripted
    other = tmp_path / "stopped"
    rundir.new_folder(config, other, "now")
    progress = Progress(config, resume_hint="mergewright resume X")
    original = progress.assessed

    def stop_after_first(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        progress.request_stop("Ctrl-C")

    progress.assessed = stop_after_first  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match=r"stopped in order \(Ctrl-C\).*mergewright resume X"):
        run_campaign(other, progress)
    run_campaign(other, Progress(config))
    assert Store.in_folder(other).digest() == Store.in_folder(folder).digest()


def test_the_time_limit_stops_in_order(small_config: CampaignConfig, tmp_path: Path) -> None:
    config = changed(small_config, "campaign.max_hours=0.001", "generator.kind=grammar")
    rundir.new_folder(config, tmp_path / "run", "now")
    ticks = iter(range(0, 10**6, 2))
    with pytest.raises(Interrupted, match=r"limit of 0.001 hours is over"):
        run_campaign(tmp_path / "run", Progress(config, clock=lambda: float(next(ticks))))


def test_a_second_process_on_the_same_run_is_refused(scripted: tuple[CampaignConfig, Path]) -> None:
    config, folder = scripted
    with (
        rundir.locked(folder),
        pytest.raises(RunError, match=rf"expected no other process on it, got process {os.getpid()}"),
    ):
        run_campaign(folder, Progress(config))


def test_changed_inputs_are_refused_on_resume(scripted: tuple[CampaignConfig, Path], tmp_path: Path) -> None:
    config, _ = scripted
    folder = tmp_path / "run"
    start(changed(config, "campaign.iterations=1", "campaign.programs=1"), folder)
    text = (folder / "campaign.json").read_text()
    (folder / "campaign.json").write_text(text.replace("pocket/expert_a", "pocket/transfer_a"))
    with pytest.raises(RunError, match="expected the same experts as at its start"):
        run_campaign(folder, Progress(config))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("manifest.json", "{", "", "expected a readable manifest.json"),
        ("manifest.json", f'"torch": "{torch.__version__}"', '"torch": "0.1"', "expected torch 0.1 as at its start"),
        ("campaign.json", '"temperature":1.0', '"temperature":0.2', "expected campaign.json as at its start"),
    ],
)
def test_what_would_mix_two_runs_is_refused(
    scripted: tuple[CampaignConfig, Path], tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(scripted[1], folder)
    text = (folder / file).read_text().replace(": ", ":") if file == "campaign.json" else (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(RunError, match=re.escape(message)):
        run_campaign(folder, Progress(scripted[0]))


def test_seeds_depend_on_all_their_parts() -> None:
    assert len({derived_seed(0, "draw", i, b, r) for i in range(3) for b in range(3) for r in range(3)}) == 27


KINDS = {
    "coefficients": ["generator.kind=coefficients", "learn.method=none"],
    "elite prompt": ["prompts.variant=2", "prompts.repair=2", "prompts.lag=0", "learn.method=none"],
    "islands": [
        "explore.kind=islands",
        "explore.islands=2",
        "explore.novelty=0.05",
        "prompts.one_shot=0",
        "prompts.variant=1",
        "prompts.crossover=1",
        "prompts.lag=0",
        "learn.method=none",
    ],
    "self-rewarding": ["learn.method=self-rewarding", "judge.triage=0.5", "judge.prompts=2", "judge.candidates=2"],
    "rest-em, adapters": ["learn.method=rest-em", "learn.keep=1.0", "learn.keep_as=adapter"],
    "screen": ["explore.screen=0.5", "explore.screen_after=2", "learn.method=none"],
    "kto": ["learn.method=kto", "learn.checkpoints=latest", "campaign.iterations=3"],
}
SMALL = [
    "models.threads=1",
    "generator.temperature=0.8",
    "benchmark.dev_limit=12",
    "benchmark.test_limit=12",
    "baselines.names=[]",
]
SMALL += ["campaign.finalists=1"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CampaignConfig, Path]:
    """A small campaign of every kind, and the folder of its unbroken run."""
    from tests.engine import conftest

    config = changed(conftest.small_config.__wrapped__(), *SMALL, *KINDS[request.param])  # type: ignore[attr-defined]
    folder = tmp_path_factory.mktemp("kinds") / "unbroken"
    start(config, folder)
    return config, folder


def test_a_campaign_of_every_kind_does_what_it_is_for(kind: tuple[CampaignConfig, Path]) -> None:
    config, folder = kind
    store = Store.in_folder(folder)
    candidates = store.candidates()
    assert len(candidates) == 8 * config.campaign.iterations
    if config.learn.method != "none":
        assert store.updates()[1]["trained"], "the reference run must have learnt, or the test below proves nothing"
        assert {c.program.generator for c in store.candidates(2)} == {"1"}
        trained = {str(i) for i, update in store.updates().items() if update["trained"]}
        kept = {max(trained)} if config.learn.checkpoints == "latest" else trained
        assert {version.name for version in (folder / "generators").iterdir()} == kept
    if config.generator.kind == "coefficients":
        assert all(c.score is not None or c.assessment.outcome is Outcome.DUPLICATE for c in candidates)
    if config.explore.kind == "islands":
        rows = {c.program.id: c.program.sampling.row % 2 for c in candidates}
        parents = [(c.program.sampling.row % 2, rows[one]) for c in candidates for one in c.program.parents]
        assert parents
        assert all(home == other for home, other in parents)
    elif config.prompts.shows:
        shown = {c.program.task: c.program.parents for c in candidates[4:]}
        assert {"one_shot", "variant"} <= set(shown)
        assert len(shown["variant"]) == 1
        assert shown["one_shot"] == ()
    if config.explore.screen < 1.0:
        skipped = [c for c in candidates if c.assessment.outcome is Outcome.SKIPPED]
        assert {c.iteration for c in skipped} == {2}
        assert all("by programs that do alike: not among the first" in (c.assessment.detail or "") for c in skipped)
    if config.learn.method == "self-rewarding":
        assert all(c.program.judged is None for c in store.candidates(1))
        assert any(c.program.judged is not None for c in store.candidates(2))
        assert any(c.assessment.outcome is Outcome.SKIPPED for c in store.candidates(2))


def test_a_campaign_of_every_kind_killed_and_resumed_ends_the_same(
    kind: tuple[CampaignConfig, Path], tmp_path: Path
) -> None:
    config, unbroken = kind
    trained = config.learn.method in (
        "rest-em",
        "kto",
    )  # the others die in the second iteration, in the middle of a batch
    killed_and_resumed(config, tmp_path / "run", "trained" if trained else "assess", 1 if trained else 10)
    assert Store.in_folder(tmp_path / "run").digest() == Store.in_folder(unbroken).digest()


def test_an_endpoint_that_goes_away_is_asked_for_the_rest_where_it_is_next_and_nothing_is_paid_twice(
    small_config: CampaignConfig, tmp_path: Path, serve: Any, mergewright: Call
) -> None:
    def written(request: dict[str, Any], _: int) -> Answer:
        return said(WEIGHTED_SUM.replace("0.3", str(request["seed"] % 7 / 10)))

    def endpoint(server: ChatServer) -> CampaignConfig:
        settings = ["kind=endpoint", "model=m", f"base_url={server.url}", "api_key_env=", "retries=0", "parallel=1"]
        return changed(small_config, *SMALL, *(f"generator.{setting}" for setting in settings))

    steady, later = serve(written), serve(written)
    going = serve(lambda request, number: None if number == 5 else written(request, number))  # in the second batch
    start(endpoint(steady), tmp_path / "unbroken")
    rundir.new_folder(endpoint(going), tmp_path / "run", "now")
    with pytest.raises(HostError, match=r"resume when the server is back, or with --set generator\.base_url=URL where"):
        run_campaign(tmp_path / "run", Progress(endpoint(going)))
    moved = f"--set generator.base_url={later.url} --set generator.parallel=2"
    assert mergewright(f"resume {tmp_path / 'run'} {moved} --plain").code == 0
    assert Store.in_folder(tmp_path / "run").digest() == Store.in_folder(tmp_path / "unbroken").digest()
    paid = [request["seed"] for request in (*going.requests[:-1], *later.requests)]
    assert sorted(paid) == sorted(request["seed"] for request in steady.requests)
    assert len(set(paid)) == len(paid) == len(Store.in_folder(tmp_path / "run").replies()) == 16


@pytest.mark.parametrize("name", ["coefficients", "elite prompt"])
def test_a_run_that_breaks_while_its_writer_waits_for_scores_ends(
    name: str, small_config: CampaignConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Counter[str]()

    def breaks(*_: object, **__: object) -> None:
        calls["score"] += 1
        raise HostError("the scorer broke")

    monkeypatch.setattr(Bench, "score_merge", breaks)
    config = changed(small_config, *KINDS[name], "baselines.names=[]", "generator.batch=4", "campaign.iterations=1")
    ended: list[BaseException] = []

    def run() -> None:
        try:
            start(config, tmp_path / "run")
        except HostError as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(120)
    assert not thread.is_alive(), "the writer waits for scores that nobody gives any more"
    assert [str(error) for error in ended] == ["the scorer broke"]
    assert calls["score"] == 1


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> tuple[CampaignConfig, Path]:
    """A small campaign with the language model and DPO, and the folder of its unbroken run."""
    from tests.engine import conftest

    config = changed(
        conftest.small_config.__wrapped__(),  # type: ignore[attr-defined]
        "models.threads=1",
        "campaign.programs=12",
        "generator.temperature=0.8",
        "generator.max_new_tokens=320",
    )
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    with closing(start(config, folder)) as store:
        assert store.updates()[1]["trained"], "the reference run must have learnt, or the tests below prove nothing"
        assert {c.program.generator for c in store.candidates(2)} == {"1"}
    return config, folder


MOMENTS = [("trial", 2), ("propose", 1), ("propose", 3), ("assess", 3), ("before-row", 6), ("block", 30), ("block", 37), ("trained", 1), ("final", 2)]  # fmt: skip


@pytest.mark.parametrize(
    ("archive_url", "moment", "count"),
    # in PostgreSQL what the scripted campaign below does not meet: each of these takes the better part of a minute
    [("sqlite", *moment) for moment in MOMENTS] + [pytest.param("postgresql", "trained", 1, marks=pytest.mark.full)],
    indirect=["archive_url"],
)
def test_killed_and_resumed_ends_with_the_same_archive(
    learning: tuple[CampaignConfig, Path], tmp_path: Path, archive_url: str | None, moment: str, count: int
) -> None:
    """The unbroken one is in SQLite: where an archive lies changes nothing in it."""
    config, unbroken = learning
    killed_and_resumed(kept_at(config, archive_url), tmp_path / "run", moment, count)
    assert Store.in_folder(tmp_path / "run").digest() == Store.in_folder(unbroken).digest()


def test_a_trained_generator_that_is_another_or_gone_is_refused_on_resume(
    learning: tuple[CampaignConfig, Path], tmp_path: Path
) -> None:
    config, folder = learning[0], tmp_path / "run"
    shutil.copytree(learning[1], folder)
    weights = folder / "generators" / "1" / "model.safetensors"
    whole = weights.read_bytes()
    another = r"another \(by hash\)"
    for left, got in ((whole[:-1] + bytes([whole[-1] ^ 1]), another), (b"", another), (None, "none")):
        weights.unlink() if left is None else weights.write_bytes(left)
        with pytest.raises(RunError, match=rf"trained after iteration 1, got {got}; restore that folder") as caught:
            run_campaign(folder, Progress(config))
        assert "\n" not in str(caught.value)
    weights.write_bytes(whole)
    run_campaign(folder, Progress(config))


@pytest.fixture(scope="module")
def unbroken_script(script: CampaignConfig, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the scripted campaign in SQLite."""
    with closing(start(script, tmp_path_factory.mktemp("runs") / "unbroken")) as store:
        return store.digest()


@pytest.mark.parametrize(("moment", "count"), [("begun", 1), ("made", 1), ("propose", 3), ("assess", 5)])
def test_a_scripted_campaign_killed_and_resumed_ends_the_same_in_each_database(
    script: CampaignConfig, unbroken_script: str, tmp_path: Path, archive_url: str | None, moment: str, count: int
) -> None:
    killed_and_resumed(kept_at(script, archive_url), tmp_path / "run", moment, count)
    assert Store.in_folder(tmp_path / "run").digest() == unbroken_script


@pytest.mark.full
@pytest.mark.parametrize("method", ["propose", "assess", "reply to a read", "add_final"])
def test_a_server_that_dies_loses_nothing(
    script: CampaignConfig,
    unbroken_script: str,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    config, folder = kept_at(script, server.url), tmp_path / "run"
    name = "candidates" if method == "reply to a read" else method
    work, calls = getattr(Store, name), Counter[str]()

    def dying(self: Store, *arguments: Any) -> Any:
        calls[name] += 1
        if calls[name] == 2:
            server.stop()
        return work(self, *arguments)

    monkeypatch.setattr(Store, name, dying)
    rundir.new_folder(config, folder, "now")
    with pytest.raises(HostError, match=r"see to it, then resume: nothing finished is lost") as caught:
        run_campaign(folder, Progress(config))
    assert "\n" not in str(caught.value)
    with pytest.raises(HostError, match="see to it, then resume"):
        run_campaign(folder, Progress(config))
    server.start()
    run_campaign(folder, Progress(config))
    assert Store.in_folder(folder).digest() == unbroken_script


def killed_and_resumed(config: CampaignConfig, folder: Path, moment: str, count: int) -> None:
    """A whole run in `folder`, killed at a moment on the way."""
    rundir.new_folder(config, folder, "now")
    script = Path(__file__).with_name("dying_run.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    died = subprocess.run(
        [sys.executable, str(script), str(folder), moment, str(count)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    if moment != "begun":
        assert Store.in_folder(folder, create=moment == "made").meta("state") is None
    run_campaign(folder, Progress(config))


def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Prompts that any model answers from now on."""
    asked: Counter[str] = Counter()
    answer = TransformersEvaluator.answer

    def counting(self: TransformersEvaluator, prompts: Sequence[str], **options: Any) -> list[str]:
        asked["prompts"] += len(prompts)
        return answer(self, prompts, **options)

    monkeypatch.setattr(TransformersEvaluator, "answer", counting)
    return asked


@pytest.mark.parametrize("racing", ["sequential", "halving"])
def test_a_run_that_breaks_in_a_score_asks_no_problem_twice_and_ends_the_same(
    script: CampaignConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, racing: str
) -> None:
    config = changed(script, f"benchmark.racing={racing}", "campaign.iterations=1")
    asked = counted(monkeypatch)
    whole = start(config, tmp_path / "whole")
    expected = asked.pop("prompts")
    learn, calls = Store.learn_verdicts, Counter[str]()

    def breaking(self: Store, *arguments: Any) -> None:
        learn(self, *arguments)
        calls["blocks"] += 1
        if calls["blocks"] == 64:  # of the first program's blocks the second: eight a model, and seven models before it
            raise OSError("power cut")

    monkeypatch.setattr(Store, "learn_verdicts", breaking)
    rundir.new_folder(config, tmp_path / "broken", "now")
    with pytest.raises(OSError, match="power cut"):
        run_campaign(tmp_path / "broken", Progress(config))
    monkeypatch.setattr(Store, "learn_verdicts", learn)
    run_campaign(tmp_path / "broken", Progress(config))
    assert Store.in_folder(tmp_path / "broken").digest() == whole.digest()
    assert asked["prompts"] == expected


def test_models_that_are_the_same_are_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = build_config({"benchmark": {"dev_limit": 8}})
    nothing = "def merge_models(model_dict, device):\n    return 0 * sum(model_dict.values())\n"
    asked = counted(monkeypatch)
    with Bench(config) as bench, closing(Store.in_folder(tmp_path, create=True)) as store:
        bench.keep_verdicts_in(store)
        seed = bench.score_model(None).score
        assert asked["prompts"] == 8
        assert bench.score_merge(bench.merge(nothing)).score == seed
        assert asked["prompts"] == 8, "a merge of zeros is the seed"
        bench.score_model("expert_a")
        assert asked["prompts"] == 16


def test_every_stage_is_accounted_for(scripted: tuple[CampaignConfig, Path]) -> None:
    store = Store.in_folder(scripted[1])
    stages = {(iteration, stage): (seconds, count) for iteration, stage, seconds, count in store.stages()}
    first = {stage for iteration, stage in stages if iteration == 1}
    assert first == {"propose", "validate", "describe", "execute", "swap", "generate", "check", "idle"}
    rows = store.candidates(1)
    scored = [c.assessment.score for c in rows if c.assessment.score]
    assert stages[1, "propose"][1] == len(rows)
    assert stages[1, "validate"][1] == len(rows)
    assert stages[1, "describe"][1] == sum(c.assessment.descriptors is not None for c in rows) == len(scored)
    assert stages[1, "execute"][1] == stages[1, "swap"][1] == len(scored)
    assert stages[1, "generate"][1] == stages[1, "check"][1] == sum(score.n for score in scored)
    assert stages[0, "generate"][1] == sum(trial.score.n for trial in store.trials())
    assert stages[3, "generate"][1] == sum(final.score.n for final in store.finals())
    assert all(seconds >= 0 for seconds, _ in stages.values())
    assert stages[0, "idle"][0] > 0, "in tuning nothing can be merged ahead"
    assert {(iteration, phase) for iteration, phase, _, _ in store.phases()} == {
        (0, "tune"),
        (1, "search"),
        (2, "search"),
        (3, "final"),
    }


def test_programs_are_assessed_while_others_are_written(
    scripted: tuple[CampaignConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assessed, write = threading.Event(), ScriptedGenerator.write

    def waiting(self: ScriptedGenerator, places: Any, tasks: Any) -> Any:
        if places[0].batch == 1:
            assert assessed.wait(60), "nothing of the first batch is assessed before the second one is written"
        return write(self, places, tasks)

    remember = Store.assess

    def noting(self: Store, *arguments: Any) -> None:
        remember(self, *arguments)
        assessed.set()

    monkeypatch.setattr(ScriptedGenerator, "write", waiting)
    monkeypatch.setattr(Store, "assess", noting)
    config = changed(scripted[0], "campaign.iterations=1")
    assert len(start(config, tmp_path / "run").candidates()) == 8


def test_a_prompt_that_is_too_long_shows_before_anything_is_done_even_in_test(tmp_path: Path) -> None:
    rows = [{"question": f"{at} + 1?", "answer": f"#### {at + 1}"} for at in range(8)]
    (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, rows)))
    long = {"question": "apples " * 300, "answer": "#### 1"}
    (tmp_path / "test.jsonl").write_text(
        "\n".join(map(json.dumps, [{"question": "7 + 7?", "answer": "#### 14"}, long]))
    )
    section = {"name": "jsonl", "data": str(tmp_path), "shots": 0, "max_new_tokens": 16}
    with pytest.raises(PromptTooLongError, match="expected at most 176 tokens"):
        Bench(build_config({"benchmark": section}))


def test_what_was_mended_is_kept_over_processes_and_not_met_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, greedy, sizes = build_config({"benchmark": {"dev_limit": 8, "racing": "none"}}), evaluators.greedy, []

    def hungry(decoder: Any, prompts: Any, *arguments: Any, **options: Any) -> list[str]:
        sizes.append(len(prompts))
        if len(prompts) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return greedy(decoder, prompts, *arguments, **options)

    monkeypatch.setattr(evaluators, "greedy", hungry)
    for name, expected in ((None, {"batch halved": 1}), ("expert_a", {"batch halved": 1})):
        with Bench(config) as bench, closing(Store.in_folder(tmp_path, create=True)) as store:
            bench.keep_verdicts_in(store)
            bench.score_model(name)
            assert store.meta("incidents") == expected
            assert store.meta("batch") == {"in force": 4}
    assert sizes == [8, 4, 4, 4, 4], "the second process begins where the first one ended"
