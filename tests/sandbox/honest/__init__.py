"""Programs as language models write them, all honest. Each must be accepted and give, bit for bit, what plain Python gives.

A program is a text under the contract; the leading imports that nearly all share are added by `program`. To add one, add an entry to one of
the files.
"""

from __future__ import annotations

from tests.sandbox.honest import arithmetic, basics, classes, corners, invented, published, styles

_IMPORTS = "import torch\nimport torch.nn.functional as F\nimport numpy as np\nimport math\n"

PROGRAMS: dict[str, str] = {}
for _module in (basics, arithmetic, published, invented, styles, classes, corners):
    assert not PROGRAMS.keys() & _module.PROGRAMS.keys()
    PROGRAMS |= _module.PROGRAMS


def program(name: str) -> str:
    """The whole text of an honest program."""
    text = PROGRAMS[name].lstrip("\n")
    future = "from __future__ import annotations\n"
    return future + _IMPORTS + text.removeprefix(future) if text.startswith(future) else _IMPORTS + text
