"""One contract suite over every generator, and what each does of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import BenchmarkError, DeviceError
from engine import locations, sampling
from engine.config import CampaignConfig, GeneratorSection, ModelsSection
from engine.errors import ConfigError, exit_code
from engine.generators import Draft, Forms, Generator, LanguageModelGenerator, open_generator, resident
from engine.grammar import MAX_SOURCE_CHARACTERS
from engine.records import Sampling, Task, TaskKind
from tests.engine.conftest import candidate


def places(count: int, *, batch: int = 0, start: int = 0) -> list[Sampling]:
    return [Sampling(1.0, 1.0, 1000 * batch + start + row, batch, row) for row in range(count)]


def opened(section: GeneratorSection, source: str | None = None, device: str = "cpu") -> Generator:
    config = CampaignConfig(generator=section, models=ModelsSection(device=device))
    return open_generator(config, locations.model(section.model) if source is None else source, NoReplies())


class NoReplies:
    """No endpoint is asked here."""

    def reply(self, key: str) -> None:
        raise AssertionError(key)

    def keep_reply(self, key: str, reply: object) -> None:
        raise AssertionError(key)


def write(generator: Generator, where: list[Sampling], task: Task | None = None) -> list[Draft]:
    return generator.write(where, [task or Task()] * len(where))


@pytest.fixture(params=["model", "grammar", "coefficients", "scripted"])
def generator(request: pytest.FixtureRequest, programs_folder: Path) -> Generator:
    return opened(GeneratorSection(kind=request.param, script=str(programs_folder), batch=4, max_new_tokens=120))


def test_one_draft_for_every_place(generator: Generator) -> None:
    assert len(write(generator, places(3))) == 3


def test_the_same_places_give_the_same_drafts(generator: Generator) -> None:
    assert write(generator, places(4)) == write(generator, places(4))


def test_other_batches_give_other_drafts(generator: Generator) -> None:
    first = write(generator, places(4))
    if generator.told:
        generator.tell(assessed(first))
    assert write(generator, places(4, batch=1)) != first


def assessed(drafts: list[Draft]) -> list:
    rows = [candidate(number, number / 10) for number in range(1, len(drafts) + 1)]
    return [
        replace(row, program=replace(row.program, source=draft.source, sampling=place))
        for row, draft, place in zip(rows, drafts, places(len(drafts)), strict=True)
    ]


def test_whoever_need_not_be_told_is_not_changed_by_it(generator: Generator) -> None:
    first = write(generator, places(4))
    generator.tell(assessed(first))
    assert (write(generator, places(4)) == first) is not generator.told


def test_origin_is_named(generator: Generator) -> None:
    assert generator.origin in ("generator", "grammar", "coefficients", "scripted")


def test_scripted_programs_come_in_the_order_of_their_names(programs_folder: Path) -> None:
    section = GeneratorSection(kind="scripted", script=str(programs_folder), batch=4)
    sources = [d.source for d in write(opened(section, ""), places(4, batch=1))]
    assert sources == [p.read_text() for p in sorted(programs_folder.glob("*.py"))[4:8]]


def test_a_language_model_is_shown_the_one_shot_prompt() -> None:
    section = GeneratorSection(max_new_tokens=8)
    (draft,) = write(opened(section), places(1))
    assert "merge_models" in draft.prompt
    assert draft.source == "" or draft.source in draft.text + "\n"


@pytest.mark.parametrize("kind", [TaskKind.VARIANT, TaskKind.CROSSOVER, TaskKind.REPAIR])
def test_programs_that_are_shown_are_in_the_prompt_and_are_the_parents(kind: TaskKind) -> None:
    shown = {
        TaskKind.VARIANT: (candidate(1, 0.4),),
        TaskKind.CROSSOVER: (candidate(1, 0.4), candidate(2, 0.5)),
        TaskKind.REPAIR: (candidate(3, None),),
    }[kind]
    (draft,) = write(opened(GeneratorSection(max_new_tokens=8)), places(1), Task(kind, shown))
    assert draft.parents == tuple(c.program.id for c in shown)
    assert all(c.program.source.strip() in draft.prompt for c in shown)
    assert ("exception" in draft.prompt) == (kind is TaskKind.REPAIR)


def test_the_grammar_breeds_children_from_what_it_is_shown_and_lets_them_grow_no_further() -> None:
    grammar = opened(GeneratorSection(kind="grammar"))
    sources = [draft.source for draft in write(grammar, places(2))]
    first, second = (
        replace(one, program=replace(one.program, source=source))
        for one, source in zip((candidate(1, 0.4), candidate(2, 0.5)), sources, strict=True)
    )
    variants = write(grammar, places(8), Task(TaskKind.VARIANT, (first,)))
    assert {draft.parents for draft in variants} == {(first.program.id,)}
    assert len({draft.source for draft in variants}) > 1
    kept = [len(set(sources[0].split()) & set(draft.source.split())) for draft in variants]
    assert min(kept) > 0.8 * len(set(sources[0].split()))
    children = write(grammar, places(8), Task(TaskKind.CROSSOVER, (first, second)))
    assert {draft.parents for draft in children} == {(first.program.id, second.program.id)}
    assert all(draft.source not in sources for draft in children)
    (mended,) = write(grammar, places(1), Task(TaskKind.REPAIR, (first,)))
    assert mended == write(grammar, places(1))[0]
    line, program = first, first.program
    for seed in range(30):
        (draft,) = grammar.write([replace(places(1)[0], seed=seed)], [Task(TaskKind.VARIANT, (line,))])
        line = replace(line, program=replace(program, source=draft.source))
    assert len(line.program.source) <= MAX_SOURCE_CHARACTERS


def test_a_hint_begins_the_program() -> None:
    (draft,) = write(opened(GeneratorSection(max_new_tokens=40)), places(1), Task(hint="Trim  small\nentries."))
    assert draft.prompt.endswith("# Trim small entries.\n")
    assert not draft.text.startswith("# Trim")
    assert draft.source.startswith("# Trim small entries.\n")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (GeneratorSection(kind="scripted"), r"generator\.script: expected a folder"),
        (
            GeneratorSection(kind="scripted", script="/nonexistent"),
            r"generator\.script.*expected a folder with \.py programs",
        ),
        (
            GeneratorSection(model="/nonexistent/model"),
            r"generator\.model: /nonexistent/model: expected a model folder or hub id",
        ),
        (GeneratorSection(prompt="chat"), "which has no chat template"),
    ],
)
def test_a_generator_that_cannot_be_opened_is_one_line(section: GeneratorSection, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(section)


def test_a_device_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    section = GeneratorSection()
    with pytest.raises(DeviceError, match=r"^device 'cuda': expected a machine with CUDA.*use device cpu$") as caught:
        opened(section, device="cuda")
    assert exit_code(caught.value) == 2


def test_the_device_goes_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(resident, "usable_device", lambda name: asked.append(name) or torch.device("meta"))
    section = GeneratorSection()
    generator = LanguageModelGenerator(locations.model(section.model), section, device="cuda:1")
    assert (asked, generator.resident.model.device.type) == (["cuda:1"], "meta")


def test_a_scripted_program_that_is_not_utf8_is_one_line(programs_folder: Path) -> None:
    (programs_folder / "9_latin.py").write_bytes("# é".encode("latin-1"))
    section = GeneratorSection(kind="scripted", script=str(programs_folder))
    with pytest.raises(
        ConfigError, match=r"9_latin\.py': expected a readable Python program, got text that is not UTF-8"
    ):
        opened(section, "")


def test_a_tokenizer_without_an_end_token_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "endless"
    shutil.copytree(locations.model("pocket/generator"), folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "eos_token": None}))
    with pytest.raises(ConfigError, match="expected a tokenizer with an end token"):
        opened(GeneratorSection(), str(folder))


def test_broken_weights_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(locations.model("pocket/generator"), folder)
    (folder / "model.safetensors").write_bytes(b"\x08" + b"\0" * 40)
    with pytest.raises(ConfigError, match=r"generator\.model: .*expected a whole safetensors file, got a corrupt one"):
        opened(GeneratorSection(), str(folder))


@pytest.mark.parametrize(("form", "special"), [("pocket", True), ("chat", False)])
def test_a_chat_prompt_gets_no_second_begin_token(monkeypatch: pytest.MonkeyPatch, form: str, special: bool) -> None:
    asked = {}

    def sample_texts(*_: object, **options: object) -> list[str]:
        asked.update(options)
        return [""]

    generator = LanguageModelGenerator(locations.model("pocket/generator"), GeneratorSection())
    generator.resident.tokenizer.chat_template = "{{ messages[0].content }}"
    generator.forms = Forms(generator.resident.tokenizer, form, "")
    monkeypatch.setattr(sampling, "sample_texts", sample_texts)
    write(generator, places(1))
    assert asked["special_tokens"] is special


def test_want_of_memory_while_writing_is_the_hosts_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> list[str]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    generator = LanguageModelGenerator(locations.model("pocket/generator"), GeneratorSection())
    monkeypatch.setattr(sampling, "sample_texts", full)
    with pytest.raises(
        BenchmarkError, match=r"expected enough memory.*; free some and resume, or start a new run with"
    ) as caught:
        write(generator, places(1))
    assert exit_code(caught.value) == 1


def test_a_chat_model_is_asked_through_its_template() -> None:
    generator = LanguageModelGenerator(locations.model("pocket/generator"), GeneratorSection())
    generator.resident.tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    )
    prompt = Forms(generator.resident.tokenizer, "chat", "").prompt(Task())
    assert prompt.startswith("<user>")
    assert prompt.endswith("<assistant>")
    assert "def merge_models(model_dict, device)" in prompt
