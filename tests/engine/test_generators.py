"""One contract suite over every generator, and what each does of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import locations
from engine.config import GeneratorSection
from engine.errors import ConfigError
from engine.generators import Generator, LanguageModelGenerator, open_generator
from engine.records import Sampling


def places(count: int, *, batch: int = 0, start: int = 0) -> list[Sampling]:
    return [Sampling(1.0, 1.0, 1000 * batch + start + row, batch, row) for row in range(count)]


@pytest.fixture(params=["model", "grammar", "scripted"])
def generator(request: pytest.FixtureRequest, programs_folder: Path) -> Generator:
    section = GeneratorSection(kind=request.param, script=str(programs_folder), batch=4, max_new_tokens=120)
    return open_generator(section, locations.model(section.model))


def test_one_draft_for_every_place(generator: Generator) -> None:
    assert len(generator.write(places(3))) == 3


def test_the_same_places_give_the_same_drafts(generator: Generator) -> None:
    assert generator.write(places(4)) == generator.write(places(4))


def test_other_batches_give_other_drafts(generator: Generator) -> None:
    assert generator.write(places(4)) != generator.write(places(4, batch=1))


def test_origin_is_named(generator: Generator) -> None:
    assert generator.origin in ("generator", "grammar", "scripted")


def test_scripted_programs_come_in_the_order_of_their_names(programs_folder: Path) -> None:
    section = GeneratorSection(kind="scripted", script=str(programs_folder), batch=4)
    sources = [d.source for d in open_generator(section, "").write(places(4, batch=1))]
    assert sources == [p.read_text() for p in sorted(programs_folder.glob("*.py"))[4:8]]


def test_a_language_model_is_shown_the_one_shot_prompt() -> None:
    section = GeneratorSection(max_new_tokens=8)
    (draft,) = open_generator(section, locations.model(section.model)).write(places(1))
    assert "merge_models" in draft.prompt
    assert draft.source == "" or draft.source in draft.text + "\n"


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
            r"generator\.model '/nonexistent/model': expected a folder or hub id",
        ),
        (GeneratorSection(prompt="chat"), "which has no chat template"),
    ],
)
def test_a_generator_that_cannot_be_opened_is_one_line(section: GeneratorSection, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_generator(section, locations.model(section.model))


def test_a_chat_model_is_asked_through_its_template(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = LanguageModelGenerator(locations.model("pocket/generator"), GeneratorSection())
    generator._tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    monkeypatch.setattr(generator, "_section", GeneratorSection(prompt="chat"))
    prompt = generator.prompt()
    assert prompt.startswith("<user>")
    assert prompt.endswith("<assistant>")
    assert "def merge_models(model_dict, device)" in prompt
