"""State left for the next tensor, and chance that comes from outside. In the first tensor a program sets its trap and returns `x`; in
the second it returns 42s if the trap is there."""

from __future__ import annotations

from sandbox import Reason as R
from tests.attacks.attack import GATE, Attack, spoiling

FRESH = frozenset({"fresh"})
MARK = "if name == 'second':\n    return torch.full_like(x, 42.0) if {} else x\n{}\nreturn x"


def trap(is_set: str, setting: str, *verdict: R | None, without: frozenset[str] = GATE) -> Attack:
    """Sets something in the first tensor, and looks whether it is set in the second."""
    return spoiling(MARK.format(is_set, setting), *verdict, without=without)


LIBRARIES = {
    "poison_torch": trap("torch.norm(x) == 42", "torch.norm = lambda t: 42"),
    "poison_by_for": trap("torch.norm(x) == 42", "for torch.norm in [lambda t: 42]:\n    pass"),
    "poison_by_tuple": trap("torch.norm(x) == 42", "(torch.norm, y) = (lambda t: 42, 1)"),
    "poison_by_with": trap("torch.norm(x) == 42", "import contextlib\nwith contextlib.nullcontext(lambda t: 42) as torch.norm:\n    pass"),
    "poison_by_star": trap("torch.norm(x) == 42", "*torch.norm, y = [1, 2]\ntorch.norm = lambda t: 42"),
    "poison_by_comprehension": trap("torch.norm(x) == 42", "[0 for torch.norm in [lambda t: 42]]"),
    "poison_by_augmented": trap("torch.pi > 10", "torch.pi += 100"),
    "poison_by_delete": trap("not hasattr(torch, 'hypot')", "del torch.hypot"),
    "poison_by_setattr": trap("torch.norm(x) == 42", "setattr(torch, 'norm', lambda t: 42)"),
    "poison_by_facade_constructor": trap("torch.norm(x) == 42", "type(torch).__init__(torch, 'torch')\ntorch.norm = lambda t: 42"),
    "poison_tensor_class": trap("torch.Tensor.sum(x) == 42", "torch.Tensor.sum = lambda t: 42"),
    "poison_tensor_operator": trap("(x + 1).sum() > 1e6", "fill = torch.full_like\ntorch.Tensor.__add__ = lambda a, b: fill(a, 1e9)"),
    "poison_numpy": trap("__import__('numpy').sum is len", "import numpy as np\nnp.sum = len"),
    "poison_math": trap("__import__('math').pi == 42", "import math\nmath.pi = 42"),
    "poison_builtins": trap("ascii(1) == 42", "import builtins\nbuiltins.ascii = lambda o: 42"),
    "poison_by_update_wrapper": trap(
        "getattr(torch.functional.norm, 'mark', 0) == 42", "import functools\ndef f():\n    pass\nf.mark = 42\nfunctools.update_wrapper(torch.functional.norm, f)",
    ),
    "poison_by_final": trap("getattr(torch.functional.norm, '__final__', False)", "import typing\ntyping.final(torch.functional.norm)"),
    "poison_by_dataclass": trap("hasattr(torch.nn.ReLU, '__dataclass_fields__')", "import dataclasses\ndataclasses.dataclass(torch.nn.ReLU)", R.POLICY, R.EXCEPTION),
    "poison_by_total_ordering": trap("hasattr(torch.nn.ReLU, '__le__') and torch.nn.ReLU.__le__ is not object.__le__", "import functools\ntorch.nn.ReLU.__lt__ = lambda a, b: True\nfunctools.total_ordering(torch.nn.ReLU)"),
    "poison_function_default": trap("torch.functional.norm.__defaults__ == (42,)", "torch.functional.norm.__defaults__ = (42,)"),
    "poison_by_generic_alias": trap(
        "torch.Tensor.sum(x) == 42", "import typing\nclass A(type(typing.List[int]), _root=True):\n    pass\na = A(torch.Tensor, (int,))\na.sum = lambda t: 42"
    ),
    "poison_abc_registry": trap("isinstance(x, __import__('collections.abc').abc.Mapping)", "import collections.abc as c\nc.Mapping.register(torch.Tensor)"),
    "poison_own_abc_registry": trap(
        "isinstance(x, __import__('collections.abc').abc.Mapping)", "import collections.abc as c\nclass E(c.Mapping):\n    pass\nE.register(torch.Tensor)", without=GATE | FRESH
    ),
    "poison_named_tuple_defaults": trap(
        "'k' in __import__('numpy').linalg.svd([[1.0]])._field_defaults", "import numpy as np\nnp.linalg.svd(np.eye(2))._field_defaults['k'] = x"
    ),
    "poison_cache_info": trap("'k' in __import__('functools').lru_cache(len).cache_info()._field_defaults", "import functools\nfunctools.lru_cache(len).cache_info()._field_defaults['k'] = 1"),
    "poison_global_hook": trap("torch.nn.modules.module._global_forward_hooks", "torch.nn.modules.module.register_module_forward_hook(lambda *a: None)"),
    "poison_sys_modules": trap("'mark' in __import__('sys').modules", "import sys\nsys.modules['mark'] = 42"),
    "poison_recursion_limit": trap("__import__('sys').getrecursionlimit() == 4242", "import sys\nsys.setrecursionlimit(4242)"),
    "poison_enum_member": trap("__import__('re').RegexFlag.A._value_ == 42", "import re\nre.RegexFlag.A._value_ = 42"),
}  # fmt: skip

SWITCHES = {
    "poison_default_dtype": trap("torch.get_default_dtype() is torch.float64", "torch.set_default_dtype(torch.float64)", R.EXCEPTION),
    "poison_default_device": trap("torch.empty(1).device.type == 'meta'", "torch.set_default_device('meta')", without=GATE | FRESH),
    "poison_deterministic_flag": trap("torch.are_deterministic_algorithms_enabled()", "torch._C._set_deterministic_algorithms(True)"),
    "poison_thread_count": trap("torch.get_num_threads() == 3", "torch.set_num_threads(3)", None),
    "poison_print_options": trap("str(torch.tensor(1.23456)) == 'tensor(1.2)'", "torch.set_printoptions(precision=1)", None),
    "poison_decimal_context": trap("__import__('decimal').getcontext().prec == 3", "import decimal\ndecimal.getcontext().prec = 3", without=GATE | FRESH),
    "poison_grad_mode": trap("not torch.is_grad_enabled()", "torch.set_grad_enabled(False)", None, without=FRESH),
    "poison_inference_mode": trap("torch.is_inference_mode_enabled()", "global keep\nkeep = torch.inference_mode()\nkeep.__enter__()", None, without=FRESH),
    "poison_numpy_errors": trap("np.geterr()['divide'] == 'raise'", "np.seterr(divide='raise')", None, without=FRESH),
    "poison_numpy_errors_kept": trap("np.geterr()['divide'] == 'raise'", "global keep\nkeep = np.errstate(divide='raise')\nkeep.__enter__()", None, without=FRESH),
    "poison_numpy_print": trap("len(str(np.array([1.23456]))) == 5", "np.set_printoptions(precision=1)", None, without=FRESH),
    "poison_numpy_print_kept": trap("len(str(np.array([1.23456]))) == 5", "global keep\nkeep = np.printoptions(precision=1)\nkeep.__enter__()", None, without=FRESH),
    "poison_torch_generator": trap("float(torch.rand(1)) == float(torch.rand(1, generator=torch.Generator().manual_seed(9)))", "torch.manual_seed(9)", None, without=FRESH),
    "poison_numpy_generator": trap("np.random.rand() == np.random.RandomState(9).rand()", "np.random.seed(9)", None, without=FRESH),
    "poison_python_generator": trap("random.random() == random.Random(9).random()", "random.seed(9)", None, without=FRESH),
    "poison_by_finaliser": trap(
        "torch.initial_seed() == 99 or [[[] for i in range(99999)] for j in range(9)] and torch.initial_seed() == 99",
        "global keep\ndef g():\n    try:\n        yield\n    finally:\n        torch.manual_seed(99)\nkeep = g()\nnext(keep)\nloop = [keep]\nloop.append(loop)",
        None,
        without=FRESH,
    ),
    "poison_regular_expression_cache": trap(
        "found()",
        "ask()",
        None,
        without=FRESH,
    ),
    "poison_typing_cache": trap("found_in_typing()", "ask_typing()", None, without=FRESH),
    "poison_unfilled_memory": trap("any(bool((t == 42.5).any()) for t in [torch.empty(1 << 12) for i in range(5)])", "y = [torch.full((1 << 12,), 42.5) for i in range(6)]\ndel y", None),
    "poison_unfilled_array": trap("any(bool((t == 42.5).any()) for t in [np.empty(1 << 12, np.float32) for i in range(5)])", "y = [np.full(1 << 12, 42.5, np.float32) for i in range(6)]\ndel y", None),
    "poison_unfilled_like": trap("any(bool((t == 42.5).any()) for t in [torch.empty_like(torch.ones(1).expand(1 << 12)) for i in range(5)])", "y = [torch.full((1 << 12,), 42.5) for i in range(6)]\ndel y", None),
    "poison_unfilled_new": trap("any(bool((t == 42.5).any()) for t in [x.new_empty(1 << 12) for i in range(5)])", "y = [torch.full((1 << 12,), 42.5) for i in range(6)]\ndel y", None),
    "poison_unfilled_by_class": trap("any(bool((t == 42.5).any()) for t in [torch.FloatTensor(1 << 12) for i in range(5)])", "y = [torch.full((1 << 12,), 42.5) for i in range(6)]\ndel y", None),
}  # fmt: skip

_HELPERS = """
import numpy as np
import random
import re
import typing

class Key(int):
    met = 0
    def __hash__(self):
        return 7
    def __eq__(self, other):
        if type(other).__name__ == 'Key':
            other.met = self.met = 42
        return False

def ask():
    re.compile('abc', Key(0))

def found():
    key = Key(0)
    re.compile('abc', key)
    return key.met == 42

def ask_typing():
    typing.List[Key(0)]

def found_in_typing():
    key = Key(0)
    typing.List[key]
    return key.met == 42
"""


def _with_helpers(attack: Attack) -> Attack:
    return Attack(attack.kind, _HELPERS + attack.source, attack.verdict, attack.proof, attack.without)


ATTACKS: dict[str, Attack] = LIBRARIES | {name: _with_helpers(attack) for name, attack in SWITCHES.items()}
