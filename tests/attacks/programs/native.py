"""Out of bounds in native code. What the gate lets through here ends in a crash of the child, which is all that it can be."""

from __future__ import annotations

from sandbox import Reason as R
from tests.attacks.attack import Attack, dying, outside, past_the_gate

E = R.EXCEPTION


def reading(text: str, *verdict: R | None) -> Attack:
    """Reads or writes memory that is not its own."""
    return past_the_gate("native", text, *verdict)


ATTACKS: dict[str, Attack] = {
    "ctypes_null": dying("import ctypes\nctypes.string_at(0)"),
    "ctypes_write": dying("import ctypes\nctypes.memset(8, 1, 8)"),
    "raw_pointer": reading("import ctypes\nassert ctypes.string_at(x.data_ptr(), 4)"),
    "storage": reading("assert x.untyped_storage().data_ptr()"),
    "storage_by_super": reading("assert super(torch.Tensor, x).untyped_storage()", E),
    "as_strided": reading("assert torch.as_strided(x, (2, 2), (1, 1)).numel() == 4"),
    "set_to_foreign_storage": reading("y = torch.empty(0)\ny.set_(x.untyped_storage(), 2, (2, 2), (1, 1))"),
    "resize": reading("y = torch.ones(2)\ny.resize_(1 << 10)\nassert y.numel() == 1 << 10"),
    "sparse_unchecked": dying("torch.sparse_coo_tensor(torch.tensor([[1 << 44]]), torch.ones(1), (4,), check_invariants=False).to_dense()"),
    "numpy_as_strided": dying("import numpy as np\nnp.lib.stride_tricks.as_strided(x.numpy(), (4,), (1 << 40,)).sum()"),
    "numpy_negative_offset": reading("import numpy as np\nb = np.zeros(64, np.float32)\nassert np.ndarray((4,), np.float32, b, -64).size == 4", E),
    "numpy_far_offset": dying("import numpy as np\nnp.ndarray((4,), np.uint8, bytearray(16), -(1 << 46)).sum()", E),
    "numpy_objects_from_bytes": dying("import numpy as np\nnp.ndarray((4,), object, np.full(4, 0x4141414141, np.int64))[0]", E),
    "array_by_class_of_array": reading("import numpy as np\nassert type(np.zeros(1))((4,), np.float32).size == 4", E),
    "array_interface": dying("import numpy as np\nclass C:\n    __array_interface__ = {'version': 3, 'shape': (4,), 'typestr': '<f4', 'data': (4096, False)}\nnp.asarray(C()).sum()"),
    "array_interface_by_enum": dying(
        "import enum\nimport numpy as np\nA = enum.Enum('A', {'__array_interface__': {'version': 3, 'shape': (4,), 'typestr': '<f4', 'data': (4096, False)}, 'A': 1}, module='candidate')\n"
        "np.asarray(A.A).sum()",
        E,
    ),
    "array_flags": reading("import numpy as np\na = np.broadcast_to(np.zeros(1), (4,))\na.base.setflags(write=True)\nassert a.base is not None"),
    "array_pointer": reading("assert x.numpy().ctypes.data"),
    "array_buffer": reading("assert x.numpy().data.nbytes == 64"),
    "generator_state": reading("import numpy as np\nr = np.random.RandomState(0)\ns = r.get_state()\nr.set_state(('MT19937', s[1], 700))\nassert r.randint(9) >= 0"),
    "generator_state_far": dying("import numpy as np\nr = np.random.RandomState(0)\ns = r.get_state()\nr.set_state(('MT19937', s[1], -2**31))\nr.randint(0, 2**32, size=4, dtype=np.uint32)"),
    "bit_generator": reading("import numpy as np\nassert np.random.default_rng(0).bit_generator.ctypes.state_address"),
    "freed_while_mapped": dying("a = torch.zeros(1 << 22)\ndef f(v):\n    a.data = torch.zeros(1)\n    return 1.0\na.apply_(f)"),
    "freed_while_mapped_in_pairs": dying("a = torch.zeros(1 << 22)\ndef f(v, w):\n    a.data = torch.zeros(1)\n    return 1.0\na.map_(torch.ones(1 << 22), f)"),
    "freed_while_converted": dying(
        "class K:\n    def __float__(self):\n        l.clear()\n        junk.extend(bytearray(b'A' * 799999) for i in range(60))\n        return 1.0\n"
        "junk = []\nl = [K() for i in range(100000)]\ntorch.tensor(l, dtype=torch.float32)",
        R.MEMORY, E, R.TIMEOUT, R.CPU,
    ),
    "frame_object_forged": dying("import ctypes\nctypes.pythonapi.Py_DecRef(ctypes.py_object(None))\nctypes.string_at(1)"),
    "dlpack_capsule": reading("assert torch.utils.dlpack.to_dlpack(x)"),
    "pickle_reduce": reading("assert x.__reduce_ex__(2)"),
    "kernel_by_name": reading("assert torch.ops.aten.as_strided(x, (2,), (1,)).numel() == 2"),
    "private_operator": reading("assert torch._C._VariableFunctions.as_strided(x, (2,), (1,)).numel() == 2"),
    "jit_script": outside("native", "assert torch.jit.script(torch.nn.ReLU()).code"),
}  # fmt: skip
