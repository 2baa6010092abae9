"""Classes in all their forms."""

from __future__ import annotations

PROGRAMS: dict[str, str] = {
    "imp_cached_property": """
from functools import cached_property
class A:
    def __init__(self, v): self.v = v
    @cached_property
    def norm(self): return self.v.norm()
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    a = A(x)
    out = out / a.norm * a.norm / a.norm
    return out
""",
    "imp_functools_total_ordering": """
from functools import total_ordering
@total_ordering
class S:
    def __init__(self, v): self.v = v
    def __eq__(self, o): return self.v == o.v
    def __lt__(self, o): return self.v < o.v
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = out * max(S(1), S(2)).v
    return out
""",
    "imp_collections_abc_subclass": """
from collections.abc import Mapping, Sequence
class M(Mapping):
    def __init__(self, d): self.d = d
    def __getitem__(self, k): return self.d[k]
    def __iter__(self): return iter(self.d)
    def __len__(self): return len(self.d)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    m = M(model_dict)
    out = sum(m.values()) + m.get("zz", 0.0)
    return out
""",
    "imp_dataclass_more": """
from dataclasses import dataclass, field, asdict, replace, astuple, fields
from typing import ClassVar, List
@dataclass(slots=True, kw_only=True)
class C:
    a: float = 1.0
    b: List[float] = field(default_factory=lambda: [0.5, 0.5], repr=False)
    n: ClassVar[int] = 2
    def __post_init__(self):
        if self.a < 0:
            raise ValueError(f"{self.a=} must be positive")
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    c = replace(C(a=2.0), a=3.0)
    out = out * asdict(c)["a"] * sum(c.b) * len(fields(c)) * C.n * astuple(c)[0]
    print(c)
    return out
""",
    "imp_enum_missing": """
from enum import Enum
class A(Enum):
    X = "x"
    @classmethod
    def _missing_(cls, value):
        return cls.X
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = out * len(A("q").value)
    return out
""",
    "imp_enum_auto_next": """
from enum import Enum, auto
class A(str, Enum):
    def _generate_next_value_(name, start, count, last_values):
        return name.lower()
    X = auto()
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = out * len(A.X.value)
    return out
""",
    "class_nested_and_inner": """
class A:
    class Config:
        k = 2
    DEFAULTS = {"a": 1}
    values = [i * k for i, k in enumerate([1, 2])]
    def run(self): return self.Config.k * A.DEFAULTS["a"] * type(self).Config.k * self.__class__.Config.k
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = out * A().run()
    return out
""",
    "class_multiple_inheritance_mixin": """
class M1:
    def f(self): return 1
class M2:
    def f(self): return 2
class A(M1, M2):
    def f(self): return super().f() + super(M1, self).f() + M2.f(self)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = out * A().f()
    return out
""",
    "class_new_singleton": """
class S:
    _instance = None
    def __new__(cls, *args, **kwargs):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = out * (S() is S())
    return out
""",
    "class_namedtuple_func_defaults": """
from collections import namedtuple
P = namedtuple("P", "a b c", defaults=(1, 2))
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    p = P(3)
    out = out * p.a * p._asdict()["b"] * len(P._fields) * p._make([1, 2, 3]).c
    return out
""",
    "class_typeddict": """
from typing import TypedDict
class Cfg(TypedDict, total=False):
    a: int
    b: float
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    c: Cfg = {"a": 2}
    out = out * c["a"] * Cfg(a=3)["a"]
    return out
""",
    "class_list_subclass": """
class L(list):
    def mean(self): return sum(self) / len(self)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = L(vs).mean()
    return out
""",
    "class_classmethod_property_stack": """
class A:
    def __init__(self): self._v = 1
    @property
    def v(self): return self._v
    @v.setter
    def v(self, n): self._v = n
    @v.deleter
    def v(self): self._v = 0
    @staticmethod
    @torch.no_grad()
    def f(t): return t * 2
    @classmethod
    def make(cls, *a, **k): return cls(*a, **k)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    a = A.make(); a.v = 3
    out = A.f(out) * a.v
    del a.v
    return out
""",
    "dataclass_inheritance_initvar": """
from dataclasses import dataclass, field, InitVar
@dataclass
class A:
    a: int = 1
@dataclass(eq=False, repr=False)
class B(A):
    b: float = field(init=False, default=0.0)
    seed: InitVar[int] = 3
    def __post_init__(self, seed):
        self.b = seed * 2.0
    def __call__(self, t): return t * self.b
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = B(a=2)(out)
    return out
""",
    "typeddict_functional": """
from typing import TypedDict, NewType
Cfg = TypedDict("Cfg", {"a": int})
Scale = NewType("Scale", float)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    c: Cfg = {"a": 2}
    out = out * c["a"] * Scale(0.5)
    return out
""",
    "enum_functional": """
from enum import Enum
Mode = Enum("Mode", "A B C")
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = out * Mode.B.value
    return out
""",
    "class_setitem_delitem_contains": """
class Store:
    def __init__(self): self._d = {}
    def __setitem__(self, k, v): self._d[k] = v
    def __getitem__(self, k): return self._d[k]
    def __delitem__(self, k): del self._d[k]
    def __contains__(self, k): return k in self._d
    def __len__(self): return len(self._d)
    def items(self): return self._d.items()
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    s = Store(); s["a"] = out; s["b"] = x; s["a"] += 1; del s["b"]
    out = s["a"] * len(s) * ("b" not in s)
    return out
""",
    "class_state_machine_pipeline": """
class Step:
    order = 0
    def __lt__(self, other): return self.order < other.order
    def __call__(self, t): raise NotImplementedError(f"{type(self).__name__} must implement __call__")
class Clip(Step):
    order = 2
    def __call__(self, t): return t.clamp(-1, 1)
class Scale(Step):
    order = 1
    def __init__(self, k=2.0): self.k = k
    def __call__(self, t): return t * self.k
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    for step in sorted([Clip(), Scale(k=1.5)]): out = step(out)
    return out
""",
    "base_namedtuple_generic": """
from typing import NamedTuple, Generic, TypeVar
T = TypeVar("T")
class A(NamedTuple, Generic[T]):
    t: T
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = A(out).t
    return out
""",
    "base_mutablemapping": """
from collections.abc import MutableMapping
class A(MutableMapping):
    def __init__(self): self.d = {}
    def __getitem__(self, k): return self.d[k]
    def __setitem__(self, k, v): self.d[k] = v
    def __delitem__(self, k): del self.d[k]
    def __iter__(self): return iter(self.d)
    def __len__(self): return len(self.d)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    a = A(); a["k"] = out; a.update(j=x); b = a.pop("j"); a.setdefault("z", 1)
    out = a["k"] * len(a) + b
    return out
""",
    "base_protocol_runtime": """
from typing import Protocol
class P(Protocol):
    scale: float
    def __call__(self, t: torch.Tensor, /) -> torch.Tensor: ...
class A:
    scale = 2.0
    def __call__(self, t): return t * self.scale
def apply(p: P, t): return p(t)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = apply(A(), out)
    return out
""",
    "read_super_specials": """
class D(dict):
    def __init__(self, *a, **k): super().__init__(*a, **k); dict.__init__(self, *a)
    def __setitem__(self, k, v): super().__setitem__(k, v * 2)
    def __getitem__(self, k): return dict.__getitem__(self, k)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    d = D(); d["a"] = 2
    out = out * d["a"]
    return out
""",
    "enum_new_value": """
from enum import Enum
class M(Enum):
    A = ("a", 2.0)
    B = ("b", 3.0)
    def __init__(self, label, weight):
        self.label = label
        self.weight = weight
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = out * M.A.weight * M("b", 3.0).weight if False else out * M.B.weight
    return out
""",
    "module_subclass": """
from torch import nn
class Merger(nn.Module):
    def __init__(self, count, dropout=0.0):
        super().__init__()
        self.scale = 0.5
        self.weights = nn.Parameter(torch.ones(count) / count)
        self.act = nn.Identity()
        self.layers = nn.ModuleList([nn.ReLU(), nn.Identity()])
        self.register_buffer("offset", torch.zeros(1))
    def forward(self, tensors):
        stacked = torch.stack(tensors)
        shape = (-1,) + (1,) * (stacked.dim() - 1)
        merged = (stacked * self.weights.view(shape)).sum(dim=0)
        return self.act(merged) * self.scale + self.offset
def merge_models(model_dict, device):
    merger = Merger(len(model_dict)).to(device)
    merger.eval()
    count = sum(p.numel() for p in merger.parameters())
    with torch.no_grad():
        merged = merger(list(model_dict.values()))
        for layer in merger.layers:
            merged = layer(merged) if isinstance(layer, nn.Identity) else merged
    return merged * count
""",
    "private_names": """
class Counter:
    def __init__(self):
        self.__count = 0
    def __bump(self, by=1):
        self.__count += by
        return self.__count
    def run(self, tensors):
        for _ in tensors:
            self.__bump()
        return self.__count
def merge_models(model_dict, device):
    return sum(model_dict.values()) / Counter().run(model_dict.values())
""",
    "frozen_dataclass_sets_itself": """
from __future__ import annotations
from dataclasses import dataclass, field, fields
@dataclass(frozen=True)
class Config:
    scale: float = 0.5
    total: float = field(init=False, default=0.0)
    def __post_init__(self):
        object.__setattr__(self, "total", self.scale * 2)
def merge_models(model_dict, device):
    config = Config()
    names = [f.name for f in fields(config)]
    return config.total * len(names) * sum(model_dict.values())
""",
}
