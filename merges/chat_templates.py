"""The chat template of a merged model: one that a recipe gives, one known by name, or what most of the models use."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from merges.errors import CheckpointError, OptionError
from merges.folders import read_json

__all__ = ["NAMED", "chat_template", "chosen_template", "write_template"]

TEMPLATE_FILE = "chat_template.jinja"
_SETTINGS_FILE = "tokenizer_config.json"

NAMED: Mapping[str, str] = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
}
"""Templates that go by a name."""


def chosen_template(wanted: str, folders: Sequence[Path]) -> str | None:
    """The text of the template that a recipe asks for.

    Args:
        wanted: `auto` (what most of the models use, of equals the first), a name, or the template itself.
        folders: of the models.

    Returns:
        None where `auto` finds none.

    Raises:
        OptionError: neither a known name nor a template.
    """
    if wanted == "auto":
        found = Counter(text.strip() for folder in folders if (text := chat_template(folder)))
        return found.most_common(1)[0][0] if found else None
    if wanted in NAMED:
        return NAMED[wanted]
    if "{" not in wanted:
        raise OptionError(
            f"chat_template {wanted!r}: expected auto, {', '.join(NAMED)}, or a Jinja template, got another name; give the template's text"
        )
    return wanted


def chat_template(folder: Path) -> str | None:
    """A model's own template, the default one of several."""
    path = folder / TEMPLATE_FILE
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
        if not (folder / _SETTINGS_FILE).is_file():
            return None
        found = read_json(folder / _SETTINGS_FILE, "a tokenizer_config.json").get("chat_template")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: expected a readable chat template, got {error}; mend the file") from error
    if isinstance(found, list):
        named = {
            entry.get("name"): entry.get("template")
            for entry in found
            if isinstance(entry, dict) and isinstance(entry.get("name"), str)
        }
        found = named.get("default")
    return found if isinstance(found, str) else None


def write_template(template: str, out: Path) -> list[str]:
    """Make it the template of the tokenizer in a folder. Returns the names of the files written."""
    (out / TEMPLATE_FILE).write_text(template, encoding="utf-8")
    written = [TEMPLATE_FILE]
    path = out / _SETTINGS_FILE
    if path.is_file():
        settings = read_json(path, "a tokenizer_config.json")
        if settings.pop("chat_template", None) is not None:  # one that contradicts the new one
            path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            written.append(_SETTINGS_FILE)
    return written
