"""Ways of organising a program."""

from __future__ import annotations

PROGRAMS: dict[str, str] = {
    "base_aware_relative_clipping": """
def merge_models(model_dict, device, *, base=None, ratio=0.1):
    merged = sum(model_dict.values()) / len(model_dict)
    if base is None:
        return merged
    limit = ratio * base.abs().clamp(min=1e-3)
    return torch.clamp(merged, min=-limit, max=limit)
""",
    "namedtuple_class_and_typed_tuple": """
from typing import NamedTuple, Sequence
class Stat(NamedTuple):
    name: str
    norm: float
    sparsity: float = 0.0
    @property
    def score(self) -> float:
        return self.norm * (1 - self.sparsity)
    def describe(self) -> str:
        return f"{self.name!r:>10}|{self.norm:+.2e}|{self.sparsity:6.1%}"
def stats(items) -> Sequence[Stat]:
    return [Stat(k, v.norm().item(), (v.abs() < 0.1).float().mean().item()) for k, v in items]
def merge_models(model_dict, device):
    table = stats(model_dict.items())
    for row in table:
        print(row.describe())
    best = max(table, key=lambda s: s.score)
    name, norm, sparsity = best
    total = sum(s.score for s in table)
    first = table[0]._replace(norm=1.0)
    return sum(s.score / total * model_dict[s.name] for s in table) * first.norm + 0 * best.norm
""",
    "str_enum_and_auto_flags": """
from enum import Enum, IntEnum, Flag, auto, unique
@unique
class Method(str, Enum):
    LINEAR = "linear"
    TIES = "ties"
    @classmethod
    def parse(cls, text: str) -> "Method":
        return cls(text.lower())
    def __str__(self) -> str:
        return self.value
class Level(IntEnum):
    LOW = 1
    HIGH = 2
class Opt(Flag):
    SCALE = auto()
    CLIP = auto()
def merge_models(model_dict, device):
    method = Method.parse("TIES")
    opts = Opt.SCALE | Opt.CLIP
    out = sum(model_dict.values())
    if method == Method.TIES and method.name == "TIES" and str(method) == "ties":
        out = out * Level.HIGH / 3
    if opts & Opt.CLIP:
        out = out.clamp(-1, 1)
    return out * len(list(Method)) / len([m for m in Method])
""",
    "protocol_generic_typevar": """
from typing import Protocol, TypeVar, Generic, Iterable, Callable
T = TypeVar("T")
class Weighting(Protocol):
    def __call__(self, tensors: Iterable[torch.Tensor]) -> torch.Tensor: ...
class Box(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value
    def map(self, fn: Callable[[T], T]) -> "Box[T]":
        return Box(fn(self.value))
class Uniform:
    def __call__(self, tensors):
        tensors = list(tensors)
        return torch.full((len(tensors),), 1 / len(tensors))
def combine(tensors, how: Weighting) -> torch.Tensor:
    return torch.einsum("i,i...->...", how(tensors), torch.stack(tensors))
def merge_models(model_dict: dict[str, torch.Tensor], device) -> torch.Tensor:
    box: Box[torch.Tensor] = Box[torch.Tensor](combine(list(model_dict.values()), Uniform()))
    return box.map(lambda t: t * 1.1).map(torch.tanh).value
""",
    "abc_strategy_registry": """
from abc import ABC, abstractmethod
from typing import Dict, Type
class MergeStrategy(ABC):
    registry: Dict[str, Type["MergeStrategy"]] = {}
    key: str = ""
    @classmethod
    def register(cls, sub):
        MergeStrategy.registry[sub.key] = sub
        return sub
    @property
    @abstractmethod
    def power(self) -> float:
        ...
    @abstractmethod
    def merge(self, tensors): raise NotImplementedError
@MergeStrategy.register
class PowerMean(MergeStrategy):
    key = "power"
    power = 3.0
    def merge(self, tensors):
        s = torch.stack(tensors)
        return (s.abs().pow(self.power) * s.sign()).mean(0).abs().pow(1 / self.power)
def merge_models(model_dict, device):
    strategy = MergeStrategy.registry.get("power")()
    assert isinstance(strategy, MergeStrategy) and issubclass(PowerMean, MergeStrategy)
    return strategy.merge(list(model_dict.values()))
""",
    "context_manager_class_with_exit": """
class Timer:
    def __init__(self, label):
        self.label = label
        self.steps = 0
    def __enter__(self):
        self.steps = 1
        return self
    def __exit__(self, exc_type, exc_val, exc_tb):
        self.steps += 1
        return exc_type is not None and issubclass(exc_type, ZeroDivisionError)
def merge_models(model_dict, device):
    with Timer("a") as t, Timer("b") as u:
        result = sum(model_dict.values())
    with Timer("c"):
        1 / 0
    return result / (t.steps + u.steps)
""",
    "decorator_with_arguments_and_attributes": """
import functools
from typing import Callable, Any
def scaled(factor: float = 1.0) -> Callable[..., Any]:
    def decorator(func):
        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any):
            wrapper.calls += 1
            return factor * func(*args, **kwargs)
        wrapper.calls = 0
        return wrapper
    return decorator
@scaled(factor=0.7)
def average(*tensors, power=1):
    return torch.stack(tensors).pow(power).mean(dim=0)
def merge_models(model_dict, device):
    out = average(*model_dict.values(), power=1)
    return out if average.calls == 1 and average.__name__ == "average" else out * 2
""",
    "cached_cosines_with_lru_cache_method_keys": """
from functools import lru_cache, partial, reduce
def merge_models(model_dict, device):
    @lru_cache(maxsize=128)
    def cosine(a: str, b: str) -> float:
        return F.cosine_similarity(model_dict[a].flatten(), model_dict[b].flatten(), dim=0).item()
    keys = tuple(model_dict)
    mean_sim = {a: sum(cosine(*sorted((a, b))) for b in keys if b is not a) / (len(keys) - 1) for a in keys}
    info = cosine.cache_info()
    hits = info.hits
    scale = reduce(lambda acc, s: acc * (1 + abs(s)), mean_sim.values(), 1.0)
    cosine.cache_clear()
    return partial(torch.mul, other=1.0 / scale)(sum((1 + s) * model_dict[k] for k, s in mean_sim.items())) + 0 * hits
""",
    "counter_defaultdict_deque_moving_window": """
from collections import Counter, defaultdict, deque, OrderedDict
def merge_models(model_dict, device):
    window: deque = deque(maxlen=2)
    sums = defaultdict(float)
    ordered = OrderedDict(sorted(model_dict.items(), key=lambda kv: kv[1].std().item(), reverse=True))
    for name, t in ordered.items():
        window.append(t)
        sums[name] += (sum(window) / len(window)).abs().mean().item()
    argmaxes = Counter(int(t.abs().argmax()) % 3 for t in ordered.values())
    (winner, times), = argmaxes.most_common(1)
    z = sum(sums.values())
    ordered.popitem(last=True) if len(ordered) > 5 else None
    return sum(sums[n] / z * t for n, t in ordered.items()) * (1 + 0.01 * times)
""",
    "heap_greedy_and_bisect": """
import heapq
from bisect import bisect_left, insort
def merge_models(model_dict, device):
    heap = [(-v.norm().item(), i, k) for i, (k, v) in enumerate(model_dict.items())]
    heapq.heapify(heap)
    ladder = []
    out = torch.zeros_like(model_dict[heap[0][-1]])
    rank = 0
    while heap:
        neg, _, key = heapq.heappop(heap)
        insort(ladder, -neg)
        rank += 1
        out += model_dict[key] * (bisect_left(ladder, -neg) + 1) / rank
    return out / sum(heapq.nlargest(2, range(rank + 1)))
""",
    "generator_pipeline_with_send_and_yield_from": """
from typing import Generator, Iterator
def running_mean(n: int) -> Generator[torch.Tensor, torch.Tensor, str]:
    mean, count = None, 0
    while count < n:
        x = yield mean
        count += 1
        mean = x.clone() if mean is None else mean + (x - mean) / count
    yield mean
    return "done"
def flatten(groups) -> Iterator[torch.Tensor]:
    for g in groups:
        if isinstance(g, (list, tuple)):
            yield from flatten(g)
        else:
            yield g
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    gen = running_mean(len(vs))
    next(gen)
    result = None
    for x in flatten([vs[0], (vs[1], [*vs[2:]])]):
        result = gen.send(x)
    gen.close()
    return result
""",
    "exception_chaining_and_custom_hierarchy": '''
class MergeError(Exception):
    """Base error."""
class ShapeMismatchError(MergeError, ValueError):
    def __init__(self, expected, got, *args):
        self.expected, self.got = expected, got
        super().__init__(f"expected {expected}, got {got}", *args)
    def __str__(self):
        return "ShapeMismatch: " + super().__str__()
def validate(model_dict):
    shapes = {tuple(v.shape) for v in model_dict.values()}
    if len(shapes) != 1:
        raise ShapeMismatchError(*sorted(shapes)[:2])
    return shapes.pop()
def merge_models(model_dict, device):
    scale = 0.0
    try:
        try:
            validate({"a": torch.zeros(2), "b": torch.zeros(3)})
        except ValueError as e:
            raise MergeError("invalid input") from e
        else:
            scale = -1.0
        finally:
            scale += 0.25
    except MergeError as err:
        scale += 0.25 + 0.0 * len(str(err))
    if not model_dict:
        raise ValueError("model_dict is empty!")
    shape = validate(model_dict)
    return scale * sum(model_dict.values()).reshape(shape)
''',
    "demo_block_with_random_models": """
def merge_models(model_dict, device="cpu"):
    weights = np.ones(len(model_dict)) / len(model_dict)
    return sum(float(w) * v for w, v in zip(weights, model_dict.values()))
def main():
    torch.manual_seed(0)
    models = {f"model_{i}": torch.randn(4, 4) for i in range(3)}
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    merged = merge_models(models, device)
    print("Merged shape:", merged.shape, "| mean:", f"{merged.mean():.4f}")
    print(merged.tolist(), file=None)
if __name__ == "__main__":
    main()
""",
    "postponed_annotations_pep604": """
from typing import TypeAlias, Literal, Final, Optional, Union, Any, Annotated
State: TypeAlias = "dict[str, torch.Tensor]"
ALPHA: Final[float] = 0.75
Mode = Literal["sum", "mean"]
def reduce_stack(stack: torch.Tensor, mode: Mode = "mean", dim: int | None = 0, keep: Optional[bool] = None, *, out: Union[torch.Tensor, None] = None) -> torch.Tensor | None:
    if mode == "sum":
        return stack.sum(dim=dim)
    return stack.mean(dim=dim, keepdim=bool(keep))
def merge_models(model_dict: State, device: Annotated[Any, "where"]) -> torch.Tensor:
    ratio: float
    ratio = ALPHA
    return ratio * reduce_stack(torch.stack(list(model_dict.values())))
""",
    "unicode_identifiers_and_odd_strings": r"""
def merge_models(model_dict, device):
    '''Fusionne les vecteurs de tâche.

    θ* = θ₀ + Σᵢ λᵢ·τᵢ   \t \\alpha {not a field} %s 100% "quoted" 'single' ✓ 合并
    '''
    λ, Σ = 0.5, None
    for τ in model_dict.values():
        Σ = τ if Σ is None else Σ + τ
    α = {"größe": 1.0, "合并": λ}
    label = 'It\'s "ok" — {}%'.format(α["合并"]) + r"\d+\n" + b"bytes".decode() if False else "x" "y" f"{λ!r}"
    return α["合并"] * Σ
""",
    "operator_overloading_vector_class": """
class TaskVector:
    __slots__ = ("data_",)
    def __init__(self, tensor): self.data_ = tensor
    def __add__(self, other): return TaskVector(self.data_ + (other.data_ if isinstance(other, TaskVector) else other))
    def __radd__(self, other): return self + other
    def __sub__(self, other): return self + (-other)
    def __neg__(self): return TaskVector(-self.data_)
    def __mul__(self, k): return TaskVector(self.data_ * k)
    def __rmul__(self, k): return self * k
    def __truediv__(self, k): return TaskVector(self.data_ / k)
    def __matmul__(self, other): return (self.data_ * other.data_).sum()
    def __getitem__(self, idx): return self.data_[idx]
    def __iter__(self): return iter(self.data_)
    def __len__(self): return len(self.data_)
    def __abs__(self): return self.data_.norm()
    def __eq__(self, other): return torch.equal(self.data_, other.data_)
    def __hash__(self): return 7
    def __bool__(self): return bool(self.data_.any())
    def __repr__(self): return f"TaskVector(norm={abs(self):.3f})"
    def __contains__(self, x): return (self.data_ == x).any().item()
def merge_models(model_dict, device):
    tvs = [TaskVector(v) for v in model_dict.values()]
    total = sum(tvs, TaskVector(torch.zeros_like(tvs[0].data_)))
    a, b = tvs[0], tvs[1]
    cos = (a @ b) / (abs(a) * abs(b))
    print(repr(total), a != b, 0.0 in a)
    return (total / len(tvs) - 0.1 * cos * a).data_
""",
    "nn_free_functional_layer_norm_and_unfold": """
def merge_models(model_dict, device):
    m = torch.stack(list(model_dict.values())).mean(0)
    normed = F.layer_norm(m, m.shape[-1:])
    windows = F.pad(m, (1, 1)).unfold(-1, 3, 1)
    smooth = windows.mean(-1)
    return 0.9 * smooth + 0.01 * normed * m.std()
""",
    "out_arguments_and_inplace_buffers": """
def merge_models(model_dict, device):
    it = iter(model_dict.values())
    buf = next(it).clone()
    tmp = torch.empty_like(buf)
    for t in it:
        torch.mul(t, 0.5, out=tmp)
        torch.add(buf, tmp, alpha=0.8, out=buf)
    torch.clamp(buf, -3, 3, out=buf)
    np_buf = buf.numpy()
    np.multiply(np_buf, 0.9, out=np_buf)
    np_buf[np_buf < -2.5] = -2.5
    return buf
""",
    "numpy_generator_and_masks": """
def merge_models(model_dict, device):
    rng = np.random.default_rng(seed=2024)
    arrays = {k: v.detach().cpu().numpy().astype(np.float64) for k, v in model_dict.items()}
    out = np.zeros_like(next(iter(arrays.values())))
    for k, a in arrays.items():
        keep = rng.random(a.shape) >= 0.25
        out += np.where(keep, a / 0.75, 0)
    order = rng.permutation(out.size)
    out.reshape(-1)[order[:1]] = 0.0
    choice = rng.choice(list(arrays), p=[0.2, 0.3, 0.5])
    out = out / len(arrays) + 0.01 * arrays[str(choice)]
    return torch.as_tensor(out, dtype=torch.float32, device=device)
""",
    "dtype_round_trip_and_stochastic_checks": """
def merge_models(model_dict, device):
    dtype = next(iter(model_dict.values())).dtype
    compute = torch.float64 if dtype in (torch.float32, torch.float64) else torch.float32
    acc = None
    for v in model_dict.values():
        v16 = v.to(dtype=torch.bfloat16).to(torch.float16).half().float()
        err = (v - v16).abs().max()
        v = v.to(compute)
        if torch.isnan(err).any() or torch.isinf(err).any() or not torch.isfinite(err).all():
            v = torch.nan_to_num(v, nan=0.0, posinf=0.0, neginf=0.0)
        acc = v if acc is None else torch.add(acc, v)
    return acc.div_(len(model_dict)).to(dtype).contiguous()
""",
    "scatter_gather_index_add_tools": """
def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values())).flatten(1)
    winner = stack.abs().argmax(dim=0)
    one_hot = torch.zeros_like(stack).scatter_(0, winner.unsqueeze(0), 1.0)
    onehot2 = F.one_hot(winner, num_classes=stack.shape[0]).T.to(stack.dtype)
    picked = (stack * one_hot * onehot2).sum(0)
    sums = torch.zeros(stack.shape[0]).index_add_(0, winner, picked.abs())
    totals = torch.zeros(stack.shape[0]).scatter_add(0, winner, torch.ones_like(picked))
    gains = (sums / totals.clamp(min=1)).index_select(0, winner)
    taken = torch.take_along_dim(stack, winner[None], dim=0)[0]
    return (0.5 * picked + 0.5 * taken).div(1 + gains).reshape(next(iter(model_dict.values())).shape)
""",
    "args_kwargs_forwarding_entry": """
def _core(tensors, *extra, scale=1.0, **options):
    bias = options.get("bias", 0.0) + sum(extra)
    return scale * torch.stack(tensors).mean(0) + bias
def merge_models(model_dict, device, *args, **kwargs):
    kwargs.setdefault("scale", 0.8)
    options = dict(kwargs, bias=0.001)
    return _core(list(model_dict.values()), *args, **options)
""",
}
