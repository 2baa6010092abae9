"""Merges that language models come up with when they are asked for something new."""

from __future__ import annotations

PROGRAMS: dict[str, str] = {
    "match_on_shapes_and_strings": """
def weight_for(name: str, ndim: int) -> float:
    match (name.rsplit(".", 1)[-1], ndim):
        case ("weight", 2):
            return 1.0
        case ("bias" | "b", 1):
            return 0.5
        case (str(), n) if n >= 2:
            return 0.8
        case _:
            return 0.3
def merge_models(model_dict, device, name):
    w = weight_for(name, next(iter(model_dict.values())).dim())
    match len(model_dict):
        case 0:
            raise ValueError("nothing to merge")
        case 1:
            return next(iter(model_dict.values()))
        case 2 | 3 as n:
            w /= n
        case n:
            w /= n ** 0.5
    return w * sum(model_dict.values())
""",
    "pairwise_slerp_tree_with_vectors_dot": """
def slerp(v0, v1, t=0.5, DOT_THRESHOLD=0.9995):
    v0_copy, v1_copy = v0.clone(), v1.clone()
    v0n = v0 / torch.norm(v0) if torch.norm(v0) > 1e-8 else v0
    v1n = v1 / torch.norm(v1) if torch.norm(v1) > 1e-8 else v1
    dot = torch.sum(v0n * v1n)
    if torch.abs(dot) > DOT_THRESHOLD:
        return torch.lerp(v0_copy, v1_copy, t)
    theta_0 = torch.acos(dot); sin_theta_0 = torch.sin(theta_0)
    theta_t = theta_0 * t
    s0 = torch.sin(theta_0 - theta_t) / sin_theta_0
    s1 = torch.sin(theta_t) / sin_theta_0
    return s0 * v0_copy + s1 * v1_copy
def merge_models(model_dict, device):
    layer = [v.to(device) for v in model_dict.values()]
    while len(layer) > 1:
        nxt = [slerp(layer[i], layer[i + 1]) for i in range(0, len(layer) - 1, 2)]
        if len(layer) % 2: nxt.append(layer[-1])
        layer = nxt
    return layer.pop()
""",
    "mergekit_like_sparsify_methods": '''
from enum import Enum
class SparsificationMethod(str, Enum):
    magnitude = "magnitude"
    random = "random"
    magnitude_outliers = "magnitude_outliers"
def rescale_sum(tensor: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Rescales the values to match the original tensor sum."""
    org_sum = tensor.abs().sum()
    new_sum = (tensor * mask).abs().sum()
    if org_sum >= 1e-8 and new_sum >= 1e-8:
        return tensor * mask * (org_sum / new_sum)
    return tensor * mask
def magnitude(tensor, density, rescale=False):
    if density >= 1: return tensor
    k = int(density * tensor.numel())
    assert k > 0, "not gonna zero out the whole tensor buddy"
    mask = torch.zeros_like(tensor)
    w = tensor.abs().view(-1)
    if w.device.type == "cpu": w = w.float()
    topk = torch.argsort(w, descending=True)[:k]
    mask.view(-1)[topk] = 1
    return rescale_sum(tensor, mask) if rescale else tensor * mask
def bernoulli(tensor, density, rescale=True):
    if density >= 1: return tensor
    work_dtype = tensor.dtype if tensor.device.type != "cpu" or tensor.dtype == torch.bfloat16 else torch.float32
    mask = torch.bernoulli(torch.full_like(input=tensor, fill_value=density, dtype=work_dtype))
    res = tensor.to(work_dtype) * mask
    if rescale: res /= density
    return res.to(tensor.dtype)
def sparsify(tensor, density, method, rescale=False):
    if method == SparsificationMethod.magnitude:
        return magnitude(tensor, density=density, rescale=rescale)
    elif method == SparsificationMethod.random:
        return bernoulli(tensor, density=density, rescale=rescale)
    else:
        raise NotImplementedError(method)
def get_mask(delta, method="sum", mask_dtype=None):
    if mask_dtype is None: mask_dtype = delta.dtype
    sign = delta.sign().to(mask_dtype)
    if method == "sum":
        sign_weight = delta.sum(dim=0)
        majority_sign = (sign_weight >= 0).to(mask_dtype) * 2 - 1
        del sign_weight
    elif method == "count":
        majority_sign = (sign.sum(dim=0) >= 0).to(mask_dtype) * 2 - 1
    else:
        raise RuntimeError(f'Unimplemented mask method "{method}"')
    return sign == majority_sign
def merge_models(model_dict, device):
    tvs = [sparsify(t, 0.7, m, rescale=True) for t, m in zip(model_dict.values(), [SparsificationMethod.magnitude, SparsificationMethod.random, SparsificationMethod("magnitude")])]
    deltas = torch.stack(tvs, dim=0)
    weights = torch.tensor([1.0, 0.5, 0.5], dtype=deltas.dtype, device=deltas.device)
    while len(deltas.shape) > len(weights.shape):
        weights.unsqueeze_(-1)
    weighted_deltas = deltas * weights
    mask = get_mask(weighted_deltas, method="count", mask_dtype=torch.int8)
    mixed_delta = (weighted_deltas * mask).sum(dim=0)
    divisor = (weights * mask).sum(dim=0)
    divisor[divisor == 0] = 1
    mixed_delta /= divisor
    return mixed_delta
''',
    "adamerging_entropy_minimisation": """
def softmax_entropy(x): return -(x.softmax(-1) * x.log_softmax(-1)).sum(-1)
def merge_models(model_dict, device):
    stack = torch.stack([v.detach() for v in model_dict.values()])
    lambdas = torch.full((len(model_dict),), 0.3).requires_grad_()
    assert lambdas.requires_grad and lambdas.is_leaf
    probe = torch.randn(4, stack[0].numel(), generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        merged = torch.tensordot(lambdas, stack, dims=1)
        logits = probe * merged.flatten()[None]
        loss = softmax_entropy(logits).mean()
        g, = torch.autograd.grad(loss, lambdas)
        lambdas = (lambdas - 0.01 * g).clamp(0, 1).detach().requires_grad_(True)
    return torch.tensordot(lambdas.detach(), stack, dims=1)
""",
    "emr_elect_mask_rescale": """
def merge_models(model_dict, device):
    tvs = torch.stack([*model_dict.values()])
    sign = torch.sign(tvs.sum(0))
    agree = (tvs * sign) > 0
    elected = torch.where(agree, tvs.abs(), torch.zeros_like(tvs)).amax(0) * sign
    masks = (tvs * elected) > 0
    rescalers = tvs.abs().flatten(1).sum(1) / (masks * elected.abs()).flatten(1).sum(1).clamp_min(1e-8)
    shape = (-1,) + (1,) * (tvs.ndim - 1)
    return (masks * elected * rescalers.view(shape)).mean(0)
""",
    "consensus_tall_masks": """
def merge_models(model_dict, device, *, lam=0.4, k=2):
    mtl = sum(model_dict.values())
    masks = {n: (v.abs() > lam * (mtl - v).abs()) for n, v in model_dict.items()}
    activated = torch.stack(list(masks.values())).sum(dim=0)
    return mtl * (activated >= k).float() * 0.5 + mtl * (activated < k).float() * 0.1
""",
    "pcb_competition_balancing": """
def normalize(x, dim=0):
    lo, hi = torch.min(x, dim=dim, keepdim=True).values, torch.max(x, dim=dim, keepdim=True)[0]
    return (x - lo) / (hi - lo + 1e-12)
def clamp(x, min_ratio=0.05, max_ratio=0.05):
    d = x.size(1)
    sorted_x, _ = torch.sort(x, dim=1)
    lo = sorted_x[:, int(d * min_ratio)].unsqueeze(1)
    hi = sorted_x[:, int(d * (1 - max_ratio) - 1)].unsqueeze(1)
    return torch.clamp(x, lo, hi)
def act(x): return torch.tanh(x)
def merge_models(model_dict, device):
    all_checks = torch.stack([v.reshape(-1) for v in model_dict.values()])
    n, d = all_checks.shape
    all_checks_abs = clamp(torch.abs(all_checks))
    clamped = torch.sign(all_checks) * all_checks_abs
    self_pcb = normalize(all_checks_abs, 1) ** 2
    self_pcb_act = torch.exp(n * self_pcb)
    cross_pcb = all_checks * torch.sum(all_checks, dim=0)
    cross_pcb_act = act(cross_pcb)
    task_pcb = self_pcb_act * cross_pcb_act
    scale = normalize(clamp(task_pcb, 1 - 0.8, 0), dim=1)
    tvs = clamped * scale
    merged = torch.sum(tvs, dim=0) / torch.clamp(torch.sum(scale, dim=0), min=1e-12)
    return merged.view_as(next(iter(model_dict.values())))
""",
    "wudi_like_interference_descent": """
def merge_models(model_dict, device):
    taus = torch.stack([v.flatten(1) if v.ndim > 1 else v[None] for v in model_dict.values()])
    merged = taus.sum(0).clone().requires_grad_(True)
    norms = taus.square().sum(dim=(1, 2)).clamp_min(1e-9)
    lr, mom = 1e-2, torch.zeros_like(merged)
    for _ in range(5):
        diff = merged.unsqueeze(0) - taus
        loss = (torch.matmul(diff, taus.transpose(1, 2)).pow(2).sum((1, 2)) / norms).sum()
        loss.backward()
        with torch.no_grad():
            mom.mul_(0.9).add_(merged.grad)
            merged.sub_(lr * mom / (1 + mom.norm()))
            merged.grad = None
    return merged.detach().reshape(next(iter(model_dict.values())).shape)
""",
    "isotropic_merge_spectrum_flattening": """
def merge_models(model_dict, device):
    total = torch.sum(torch.stack(list(model_dict.values())), dim=0)
    if total.ndim < 2:
        return total / len(model_dict)
    U, S, Vh = torch.linalg.svd(total.flatten(1), full_matrices=False)
    S_iso = torch.full_like(S, S.mean().item())
    return torch.linalg.multi_dot((U, S_iso.diag(), Vh)).reshape(total.shape)
""",
    "tsv_subspace_concatenation_whitening": """
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    if vs[0].dim() != 2:
        return torch.stack(vs).mean(0)
    k = max(1, min(vs[0].shape) // len(vs))
    parts = [torch.linalg.svd(v, full_matrices=False) for v in vs]
    U = torch.cat([p.U[:, :k] for p in parts], dim=1)
    S = torch.cat([p.S[:k] for p in parts])
    V = torch.cat([p.Vh[:k] for p in parts], dim=0)
    def whiten(m):
        u, _, vh = torch.linalg.svd(m, full_matrices=False)
        return u @ vh
    return whiten(U) @ torch.diag_embed(S) @ whiten(V)
""",
    "knots_joint_svd_alignment": """
def merge_models(model_dict, device):
    vs = [v if v.dim() > 1 else v.unsqueeze(0) for v in model_dict.values()]
    joint = torch.cat(vs, dim=1)
    U, S, Vh = torch.linalg.svd(joint, full_matrices=False)
    keep = S > S.max() * 1e-5
    U, S, Vh = U[:, keep], S[keep], Vh[keep]
    chunks = torch.chunk(Vh, len(vs), dim=1)
    return (U @ (S[:, None] * sum(chunks) / len(chunks))).view(next(iter(model_dict.values())).shape)
""",
    "regmean_like_ridge_closed_form": """
def merge_models(model_dict, device, base=None):
    if base is None or base.dim() != 2:
        return sum(model_dict.values()) / len(model_dict)
    grams, rhs = torch.zeros(base.shape[1], base.shape[1]), torch.zeros(base.shape[1], base.shape[0])
    for v in model_dict.values():
        w = base + v
        g = w.T @ w
        g = 0.9 * g + 0.1 * torch.diag(torch.diagonal(g))
        grams += g
        rhs += g @ w.T
    solution = torch.linalg.solve(grams + 1e-4 * torch.eye(base.shape[1]), rhs).T
    return solution - base
""",
    "zipit_like_greedy_matching": """
def merge_models(model_dict, device):
    a, b, *rest = model_dict.values()
    if a.dim() < 2:
        return (a + b) / 2
    corr = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    order, used = [], set()
    for i in range(corr.size(0)):
        ranked = corr[i].argsort(descending=True).tolist()
        j = next(r for r in ranked if r not in used)
        used.add(j)
        order.append(j)
    assert sorted(order) == list(range(a.shape[0])), f"bad permutation: {order}"
    return 0.5 * (a + b[torch.tensor(order)])
""",
    "hungarian_by_permutations": """
import itertools
def merge_models(model_dict, device):
    a, b = list(model_dict.values())[:2]
    rows = a.shape[0] if a.ndim > 1 else 1
    if rows == 1 or rows > 6:
        return a + b
    cost = torch.cdist(a, b)
    best = min(itertools.permutations(range(rows)), key=lambda p: sum(cost[i, j].item() for i, j in enumerate(p)))
    return torch.lerp(a, b[list(best), :], 0.5)
""",
    "simulated_annealing_loop": """
import random
def merge_models(model_dict, device, rng):
    seed = int(torch.randint(0, 2**31 - 1, (1,), generator=rng).item())
    local = random.Random(seed)
    stack = torch.stack(list(model_dict.values()))
    def energy(w): return (torch.einsum("n,n...->...", torch.tensor(w), stack) - stack).square().mean().item()
    w = [1 / 3] * len(stack)
    e, temp = energy(w), 1.0
    while temp > 0.05:
        cand = [max(0.0, x + local.gauss(0, 0.1)) for x in w]
        s = sum(cand) or 1.0
        cand = [c / s for c in cand]
        de = energy(cand) - e
        if de < 0 or local.random() < math.exp(-de / temp):
            w, e = cand, e + de
        temp *= 0.7
    return sum(wi * t for wi, t in zip(w, stack))
""",
    "coordinate_descent_golden_section": """
def golden(f, a=0.0, b=1.0, tol=1e-2):
    invphi = (math.sqrt(5) - 1) / 2
    c, d = b - invphi * (b - a), a + invphi * (b - a)
    while abs(b - a) > tol:
        if f(c) < f(d): b = d
        else: a = c
        c, d = b - invphi * (b - a), a + invphi * (b - a)
    return (a + b) / 2
def merge_models(model_dict, device):
    vs, target = list(model_dict.values()), torch.stack(list(model_dict.values())).median(0).values
    ws = [0.5 for _ in vs]
    for sweep in range(2):
        for i in range(len(ws)):
            def loss(x, i=i):
                trial = [*ws[:i], x, *ws[i + 1:]]
                return float(sum((w * v for w, v in zip(trial, vs)), torch.zeros_like(target)).sub(target).norm())
            ws[i] = golden(loss)
    return sum(w * v for w, v in zip(ws, vs))
""",
    "exponentiated_gradient_hedge": """
def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    log_w = torch.zeros(len(stack))
    consensus = stack.mean(0)
    for eta in np.linspace(0.5, 0.1, num=5):
        losses = (stack - consensus).flatten(1).pow(2).mean(1)
        log_w -= float(eta) * losses
        log_w -= log_w.logsumexp(0)
        consensus = (log_w.exp().view(-1, *[1] * consensus.dim()) * stack).sum(0)
    return consensus
""",
    "dictionary_learning_omp": """
def merge_models(model_dict, device):
    D = torch.stack([F.normalize(v.flatten(), dim=0) for v in model_dict.values()], dim=1)
    y = sum(v.flatten() for v in model_dict.values())
    residual, support = y.clone(), []
    for _ in range(2):
        scores = (D.T @ residual).abs()
        scores[support] = -1.0
        support.append(int(scores.argmax()))
        sub = D[:, support]
        coef = torch.linalg.lstsq(sub, y.unsqueeze(1), driver="gelsd").solution
        residual = y - (sub @ coef).squeeze(1)
    return (y - residual).view(next(iter(model_dict.values())).shape)
""",
    "union_find_of_similar_models": """
class DSU:
    def __init__(self, items): self.parent = {i: i for i in items}
    def find(self, x):
        while self.parent[x] != x:
            self.parent[x] = self.parent[self.parent[x]]
            x = self.parent[x]
        return x
    def union(self, a, b): self.parent[self.find(a)] = self.find(b)
    def groups(self):
        out = {}
        for i in self.parent: out.setdefault(self.find(i), []).append(i)
        return list(out.values())
def merge_models(model_dict, device):
    dsu = DSU(model_dict)
    names = list(model_dict)
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            if F.cosine_similarity(model_dict[a].reshape(1, -1), model_dict[b].reshape(1, -1)) > 0:
                dsu.union(a, b)
    group_means = [torch.stack([model_dict[n] for n in g]).mean(0) for g in dsu.groups()]
    return torch.stack(group_means).sum(0) / math.sqrt(len(group_means))
""",
    "pipeline_of_registered_steps_with_kwargs": """
STEPS = []
def step(order=0, **defaults):
    def deco(fn):
        STEPS.append((order, fn.__name__, fn, defaults))
        return fn
    return deco
@step(order=2, limit=1.5)
def clip(ts, *, limit): return [t.clamp(-limit, limit) for t in ts]
@step(order=1, power=0.5)
def normalise(ts, *, power): return [t / t.norm().clamp_min(1e-8) ** power for t in ts]
@step(order=3)
def drop_small(ts): return [t.masked_fill(t.abs() < t.abs().mean() * 0.1, 0) for t in ts]
def merge_models(model_dict, device):
    ts = list(model_dict.values())
    for _, name, fn, kwargs in sorted(STEPS, key=lambda s: s[:2]):
        ts = fn(ts, **kwargs)
    return sum(ts) / len(ts)
""",
    "memoised_dynamic_programming_partition": """
from functools import cache
def merge_models(model_dict, device):
    vs = list(model_dict.values())
    norms = tuple(int(v.norm().item() * 10) for v in vs)
    half = sum(norms) // 2
    @cache
    def reach(i: int, left: int) -> tuple:
        if i == len(norms) or left <= 0:
            return (abs(left), ())
        take = reach(i + 1, left - norms[i])
        skip = reach(i + 1, left)
        return min((take[0], (i, *take[1])), skip)
    _, chosen = reach(0, half)
    group = [v for i, v in enumerate(vs) if i in chosen] or vs
    return torch.stack(group).mean(0) + 0.1 * sum(vs)
""",
    "quantile_normalisation_across_models": """
def merge_models(model_dict, device):
    names, tensors = zip(*model_dict.items())
    flat = torch.stack([t.reshape(-1) for t in tensors])
    order = flat.argsort(dim=1, stable=True)
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(flat.shape[1]).expand_as(order).contiguous())
    reference = flat.sort(dim=1)[0].mean(0)
    return reference[ranks].mean(dim=0).reshape(tensors[0].shape)
""",
}
