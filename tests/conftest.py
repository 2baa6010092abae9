"""`--no-skips`: a run in which a test that did not run is a failure. `make test-full` passes it; elsewhere skips are what they always were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is there: processes that run tests side by side share few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """Python of an environment that has vLLM for CPUs: 3.3 GB, three minutes to make."""
    from tests.environments import VLLM  # here, so that a run without such a test reads nothing of ours

    return VLLM.python()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run, which names it")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--no-skips"):
        config.pluginmanager.register(NoSkips(), "no-skips")


class NoSkips:
    """Notes every skip, of a test or of a whole file while it is collected. An expected failure did run: it is no skip."""

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        skip = f"{report.nodeid} ({reason.removeprefix('Skipped: ')})"
        if skip not in self.skipped:  # every process that runs tests collects them all
            self.skipped.append(skip)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.skipped:
            line = f"--no-skips: expected every test to run, got {len(self.skipped)} skipped: {', '.join(self.skipped)}"
            terminalreporter.write_line(line, red=True)
