"""torch and numpy as merge programs use them, and the small change of the standard library."""

from __future__ import annotations

PROGRAMS: dict[str, str] = {
    "unpacking": """
def merge_models(model_dict, device):
    first, *rest = model_dict.values()
    (a, b), [c, d] = (1, 2), [3, 4]
    x = y = 0.5
    head, tail = rest[0], rest[1:]
    merged = {**{"a": a}, "b": b}
    args = [first, head]
    for i, (k, (u, v)) in enumerate(zip(model_dict, zip(args, args))):
        x += 0.1 * i
    first, head = head, first
    return x * first + y * head + sum(tail) * merged["b"] / (c + d)
""",
    "walrus_and_ternary": """
def merge_models(model_dict, device):
    if (n := len(model_dict)) > 2:
        scale = 1 / n
    else:
        scale = 0.5
    return scale * sum(v if (m := v.abs().mean()) > 0 else -v for v in model_dict.values())
""",
    "match_statement": """
def merge_models(model_dict, device):
    total = sum(model_dict.values())
    match list(total.shape):
        case [rows]:
            return total / 2
        case [rows, columns] if rows > columns:
            return total / 3
        case [_, *others]:
            return total / 4
    match {"kind": "x", "more": 1}:
        case {"kind": str() as kind, **rest}:
            return total
""",
    "with_no_grad": """
def merge_models(model_dict, device):
    with torch.no_grad():
        out = torch.stack(tuple(model_dict.values())).mean(dim=0)
    with torch.inference_mode():
        extra = out * 2
    return out.clone() + extra
""",
    "decorated_no_grad": """
@torch.no_grad()
def merge_models(model_dict, device):
    return torch.stack(list(model_dict.values()), dim=0).median(dim=0).values
""",
    "gradient_descent_on_weights": """
def merge_models(model_dict, device):
    stack = torch.stack([v.flatten() for v in model_dict.values()])
    target = stack.mean(0)
    w = torch.ones(stack.shape[0], requires_grad=True)
    for _ in range(3):
        loss = F.mse_loss((w[:, None] * stack).sum(0), target)
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
            w.grad.zero_()
    w.grad = None
    (g,) = torch.autograd.grad((w**2).sum(), [w])
    shape = next(iter(model_dict.values())).shape
    return (w.detach()[:, None] * stack).sum(0).view(shape) + 0 * g.sum()
""",
    "returns_requires_grad": """
def merge_models(model_dict, device):
    w = torch.nn.Parameter(torch.tensor(0.5))
    return w * sum(model_dict.values())
""",
    "double_precision": """
def merge_models(model_dict, device):
    acc = torch.zeros_like(next(iter(model_dict.values())), dtype=torch.float64)
    for v in model_dict.values():
        acc += v.double()
    return acc / len(model_dict)
""",
    "half_precision": """
def merge_models(model_dict, device):
    vs = [v.to(torch.bfloat16) for v in model_dict.values()]
    out = sum(vs)
    if out.ndim == 2:
        out = out + (out @ out.T @ out) * 1e-3
    return out.half() if False else out
""",
    "non_contiguous_result": """
def merge_models(model_dict, device):
    total = sum(model_dict.values())
    return total.t().contiguous().t() if total.dim() == 2 else total.expand_as(total)
""",
    "einsum_and_matmul": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    if vs[0].dim() == 1:
        return torch.einsum("i,i->i", vs[0], vs[1])
    left = torch.einsum("ij,kj->ik", vs[0], vs[1])
    return (left @ vs[2]) / left.norm() + torch.matmul(left.T, vs[0]) * 0.1
""",
    "shape_tools": """
def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    n, *rest = stack.shape
    flat = stack.reshape(n, -1)
    flat = torch.cat([flat, flat.flip(0)], dim=0).chunk(2)[0]
    u = flat.unsqueeze(0).expand(2, -1, -1).permute(1, 0, 2).sum(dim=1).squeeze()
    parts = torch.split(u, 1, dim=0)
    joined = torch.vstack(parts).transpose(0, 1).contiguous().T
    return joined.view(n, *rest).roll(1, dims=0).mean(0)
""",
    "masks_and_where": """
def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    positive = (stack > 0).sum(0)
    negative = (stack < 0).sum(0)
    majority = torch.where(positive >= negative, torch.ones_like(stack[0]), -torch.ones_like(stack[0]))
    keep = torch.logical_and(torch.sign(stack) == majority, ~torch.isnan(stack))
    kept = torch.where(keep, stack, torch.zeros_like(stack))
    return kept.sum(0) / keep.sum(0).clamp_min(1)
""",
    "math_and_statistics": """
import statistics
from math import sqrt, pi
def merge_models(model_dict, device):
    norms = [float(v.norm()) for v in model_dict.values()]
    spread = statistics.pstdev(norms) + statistics.median(norms)
    weights = [math.exp(-n / (spread + 1e-6)) * sqrt(2) / pi for n in norms]
    total = math.fsum(weights)
    return sum((w / total) * v for w, v in zip(weights, model_dict.values()))
""",
    "callable_class": """
class Merger:
    __slots__ = ("scale", "seen")
    def __init__(self, scale):
        self.scale, self.seen = scale, []
    def __call__(self, tensors):
        self.seen.append(len(tensors))
        return self.scale * sum(tensors)
    def __len__(self):
        return len(self.seen)
    def __getitem__(self, i):
        return self.seen[i]
    @staticmethod
    def norm(x):
        return x.norm()
    @classmethod
    def default(cls):
        return cls(0.5)
    @property
    def last(self):
        return self.seen[-1]
    @last.setter
    def last(self, value):
        self.seen[-1] = value
def merge_models(model_dict, device):
    merger = Merger.default()
    out = merger(list(model_dict.values()))
    merger.last = 3
    merger.last += 1
    setattr(merger, "scale", 2.0)
    return out * getattr(merger, "scale") * merger[0] / len(merger) + 0 * Merger.norm(out) + hasattr(merger, "nothing")
""",
    "enum_and_abc": """
from enum import Enum
from abc import ABC, abstractmethod
class Mode(Enum):
    MEAN = "mean"
    SUM = "sum"
class Strategy(ABC):
    @abstractmethod
    def run(self, xs): ...
class Mean(Strategy):
    def run(self, xs):
        return sum(xs) / len(xs)
def merge_models(model_dict, device):
    mode = Mode.MEAN if Mode("mean") is Mode.MEAN else Mode.SUM
    return Mean().run(list(model_dict.values())) * (1.0 if mode.value == "mean" else 2.0)
""",
    "custom_exception": """
class MergeProblem(ValueError):
    def __init__(self, message, code=0):
        super().__init__(message)
        self.code = code
def merge_models(model_dict, device):
    try:
        raise MergeProblem("bad", code=3)
    except MergeProblem as problem:
        return problem.code * sum(model_dict.values()) / len(problem.args)
""",
    "type_checks": """
def merge_models(model_dict, device):
    assert isinstance(model_dict, dict) and all(isinstance(v, torch.Tensor) for v in model_dict.values())
    first = list(model_dict.values())[0]
    if not torch.is_tensor(first) or first.dtype != torch.float32 or not first.is_floating_point():
        raise TypeError(f"unexpected {type(first).__name__}")
    if type(first) is torch.Tensor and first.device.type == "cpu" and first.size(0) == first.shape[0]:
        return first.to(device=device, dtype=torch.float32) * torch.finfo(first.dtype).eps * 1e6
    return first
""",
    "cuda_checks": """
def merge_models(model_dict, device):
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return sum(v.to(device) for v in model_dict.values())
""",
    "string_work": """
def merge_models(model_dict, device):
    names = sorted(name.lower().strip().replace("-", "_") for name in model_dict)
    label = ",".join(names).split(",")[0].upper()
    weight = len(label) + (1 if label.startswith("C") else 0) + ord(label[0]) / 100
    return weight * 0.1 * sum(model_dict.values())
""",
    "main_guard": """
def merge_models(model_dict, device):
    return sum(model_dict.values())
if __name__ == "__main__":
    print(merge_models({"a": torch.ones(2)}, "cpu"))
""",
    "fourier": """
def merge_models(model_dict, device):
    total = sum(model_dict.values())
    spectrum = torch.fft.fft(total, dim=-1)
    spectrum[..., total.shape[-1] // 2 :] *= 0.5
    return torch.fft.ifft(spectrum, dim=-1).real
""",
    "gram_schmidt": """
def merge_models(model_dict, device):
    basis = []
    for v in model_dict.values():
        w = v.flatten().clone()
        for b in basis:
            w -= torch.dot(w, b) * b
        n = w.norm()
        if n > 1e-6:
            basis.append(w / n)
    out = sum(basis)
    return out.reshape(next(iter(model_dict.values())).shape)
""",
    "sparsify_by_rows": """
def merge_models(model_dict, device):
    out = torch.zeros_like(next(iter(model_dict.values())))
    for v in model_dict.values():
        if v.dim() > 1:
            strength = v.norm(dim=1, keepdim=True)
            out += v * (strength > strength.median()).to(v.dtype)
        else:
            out.add_(v)
    return out
""",
    "cumulative_and_sort": """
def merge_models(model_dict, device):
    stack = torch.stack([*model_dict.values()])
    ordered, positions = torch.sort(stack, dim=0)
    middle = ordered[1:-1].mean(0) if stack.size(0) > 2 else stack.mean(0)
    ranks = positions.argsort(0).float()
    share = torch.cumsum(ranks, dim=0)[-1] / ranks.sum()
    return middle * (1 + share.mean()) + torch.logsumexp(stack, 0) * 0.01
""",
    "warnings_and_gc": """
import gc
import warnings
warnings.filterwarnings("ignore")
def merge_models(model_dict, device):
    total = sum(model_dict.values())
    gc.collect()
    warnings.warn("nobody hears this")
    return total
""",
    "future_annotations": """
def merge_models(model_dict: dict[str, torch.Tensor], device: torch.device | str) -> torch.Tensor | None:
    return sum(model_dict.values())
""",
    "optional_modules": """
class Gate:
    def __init__(self):
        self.soft = torch.nn.Softmax(dim=0)
        self.cos = torch.nn.CosineSimilarity(dim=0)
    def __call__(self, vs):
        sims = torch.stack([self.cos(v.flatten(), vs[0].flatten()) for v in vs])
        return self.soft(sims)
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    return sum(w * v for w, v in zip(Gate()(vs), vs))
""",
    "vmapped": """
def merge_models(model_dict, device):
    stack = torch.stack([v.flatten() for v in model_dict.values()])
    norms = torch.vmap(lambda x: x.pow(2).sum().sqrt())(stack)
    w = norms / norms.sum()
    return (w[:, None] * stack).sum(0).view_as(next(iter(model_dict.values())))
""",
    "contextmanager": """
from contextlib import contextmanager, nullcontext
@contextmanager
def stage(name):
    state = {"name": name}
    try:
        yield state
    finally:
        state["done"] = True
def merge_models(model_dict, device):
    with stage("sum") as s, nullcontext():
        total = sum(model_dict.values())
    return total * len(s)
""",
    "recursion": """
def fold(tensors):
    if len(tensors) == 1:
        return tensors[0]
    half = len(tensors) // 2
    return 0.5 * fold(tensors[:half]) + 0.5 * fold(tensors[half:])
def merge_models(model_dict, device):
    return fold(list(model_dict.values()))
""",
    "many_builtins": """
def merge_models(model_dict, device):
    vs = list(map(lambda v: v, filter(lambda v: v is not None, model_dict.values())))
    n = max(min(len(vs), 10), abs(-1))
    flags = any(v.sum() > 0 for v in vs) or all([True]) and bool(n)
    total = sum([divmod(7, 3)[0], round(1.234, 1), pow(2, 3), int("4"), float("0.5"), complex(1).real, hash(3)])
    text = repr(n) + str(n) + chr(65) + hex(n) + format(0.5, ".2f") + bin_text(n)
    rows = list(reversed(range(1000, 5000, 7)))[::2]
    key = frozenset([1, 2]) | set((3,))
    grid = tuple(slice(None) for _ in range(vs[0].dim()))
    return vs[0][grid] * total / len(rows) + len(text) * len(key) * 0.0 + (0.0 if callable(len) and flags else 1.0)
def bin_text(n):
    return "".join("1" if n >> i & 1 else "0" for i in range(4))
""",
}
