"""The parent's side: limits, reasons, what stays behind (nothing), and what the caller may give."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from sandbox import (
    Isolation,
    IsolationError,
    JobError,
    KilledError,
    Limits,
    ParameterError,
    Reason,
    Sandbox,
    SandboxError,
    TensorJob,
    ZygoteError,
    host,
)
from sandbox.outcome import Outcome

SUM = "def merge_models(model_dict, device):\n    return sum(model_dict.values())\n"
LOOP = "def merge_models(model_dict, device):\n    while True:\n        pass\n"


def job(name: str = "w", seed: int = 1, shape: tuple[int, ...] = (3, 2), base: torch.Tensor | None = None) -> TensorJob:
    generator = torch.Generator().manual_seed(seed)
    return TensorJob(name, 0.5, {m: torch.randn(shape, generator=generator) for m in ("a", "b")}, base, seed)


def zygote_pid(box: Sandbox) -> int:
    assert box.isolation.level != "NONE"
    assert box._zygote is not None
    launcher = box._zygote._process.pid
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return int(children[0]) if children else launcher


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def busy_children_of(pid: int) -> list[str]:
    """Those at work: one child, forked ahead, waits for the next program."""
    busy = []
    for child in children_of(pid):
        with suppress(OSError):
            ticks = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11])
            if ticks >= 10:
                busy.append(child)
    return busy


@pytest.fixture
def tight(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The same warm zygote under other limits (they travel with each request)."""
    monkeypatch.setattr(box, "limits", Limits(wall_seconds=1.5, cpu_seconds=20, memory_bytes=256 << 20))
    return box


def test_timeout_is_by_the_parents_clock_and_kills(tight: Sandbox) -> None:
    result = tight.execute(LOOP, [job()])
    assert result.reason is Reason.TIMEOUT
    assert 1.5 <= result.seconds < 2.5
    assert busy_children_of(zygote_pid(tight)) == []


def test_cpu_limit_has_its_own_reason(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "limits", Limits(wall_seconds=60, cpu_seconds=1))
    assert box.execute(LOOP, [job()]).reason is Reason.CPU


@pytest.mark.parametrize(("megabytes", "reason"), [(100, None), (400, Reason.MEMORY)])
def test_memory_limit_counts_above_the_zygotes_own(tight: Sandbox, megabytes: int, reason: Reason | None) -> None:
    source = f"import torch\ndef merge_models(m, d):\n    y = torch.ones({megabytes} << 18)\n    return m['a'] * y[0]\n"
    result = tight.execute(source, [job()])
    assert result.reason is reason
    if reason is None:
        assert result.peak_memory_bytes > megabytes << 20


def kill_children(box: Sandbox, times: int) -> threading.Thread:
    """Kills the next `times` children of the zygote from outside, as the system does for want of memory."""
    zygote = zygote_pid(box)

    def watch() -> None:
        deadline = time.monotonic() + 20
        killed: set[str] = set()
        while len(killed) < times and time.monotonic() < deadline:
            for pid in set(busy_children_of(zygote)) - killed:
                os.kill(int(pid), signal.SIGKILL)
                killed.add(pid)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_program_that_is_killed_from_outside_once_is_run_again(tight: Sandbox) -> None:
    killer = kill_children(tight, 1)
    assert tight.execute(LOOP, [job()]).reason is Reason.TIMEOUT
    killer.join()


def test_a_program_that_is_killed_from_outside_twice_is_a_fault_of_the_host(tight: Sandbox) -> None:
    killer = kill_children(tight, 2)
    with pytest.raises(KilledError, match="killed twice from outside") as caught:
        tight.execute(LOOP, [job()])
    killer.join()
    assert "\n" not in str(caught.value)
    assert tight.execute(SUM, [job()]).ok


@pytest.mark.parametrize(
    ("grown", "filtered", "reason"), [(200 << 20, True, Reason.MEMORY), (1 << 20, False, Reason.CRASH)]
)
def test_a_kill_that_the_program_may_have_brought_about_stops_no_campaign(
    tight: Sandbox, monkeypatch: pytest.MonkeyPatch, grown: int, filtered: bool, reason: Reason
) -> None:
    assert tight.isolation
    runs = []

    def killed(*_: object) -> Outcome:
        runs.append(1)
        return Outcome(signal.SIGKILL, False, 0.1, 0.1, grown + (300 << 20), grown, filtered)

    monkeypatch.setattr(host._Zygote, "run", killed)
    assert tight.execute(SUM, [job()]).reason is reason
    assert len(runs) == 2


def test_nothing_stays_behind(box: Sandbox) -> None:
    pid = zygote_pid(box)
    box.execute(SUM, [job()])
    before = (sorted(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{pid}/fd")))
    for source in (SUM, "def merge_models(m, d):\n    return 1 / 0\n", "import os", SUM.replace("sum", "nosuch")):
        box.execute(source, [job()])
    assert (sorted(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{pid}/fd"))) == before
    assert len(children_of(pid)) <= 1  # the one that waits for the next program


def test_a_waiting_child_that_dies_costs_no_program(box: Sandbox) -> None:
    zygote = zygote_pid(box)
    for child in children_of(zygote):
        os.kill(int(child), signal.SIGKILL)
    assert box.execute(SUM, [job()]).ok


def test_closing_ends_every_process() -> None:
    sandbox = Sandbox()
    pid = zygote_pid(sandbox)
    sandbox.close()
    assert not Path(f"/proc/{pid}").exists()


def test_a_killed_zygote_is_replaced(box: Sandbox) -> None:
    os.kill(zygote_pid(box), signal.SIGKILL)
    assert box.execute(SUM, [job()]).ok


class DyingZygote:
    """Answers nothing."""

    owner = os.getpid()
    isolation = Isolation("NONE", ("rlimits: gone",))

    def __init__(self, device: str, large_tensors: bool) -> None:
        assert (device, large_tensors) == ("cpu", False)

    def run(self, *_: object) -> None:
        raise ZygoteError("it is gone")

    def close(self) -> None:
        pass


def test_a_zygote_that_keeps_dying_is_a_fault_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_Zygote", DyingZygote)
    with pytest.raises(ZygoteError, match="died twice"):
        Sandbox(allow_none=True).execute(SUM, [job()])


def test_none_is_refused_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_Zygote", DyingZygote)
    with pytest.raises(IsolationError, match="expected at least REDUCED isolation, got NONE"):
        Sandbox().__enter__()
    assert Sandbox(allow_none=True).isolation.level == "NONE"


def test_an_interrupted_wait_does_not_answer_the_next_program(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    assert box.isolation
    with monkeypatch.context() as patch:
        patch.setattr(host._Zygote, "_wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            box.execute("def merge_models(m, d):\n    return 1\n", [job()])
    assert box.execute(SUM, [job()]).ok


@pytest.mark.parametrize(
    ("status", "started", "starved", "reason"),
    [
        (70 << 8, True, False, Reason.CRASH),
        (signal.SIGKILL, True, True, Reason.MEMORY),
        (signal.SIGSYS, True, False, Reason.SYSCALL),
    ],
)
def test_what_a_program_that_has_started_does_is_never_a_fault_of_the_host(
    tight: Sandbox, monkeypatch: pytest.MonkeyPatch, status: int, started: bool, starved: bool, reason: Reason
) -> None:
    assert tight.isolation
    outcome = Outcome(status, False, 0.1, 0.1, 1 << 20, 1 << 20, True, started, starved=starved)
    monkeypatch.setattr(host._Zygote, "run", lambda *_: outcome)
    assert tight.execute(SUM, [job()]).reason is reason


def test_a_child_that_ends_before_the_program_starts_is_a_fault_of_the_host(
    tight: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tight.isolation
    outcome = Outcome(signal.SIGSYS, False, 0.1, 0.1, 1 << 20, 1 << 20, True, started=False)
    monkeypatch.setattr(host._Zygote, "run", lambda *_: outcome)
    with pytest.raises(ZygoteError, match="could not be confined: wait status 31"):
        tight.execute(SUM, [job()])


def test_a_start_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "ZYGOTE_FILE", Path("/nonexistent/zygote.py"))
    with pytest.raises(ZygoteError, match="did not start"):
        Sandbox().__enter__()


def test_one_bad_tensor_fails_the_whole_with_its_name(box: Sandbox) -> None:
    source = "def merge_models(m, d, name):\n    return m['a'] if name != 'second' else m['a'][0]\n"
    result = box.execute(source, [job("first"), job("second", 2), job("third", 3)])
    assert (result.ok, result.outputs, result.sha256) == (False, None, None)
    assert result.reason is Reason.WRONG_SHAPE
    assert result.detail == "tensor 'second': expected shape (3, 2), as the inputs, got (2,)"


def test_exceptions_carry_the_line_of_the_program(box: Sandbox) -> None:
    result = box.execute("def helper():\n    return 1 / 0\n\ndef merge_models(m, d):\n    return helper()\n", [job()])
    assert (result.reason, result.line) == (Reason.EXCEPTION, 2)
    assert result.detail == "tensor 'w': ZeroDivisionError: division by zero"


def test_nothing_survives_from_one_tensor_to_the_next(box: Sandbox) -> None:
    source = (
        "seen = []\ndef merge_models(m, d):\n    seen.append(1)\n    m['a'][0] = 9\n    return m['b'] * len(seen)\n"
    )
    jobs = [job("first"), job("second", 2)]
    result = box.execute(source, jobs)
    assert result.outputs is not None
    assert torch.equal(result.outputs["second"], jobs[1].vectors["b"])


def test_the_callers_tensors_are_not_touched(box: Sandbox) -> None:
    given = job()
    before = given.vectors["a"].clone()
    result = box.execute("def merge_models(m, d):\n    return m['a'].mul_(0)\n", [given])
    assert result.ok
    assert torch.equal(given.vectors["a"], before)


def test_results_do_not_depend_on_the_order_of_jobs(box: Sandbox) -> None:
    source = "import torch, random\ndef merge_models(m, d, rng):\n    return m['a'] * random.random() + torch.randn_like(m['a']) + torch.rand(1, generator=rng)\n"
    jobs = [job("first", 5), job("second", 6)]
    forward, backward = box.execute(source, jobs), box.execute(source, jobs[::-1])
    assert forward.sha256 == backward.sha256 is not None
    assert forward.sha256 != box.execute(source, [job("first", 7), jobs[1]]).sha256


def test_packed_jobs_give_the_same_and_can_be_used_again(box: Sandbox) -> None:
    jobs = [job("first"), job("second", 2)]
    with box.pack(jobs) as packed:
        assert box.execute(SUM, packed).sha256 == box.execute(SUM, packed).sha256 == box.execute(SUM, jobs).sha256
    with pytest.raises(JobError, match="pack them again"):
        box.execute(SUM, packed)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (2, 3, 4, 5)])
def test_any_shape_goes_through(box: Sandbox, shape: tuple[int, ...]) -> None:
    given = job(shape=shape)
    result = box.execute(SUM, [given])
    assert result.outputs is not None
    assert torch.equal(result.outputs["w"], given.vectors["a"] + given.vectors["b"])


def test_what_is_printed_goes_nowhere(box: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    assert box.execute("def merge_models(m, d):\n    print('loud', m)\n    return m['a']\n", [job()]).ok
    assert capfd.readouterr() == ("", "")


def test_threads_take_turns(box: Sandbox) -> None:
    given, results = job(), []
    threads = [threading.Thread(target=lambda: results.append(box.execute(SUM, [given]).sha256)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len(set(results)) == 1


def test_a_fork_of_the_caller_starts_its_own(box: Sandbox) -> None:
    assert box.execute(SUM, [job()]).ok
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if box.execute(SUM, [job()]).ok else 2
            box.close()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert box.execute(SUM, [job()]).ok


SCALED = "def merge_models(m, d, *, scale=0.5, mode='mean', power=-1):\n    return m['a'] * scale\n"


def test_hyper_parameters_are_set_by_name(box: Sandbox) -> None:
    given = job()
    result = box.execute(SCALED, [given], {"scale": 0.1})
    assert result.outputs is not None
    assert torch.equal(result.outputs["w"], given.vectors["a"] * 0.1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"density": 1.0}, r"expected one that the program declares \(power, scale\), got 'density'"),
        ({"mode": 1.0}, r"expected one that the program declares"),
        ({"scale": float("nan")}, "expected a finite number, got nan"),
        ({"scale": True}, "expected a finite number, got True"),
    ],
)
def test_wrong_hyper_parameters_are_the_users_error(box: Sandbox, parameters: dict[str, float], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        box.execute(SCALED, [job()], parameters)


def test_base_is_asked_for_where_it_is_wanted(box: Sandbox) -> None:
    source = "def merge_models(m, d, base):\n    return m['a'] + base\n"
    with pytest.raises(JobError, match="declares 'base'"):
        box.execute(source, [job()])
    assert box.execute(source, [job(base=torch.ones(3, 2))]).ok


@pytest.mark.parametrize("limits", [Limits(wall_seconds=0), Limits(memory_bytes=-1), Limits(cpu_seconds=float("inf"))])
def test_senseless_limits_are_refused(limits: Limits) -> None:
    with pytest.raises(SandboxError, match="expected a positive number"):
        Sandbox(limits)


@pytest.mark.parametrize(
    "body",
    [
        "return {'x': 1}[merge_models]",
        "raise ValueError(f'{object()} {merge_models}')",
        "raise ValueError('\\x1b' * 5000 + str(merge_models))",
    ],
)
def test_details_are_the_same_in_every_process(box: Sandbox, body: str) -> None:
    source = f"def merge_models(m, d):\n    {body}\n"
    with Sandbox() as other:
        here, there = box.execute(source, [job()]), other.execute(source, [job()])
    assert here.reason is Reason.EXCEPTION
    assert here.detail == there.detail


def test_a_detail_holds_no_address(box: Sandbox) -> None:
    detail = box.execute("def merge_models(m, d):\n    return {}[merge_models]\n", [job()]).detail
    assert detail == "tensor 'w': KeyError: <function merge_models at 0x…>"


ORDERS = {
    "strings": "    order = list({'alpha', 'beta', 'gamma', 'delta', 'epsilon'} | set(m))\n"
    "    return m['a'] * sum(len(s) * 3.0 ** i for i, s in enumerate(order))\n",
    "tensors": "    rows = {m['a'] * k for k in range(40)}\n"
    "    return sum(row * 1.001 ** i for i, row in enumerate(rows))\n",
    "hash": "    return m['a'] * (hash('name') % 1000 + hash(m['b']) % 1000)\n",
}


@pytest.mark.parametrize("kind", ORDERS)
def test_the_order_of_a_set_is_the_same_in_every_process_and_job(box: Sandbox, kind: str) -> None:
    source = "def merge_models(m, d):\n" + ORDERS[kind]
    jobs = [job("first"), job("second", 2)]
    with Sandbox() as other:
        assert other.execute("def merge_models(m, d):\n    return list(m.values())[0]\n", jobs).ok
        results = [box.execute(source, jobs), box.execute(source, jobs[::-1]), other.execute(source, jobs)]
    assert results[0].ok, results[0].detail
    assert len({result.sha256 for result in results}) == 1


def test_tensors_in_sets_and_their_deep_copies_stay_apart(box: Sandbox) -> None:
    source = (
        "import copy\ndef merge_models(m, d):\n    a = m['a']\n    kept = {a, m['b'], a}\n"
        "    kept.add(copy.deepcopy(a))\n    kept.add(0)\n    assert len(kept) == 4 and a in kept and len({a: 1, m['b']: 2}) == 2\n"
        "    return a\n"
    )
    result = box.execute(source, [job()])
    assert result.ok, result.detail


def test_detail_is_cut_and_escaped(box: Sandbox) -> None:
    result = box.execute("def merge_models(m, d):\n    raise ValueError('\\x1b[2J' + 'é' * 5000)\n", [job()])
    assert result.detail is not None
    assert "\\x1b[2J" in result.detail
    assert len(result.detail.encode()) <= box.limits.detail_bytes


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("def merge_models(model_dict, device, *, a=1, a=2):\n    return sum(model_dict.values())\n", 1),
        ("def merge_models(model_dict, device):\n    break\n    return sum(model_dict.values())\n", 2),
        ("def merge_models(model_dict, device):\n    nonlocal q\n    return sum(model_dict.values())\n", 2),
        ("return 3\ndef merge_models(model_dict, device):\n    return sum(model_dict.values())\n", 1),
    ],
)
def test_a_mistake_that_only_the_compiler_finds_is_syntax_not_an_attack(box: Sandbox, source: str, line: int) -> None:
    result = box.execute(source, [TensorJob("w", 0.0, {"a": torch.ones(2)}, None, 0)])
    assert (result.reason, result.line) == (Reason.SYNTAX, line), result.detail
