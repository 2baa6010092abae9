"""Ways round the language gate. Only the gate is off when they are seen to succeed; every layer of the system stays on."""

from __future__ import annotations

from sandbox import Reason as R
from tests.attacks.attack import Attack, past_the_gate

E = R.EXCEPTION

ATTRIBUTES = {
    "subclasses": past_the_gate("gate", "assert ().__class__.__base__.__subclasses__()"),
    "mro": past_the_gate("gate", "assert type(x).mro()"),
    "reduce_by_getattr": past_the_gate("gate", "n = '__reduce_' + 'ex__'\nassert getattr(x, n)"),
    "globals_of_function": past_the_gate("gate", "n = '__globals__'\nassert getattr(merge_models, n)"),
    "code_of_function": past_the_gate("gate", "assert getattr(merge_models, '__co' + 'de__')"),
    "closure": past_the_gate("gate", "def f():\n    return x\nassert getattr(f, '__clo' + 'sure__')"),
    "self_of_builtin": past_the_gate("gate", "assert getattr(x.sum, '__se' + 'lf__') is x"),
    "wrapped": past_the_gate("gate", "assert getattr(torch.functional.einsum, '__mod' + 'ule__')\nassert getattr(print, '__se' + 'lf__', 1)"),
    "builtins_of_facade": past_the_gate("gate", "assert getattr(torch, '__di' + 'ct__')"),
    "getattr_by_map": past_the_gate("gate", "assert list(map(getattr, [merge_models], ['__code__']))"),
    "getattr_by_reduce": past_the_gate("gate", "import functools\nassert functools.reduce(getattr, ['__class__', '__base__'], ())"),
    "getattr_by_partial": past_the_gate("gate", "import functools\nassert functools.partial(getattr, merge_models)('__code__')"),
    "attrgetter": past_the_gate("gate", "import operator\nassert operator.attrgetter('__class__.__mro__')(x)"),
    "methodcaller": past_the_gate("gate", "import operator\noperator.methodcaller('mro')(type(x))"),
    "unicode_look_alike": past_the_gate("gate", "assert x.__ｃlass__.__ｍro__"),
    "unicode_builtin": past_the_gate("gate", "assert ｅval('1')"),
    "text_that_lies_about_itself": past_the_gate(
        "gate",
        "class S(str):\n    def startswith(self, p):\n        return False\nclass C:\n    pass\n"
        "assert getattr(C, S('__getattribute__'))(torch.norm, '__globals__')",
        E,
    ),
    "super_of_library_class": past_the_gate("gate", "class T(torch.Tensor):\n    pass\ns = super(T, torch.Tensor._make_subclass(T, x))\nassert s.data_ptr()"),
    "super_without_class": past_the_gate("gate", "class A(dict):\n    def go(self):\n        return super().__reduce__()\nassert A().go()"),
    "inherited_from_library": past_the_gate("gate", "class M(torch.nn.Module):\n    pass\nM().register_forward_hook(lambda *a: None)"),
    "module_hook_by_name": past_the_gate("gate", "getattr(torch.nn.ReLU(), 'register_forward_' + 'hook')(lambda *a: None)"),
    "hasattr_swallows": past_the_gate(
        "gate",
        "class C:\n    @property\n    def p(self):\n        try:\n            getattr(torch, 'sa' + 've')\n        except Exception:\n            pass\n"
        "        raise AttributeError('p')\nhasattr(C(), 'p')",
    ),
    "swallowed_violation": past_the_gate("gate", "try:\n    getattr(torch, 'sa' + 've')\nexcept BaseException:\n    pass"),
    "violation_in_message": past_the_gate(
        "gate", "class S:\n    def __str__(self):\n        getattr(torch, 'sa' + 've')\n        return 'a'\nprint(str(S()))"
    ),
    "exception_object": past_the_gate("gate", "try:\n    torch.nosuch\nexcept AttributeError as e:\n    assert getattr(e, 'ob' + 'j').save", R.POLICY),
    "match_attributes": past_the_gate("gate", "match (i for i in [1]):\n    case object(gi_frame=f):\n        assert f"),
    "match_own_positional": past_the_gate(
        "gate",
        "class P:\n    __match_args__ = ('gi_code',)\n    pass\nimport abc\nclass Q(P, abc.ABC):\n    pass\n"
        "Q.register(type(i for i in [1]))\nmatch (i for i in [1]):\n    case Q(c):\n        assert c",
    ),
    "abc_register": past_the_gate("gate", "import abc\nclass A(abc.ABC):\n    pass\nA.register(type(x))\nassert isinstance(x, A)"),
}  # fmt: skip

TEXTS = {
    "format_string": past_the_gate("gate", "assert 'class' in '{0.__class__.__base__}'.format(x)"),
    "format_map_string": past_the_gate("gate", "assert 'class' in '{a.__class__.__base__}'.format_map({'a': x})"),
    "str_format_unbound": past_the_gate("gate", "assert 'class' in str.format('{0.__class__.__mro__}', x)"),
    "format_of_own_text": past_the_gate("gate", "class S(str):\n    pass\nassert S.format('{0.__globals__}', merge_models)"),
    "format_by_super": past_the_gate("gate", "class S(str):\n    pass\nassert super(S, S('{0.__globals__}')).format(merge_models)"),
    "format_in_specification": past_the_gate("gate", "assert '{0:{1.__init__.__doc__[0]}>9}'.format('a', x)"),
    "eval_text": past_the_gate("gate", "eval('1 + 1')"),
    "exec_text": past_the_gate("gate", "exec('y = 1')"),
    "compile_text": past_the_gate("gate", "compile('1', 'a', 'eval')"),
    "type_hints_evaluate": past_the_gate("gate", "import typing\ndef f(a: 'torch.Tensor'):\n    pass\nassert typing.get_type_hints(f)"),
    "named_tuple_source": past_the_gate("gate", "import dataclasses\nassert dataclasses.make_dataclass('D', ['a'])"),
    "field_name_as_source": past_the_gate(
        "gate",
        "import typing, dataclasses\nX = typing.TypedDict('X', {'\"+str(6*7)#': int})\n"
        "D = dataclasses.dataclass(init=False, eq=False)(X)\nassert '42' in D.__repr__(0)",
        E,
    ),
    "enum_functional_methods": past_the_gate(
        "gate", "import enum\nE = enum.Enum('E', {'__getattr__': lambda s, n: 42.0, 'A': 1}, module='candidate')\nassert E.A.anything == 42.0", E
    ),
    "enum_functional_base": past_the_gate(
        "gate", "import enum\nE = enum.Enum('E', {'A': (4,)}, type=torch.nn.LayerNorm, module='candidate')\nassert E.A.register_forward_hook", E
    ),
    "enum_functional_underscore": past_the_gate("gate", "import enum\nassert enum.Enum('E', {'_x': 1, 'A': 2})", E),
    "regular_expression_scanner": past_the_gate("gate", "import re\nassert re.Scanner"),
    "print_to_own_file": past_the_gate("gate", "import io\nprint('x', file=io.StringIO())"),
}  # fmt: skip

CLASSES = {
    "type_of_type": past_the_gate("gate", "C = type(int)('C', (), {'__getattr__': lambda s, n: 42.0})\nassert C().anything == 42.0", E),
    "class_of_class": past_the_gate("gate", "C = (1).__class__.__class__('C', (), {'__getattr__': lambda s, n: 42.0})\nassert C().anything", E),
    "typing_type_as_base": past_the_gate("gate", "import typing\nclass M(typing.Type):\n    pass\nassert M('C', (), {})"),
    "metaclass": past_the_gate("gate", "class M(type):\n    pass\nclass C(metaclass=M):\n    pass"),
    "metaclass_of_abc_as_base": past_the_gate("gate", "import abc\nclass M(type(abc.ABC)):\n    pass"),
    "tensor_subclass": past_the_gate("gate", "class T(torch.Tensor):\n    pass\nassert x.as_subclass(T) is not None"),
    "tensor_subclass_by_type": past_the_gate("gate", "T = type(type(x))('T', (torch.Tensor,), {'sum': 1})\nassert T.sum == 1", E),
    "array_subclass": past_the_gate("gate", "import numpy as np\nclass A(np.ndarray):\n    pass"),
    "function_type": past_the_gate("gate", "F = type(merge_models)\nassert F(merge_models.__code__, {})"),
    "method_type": past_the_gate("gate", "class C:\n    def f(self):\n        return self\nassert type(C().f)(len, [1])() == 1", E),
    "module_type": past_the_gate("gate", "import types\nassert types.ModuleType('m')"),
    "module_type_by_type": past_the_gate("gate", "assert type(torch)('m')", E),
    "special_getattribute": past_the_gate("gate", "class C:\n    def __getattribute__(self, n):\n        return 1"),
    "special_getattr": past_the_gate("gate", "class C:\n    def __getattr__(self, n):\n        return 1"),
    "special_setattr": past_the_gate("gate", "class C:\n    def __setattr__(self, n, v):\n        pass"),
    "special_del": past_the_gate("gate", "class C:\n    def __del__(self):\n        pass"),
    "special_get": past_the_gate("gate", "class C:\n    def __get__(self, o, k):\n        return 1"),
    "special_reduce": past_the_gate("gate", "class C:\n    def __reduce__(self):\n        return len, ('a',)\nimport copy\nassert copy.copy(C()) == 1"),
    "special_torch_function": past_the_gate("gate", "class C:\n    def __torch_function__(self, f, t, a=(), k=None):\n        return 42\nassert torch.sum(C()) == 42"),
    "special_array_interface": past_the_gate("gate", "class C:\n    __array_interface__ = {}"),
    "special_instancecheck": past_the_gate("gate", "class C:\n    def __instancecheck__(self, i):\n        return True\nassert isinstance(1, C())"),
    "special_prepare": past_the_gate("gate", "class C:\n    def __prepare__(n, b):\n        return {}"),
    "class_of_object_set": past_the_gate("gate", "class A:\n    pass\nclass B:\n    pass\na = A()\na.__class__ = B"),
    "array_interface_by_setattr": past_the_gate("gate", "class C:\n    pass\nsetattr(C, '__array_' + 'interface__', {})"),
    "array_interface_by_object": past_the_gate("gate", "class C:\n    pass\nobject.__setattr__(C(), '__array_' + 'interface__', {})"),
    "array_interface_by_namespace": past_the_gate("gate", "import types\nassert types.SimpleNamespace(**{'__array_interface__': {}})", E),
    "base_by_generic_alias": past_the_gate("gate", "import typing\nclass A(type(typing.List[int]), _root=True):\n    pass"),
    "base_exception": past_the_gate("gate", "class B(BaseException):\n    pass"),
    "protocol_metaclass": past_the_gate("gate", "import typing\nclass T(typing.Protocol):\n    pass\nclass M(type(T)):\n    pass"),
}  # fmt: skip

NAMES = {
    "import_function": past_the_gate("gate", "__import__('os').getpid()"),
    "import_in_try": past_the_gate("gate", "try:\n    import os\n    os.getpid()\nexcept ImportError:\n    pass"),
    "import_as": past_the_gate("gate", "import os as numpy\nnumpy.getpid()"),
    "import_star": past_the_gate("gate", "exec('from math import *')"),
    "import_of_import": past_the_gate("gate", "from importlib import import_module as i\ni('os').getpid()"),
    "private_part_of_torch": past_the_gate("gate", "import torch._C as c\nassert c._functions"),
    "torch_behind_functional": past_the_gate("gate", "import torch.nn.functional as F\nassert F.torch.save"),
    "warnings_behind_module": past_the_gate("gate", "import functools\nassert functools.GenericAlias and functools.recursive_repr"),
    "builtins_from_globals": past_the_gate("gate", "assert globals()['__builtins__']"),
    "builtins_by_name": past_the_gate("gate", "assert __builtins__"),
    "locals_of_function": past_the_gate("gate", "assert locals()"),
    "vars_of_module": past_the_gate("gate", "assert vars(torch)"),
    "loader": past_the_gate("gate", "import math\nassert math.__loader__"),
    "guard_as_loop_variable": past_the_gate("gate", "for _getattr_ in [1]:\n    pass"),
    "guard_as_argument": past_the_gate("gate", "def f(_write_):\n    return _write_\nassert f(1)"),
    "guard_as_import": past_the_gate("gate", "import math as _getattr_\nassert _getattr_"),
    "guard_by_walrus": past_the_gate("gate", "assert [(_items_ := 1) for i in [1]]"),
    "guard_by_global": past_the_gate("gate", "global _write_\n_write_ = 1"),
    "guard_by_del": past_the_gate("gate", "_getattr_ = 1\ndel _getattr_"),
    "guard_by_match": past_the_gate("gate", "match 1:\n    case _getattr_:\n        pass"),
    "guard_by_rest": past_the_gate("gate", "match {}:\n    case {**_write_}:\n        pass"),
    "guard_by_except": past_the_gate("gate", "try:\n    1 / 0\nexcept ZeroDivisionError as _items_:\n    pass"),
    "guard_by_with": past_the_gate("gate", "import contextlib\nwith contextlib.nullcontext(1) as _getattr_:\n    pass"),
    "case_holder": past_the_gate("gate", "_cases_of_0 = 1"),
    "private_name_by_mangling": past_the_gate("gate", "class _getattr:\n    def f(self, __class__=1):\n        return 1"),
    "asynchronous": past_the_gate("gate", "async def f():\n    return 1\nc = f()\ntry:\n    c.send(None)\nexcept StopIteration:\n    pass"),
    "exception_group_catch": past_the_gate("gate", "try:\n    raise ExceptionGroup('g', [ValueError()])\nexcept* ValueError:\n    pass"),
    "system_exit": past_the_gate("gate", "try:\n    raise SystemExit\nexcept BaseException:\n    pass"),
}  # fmt: skip

ATTACKS: dict[str, Attack] = ATTRIBUTES | TEXTS | CLASSES | NAMES
