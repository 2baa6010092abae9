"""A study's figures, as SVG: drawn from the results alone, the same for the same results."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine.study.over_seeds import HOLDS_FROM, OverSeeds, over_seeds

Results = Mapping[str, Any]

COLOURS = ("#6b7280", "#1d4ed8", "#b45309", "#047857", "#9d174d", "#6d28d9", "#0e7490", "#4d7c0f", "#be123c", "#374151")
"""Of methods, in the order of the study: dark enough on white, and apart in lightness too."""
BINS = 25


def figures(results: Results) -> dict[str, str]:
    """Every figure by name."""
    return {
        "histograms": _histograms(results),
        "best-so-far": _best_so_far(results),
        "by-iteration": _by_iteration(results),
        "held-out": _held_out(results),
    }


def _histograms(results: Results) -> str:
    """Dev scores by iteration: one row a method, one column an iteration, all seeds together; a line at the median."""
    methods, iterations = list(results["methods"]), _iterations(results)
    pooled = {
        (m, i): [s for run in _runs(results, m) for s in run["scores"].get(i, ())] for m in methods for i in iterations
    }
    values = [s for scores in pooled.values() for s in scores]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    size = (2.6 * len(iterations) + 0.6, 1.15 * len(methods) + 0.7)
    with _drawn(len(methods), len(iterations), size, alike=True) as (axes, svg):
        for row, method in enumerate(methods):
            for column, iteration in enumerate(iterations):
                axis, scores = axes[row][column], pooled[method, iteration]
                weights = np.full(len(scores), 100 / len(scores)) if scores else None
                axis.hist(
                    np.array(scores) * 100,
                    bins=np.linspace(low * 100, high * 100 + 1e-9, BINS + 1),
                    weights=weights,
                    color=_colour(results, method),
                    alpha=0.85,
                )
                if scores:
                    middle = 100 * float(np.median(scores))
                    axis.axvline(middle, color="black", lw=1)
                    axis.text(0.03, 0.82, f"median {middle:.1f}", transform=axis.transAxes, fontsize=7)
                axis.set_title(f"iteration {iteration}" if row == 0 else "", fontsize=9)
                axis.set_ylabel(method if column == 0 else "", fontsize=8)
                axis.tick_params(labelsize=7)
                if row == len(methods) - 1:
                    axis.set_xlabel("dev score, %", fontsize=8)
        return svg()


def _best_so_far(results: Results) -> str:
    """The best dev score after so many programs: mean over seeds, with its 95 % interval; from where every run that scores anything has one, so that no mean falls because a run joins it."""
    with _drawn(1, 1, (7.2, 3.8)) as (axes, svg):
        axis = axes[0][0]
        for method in results["methods"]:
            curves = [c for run in _runs(results, method) if (c := run["best_so_far"]) and c[-1] is not None]
            points = [over_seeds([] if None in seeds else seeds) for seeds in zip(*curves, strict=False)]
            _band(axis, range(1, len(points) + 1), points, method, _colour(results, method))
        axis.set_xlabel("programs written")
        axis.set_ylabel("best dev score so far, %")
        axis.set_ylim(bottom=_floor(results))
        axis.legend(fontsize=8, frameon=False, loc="lower right")
        return svg()


def _by_iteration(results: Results) -> str:
    """Median, top decile, valid share and distinct behaviour by iteration: mean over seeds, with its 95 % interval."""
    panels = (
        ("median", "dev median, %"),
        ("top_decile", "mean of the top decile, %"),
        ("valid", "valid, %"),
        ("distinct", "distinct behaviour, % of valid"),
    )
    with _drawn(1, len(panels), (3.0 * len(panels), 3.2)) as (axes, svg):
        for axis, (measure, title) in zip(axes[0], panels, strict=True):
            for method in results["methods"]:
                points = []
                for iteration in _iterations(results):
                    found = [
                        run["iterations"][iteration][measure]
                        for run in _runs(results, method)
                        if iteration in run["iterations"]
                    ]
                    points.append(over_seeds(found))
                _band(
                    axis, [int(i) for i in _iterations(results)], points, method, _colour(results, method), marker="o"
                )
            axis.set_title(title, fontsize=9)
            axis.set_xticks([int(i) for i in _iterations(results)])
            axis.set_xlabel("iteration", fontsize=8)
            axis.tick_params(labelsize=8)
        handles, labels = axes[0][0].get_legend_handles_labels()
        axes[0][0].figure.legend(
            handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False
        )
        return svg()


def _held_out(results: Results) -> str:
    """The program first on dev of every run, on the held-out problems, against the best human-made merge; and on other experts."""
    arenas = [("held-out problems", results["held_out"], "held-out, first on dev")] + (
        [("other experts", results["transfer"], "transfer, first on dev")] if results["transfer"] else []
    )
    methods = list(results["methods"])
    with _drawn(1, len(arenas), (4.2 * len(arenas), 0.42 * len(methods) + 1.4)) as (axes, svg):
        for axis, (title, arena, name) in zip(axes[0], arenas, strict=True):
            for row, method in enumerate(methods):
                values = [
                    arena["runs"][f"{method}-{run['seed']}"][0]["value"]
                    for run in _runs(results, method)
                    if arena["runs"].get(f"{method}-{run['seed']}")
                ]
                values = [value for value in values if value is not None]
                found = OverSeeds(**results["methods"][method][name])
                if found.mean is None:
                    continue
                low, high = _interval(found)
                axis.plot(np.array(values) * 100, [row] * len(values), ".", color=_colour(results, method), alpha=0.5)
                axis.errorbar(
                    found.mean * 100,
                    row,
                    xerr=[[100 * (found.mean - low)], [100 * (high - found.mean)]],
                    fmt="o",
                    color=_colour(results, method),
                    capsize=3,
                )
            human = arena["human"]
            axis.axvline(100 * human["value"], color="black", lw=1, ls="--")
            axis.text(100 * human["value"], -0.75, f" {human['name']}", fontsize=8, va="center")
            axis.set_yticks(
                range(len(methods)), [m + some_of(results["methods"][m][name]) for m in methods], fontsize=8
            )
            axis.set_ylim(len(methods) - 0.5, -1.0)
            axis.set_title(f"{title}, n = {arena['problems']}", fontsize=9)
            axis.set_xlabel("right, %", fontsize=8)
        return svg()


def _band(
    axis: Any,
    x: Sequence[int] | range,
    points: Sequence[OverSeeds],
    label: str,
    colour: str,
    marker: str | None = None,
) -> None:
    kept = [(at, 100 * one.mean, *_interval(one)) for at, one in zip(x, points, strict=True) if one.mean is not None]
    places, means, low, high = zip(*kept, strict=True) if kept else ((), (), (), ())
    axis.plot(places, means, color=colour, lw=1.6, marker=marker, ms=4, label=label)
    axis.fill_between(places, [100 * x for x in low], [100 * x for x in high], color=colour, alpha=0.12, lw=0)


def _interval(one: OverSeeds) -> tuple[float, float]:
    """As drawn, of a mean that is there: nothing where there are too few seeds, and no share below 0 or above 1."""
    assert one.mean is not None
    if one.low is None or one.high is None or one.n < HOLDS_FROM:
        return one.mean, one.mean
    return max(0.0, one.low), min(1.0, one.high)


def some_of(found: Mapping[str, Any]) -> str:
    """Of how many seeds a mean is, in words; nothing where every seed has a value."""
    return "" if found["n"] == found["of"] else f" ({found['n']} of {found['of']} seeds)"


def _runs(results: Results, method: str) -> list[Mapping[str, Any]]:
    return [run for run in results["runs"].values() if run["method"] == method]


def _iterations(results: Results) -> list[str]:
    return sorted({i for run in results["runs"].values() for i in run["iterations"]}, key=int)


def _colour(results: Results, method: str) -> str:
    return COLOURS[list(results["methods"]).index(method) % len(COLOURS)]


def _floor(results: Results) -> float:
    """Below what every run reaches in its first tenth there is nothing to see."""
    starts = [
        run["best_so_far"][len(run["best_so_far"]) // 10] for run in results["runs"].values() if run["best_so_far"]
    ]
    return max(0.0, 100 * min((start for start in starts if start is not None), default=0.0) - 2.0)


@contextmanager
def _drawn(
    rows: int, columns: int, size: tuple[float, float], *, alike: bool = False
) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Axes, all with the same limits if `alike`, and a function that gives what was drawn on them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style = {
        "svg.hashsalt": "mergewright",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=alike, sharey=alike)

        def svg() -> str:
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
            drawn = text.getvalue()
            return drawn[drawn.index("<svg") :]

        yield axes, svg
