"""What the updates of a run came to, in plain lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def update_lines(updates: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """A line for every training of every update, and why those that were taken back were.

    Args:
        updates: reports as `Update.run` made them, by iteration.
    """
    lines = []
    for iteration, report in updates.items():
        what = f"Learning after iteration {iteration}, {report['method']}"
        lines += [f"{what}: {_attempt(report, attempt)}" for attempt in report["attempts"]]
        if not report["trained"]:
            lines.append(f"{what}: {report.get('refused', 'the generator stays as it was')}")
    return lines


def verdict_lines(iteration: int, report: Mapping[str, Any]) -> list[str]:
    """What one update came to, in a line or two: whether it stays, and what the gate saw.

    Args:
        report: as `Update.run` made it, with its method.
    """
    attempts = report["attempts"]
    if report["trained"]:
        state = "the new version stays" + (f", at attempt {len(attempts)}" if len(attempts) > 1 else "")
    else:
        taken_back = "; ".join(reason for attempt in attempts[-1:] for reason in attempt["refused"])
        state = f"taken back: {taken_back}" if taken_back else report.get("refused", "the generator stays as it was")
    gate = [_gate(report["probe_before"], attempts[-1]["probe"])] if attempts and attempts[-1]["probe"] else []
    return [f"after iteration {iteration}, {report['method']}: {state}", *gate]


def _gate(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return (
        f"of {after['programs']} programs {_percent(after['valid'])} valid after {_percent(before['valid'])}, "
        f"{_percent(after['distinct'])} distinct, {_percent(after['repeats'])} repeats, KL {after['kl']:.3f}"
    )


def _attempt(report: Mapping[str, Any], attempt: Mapping[str, Any]) -> str:
    parts = [_lesson(lesson) for lesson in attempt["lessons"]]
    before, after = report.get("probe_before"), attempt["probe"]
    if before and after:
        parts.append(_gate(before, after))
    if attempt["refused"]:
        parts.append(f"taken back: {', '.join(attempt['refused'])}")
    return "; ".join(parts)


def _lesson(figures: Mapping[str, Any]) -> str:
    text = f"{figures['examples']} examples, {figures['steps']} steps at {figures['learning_rate']:g}"
    if figures["loss_last"] is not None:
        text += f", loss {figures['loss_first']:.3f} → {figures['loss_last']:.3f}"
    if figures["held_out_losses"]:
        text += f", held out {' → '.join(f'{loss:.3f}' for loss in figures['held_out_losses'])}"
    return text


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
