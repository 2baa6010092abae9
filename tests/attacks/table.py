"""The table of attacks in README.md, made from `programs/`: `python -m tests.attacks.table` writes it; a test compares."""

from __future__ import annotations

from pathlib import Path

from tests.attacks.attack import PROOFS, Attack
from tests.attacks.programs import ATTACKS
from tests.attacks.switches import ALL

README = Path(__file__).with_name("README.md")
MARK = "<!-- the table below is written by `python -m tests.attacks.table` -->\n"


def _without(attack: Attack) -> str:
    if attack.without == ALL:
        return "gate and layers"
    return ", ".join(sorted(attack.without)) or "(a bare parser)"


def table() -> str:
    """Markdown: class, attack, verdict in the real sandbox, which walls are off where it is seen to succeed, and what it then does."""
    rows = ["| class | attack | verdict | without | it |", "|---|---|---|---|---|"]
    for name, attack in ATTACKS.items():
        verdict = " or ".join("ok, no effect" if reason is None else reason.value for reason in attack.verdict)
        rows.append(f"| {attack.kind} | {name} | {verdict} | {_without(attack)} | {PROOFS[attack.proof]} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    README.write_text(README.read_text().partition(MARK)[0] + MARK + "\n" + table())
