"""Merges of the literature in the words of language models."""

from __future__ import annotations

PROGRAMS: dict[str, str] = {
    "ties_with_kthvalue_and_counts": '''
from typing import Dict
def merge_models(model_dict: Dict[str, torch.Tensor], device: str = "cpu", *, density: float = 0.6, lam: float = 1.0) -> torch.Tensor:
    """TIES-Merging (Yadav et al., 2023): trim → elect sign → disjoint merge."""
    with torch.no_grad():
        stacked = torch.stack([t.to(device).float() for t in model_dict.values()], dim=0)
        n_models, *orig_shape = stacked.shape
        flat = stacked.view(n_models, -1)
        k = max(1, int(flat.size(1) * (1.0 - density)))
        thresholds, _ = flat.abs().kthvalue(k, dim=1, keepdim=True)
        trimmed = flat.masked_fill(flat.abs().lt(thresholds), 0.0)
        gamma = trimmed.sum(dim=0).sign()
        majority = gamma.sum().sign()
        gamma[gamma == 0] = majority
        agree = trimmed.sign().eq(gamma.unsqueeze(0))
        count = agree.sum(dim=0).clamp_(min=1)
        merged = trimmed.mul(agree).sum(dim=0).div(count)
        return lam * merged.view(*orig_shape)
''',
    "dare_with_generator_on_device": """
def dare_drop(delta: torch.Tensor, p: float, generator: torch.Generator) -> torch.Tensor:
    mask = torch.bernoulli(torch.full(delta.shape, 1 - p, device=delta.device), generator=generator)
    return delta * mask / (1 - p)
def merge_models(model_dict, device):
    generator = torch.Generator(device=device)
    generator.manual_seed(1234)
    drop_rate = 0.3
    out = None
    for idx, (name, delta) in enumerate(model_dict.items(), start=1):
        delta = delta.to(device, non_blocking=True)
        piece = dare_drop(delta, drop_rate, generator) / len(model_dict)
        out = piece if out is None else out.add(piece)
    assert out is not None and out.shape == next(iter(model_dict.values())).shape, "shape mismatch"
    return out
""",
    "della_magprune_ranked_probabilities": '''
def magprune(x: torch.Tensor, density=0.5, epsilon=0.1) -> torch.Tensor:
    """DELLA: drop probabilities depend on the rank of magnitude in each row."""
    rows = x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x[None, :]
    ranks = rows.abs().argsort(dim=-1).argsort(dim=-1).to(x.dtype)
    n = rows.size(-1)
    keep_min, keep_max = density - epsilon, density + epsilon
    probs = keep_min + (keep_max - keep_min) * ranks / max(n - 1, 1)
    mask = torch.bernoulli(probs.clamp(0.0, 1.0))
    return (rows * mask / probs.clamp_min(1e-6)).reshape_as(x)
def merge_models(model_dict, device):
    pruned = torch.stack([magprune(v) for v in model_dict.values()])
    sign = pruned.sum(0).sign()
    same = (pruned * sign) > 0
    return (pruned * same).sum(0) / same.sum(0).clamp(min=1).to(pruned.dtype)
''',
    "multislerp_iterative_tangent_space": '''
class MultiSlerp:
    """Barycentric interpolation on the hypersphere by log / exp maps."""
    EPS = 1e-8
    def __init__(self, weights=None, iters: int = 3) -> None:
        self.weights, self.iters = weights, iters
    def _log(self, p, q):
        dot = torch.clamp(p @ q, -1 + self.EPS, 1 - self.EPS)
        theta = torch.arccos(dot)
        direction = q - dot * p
        return theta * direction / (direction.norm() + self.EPS)
    def _exp(self, p, v):
        n = v.norm()
        return p if n < self.EPS else torch.cos(n) * p + torch.sin(n) * v / n
    def __call__(self, tensors: list) -> torch.Tensor:
        shape = tensors[0].shape
        norms = [t.norm() for t in tensors]
        units = [t.flatten() / (n + self.EPS) for t, n in zip(tensors, norms)]
        w = self.weights or [1 / len(units)] * len(units)
        p = sum(wi * u for wi, u in zip(w, units))
        p = p / p.norm()
        for _ in range(self.iters):
            step = sum(wi * self._log(p, u) for wi, u in zip(w, units))
            p = self._exp(p, step)
        return (p * sum(wi * n for wi, n in zip(w, norms))).reshape(shape)
def merge_models(model_dict, device):
    return MultiSlerp()(list(model_dict.values()))
''',
    "breadcrumbs_by_quantile_band": """
def breadcrumb_mask(t, low=0.1, high=0.98):
    a = t.abs().flatten()
    lo, hi = torch.quantile(a, torch.tensor([low, high], dtype=a.dtype, device=a.device))
    return t.abs().ge(lo) & t.abs().le(hi)
def merge_models(model_dict, device):
    acc = torch.zeros_like(next(iter(model_dict.values())), device=device)
    for v in model_dict.values():
        acc += v * breadcrumb_mask(v).type_as(v)
    return acc.mul_(0.4)
""",
    "model_stock_angle_from_pairs": """
from itertools import combinations
def merge_models(model_dict, device):
    deltas = [v.flatten().double() for v in model_dict.values()]
    n = len(deltas)
    cosines = [torch.dot(a, b) / (torch.linalg.norm(a) * torch.linalg.norm(b) + 1e-12) for a, b in combinations(deltas, 2)]
    cos_theta = torch.stack(cosines).mean().item() if cosines else 1.0
    t = (n * cos_theta) / (1.0 + (n - 1) * cos_theta) if 1.0 + (n - 1) * cos_theta != 0 else 0.0
    avg = torch.mean(torch.stack(deltas), dim=0)
    return (t * avg).float().view(next(iter(model_dict.values())).shape)
""",
    "sce_select_calculate_erase": """
def merge_models(model_dict, device, *, select_topk=0.6):
    tvs = torch.stack(list(model_dict.values()), dim=0)
    # S: keep the positions with the largest variance among the models
    var = torch.var(tvs, dim=0, unbiased=False)
    nonzero = torch.count_nonzero(var)
    k = max(1, int(nonzero * select_topk))
    _, idx = torch.topk(var.abs().view(-1), k=k, largest=True)
    mask = torch.zeros_like(var).view(-1).index_fill_(0, idx, 1.0).view(var.shape)
    tvs = tvs * mask
    # C: weights by squared energy
    weights = torch.mean(tvs ** 2, dim=list(range(1, tvs.dim())))
    weights = weights / torch.sum(weights) if torch.sum(weights).item() > 1e-6 else torch.ones_like(weights) / weights.shape[0]
    while weights.dim() < tvs.dim():
        weights.unsqueeze_(-1)
    # E: erase the minority
    sign_w = torch.sign((tvs.sign() * weights).sum(0))
    erase = (tvs.sign() == sign_w).to(tvs.dtype)
    return torch.sum(tvs * weights * erase, dim=0) / torch.sum(weights * erase, dim=0).clamp(min=1e-6)
""",
    "karcher_mean_until_converged": r"""
def merge_models(model_dict, device):
    vs = [v.reshape(-1).to(torch.float64) for v in model_dict.values()]
    radii = torch.tensor([float(torch.linalg.vector_norm(v)) for v in vs], dtype=torch.float64)
    us = torch.stack([v / r if r > 0 else v for v, r in zip(vs, radii.tolist())])
    mu = us.mean(dim=0)
    mu /= torch.linalg.vector_norm(mu).clamp_min(1e-12)
    for it in range(50):
        dots = (us @ mu).clamp(-1.0, 1.0)
        thetas = torch.arccos(dots)
        coef = torch.where(thetas < 1e-8, torch.ones_like(thetas), thetas / torch.sin(thetas))
        tangent = (coef[:, None] * (us - dots[:, None] * mu[None, :])).mean(dim=0)
        size = torch.linalg.vector_norm(tangent)
        if size < 1e-10:
            break
        mu = torch.cos(size) * mu + torch.sin(size) * tangent / size
    else:
        print("did not converge in", it + 1, "steps", sep=" ", end="\n", flush=True)
    return (mu * radii.mean()).to(torch.float32).reshape(next(iter(model_dict.values())).shape)
""",
    "fisher_like_weighting_by_squares": """
def merge_models(model_dict, device):
    eps = torch.finfo(torch.float32).eps
    num, den = 0.0, 0.0
    for tv in model_dict.values():
        fisher = tv.pow(2).add(eps)
        num = num + fisher * tv
        den = den + fisher
    return num / den
""",
    "pca_first_component_projection": """
def merge_models(model_dict, device):
    X = torch.stack([v.ravel() for v in model_dict.values()]).T  # (d, n)
    mean = X.mean(dim=1, keepdim=True)
    centred = X - mean
    cov = centred.T @ centred / max(1, X.shape[0] - 1)
    evals, evecs = torch.linalg.eigh(cov)
    top = evecs[:, evals.argmax()]
    top = top * torch.sign(top[top.abs().argmax()])
    scores = centred @ top
    share = (evals.max() / evals.sum().clamp(min=1e-12)).item()
    print(f"{share=:.3%}")
    return (mean.squeeze(1) + share * scores * top.mean()).view_as(next(iter(model_dict.values())))
""",
    "low_rank_then_residual_by_svd_lowrank": """
def merge_models(model_dict, device):
    total = sum(model_dict.values()) / len(model_dict)
    if total.ndim < 2:
        return total
    matrix = total.reshape(total.shape[0], -1)
    torch.manual_seed(0)
    q = min(2, *matrix.shape)
    U, S, V = torch.svd_lowrank(matrix, q=q, niter=2)
    low = (U * S.unsqueeze(0)) @ V.mT
    residual = matrix - low
    return (low + 0.5 * residual).reshape(total.shape)
""",
    "orthogonal_projection_of_conflicts": '''
def project_out(u: torch.Tensor, v: torch.Tensor, /, eps: float = 1e-12) -> torch.Tensor:
    """PCGrad-like: remove from u its component against v, only when they conflict."""
    d = (u * v).sum()
    return u - (d / (v.pow(2).sum() + eps)) * v if d < 0 else u
def merge_models(model_dict, device):
    originals = {k: v.clone() for k, v in model_dict.items()}
    for name in originals:
        for other in originals.keys() - {name} if len(originals) == 2 else [o for o in originals if o != name]:
            model_dict[name] = project_out(model_dict[name], originals[other])
    return torch.mean(torch.stack([*model_dict.values()]), 0)
''',
    "sign_consensus_voting_with_unanimity": """
def merge_models(model_dict, device, *, unanimity=2):
    signs = torch.stack([torch.sign(v) for v in model_dict.values()]).to(torch.int8)
    votes = signs.sum(dim=0, dtype=torch.int32)
    strong = votes.abs() >= unanimity
    mean = torch.stack(tuple(model_dict.values())).mean(0)
    biggest = torch.stack(tuple(model_dict.values())).abs().max(dim=0)
    picked = torch.gather(torch.stack(tuple(model_dict.values())), 0, biggest.indices.unsqueeze(0)).squeeze(0)
    return torch.where(strong, mean, torch.where(votes == 0, torch.zeros_like(mean), picked * 0.5))
""",
    "entropy_weighting_of_histograms": """
def entropy_of(t: torch.Tensor, bins: int = 16) -> float:
    hist = torch.histc(t.float(), bins=bins, min=t.min().item(), max=t.max().item())
    p = hist / hist.sum()
    p = p[p > 0]
    return -(p * p.log2()).sum().item()
def merge_models(model_dict, device):
    entropies = torch.tensor([entropy_of(t) for t in model_dict.values()])
    weights = torch.softmax(-entropies / 0.7, dim=0)
    return torch.einsum("n,n...->...", weights, torch.stack(list(model_dict.values())))
""",
    "softmax_temperature_over_cosine_matrix": """
def merge_models(model_dict, device, *, temperature=0.5):
    flat = torch.stack([F.normalize(v.flatten(), p=2, dim=0, eps=1e-12) for v in model_dict.values()])
    sim = flat @ flat.T
    sim.fill_diagonal_(0)
    centrality = sim.sum(dim=-1) / (sim.shape[0] - 1)
    alpha = (centrality / temperature).softmax(dim=-1)
    return torch.tensordot(alpha, torch.stack(list(model_dict.values())), dims=([0], [0]))
""",
    "random_search_over_coefficients": """
import random
def objective(weights, stack, target):
    merged = torch.tensordot(weights, stack, dims=1)
    return F.mse_loss(merged, target).item() + 1e-3 * weights.abs().sum().item()
def merge_models(model_dict, device):
    random.seed(42); np.random.seed(42); torch.manual_seed(42)
    stack = torch.stack(list(model_dict.values()))
    target, _ = stack.median(dim=0)
    best_w, best_loss = None, float("inf")
    for trial in range(20):
        w = torch.tensor([random.random() for _ in range(len(stack))])
        w /= w.sum()
        if (loss := objective(w, stack, target)) < best_loss:
            best_w, best_loss = w.clone(), loss
    return torch.tensordot(best_w, stack, dims=1)
""",
    "evolution_strategy_with_population": """
from dataclasses import dataclass, field
@dataclass(order=True)
class Individual:
    fitness: float
    genes: list = field(compare=False, default_factory=list)
    def mutate(self, rng, sigma: float = 0.1) -> "Individual":
        return Individual(math.inf, [g + rng.gauss(0.0, sigma) for g in self.genes])
def merge_models(model_dict, device):
    from random import Random
    rng = Random(7)
    tensors = list(model_dict.values())
    target = torch.stack(tensors).mean(0)
    def evaluate(ind):
        merged = sum(g * t for g, t in zip(ind.genes, tensors))
        ind.fitness = float(torch.norm(merged - target))
        return ind
    population = [evaluate(Individual(math.inf, [rng.uniform(0, 1) for _ in tensors])) for _ in range(6)]
    for generation in range(4):
        population.sort()
        parents = population[: len(population) // 2]
        population = parents + [evaluate(p.mutate(rng)) for p in parents]
    best = min(population)
    return sum(g * t for g, t in zip(best.genes, tensors))
""",
    "gradient_descent_with_value_and_manual_adam": """
def merge_models(model_dict, device):
    X = torch.stack([v.flatten() for v in model_dict.values()]).detach()
    w = torch.full((X.shape[0],), 1.0 / X.shape[0], requires_grad=True)
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    lr, (b1, b2), eps = 5e-2, (0.9, 0.999), 1e-8
    for step in range(1, 6):
        with torch.enable_grad():
            merged = w @ X
            loss = sum((merged - x).pow(2).mean() for x in X) + 0.01 * w.norm(p=1)
        grad, = torch.autograd.grad(loss, (w,), create_graph=False)
        m = b1 * m + (1 - b1) * grad
        v = b2 * v + (1 - b2) * grad.square()
        m_hat, v_hat = m / (1 - b1 ** step), v / (1 - b2 ** step)
        with torch.no_grad():
            w.sub_(lr * m_hat / (v_hat.sqrt() + eps))
    return (w @ X).view(next(iter(model_dict.values())).size())
""",
    "newton_steps_on_quadratic": """
def merge_models(model_dict, device):
    A = torch.stack([v.flatten() for v in model_dict.values()], dim=1).double()
    b = A.median(dim=1).values
    gram = A.T @ A
    gram.diagonal().add_(1e-6)
    x = torch.zeros(A.shape[1], dtype=A.dtype)
    for _ in range(3):
        gradient = gram @ x - A.T @ b
        try:
            delta = torch.linalg.solve(gram, gradient)
        except torch.linalg.LinAlgError:
            delta = torch.linalg.pinv(gram) @ gradient
        x = x - delta
        if torch.linalg.norm(delta, ord=float("inf")) < 1e-10:
            break
    return (A @ x).to(torch.float32).unflatten(0, next(iter(model_dict.values())).shape)
""",
    "ema_over_models_in_sorted_order": """
def merge_models(model_dict, device):
    beta = 0.6
    ema = None
    for key in sorted(model_dict, key=lambda k: (-model_dict[k].norm(p=1).item(), k)):
        current = model_dict[key]
        ema = current.clone() if ema is None else ema.lerp_(current, 1 - beta)
    bias_correction = 1 - beta ** len(model_dict)
    return ema / bias_correction * (1 - beta)
""",
    "trimmed_mean_and_iqr": """
def merge_models(model_dict, device):
    stack = torch.stack([v for v in model_dict.values()], dim=-1)
    q1, q3 = torch.quantile(stack, 0.25, dim=-1, keepdim=True), torch.quantile(stack, 0.75, dim=-1, keepdim=True)
    iqr = q3 - q1
    inlier = (stack >= q1 - 1.5 * iqr) & (stack <= q3 + 1.5 * iqr)
    winsor = torch.minimum(torch.maximum(stack, q1), q3)
    mean = (stack * inlier).sum(-1) / inlier.sum(-1).clamp(min=1)
    return 0.5 * mean + 0.5 * winsor.nanmean(dim=-1)
""",
    "geometric_median_weiszfeld": '''
def merge_models(model_dict, device):
    """Geometric median by Weiszfeld's algorithm — robust to one bad expert."""
    points = torch.stack([v.flatten() for v in model_dict.values()], dim=0)
    guess = points.mean(dim=0)
    for iteration in range(30):
        dist = torch.cdist(points, guess[None]).squeeze(1).clamp_min(1e-8)
        inv = dist.reciprocal()
        new = (inv[:, None] * points).sum(dim=0) / inv.sum()
        moved = (new - guess).norm().item()
        guess = new
        if moved < 1e-6: break
    return guess.reshape(*next(iter(model_dict.values())).shape)
''',
    "huber_irls": """
def huber_weights(r, delta=1.345):
    a = r.abs()
    return torch.where(a <= delta, torch.ones_like(a), delta / a)
def merge_models(model_dict, device):
    X = torch.stack(list(model_dict.values()))
    mu = X.median(0)[0]
    mad = (X - mu).abs().median(0)[0] * 1.4826 + 1e-9
    for _ in range(5):
        w = huber_weights((X - mu) / mad)
        mu = (w * X).sum(0) / w.sum(0)
    return mu
""",
    "kmeans_clusters_of_task_vectors": """
def kmeans(x: torch.Tensor, k: int = 2, iters: int = 5):
    centers = x[:k].clone()
    for _ in range(iters):
        assign = torch.cdist(x, centers).argmin(dim=1)
        for c in range(k):
            members = x[assign == c]
            if len(members):
                centers[c] = members.mean(dim=0)
    return centers, assign
def merge_models(model_dict, device):
    x = torch.stack([t.flatten() for t in model_dict.values()])
    centers, assign = kmeans(x)
    sizes = torch.bincount(assign, minlength=2).float()
    weights = sizes / sizes.sum()
    return (weights.unsqueeze(1) * centers).sum(0).view(list(model_dict.values())[0].shape)
""",
    "spectral_filter_soft_threshold": """
def soft(s, tau): return torch.sign(s) * torch.relu(s.abs() - tau)
def merge_models(model_dict, device):
    def denoise(m):
        if m.dim() != 2: return m
        u, s, vt = torch.linalg.svd(m, full_matrices=False)
        return (u * soft(s, 0.3 * s.median())) @ vt
    return torch.stack(list(map(denoise, model_dict.values()))).mean(dim=0)
""",
    "rfft2_low_pass_with_radial_mask": """
def merge_models(model_dict, device):
    mean = torch.stack(list(model_dict.values())).mean(0)
    x = mean if mean.dim() > 1 else mean.unsqueeze(0)
    spec = torch.fft.rfft2(x)
    fy = torch.fft.fftfreq(x.shape[-2], device=x.device)[:, None]
    fx = torch.fft.rfftfreq(x.shape[-1])[None, :]
    radius = torch.sqrt(fy ** 2 + fx ** 2)
    spec = spec * torch.exp(-(radius / 0.35) ** 2)
    out = torch.fft.irfft2(spec, s=x.shape[-2:])
    return out.reshape(mean.shape)
""",
    "per_column_weights_with_broadcast": """
def merge_models(model_dict, device):
    stack = torch.stack(list(model_dict.values()))
    if stack.dim() == 2:
        return stack.mean(0)
    col = stack.norm(dim=1, keepdim=True)
    w = col / col.sum(dim=0, keepdim=True).clamp_min(1e-12)
    return (w * stack).sum(0)
""",
}
