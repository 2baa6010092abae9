"""What a library does with an object of the program's own: reads on the left of `+=`, unbound methods, copies, aliases, keys."""

from __future__ import annotations

from sandbox import Reason as R
from tests.attacks.attack import GATE, Attack, body, claiming, dying, past_the_gate, spoiling
from tests.attacks.programs.poison import FRESH, MARK

E = R.EXCEPTION

CATCHER = "class R:\n    def __radd__(self, other):\n        self.got = other\n        return other\nr = R()\n"
"""`obj.name += r` gives `r.got` what `obj.name` is."""

INTERFACE = (
    "{'version': 3, 'shape': (1,), 'typestr': '<u8', 'data': (int(repr(object()).split('0x')[1][:-1], 16), False)}"
)
"""Where numpy is told to look: an object that was there a moment ago."""

COPIED = "class C:\n    __slots__ = ('most_common', 'x')\n    made = 0\n    def __new__(cls):\n        return collections.Counter if C.made else object.__new__(cls)\n"


def meeting(imports: str, is_set: str, setting: str, *verdict: R | None, without: frozenset[str] = GATE) -> Attack:
    """Sets something in the first tensor, and looks whether it is set in the second; `imports` for both."""
    return spoiling(f"{imports}\n" + MARK.format(is_set, setting), *verdict, without=without)


UPDATES = {
    "update_reads_enum_machinery": past_the_gate("hooks", CATCHER + "import enum\nclass K(enum.Enum):\n    pass\nK._convert_ += r\nassert list(r.got('X', 'posix', lambda n: n == 'getpid'))"),
    "update_makes_any_class": past_the_gate("hooks", CATCHER + f"import enum\nimport numpy as np\nclass K(enum.Enum):\n    pass\nK._create_ += r\nassert np.asarray(list(r.got('X', {{'__array_interface__': {INTERFACE}, 'A': 1}}))[0]).size == 1"),
    "update_reads_str_format": past_the_gate("hooks", CATCHER + "class S(str):\n    pass\ns = S('{0.__code__}')\ns.format += r\nassert 'code' in r.got(merge_models)"),
    "update_reads_register": past_the_gate("hooks", CATCHER + "import abc\nclass A(abc.ABC):\n    pass\nA.register += r\nr.got(type(x.shape))\nassert isinstance(x.shape, A)"),
    "update_reads_to_empty": past_the_gate("hooks", CATCHER + "class M(torch.nn.Module):\n    pass\nm = M()\nm.to_empty += r\nassert r.got(device='cpu') is m"),
    "update_holder": past_the_gate("hooks", "_updated_0 = 1"),
}  # fmt: skip

METHODS = {
    "parameter_dict_reads": past_the_gate("hooks", "class C:\n    def _key_to_attr(key):\n        return key\nassert torch.nn.ParameterDict.__getitem__(C, '__subclasses__')() == []"),
    "parameter_dict_writes": past_the_gate("hooks", "class C:\n    _keys = {}\n    def _key_to_attr(key):\n        return key\ntorch.nn.ParameterDict.__setitem__(C, '__getattr__', lambda s, n: 42)\nassert C().a == 42"),
    "parameter_dict_holds": past_the_gate("hooks", f"import numpy as np\np = torch.nn.ParameterDict({{'__array_interface__': {INTERFACE}}})\nassert np.asarray(p).size == 1"),
    "module_list_writes": past_the_gate("hooks", "class C:\n    def _get_abs_string_index(i):\n        return i\ntorch.nn.ModuleList.__setitem__(C, '__getattr__', lambda s, n: 42)\nassert C().a == 42"),
    "method_on_another_object": past_the_gate("hooks", "import contextlib\nimport torch.nn.functional as F\ndef f():\n    pass\nclass C:\n    def _create_cb_wrapper(self, *a):\n        return F.normalize\n    def _push_exit_callback(self, *a):\n        pass\ncontextlib.ExitStack.callback(C(), f)\nassert getattr(F.normalize, '__wrap' + 'ped__') is f"),
}  # fmt: skip

ALIASES = {
    "array_by_its_alias": past_the_gate("hooks", "import numpy as np\nimport numpy.typing as npt\nassert npt.NDArray[np.float32]((4,), np.float32, np.zeros(64, np.float32), -64).size == 4", E),
    "class_of_classes_by_origin": past_the_gate("hooks", "import typing\nassert typing.get_origin(typing.Type[int])('C', (), {})", E),
    "class_of_classes_by_arguments": past_the_gate("hooks", "import typing\nimport numpy as np\nimport numpy.typing as npt\nassert typing.get_args(npt.NDArray[np.float32])[0] and typing.get_origin(npt.NDArray[np.float32])((2,)).size == 2", E),
}  # fmt: skip

COPIES = {
    "copy_sets_attributes_of_a_library": meeting(
        "import copy, collections",
        "collections.Counter([1]).most_common() == 42",
        COPIED + "c = C()\nc.most_common = lambda self, n=None: 42\nC.made = 1\ncopy.copy(c)",
        E,
    ),
    "copy_sets_state_of_a_generator": dying(
        "import copy\nimport numpy as np\nclass C:\n    made = 0\n    def __new__(cls):\n        return C.target if C.made else object.__new__(cls)\nc = C()\n"
        "c.bit_generator, c.state, c.gauss, c.has_gauss = 'MT19937', {'key': np.zeros(624, np.uint32), 'pos': -2**31}, 0.0, 0\n"
        "C.target = np.random.RandomState(0)\nC.made = 1\ncopy.copy(c)\nC.target.randint(0, 2**32, size=4, dtype=np.uint32)",
        E,
    ),
    "copy_made_by_assignment": past_the_gate("hooks", "import copy\ndef f(cls):\n    return x\nclass C:\n    __new__ = f\nassert C() is x"),
    "memo_holds_the_attributes": past_the_gate(
        "hooks",
        "import copy\nimport numpy as np\nclass V:\n    def __deepcopy__(self, memo):\n        for d in list(memo.values()):\n            if isinstance(d, dict) and 'mark' in d:\n"
        f"                d['__array_interface__'] = {INTERFACE}\n        return self\nclass C:\n    pass\nc = C()\nc.mark, c.v = 1, V()\nassert np.asarray(copy.deepcopy(c)).dtype == np.uint64",
        E,
    ),
    "memo_by_library_method": past_the_gate("hooks", "import copy\nl = []\nclass K:\n    __deepcopy__ = l.append\ncopy.deepcopy(K())\nassert l"),
    "memo_holds_storages": past_the_gate("hooks", "import copy\nm = {}\ncopy.deepcopy(x, m)\nassert m['torch']", E),
    "memo_of_a_tensor": past_the_gate("hooks", "m = {}\nx.__deepcopy__(m)\nassert m"),
}  # fmt: skip

SPARSE = {
    "sparse_gradient_of_gather": past_the_gate("native", "w = torch.zeros(4, requires_grad=True)\ntorch.gather(w, 0, torch.tensor([1]), sparse_grad=True).sum().backward()\nassert torch.sqrt(w.grad).indices().fill_(0) is not None"),
    "sparse_gradient_by_method": past_the_gate("native", "w = torch.zeros(4, requires_grad=True)\nw.gather(0, torch.tensor([1]), sparse_grad=True).sum().backward()\nassert w.grad.layout is not torch.strided", E),
    "sparse_gradient_of_embedding": dying("w = torch.zeros(64, 16, requires_grad=True)\ntorch.nn.functional.embedding(torch.tensor([1, 2]), w, sparse=True).sum().backward()\ns = torch.sqrt(w.grad)\ns.indices()[0, 0] = 1 << 40\ns.to_dense()"),
}  # fmt: skip

STATE = {
    "poison_by_abc_cache": meeting("import collections.abc\nimport collections as c", "not isinstance(c.Counter(), c.abc.Mapping)", "class K(c.abc.Mapping):\n    pass\ndel K._abc_impl\nisinstance(c.Counter(), K)"),
    "poison_by_einsum_order": meeting(
        "import numpy as np\nclass K(str):\n    def __hash__(self):\n        return 7\n    def __eq__(self, other):\n        return True\na = np.ones((3, 4))",
        "np.einsum('ij,jk->ik', a, a.T, optimize=True, order=K('C')).strides[0] == 8",
        "np.einsum('ij,jk->ik', a, a.T, optimize=True, order=K('F'))",
        None,
        without=FRESH,
    ),
    "date_of_today": Attack(
        "poison", body("import numpy as np\nif int(np.array(['now'], dtype='M8[s]').astype('i8')[0]) < 1_000_000_000:\n    return x"), (None,), "returns", frozenset({"time"})
    ),
}  # fmt: skip

REASONS = {
    "claims_threads_by_a_finished_generator": claiming("g = (i for i in ())\ng.close()\ng.throw(RuntimeError(\"can't start new thread\"))", R.THREADS),
    "claims_gpu_memory_by_a_finished_generator": claiming("g = (i for i in ())\ng.close()\ntype(g).throw(g, torch.OutOfMemoryError('x'))", R.GPU_MEMORY),
    "claims_threads_by_a_quotation": claiming("torch.device(\"can't start new thread\")", R.THREADS),
}  # fmt: skip

ATTACKS: dict[str, Attack] = UPDATES | METHODS | ALIASES | COPIES | SPARSE | STATE | REASONS
