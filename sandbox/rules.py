"""The rules of the language gate: one name each, and the words that tell a generator what to write instead."""

from __future__ import annotations

from dataclasses import dataclass

RULES: dict[str, str] = {
    "import": "merge programs may import only arithmetic modules",
    "name": "this name of the module is not on the allow-list for merge programs",
    "builtin": "this built-in is not given to merge programs",
    "reserved-name": "names with two leading underscores, and the gate's own names, cannot be used",
    "underscore-attribute": "attributes with two leading underscores cannot be read",
    "attribute": "this attribute is not on the allow-list of its type",
    "attribute-write": "attributes can be set only on objects of the program's own classes",
    "item-write": "items can be set only on tensors, arrays, lists, dicts and the program's own objects",
    "statement": "this kind of statement is not available to merge programs",
    "class": "classes may derive only from plain containers, exceptions, typing bases and the program's own classes",
    "method-name": "this special method cannot be defined by merge programs",
    "signature": "the program must define merge_models(model_dict, device) as the contract says",
}


@dataclass(frozen=True)
class Refusal:
    """One thing the gate refuses: rule, the name it is about, the line (1-based; None where the text has none), and
    words."""

    rule: str
    name: str
    line: int | None
    hint: str = ""

    @property
    def detail(self) -> str:
        """One line: which rule, which name, why, and what to do instead if the gate knows."""
        ending = f"; {self.hint}" if self.hint else ""
        return f"rule '{self.rule}', name '{self.name}': {RULES[self.rule]}{ending}"


class PolicyViolation(Exception):
    """Raised inside the candidate's process by a run-time guard."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal
