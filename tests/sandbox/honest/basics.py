"""The language as merge programs use it: assignments, classes, comprehensions, exceptions, generators."""

from __future__ import annotations

PROGRAMS: dict[str, str] = {
    "weighted_sum": """
def merge_models(model_dict, device):
    # Combine the task vectors with fixed weights.
    weights = [0.5, 0.3, 0.2]
    merged = torch.zeros_like(next(iter(model_dict.values())))
    for weight, (model_name, tensor) in zip(weights, model_dict.items()):
        merged += weight * tensor.to(device)
    return merged
""",
    "annotated_assignment": """
from typing import Dict, List, Optional, Tuple
def merge_models(model_dict: Dict[str, torch.Tensor], device: torch.device) -> torch.Tensor:
    total: torch.Tensor = torch.zeros_like(list(model_dict.values())[0])
    count: int = 0
    norms: List[float] = []
    best: Optional[Tuple[str, float]] = None
    for key, value in model_dict.items():
        total = total + value
        count += 1
        norms.append(value.norm().item())
        if best is None or norms[-1] > best[1]:
            best = (key, norms[-1])
    return total / count
""",
    "augmented_items": """
def merge_models(model_dict, device):
    out = torch.zeros_like(model_dict["math"])
    for i, v in enumerate(model_dict.values()):
        out[0] += v[0]
        out[1:] -= 0.5 * v[1:]
        out[..., 0] *= 1.5
    table = {"a": 1}
    table["a"] += 2
    row = [1, 2, 3]
    row[0] **= 3
    return out * table["a"] * row[0]
""",
    "nonlocal_counter": """
def merge_models(model_dict, device):
    seen = 0
    def bump(v):
        nonlocal seen
        seen += 1
        return v / seen
    return sum(bump(v) for v in model_dict.values())
""",
    "global_constant": """
SCALE = 0.25
CALLS = 0
def merge_models(model_dict, device):
    global CALLS
    CALLS += 1
    return SCALE * CALLS * torch.stack(list(model_dict.values())).sum(dim=0)
""",
    "classes_with_super": """
class Base:
    scale = 1.0
    def __init__(self, weight):
        self.weight = weight
        self._hidden = 0.5
    def apply(self, tensor):
        return tensor * self.weight
class Child(Base):
    def __init__(self, weight, shift=0.1):
        super().__init__(weight)
        self.shift = shift
        self.shift += 0.1
    def apply(self, tensor):
        return super().apply(tensor) + self.shift * self._hidden
    def __repr__(self):
        return f"Child({self.weight})"
def merge_models(model_dict, device):
    layers = [Child(1.0 / (i + 1)) for i in range(len(model_dict))]
    Base.scale = 2.0
    return sum(layer.apply(v) for layer, v in zip(layers, model_dict.values())) * layers[0].scale
""",
    "dataclass_config": """
from dataclasses import dataclass, field
@dataclass
class Config:
    scale: float = 0.4
    names: list = field(default_factory=list)
    @property
    def doubled(self):
        return self.scale * 2
@dataclass(frozen=True)
class Pair:
    a: float
    b: float = 2.0
def merge_models(model_dict, device):
    config = Config(scale=0.3)
    config.names.extend(model_dict.keys())
    pair = Pair(1.0)
    return config.doubled * pair.b * sum(model_dict[n] for n in config.names)
""",
    "lambdas_and_sorting": """
def merge_models(model_dict, device):
    score = lambda kv: -kv[1].abs().mean().item()
    ranked = sorted(model_dict.items(), key=score)
    weights = [1.0, 0.5, 0.25]
    return sum(w * v for w, (_, v) in zip(weights, ranked))
""",
    "comprehensions": """
def merge_models(model_dict, device):
    norms = {k: v.norm() for k, v in model_dict.items()}
    total = sum(n for n in norms.values())
    kept = {k for k in norms if norms[k] > 0}
    pairs = [(a, b) for a in kept for b in kept if a < b]
    weights = [norms[k] / total for k in model_dict]
    return sum(w * v for w, v in zip(weights, model_dict.values())) * (1 + 0.01 * len(pairs))
""",
    "f_strings_and_print": """
def merge_models(model_dict, device):
    for name, v in model_dict.items():
        print(f"{name}: {v.norm().item():.4f} shape={tuple(v.shape)}", end="")
        print("{} has {:d} values, {0!r}".format(name, v.numel()) if False else "{0}: {1:>8.3f}".format(name, 1.0))
        print("%s %d" % (name, v.numel()))
    print(v)
    return v * 0.5
""",
    "try_except_finally": """
def merge_models(model_dict, device):
    done = 0
    try:
        w = 1 / 0
    except ZeroDivisionError as error:
        w = 0.5
    else:
        w = 2.0
    finally:
        done += 1
    try:
        raise ValueError("expected") from None
    except (ValueError, RuntimeError) as e:
        message = str(e) + type(e).__name__
    try:
        torch.linalg.cholesky(-torch.eye(3))
    except RuntimeError:
        w += 0.1
    assert done == 1, "never"
    return w * len(message) * sum(model_dict.values())
""",
    "functional": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    flat = [v.reshape(1, -1) for v in vs]
    sims = torch.stack([F.cosine_similarity(flat[0], f, dim=1) for f in flat]).squeeze(-1)
    weights = F.softmax(sims * 2.0, dim=0)
    gate = F.relu(weights) + F.gelu(weights) * 0 + F.normalize(weights, dim=0) * 0
    return sum(w * v for w, v in zip(gate, vs))
""",
    "linalg_svd": """
def merge_models(model_dict, device):
    total = sum(model_dict.values())
    if total.dim() < 2:
        return total / len(model_dict)
    U, S, Vh = torch.linalg.svd(total, full_matrices=False)
    rank = max(1, int(S.numel() * 0.5))
    S[rank:] = 0.0
    return U @ torch.diag(S) @ Vh
""",
    "linalg_more": """
from torch import linalg as LA
def merge_models(model_dict, device):
    total = sum(model_dict.values())
    if total.ndim != 2:
        return total
    gram = total.T @ total + torch.eye(total.shape[1])
    values, vectors = torch.linalg.eigh(gram)
    q, r = LA.qr(gram)
    inverse = LA.solve(gram, torch.eye(gram.shape[0]))
    result = torch.linalg.svd(total)
    return total @ (inverse @ gram) + 0 * result.S.sum() + LA.norm(q) * 0 + values[0] * 0
""",
    "numpy_round_trip": """
def merge_models(model_dict, device):
    stack = np.stack([v.cpu().numpy() for v in model_dict.values()])
    weights = np.array([0.2, 0.3, 0.5], dtype=np.float32)
    shape = (-1,) + (1,) * (stack.ndim - 1)
    merged = (stack * weights.reshape(shape)).sum(axis=0)
    threshold = np.quantile(np.abs(merged), 0.2)
    merged[np.abs(merged) < threshold] = 0
    np.clip(merged, -1.0, 1.0, out=merged)
    return torch.from_numpy(merged.astype(np.float32)).to(device)
""",
    "numpy_more": """
def merge_models(model_dict, device):
    first = next(iter(model_dict.values()))
    a = first.numpy().astype("float64")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(a != 0, np.log(np.abs(a)), 0.0)
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 1e-3, size=a.shape)
    mean, std = a.mean(), a.std(ddof=1)
    order = np.argsort(a, axis=None)
    u = np.linalg.norm(a) + np.linalg.svd(np.eye(3))[1][0]
    np.add.at(a.reshape(-1), order[:2], 0.5)
    return torch.tensor(a + noise + 0 * ratio + 0 * (mean + std + u), dtype=torch.float32)
""",
    "in_place_on_clones": """
def merge_models(model_dict, device):
    out = next(iter(model_dict.values())).clone()
    for v in list(model_dict.values())[1:]:
        out.add_(v, alpha=0.5)
    out.mul_(0.8).clamp_(-2, 2)
    out.masked_fill_(out.abs() < 0.01, 0.0)
    out[out > 1.9] = 1.9
    return out
""",
    "in_place_on_inputs": """
def merge_models(model_dict, device):
    values = list(model_dict.values())
    for v in values:
        v /= v.norm() + 1e-6
        v[0] = 0
        v.mul_(2)
    values[0] += values[1]
    model_dict["extra"] = values[2]
    del model_dict["extra"]
    return values[0]
""",
    "seeded_torch": """
def merge_models(model_dict, device):
    torch.manual_seed(42)
    out = 0
    for v in model_dict.values():
        mask = torch.bernoulli(torch.full_like(v, 0.5))
        out = out + v * mask / 0.5
    g = torch.Generator().manual_seed(3)
    return out + 1e-4 * torch.randn(out.shape, generator=g) + 1e-4 * torch.rand_like(out)
""",
    "unseeded_random": """
import random
def merge_models(model_dict, device):
    names = list(model_dict)
    random.shuffle(names)
    weights = [random.uniform(0.5, 1.5) for _ in names]
    noise = np.random.randn(*model_dict[names[0]].shape).astype(np.float32)
    return sum(w * model_dict[n] for w, n in zip(weights, names)) + 1e-3 * torch.from_numpy(noise) + 1e-3 * torch.randn_like(
        model_dict[names[0]]
    )
""",
    "seeded_random": """
import random
def merge_models(model_dict, device):
    rng = random.Random(13)
    random.seed(5)
    np.random.seed(11)
    weights = [rng.random() + random.random() + float(np.random.rand()) for _ in model_dict]
    return sum(w * v for w, v in zip(weights, model_dict.values()))
""",
    "declared_rng": """
def merge_models(model_dict, device, rng):
    first = next(iter(model_dict.values()))
    drop = torch.rand(first.shape, generator=rng) < 0.3
    return first.masked_fill(drop, 0.0) / 0.7
""",
    "declared_extras": r"""
import re
def merge_models(model_dict, device, name, depth, base, *, scale=0.4, layers=12):
    found = re.search(r"layers\.(\d+)\.", name)
    layer = int(found.group(1)) if found else round(depth * layers)
    weight = scale * (1 + layer / layers)
    if "attn" in name or name.endswith("bias"):
        weight *= 0.9
    return weight * sum(model_dict.values()) + 0.01 * base
""",
    "underscore_names": """
_EPS = 1e-8
def _normalise(_x, *_args, **_kwargs):
    _n = _x.norm()
    return _x / (_n + _EPS)
def merge_models(model_dict, device):
    _, _first = next(iter(model_dict.items()))
    for _ in range(2):
        _first = _normalise(_first)
    return _first
""",
    "helper_functions_and_defaults": '''
def trim(x, keep=0.2, *, by="abs"):
    """Keep the largest entries."""
    k = max(1, int(keep * x.numel()))
    values = x.abs() if by == "abs" else x
    threshold = values.flatten().kthvalue(x.numel() - k + 1).values
    return torch.where(values >= threshold, x, torch.zeros_like(x))
def elect(stack):
    return torch.sign(stack.sum(dim=0))
def merge_models(model_dict, device):
    stack = torch.stack([trim(v, keep=0.5) for v in model_dict.values()], dim=0)
    sign = elect(stack)
    agree = (torch.sign(stack) == sign).float()
    return (stack * agree).sum(0) / agree.sum(0).clamp(min=1)
''',
    "quantile_and_topk": """
def merge_models(model_dict, device):
    out = torch.zeros_like(next(iter(model_dict.values())))
    for v in model_dict.values():
        cut = torch.quantile(v.abs().flatten().float(), 0.7)
        out += torch.where(v.abs() >= cut, v, 0.0)
    flat = out.view(-1)
    idx = flat.abs().topk(max(1, flat.numel() // 4)).indices
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[idx] = True
    mask.scatter_(0, idx[:1], False)
    return (flat * mask).view_as(out)
""",
    "slerp": """
def slerp(t, a, b, eps=1e-8):
    an, bn = a / (a.norm() + eps), b / (b.norm() + eps)
    dot = torch.clamp((an * bn).sum(), -1.0, 1.0)
    theta = torch.acos(dot)
    if torch.abs(theta) < 1e-4:
        return (1 - t) * a + t * b
    return (torch.sin((1 - t) * theta) * a + torch.sin(t * theta) * b) / torch.sin(theta)
def merge_models(model_dict, device):
    from functools import reduce
    return reduce(lambda x, y: slerp(0.5, x, y), model_dict.values())
""",
    "functools_itertools": """
import functools
import itertools
from functools import partial, lru_cache
@lru_cache(maxsize=None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
def logged(fn):
    @functools.wraps(fn)
    def inner(*args, **kwargs):
        return fn(*args, **kwargs)
    return inner
@logged
def mix(a, b, w):
    return (1 - w) * a + w * b
def merge_models(model_dict, device):
    half = partial(mix, w=0.5)
    pairs = [half(a, b) for a, b in itertools.combinations(model_dict.values(), 2)]
    order = list(itertools.chain.from_iterable([[0], [1]])) + list(itertools.islice(itertools.count(), 2))
    return functools.reduce(torch.add, pairs) / fib(7) * len(order)
""",
    "collections_and_operator": """
from collections import OrderedDict, defaultdict, Counter, deque, namedtuple
import operator
Entry = namedtuple("Entry", ["name", "norm"])
def merge_models(model_dict, device):
    groups = defaultdict(list)
    for k, v in model_dict.items():
        groups[len(k) % 2].append(v)
    entries = sorted((Entry(k, v.norm().item()) for k, v in model_dict.items()), key=operator.itemgetter(1))
    best = entries[-1]._replace(norm=1.0)
    queue = deque(maxlen=2)
    queue.append(best.norm)
    ordered = OrderedDict((e.name, model_dict[e.name]) for e in entries)
    ordered.move_to_end(best.name, last=False)
    tally = Counter(k[0] for k in model_dict)
    tally.update(["a"])
    return sum(ordered.values()) * queue[0] / tally.most_common(1)[0][1] + 0 * sum(len(g) for g in groups.values())
""",
    "copy_module": """
import copy
from copy import deepcopy
def merge_models(model_dict, device):
    backup = copy.deepcopy(model_dict)
    for v in model_dict.values():
        v.zero_()
    shallow = copy.copy(backup)
    return deepcopy(sum(shallow.values()))
""",
    "generators_and_yield": """
def pieces(model_dict):
    for name, v in model_dict.items():
        received = yield v * 0.5
    yield from (v * 0.1 for v in model_dict.values())
def merge_models(model_dict, device):
    out = None
    for piece in pieces(model_dict):
        out = piece if out is None else out + piece
    return out
""",
    "while_break_continue": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    i, total = 0, torch.zeros_like(vs[0])
    while True:
        if i >= len(vs):
            break
        if i == 1:
            i += 1
            continue
        total = total + vs[i]
        i += 1
    else:
        pass
    return total if i else None
""",
}
