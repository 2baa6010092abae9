"""Rarer constructs, each of which an honest program has been refused for at some time."""

from __future__ import annotations

PROGRAMS: dict[str, str] = {
    "annot_in_body_complex": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    w: dict[str, float] = {}
    w["a"]: float = 2.0
    class C: pass
    c = C()
    c.v: int = 3
    (k): int = 4
    out = out * w["a"] * c.v * k
    return out
""",
    "overload_and_final": """
from typing import overload, final, Final, cast
@overload
def f(a: int) -> int: ...
@overload
def f(a: float) -> float: ...
def f(a): return a
@final
class C: X: Final = 2
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = out * f(2) * cast(int, C.X)
    return out
""",
    "generator_throw_return": """
def g():
    try:
        yield 1
    except ValueError:
        yield 2
    return 3
def outer():
    r = yield from g()
    yield r
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    it = g(); next(it); out = out * it.throw(ValueError("a")) * sum(outer())
    return out
""",
    "unbound_methods": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    out = torch.Tensor.add(out, x); out = list(map(torch.Tensor.abs, [out]))[0]; n = list(map(str.upper, ["a"]))
    out = dict.get({"a": out}, "a")
    return out
""",
    "random_module_all": """
import random
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    random.seed("text")
    a = random.sample(range(10), 3), random.choices([1, 2, 3], weights=[1, 2, 3], k=2), random.gauss(0, 1), random.randint(1, 3), random.betavariate(1, 2), random.triangular(0, 1, 0.5)
    out = out * a[2] + a[0][0] + a[1][1]
    r = random.Random(5); l = [1, 2, 3]; r.shuffle(l)
    out = out * l[0] + r.uniform(0, 1)
    return out
""",
    "index_put_accumulate": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    f = out.flatten().clone()
    f.index_put_((torch.tensor([0, 0]),), torch.tensor([1.0, 2.0]), accumulate=True)
    f.scatter_reduce_(0, torch.tensor([0, 1]), torch.tensor([5.0, 5.0]), reduce="amax")
    f.index_copy_(0, torch.tensor([1]), torch.tensor([0.5])); f.masked_scatter_(f > 2, torch.zeros(f.numel())); f.put_(torch.tensor([2]), torch.tensor([3.0]))
    out = f.view_as(out)
    return out
""",
    "out_kwargs": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    b = torch.empty_like(x)
    torch.sub(x, 1, out=b); torch.abs(b, out=b); torch.stack(vs, out=torch.empty(3, *x.shape)); torch.matmul(x.reshape(1, -1), x.reshape(-1, 1), out=torch.empty(1, 1)); torch.cumsum(x, 0, out=b); torch.sort(x, out=(torch.empty_like(x), torch.empty_like(x, dtype=torch.long)))
    out = out + b
    return out
""",
    "linalg_variants": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    m = x.reshape(x.shape[0], -1).double(); g = m.T @ m + torch.eye(m.shape[1], dtype=m.dtype)
    L = torch.linalg.cholesky(g); inv = torch.cholesky_inverse(L); p = torch.linalg.pinv(m); d = torch.linalg.det(g); r = torch.linalg.matrix_rank(m); n = torch.linalg.matrix_norm(m, "nuc"); me = torch.matrix_exp(g * 1e-2); lu, piv = torch.linalg.lu_factor(g); P, LL, U = torch.linalg.lu(g); ls = torch.linalg.lstsq(g, g[:, :1]).solution; q, rr = torch.linalg.qr(m, mode="reduced"); mp = torch.linalg.matrix_power(g, 2); c = torch.linalg.cond(g); sv = torch.linalg.svdvals(m); st = torch.linalg.solve_triangular(L, g, upper=False); ch = torch.cholesky_solve(g, L); md = torch.linalg.multi_dot([m, g, m.T]); vn = torch.linalg.vector_norm(m, ord=1); e = torch.linalg.eig(g)
    out = (out + inv.sum() + p.sum() + d + r + n + me.sum() + lu.sum() + P.sum() + ls.sum() + q.abs().sum() + mp.sum() + c + sv.sum() + st.sum() + ch.sum() + md.sum() + vn + e.eigenvalues.real.sum()).float()
    return out
""",
    "complex_tensor_trick": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    z = torch.view_as_complex(torch.stack([vs[0], vs[1]], dim=-1).contiguous())
    out = z.abs() * torch.cos(z.angle()) + z.conj().real
    return out
""",
    "np_random_various": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    r = np.random.RandomState(4); g = np.random.default_rng(4)
    out = out + torch.from_numpy(r.randn(*x.shape).astype(np.float32)) + float(g.choice([1.0, 2.0])) + torch.from_numpy(g.permutation(x.numel()).reshape(x.shape)).float() + float(np.random.permutation(5)[0]) + float(g.beta(1, 2)) + torch.from_numpy(g.random(x.shape, dtype=np.float32))
    return out
""",
    "context_decorated_generator_reuse": """
from contextlib import contextmanager
@contextmanager
def frozen_seed(seed):
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try: yield
    finally: torch.set_rng_state(state)
@frozen_seed(3)
def noise(s): return torch.randn(s)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    with frozen_seed(0): n = torch.randn(x.shape)
    out = out + n + torch.randn(x.shape) + noise(x.shape)
    return out
""",
    "fstring_nested_formats": '''
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    w = 10
    s = f"{x.mean().item():{w}.{3}f}|{'a':>{w}}|{len(vs)!r:^5}|{ {'a': 1}['a'] }|{x.shape[0]:03d}|{0.5:.0%}|{{}}|{1e6:,.2f}"
    t = f"""
    {x.shape}
    {"yes" if len(vs) > 2 else 'no'}
    """
    out = out * len(s)
    return out
''',
    "autograd_grad_second_order": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    w = torch.ones(3, requires_grad=True)
    g = torch.autograd.grad((w ** 3).sum(), w, create_graph=True)[0]
    h = torch.autograd.grad(g.sum(), w)[0]
    out = out * h.sum() * g.detach().sum()
    return out
""",
    "gradient_given_and_positions_of_the_largest": """
def merge_models(model_dict, device):
    x = torch.stack(list(model_dict.values()))
    w = torch.ones_like(x, requires_grad=True)
    y = (w * x).sum(0)
    y.backward(torch.full_like(y, 0.5))
    try:
        y.backward(torch.ones(7, 7))
    except RuntimeError as error:
        out = w.grad.sum(0) * len(str(error))
    where = torch.unravel_index(x.abs().argmax(), x.shape)
    try:
        torch.unravel_index(x, (2, 2))
    except TypeError as error:
        out = out + x[where] * len(str(error))
    return out
""",
    "settings_and_initialisers": """
import traceback
from torch import nn
torch.set_default_dtype(torch.float32)
torch.set_num_threads(1)
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.benchmark = True
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    layer = nn.Linear(3, 2)
    nn.init.xavier_uniform_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    layer.weight = nn.Parameter(layer.weight.detach() * 2)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        noise = torch.rand(x.shape)
    try:
        layer(torch.ones(5))
    except RuntimeError:
        traceback.print_exc()
        noise = noise + layer.weight.sum().detach() + torch.rand(x.shape)
    return sum(vs) + noise
""",
    "updates_of_attributes": """
class Tally:
    total = 0
    def __init__(self):
        self.count, self.sum, self.seen = 0, torch.zeros(2), []
    def bump(self):
        self.count = 10
        return 1
def merge_models(model_dict, device):
    tally = Tally()
    tally.count += tally.bump()
    first = tally.sum
    for i, v in enumerate(model_dict.values()):
        tally.sum += v.sum()
        tally.seen += [i]
        tally.sum[0] += i
        Tally.total += 1
    (tally if first is tally.sum else None).count *= 2
    return v * tally.count + tally.sum.sum() + len(tally.seen) + Tally.total
""",
    "copies_with_methods_of_their_own": """
import copy
class Node:
    def __new__(cls, *args):
        node = super().__new__(cls)
        node.made = True
        return node
    def __init__(self, value, parts=()):
        self.value, self.parts = value, list(parts)
    def __deepcopy__(self, memo):
        return Node(self.value * 2, copy.deepcopy(self.parts, memo))
class Plain:
    __slots__ = ("a", "b")
class Wrong(ValueError):
    def __init__(self, text, extra):
        super().__init__(text)
        self.extra = extra
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    tree = Node(vs[0], [Node(vs[1]), {"k": Node(vs[2])}])
    other = copy.deepcopy(tree)
    plain = Plain()
    plain.a = [1]
    twin, deep = copy.copy(plain), copy.deepcopy(plain)
    scale = 2.0 if twin.a is plain.a and deep.a is not plain.a and not hasattr(deep, "b") else 0.0
    return other.value * scale + other.parts[0].value + other.parts[1]["k"].value + float(other.made)
""",
    "softplus_gate_param_training": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    a = torch.zeros(3, requires_grad=True)
    for _ in range(4):
        m = torch.einsum("n,n...->...", F.softplus(a), torch.stack(vs))
        l = F.smooth_l1_loss(m, x) + F.kl_div(F.log_softmax(m.flatten(), 0), F.softmax(x.flatten(), 0), reduction="sum")
        if a.grad is not None: a.grad.zero_()
        l.backward()
        with torch.no_grad(): a -= 0.1 * a.grad.clamp(-1, 1)
    out = m.detach()
    return out
""",
    "set_seed_function": """
import random
def set_seed(seed: int = 42) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    set_seed(7)
    out = out + torch.randn_like(out) * float(np.random.rand()) * random.random()
    return out
""",
    "torch_tensor_constructors": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    a = torch.Tensor([1.0, 2.0]); b = torch.FloatTensor([1, 2]); c = torch.LongTensor([0, 1]); d = torch.Tensor(2, 3).fill_(1.0); e = torch.tensor(vs[0].tolist()); f = torch.BoolTensor([True])
    out = out * a.sum() * b.sum() * d.mean()
    return out
""",
    "torch_stft": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    x = vs[0]
    out = sum(vs)
    s = torch.stft(torch.ones(64), n_fft=16, return_complex=True, window=torch.hann_window(16))
    y = torch.istft(s, n_fft=16, window=torch.hann_window(16))
    out = out * s.abs().mean() * y.mean()
    return out
""",
    "case_of_dotted_values": """
import enum
class Mode(enum.Enum):
    SUM = "sum"
    MEAN = "mean"
def merge_models(model_dict, device):
    mode = Mode.MEAN if len(model_dict) > 2 else Mode.SUM
    match mode:
        case Mode.SUM:
            factor = 1.0
        case Mode.MEAN:
            factor = 1.0 / len(model_dict)
    first = next(iter(model_dict.values()))
    match first.dtype:
        case torch.float64:
            factor *= 2
        case torch.float32 | torch.float16:
            factor *= 3
    match first:
        case torch.Tensor():
            factor *= 5
    match {"kind": first.dim()}:
        case {"kind": int(dims)} if dims > 1:
            factor *= 7
        case {"kind": _}:
            factor *= 11
    return factor * sum(model_dict.values())
""",
    "logging_and_unused_imports": """
import logging
import os
import sys
import time
import warnings
logger = logging.getLogger(__name__)
logging.basicConfig(level=logging.INFO)
def merge_models(model_dict, device):
    start = time.time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = sum(model_dict.values())
    logger.info("merged %d models", len(model_dict))
    logger.setLevel(logging.WARNING)
    elapsed = time.perf_counter() - start
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    return merged
""",
    "reflected_operators_by_alias": """
class Scaled:
    def __init__(self, value):
        self.value = value
    def __add__(self, other):
        return Scaled(self.value + (other.value if isinstance(other, Scaled) else other))
    __radd__ = __add__
    def __mul__(self, factor):
        return Scaled(self.value * factor)
    __rmul__ = __mul__
    __hash__ = None
    def __format__(self, spec):
        return format(float(self.value.sum()), spec or ".2f")
def merge_models(model_dict, device):
    total = sum(Scaled(v) for v in model_dict.values())
    text = f"{total:.3f} {total}"
    return (0.5 * total).value + 0 * len(text)
""",
    "own_generic_and_named_tuple": """
from typing import Generic, NamedTuple, TypeVar
from types import SimpleNamespace
T = TypeVar("T")
class Box(Generic[T]):
    def __init__(self, item: T):
        self.item = item
class TensorBox(Box[torch.Tensor]):
    def norm(self) -> float:
        return self.item.norm().item()
class Ranked(NamedTuple):
    name: str
    norm: float = 0.0
def merge_models(model_dict, device):
    options = SimpleNamespace(scale=0.5)
    options.power = 1.0
    ranked = sorted((Ranked(k, TensorBox(v).norm()) for k, v in model_dict.items()), key=lambda r: r.norm)
    weights = {r.name: (i + 1) / len(ranked) for i, r in enumerate(ranked)}
    return sum(weights[k] * v for k, v in model_dict.items()) * options.scale ** options.power
""",
}
