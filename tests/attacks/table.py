"""The table of attacks in README.md, made from `programs.py`: `python -m tests.attacks.table` writes it; a test compares."""

from __future__ import annotations

from pathlib import Path

from tests.attacks.programs import ATTACKS

README = Path(__file__).with_name("README.md")
MARK = "<!-- the table below is written by `python -m tests.attacks.table` -->\n"

PROOFS = {
    None: "verdict only",
    "returns": "comes back with the answer",
    "canary": "makes a file outside",
    "heard": "is heard on a port",
    "victim": "kills a bystander",
    "spoils": "spoils the next tensor",
}


def table() -> str:
    """Markdown: class, attack, verdict in the real sandbox, what it does in the broken one."""
    rows = ["| class | attack | verdict | in a broken sandbox it |", "|---|---|---|---|"]
    for name, attack in ATTACKS.items():
        verdict = " or ".join(reason.value for reason in attack.verdict)
        rows.append(f"| {attack.kind} | {name} | {verdict} | {PROOFS[attack.proof]} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    README.write_text(README.read_text().partition(MARK)[0] + MARK + "\n" + table())
