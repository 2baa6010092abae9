"""A zygote in GPU mode on a machine without one: contexts are not made and tensors stay on the CPU; all else is the real thing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sandbox import gpu, runner, zygote

if __name__ == "__main__":
    read_program = runner.read_program
    gpu.open_context = lambda: None
    runner.read_program = lambda fd: replace(read_program(fd), device="cpu")
    zygote.main(int(sys.argv[1]), sys.argv[2])
