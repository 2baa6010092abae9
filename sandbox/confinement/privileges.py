"""No root and no capabilities. Root becomes a spare uid that owns nothing; every capability is dropped in any case.

The interpreter may lie where the spare uid cannot read it: the child is already loaded, and nothing is exec'd after this.
"""

from __future__ import annotations

import ctypes
import os

from sandbox.confinement.linux import MACHINE, syscall
from sandbox.confinement.plan import LayerAbsent, Plan
from sandbox.confinement.syscall_numbers import ARCHITECTURES

SPARE_IDS = (1_836_515_328, 65_534)
"""Tried in this order: a number that no account has, then `nobody` (containers may map only the low 65,536)."""

_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _capabilities(call: str, sets: ctypes.Array[_Sets]) -> None:
    if MACHINE not in ARCHITECTURES:
        raise LayerAbsent(f"capabilities are not coded for {MACHINE}")
    header = _Header(_CAPABILITY_VERSION_3, 0)
    number = ARCHITECTURES[MACHINE].numbers[call]
    syscall(number, ctypes.cast(ctypes.byref(header), ctypes.c_void_p), ctypes.cast(sets, ctypes.c_void_p))


def apply(plan: Plan) -> None:
    """Leave root if we are root, then drop all capabilities (in a user namespace an ordinary uid has them too)."""
    if os.geteuid() == 0:
        os.setgroups([])
        _become_spare()
    _capabilities("capset", (_Sets * 2)())


def _become_spare() -> None:
    for spare in SPARE_IDS:
        try:
            os.setresgid(spare, spare, spare)
            os.setresuid(spare, spare, spare)
        except OSError:
            continue
        return
    raise LayerAbsent("root cannot become another user here")


def probe(plan: Plan) -> None:
    """Raises LayerAbsent if the process is root, has a capability, or can become root again."""
    if 0 in os.getresuid() + os.getresgid():
        raise LayerAbsent("the process is still root")
    sets = (_Sets * 2)()
    _capabilities("capget", sets)
    if any(part.effective or part.permitted for part in sets):
        raise LayerAbsent("capabilities are left")
    try:
        os.setuid(0)
    except OSError:
        return
    raise LayerAbsent("the process could become root again")
