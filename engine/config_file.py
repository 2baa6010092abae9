"""Reads campaign files: TOML, changed by `--set a.b=c`, checked by pydantic. A mistake is one line: the key, what was expected, what was got."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from engine.config import CampaignConfig
from engine.errors import ConfigError


def load_config(path: Path, settings: Sequence[str] = ()) -> CampaignConfig:
    """Read a campaign file and apply `key=value` settings.

    Raises:
        ConfigError: the file cannot be read or parsed, or a key or value is not known; names the key.
    """
    return build_config(read_toml(path, "campaign"), settings, source=str(path))


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The tree of a TOML file; `what` it is, for messages.

    Raises:
        ConfigError: it cannot be read or parsed.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{what} file '{path}': expected a readable file, got {error.strerror}; check the path"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} file '{path}': expected TOML, got: {error}; mend that line") from error


def build_config(tree: dict[str, Any], settings: Sequence[str] = (), *, source: str = "campaign") -> CampaignConfig:
    """A configuration from a parsed tree and `key=value` settings; raises ConfigError."""
    for setting in settings:
        _set(tree, setting)
    try:
        return CampaignConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {explain(error, CampaignConfig)}") from error


def _set(tree: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    path = key.strip().split(".")
    if not equals or len(path) != 2 or not all(path):
        raise ConfigError(f"--set '{setting}': expected SECTION.KEY=VALUE, as campaign.programs=50; got no such form")
    section = tree.setdefault(path[0], {})
    if not isinstance(section, dict):
        raise ConfigError(f"--set '{setting}': expected a section '{path[0]}', got a plain value in the campaign file")
    if path == ["benchmark", "name"]:  # one benchmark in place of the several that the file may name
        section.pop("parts", None)
    section[path[1]] = _value(text.strip())


def _value(text: str) -> Any:
    """A TOML value where the text is one, else the text itself: `--set models.base=folder` needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return [part.strip() for part in text.split(",")] if "," in text else text


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """All mistakes of a file in one line, each with its key, the expectation and the value; `root` is the model that refused it."""
    parts = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = ", ".join(_keys_at(item["loc"][:-1], root))
            parts.append(f"key '{key}': expected one of {known}; got an unknown key")
        else:
            expected = _plain(item["msg"])
            parts.append(
                f"key '{key}': expected {expected}, got {_shown(item['input'])}" if key else f"expected {expected}"
            )
    return "; ".join(parts) + "; mend the file or the --set"


def _shown(value: Any) -> str:
    """What was got; passwords in URLs stay out of messages."""
    return re.sub(
        r"(://[^:/@\s]*:).*@|(password=)[^&\s'\"]*", lambda m: f"{m[1]}***@" if m[1] else f"{m[2]}***", repr(value)
    )


def _plain(message: str) -> str:
    """What pydantic says, as the end of "expected …"."""
    for start in ("Input should be ", "Value error, "):
        message = message.removeprefix(start)
    message = re.sub(
        r"^(Tuple|List) should have (.*) items? after validation, not (\d+)$", r"\2 values (got \3)", message
    )
    return re.sub(r"^String should match pattern '(.*)'$", r"text of the form \1", message)


def _keys_at(place: Sequence[str | int], root: type[BaseModel]) -> tuple[str, ...]:
    """The keys that are known in a section of the file; `place` is its path, as pydantic gives it."""
    section = root
    for part in place:  # numbers, and names that the user gives, lie within a field
        if part in section.model_fields:
            section = _section_in(section.model_fields[str(part)].annotation) or section
    return tuple(section.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds: one, or several in a tuple or by name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _section_in(one))), None)
