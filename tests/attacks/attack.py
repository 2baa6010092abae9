"""What an attack is: a hostile program, the verdict it must get, and how its success shows where walls are missing."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from sandbox import Reason
from tests.attacks.switches import ALL

R = Reason
GATE = frozenset({"gate"})
NOTHING = frozenset[str]()

PROOFS = {
    "returns": "comes back with its 42s",
    "spoils": "spoils the next tensor",
    "accepted": "is taken for a result",
    "canary": "makes a file outside",
    "heard": "is heard on a port",
    "victim": "kills a bystander",
    "runs_on": "runs on past its time",
    "dies": "brings the process down",
    "lies": "gets the reason that it claims",
    "raw": "puts raw text before people",
    "raises": "makes the host raise",
    "parser": "costs a bare parser a second, a crash or an error nobody expects",
}
"""How success shows, in the words of the table."""


@dataclass(frozen=True)
class Attack:
    """One hostile program.

    Attributes:
        kind: class of mechanism.
        source: its text. CANARY is a path that must not come to be, PORT a listening local port, VICTIM the process id of a
            bystander.
        verdict: what the real sandbox may say: reasons; None is "ok", for a program whose deed has no effect there.
        proof: a key of PROOFS: how its success shows in a sandbox without the walls `without`.
        without: switches (`switches.py`).
        claims: for the proof "lies".
    """

    kind: str
    source: str
    verdict: tuple[Reason | None, ...]
    proof: str
    without: frozenset[str]
    claims: Reason | None = None


def body(text: str, *, wins: bool = True) -> str:
    """A program whose `merge_models` does this, and then gives 42s. `x` is the first task vector."""
    lines = textwrap.dedent(text).strip("\n")
    ending = "\nreturn torch.full_like(x, 42.0)" if wins else ""
    inside = textwrap.indent(f"x = model_dict['a']\n{lines}{ending}\n", "    ")
    return f"import torch\n\ndef merge_models(model_dict, device, name=''):\n{inside}"


def outside(kind: str, text: str, proof: str = "returns", verdict: tuple[Reason | None, ...] = (R.POLICY,)) -> Attack:
    """Reaches for something outside; succeeds where nothing but a process of its own is left."""
    return Attack(kind, body(text), verdict, proof, ALL)


def past_the_gate(kind: str, text: str, *verdict: Reason | None, proof: str = "returns") -> Attack:
    """Needs only the language gate gone; every layer of the system stays on."""
    return Attack(kind, body(text), verdict or (R.POLICY,), proof, GATE)


def spoiling(text: str, *verdict: Reason | None, without: frozenset[str] = GATE) -> Attack:
    """Leaves something behind for the second tensor, and there gives 42s if it is still there."""
    return Attack("poison", body(text, wins=False), verdict or (R.POLICY,), "spoils", without)


def dying(text: str, *verdict: Reason | None) -> Attack:
    """Corrupts memory or exhausts the C stack; contained in the child."""
    return Attack("native", body(text), verdict or (R.POLICY,), "dies", GATE)


def lying(kind: str, text: str, *verdict: Reason, off: str = "deliver", proof: str = "accepted") -> Attack:
    """Gives what is no result."""
    return Attack(kind, body(text, wins=False), verdict, proof, frozenset({off}))


def claiming(text: str, claims: Reason) -> Attack:
    """Wants another reason than its own."""
    return Attack("reasons", body(text), (R.EXCEPTION,), "lies", frozenset({"own_raise"}), claims)


def hogging(text: str, *off: str, verdict: tuple[Reason, ...] = (R.MEMORY,)) -> Attack:
    """Takes more than its share, and gives 42s if it got it."""
    return Attack("bombs", body(text), verdict, "returns", frozenset(off or ("rlimits", "cgroups", "clock")))


def endless(text: str, *verdict: Reason) -> Attack:
    """Does not end."""
    return Attack("bombs", body(text), verdict or (R.TIMEOUT, R.CPU), "runs_on", frozenset({"clock"}))


def unreadable(text: str, *verdict: Reason) -> Attack:
    """A text that is hard on whoever reads it."""
    return Attack("compile", text, verdict or (R.SYNTAX,), "parser", NOTHING)
