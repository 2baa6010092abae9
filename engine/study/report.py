"""A study's report: one HTML file with its figures inside, and the lines for the terminal. Everything is read from the results."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from engine.errors import HostError
from engine.study.figures import figures, some_of
from engine.study.runner import RESULTS_FILE
from engine.whole_file import write_whole

Results = Mapping[str, Any]

TITLES = {
    "by-iteration": "By iteration: mean over the seeds that have a value, 95 % interval where there are three or more",
    "histograms": "Dev scores of all scored programs, by iteration",
    "best-so-far": "Best dev score after so many programs: mean over the seeds that have one, 95 % interval where there are three or more",
    "held-out": "The program first on dev of every run, on problems that no run met: each seed that has one, their mean, and 95 % interval over seeds and problems where there are three or more; dashed: the human-made merge first on dev",
}


def write_report(results: Results, out: Path) -> Path:
    """Write results.json, report.html and figures/*.svg into the study's folder; answers with the report's path.

    Raises:
        HostError: they cannot be written.
    """
    drawn = figures(results)
    try:
        (out / "figures").mkdir(exist_ok=True)
        write_whole(out / RESULTS_FILE, json.dumps(results, indent=1))
        for name, svg in drawn.items():
            write_whole(out / "figures" / f"{name}.svg", svg)
        write_whole(out / "report.html", _page(results, drawn))
    except OSError as error:
        raise HostError(
            f"study '{out}': its report could not be written ({error.strerror}); free space, then give the same command again"
        ) from error
    return out / "report.html"


def _page(results: Results, drawn: Mapping[str, str]) -> str:
    environment = Environment(loader=PackageLoader("engine.study"), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"percent": _percent, "points": _points, "chance": _chance, "mean": _mean}
    measured = list(dict.fromkeys(name for values in results["methods"].values() for name in values))
    plain = list(dict.fromkeys(name for values in results["plain"].values() for name in values))
    seeds = Counter(run["method"] for run in results["runs"].values())
    page: str = environment.get_template("report.html").render(
        results=results, drawn=drawn, titles=TITLES, measured=measured, plain=plain, seeds=seeds, mixed=mixed(results)
    )
    return page


def lines(results: Results) -> list[str]:
    """The comparisons of a study, in plain lines."""
    text = []
    if results["added_late"]:
        text.append(f"Added after the held-out problems had been met: {'; '.join(results['added_late'])}")
    for one in results["comparisons"]:
        late = " (added late)" if one["added_late"] else ""
        text.append(
            f"{one['better']} against {one['than']}{late}, mean over seeds [95 %, held-out and transfer over problems too], p by flipping signs:"
        )
        for name, found in one["differences"].items():
            missing = f" of {found['of']} seeds, so nothing holds" if found["n"] < found["of"] else ""
            text.append(f"  {name:44s} {_points(found):28s} p = {_chance(found['p'])}, n = {found['n']}{missing}")
    text += [f"Runs of more than one {one}" for one in mixed(results)]
    human = results["held_out"]["human"]
    text.append(
        f"Human-made merge first on dev: {human['name']}, held-out {_percent(human['value'])} %, {results['held_out']['evaluations']} dev evaluations spent on all"
    )
    return text


def mixed(results: Results) -> list[str]:
    """What is not the same in all runs of the code that made them: its name, and each version with its runs."""
    return [
        f"{name}: " + "; ".join(f"{version} ({', '.join(runs)})" for version, runs in versions.items())
        for name, versions in results["made_by"].items()
        if len(versions) > 1
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _mean(found: Mapping[str, Any], form: str = "%.1f", times: float = 100) -> str:
    """A mean over seeds with its interval, and of how many seeds it is where some have no value."""
    mean, low, high = ("–" if found[key] is None else form % (times * found[key]) for key in ("mean", "low", "high"))
    interval = "" if found["low"] is None else f" [{low}, {high}]"
    return f"{mean}{interval}{some_of(found)}"


def _points(found: Mapping[str, Any], key: str = "mean") -> str:
    """A difference in points with its interval."""
    if found[key] is None:
        return "–"
    low, high = (found["low"], found["high"]) if "low" in found else found["interval"]
    interval = f" [{100 * low:+.1f}, {100 * high:+.1f}]" if low is not None else ""
    return f"{100 * found[key]:+.1f}{interval}"


def _chance(p: float | None) -> str:
    return "–" if p is None else f"{p:.2g}"
