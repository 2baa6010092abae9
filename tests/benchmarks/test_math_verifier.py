import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks import math_verifier
from benchmarks.errors import BenchmarkError, BenchmarkUserError
from benchmarks.math_answers import last_box
from benchmarks.math_verifier import ENVIRONMENT, MAX_CHARACTERS, WORKER, MathVerifier, equivalent
from benchmarks.math_worker import MEMORY_BYTES, load

GOLDENS = Path(__file__).parent / "goldens" / "math_answers.jsonl"
TOWER = "9^{9^{9^9}}"


@pytest.fixture(scope="module")
def verifier():
    """One for all: whatever a test does to its process, the next question is answered."""
    one = MathVerifier()
    yield one
    one.close()


def stand_in(body: str) -> tuple[str, ...]:
    """A worker that says it is ready and then does `body` with every line."""
    return (
        sys.executable,
        "-c",
        f"import os, sys, time\nprint('\"ready\"', flush=True)\nfor line in sys.stdin:\n    {body}",
    )


def pid(one: MathVerifier) -> int:
    assert one._process is not None
    return one._process.pid


def test_equal_objects_are_equivalent_and_others_are_not(verifier):
    assert verifier.equivalent(r"\frac{1}{2}", "0.5")
    assert verifier.equivalent("x=5", "5")
    assert not verifier.equivalent("5", "6")


def test_threads_share_one_process_and_get_their_own_verdicts(verifier):
    pairs = [(f"{a}", rf"\frac{{{2 * b}}}{{2}}") for a in range(6) for b in range(6)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda pair: verifier.equivalent(*pair), pairs)) == [
            a == b for a in range(6) for b in range(6)
        ]


def test_an_endless_computation_is_not_equivalent_and_the_next_pair_is_judged(verifier):
    assert verifier.equivalent("7", "7")
    before = pid(verifier)
    assert not verifier.equivalent("7", TOWER)
    assert verifier.equivalent("7", r"\frac{14}{2}")
    assert pid(verifier) != before


def test_the_process_has_limits_no_environment_and_no_place(verifier):
    verifier.equivalent("1", "2")
    status = Path(f"/proc/{pid(verifier)}")
    limits = {line[:25].strip(): line[26:].split()[0] for line in (status / "limits").read_text().splitlines()}
    assert limits["Max address space"] == str(MEMORY_BYTES)
    assert limits["Max file size"] == limits["Max processes"] == limits["Max core file size"] == "0"
    assert (status / "environ").read_text().rstrip("\0").split("\0") == [f"{k}={v}" for k, v in ENVIRONMENT.items()]
    assert os.readlink(status / "cwd") == "/"


def test_closing_leaves_no_process_and_a_later_question_starts_another(verifier):
    verifier.close()
    verifier.equivalent("1", "2")
    before = pid(verifier)
    verifier.close()
    assert not Path(f"/proc/{before}").exists()
    assert verifier.equivalent("1", "1.0")


def test_a_process_ended_from_outside_is_replaced(verifier):
    verifier.equivalent("1", "2")
    os.kill(pid(verifier), 9)
    assert verifier._process is not None
    verifier._process.wait()
    assert verifier.equivalent("1", "1.0")


def test_an_interrupted_question_does_not_answer_the_next_one(verifier, monkeypatch):
    verifier.equivalent("1", "2")

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(math_verifier, "_read_line", interrupt)
        with pytest.raises(KeyboardInterrupt):
            verifier.equivalent("1", "1.0")
    assert not verifier.equivalent("1", "3")


def test_a_pair_that_ends_the_process_twice_is_not_equivalent():
    one = MathVerifier(stand_in("os._exit(1)"))
    assert one.equivalent("1", "1") is False
    one.close()


def test_a_process_that_dies_once_gets_the_pair_again(tmp_path):
    flag = tmp_path / "died"
    one = MathVerifier(
        stand_in(f"f = {str(flag)!r}; os.path.exists(f) and print('true', flush=True) or (open(f, 'w'), os._exit(1))")
    )
    assert one.equivalent("1", "1") is True
    one.close()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("/nonexistent/python",), r"expected a process to check answers in, got: No such file"),
        ((sys.executable, "-c", "raise SystemExit(3)"), r"got: its end \(status 3\); install the versions"),
        (
            (sys.executable, "-c", 'print(\'{"error": "No module named math_verify"}\')'),
            r"got: No module named math_verify; install",
        ),
    ],
)
def test_a_process_that_cannot_start_is_the_hosts_fault_and_never_a_verdict(command, message):
    with pytest.raises(BenchmarkError, match=message) as caught:
        MathVerifier(command).equivalent("1", "1")
    assert not isinstance(caught.value, BenchmarkUserError)
    assert "\n" not in str(caught.value)


def test_a_machine_that_stands_still_is_the_hosts_fault():
    one = MathVerifier(stand_in("time.sleep(60)"), wall_seconds=0.05)
    with pytest.raises(
        BenchmarkError, match=r"expected a verdict within 0.05 s, got its process stalled or killed from outside"
    ):
        one.equivalent("1", "1")
    one.close()


def run_worker_with(change: str, lines: str = "") -> list[str]:
    """What the worker says after `change` was made to its module `worker`."""
    load = f"import importlib.util as u\nspec = u.spec_from_file_location('worker', {str(WORKER)!r})\n"
    code = f"{load}worker = u.module_from_spec(spec)\nspec.loader.exec_module(worker)\n{change}\nworker.main()"
    command = [sys.executable, "-s", "-P", "-c", code]
    return subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout.splitlines()


def test_libraries_that_read_nothing_are_found_out_at_the_start():
    assert run_worker_with("worker.load = lambda: lambda final, answer: False") == [
        '{"error": "it calls \\\\frac{1}{2} and 0.5 different"}'
    ]
    assert run_worker_with("import sys; sys.modules['math_verify'] = None")[0].startswith(
        '{"error": "import of math_verify'
    )


def test_the_limits_change_no_verdict():
    unlimited = load()
    cases = [json.loads(line) for line in GOLDENS.read_text().splitlines()]
    for case in cases:
        answer = last_box(case["text"])
        if answer and not case["strict"] and len(answer) <= MAX_CHARACTERS:
            assert equivalent(case["final"], answer) == unlimited(case["final"], answer), case


ATTEMPTS = """
import sys
sys.addaudithook(worker.refuse_source)
def attempt(source):
    try:
        return str(eval(source))
    except PermissionError:
        return "refused"
def main():
    from decimal import Decimal  # what an import compiles is its own
    print(attempt("__import__('os').getcwd()"), attempt("1+1"), attempt("Symbol ('x' )"))
    try:
        exec("x = 1")
    except PermissionError as error:
        print(error)
worker.main = main
"""


def test_no_source_but_numbers_is_compiled():
    assert run_worker_with(ATTEMPTS) == ["refused refused refused", "refused to compile 'x = 1'"]


def test_texts_of_any_length_are_answered(verifier):
    assert not verifier.equivalent("1" * MAX_CHARACTERS, "1")
    assert not verifier.equivalent("1" * (MAX_CHARACTERS + 1), "1" * (MAX_CHARACTERS + 1))
    assert not verifier.equivalent("1", "\U0001f600" * MAX_CHARACTERS)


def test_a_forked_child_asks_a_process_of_its_own():
    assert equivalent("1", "1.00")
    child = os.fork()
    if child == 0:
        same = equivalent("2", "2.00")
        math_verifier._shared.close()
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert equivalent("3", "3.00")


def test_a_pair_is_asked_once(monkeypatch):
    equivalent("12345", "12345.0")
    monkeypatch.setattr(math_verifier._shared, "_ask", None)
    assert equivalent("12345", "12345.0")
