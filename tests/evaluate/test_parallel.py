"""Work in several processes: the order, the first error, what dies, what is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from evaluate.__main__ import app
from evaluate.parallel import ONE_THREAD, SHARE, choose_workers, in_parallel
from store.schema import PictureError, RunError
from tests.support.chores import die, double, refuse_large, threads
from tests.support.command_line import CommandLine
from tests.support.places import ROOT

PROGRAM = """
import signal, sys, typer
from functools import partial
from pathlib import Path
from evaluate.parallel import SHARE, in_parallel
from store.cli import run_app
from tests.support.chores import wait_in
app = typer.Typer()
@app.command()
def wait(folder: Path) -> None:
    in_parallel(partial(wait_in, folder), range(20), "waiting", 2, SHARE)
if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # the tests themselves run in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_app(app)
"""


def test_results_are_in_the_order_of_the_items_and_of_several_processes() -> None:
    found = in_parallel(double, range(40), "doubling", 2, SHARE)
    assert [number for number, _ in found] == [2 * number for number in range(40)]
    assert os.getpid() not in {process for _, process in found}


def test_what_is_small_stays_in_this_process() -> None:
    """Items that are worth one process and a half are not worth starting two."""
    for count, pixels, workers in ((40, SHARE // 40 - 1, 8), (3, SHARE // 2, 8), (40, SHARE, 1), (0, SHARE, 8)):
        found = in_parallel(double, range(count), "doubling", workers, pixels)
        assert found == [(2 * number, os.getpid()) for number in range(count)]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_in_the_order_of_the_items_is_raised(workers: int) -> None:
    with pytest.raises(PictureError, match=r"^picture 5 is broken$"):
        in_parallel(refuse_large, range(10), "checking", workers, SHARE)


def test_a_process_that_dies_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(RunError, match=r"a process for 'scoring' died: usually memory ran out; .* fewer --workers"):
        in_parallel(die, range(4), "scoring", 2, SHARE)


def test_libraries_of_a_process_use_one_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found = in_parallel(threads, range(2), "asking", 2, SHARE)
    assert all(one[name] == "1" for one in found for name in ONE_THREAD)
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_there_are_as_many_processes_as_cores_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    assert (choose_workers(None), choose_workers(2), choose_workers(8)) == (3, 2, 8)


@pytest.mark.parametrize("number", [0, -1])
def test_fewer_than_one_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    line = CommandLine("evaluate", app, monkeypatch, capsys)
    done = line("score", "--run", tmp_path, "--workers", number)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"error: --workers {number}: must be at least 1; leave it out for one on each core"
    ]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def alive(process: int) -> bool:
    """Whether it runs; what nobody waits for is a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("number", "late"), [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGKILL, False)])
def test_ctrl_c_ends_all_processes_in_one_line_and_nobody_outlives_the_parent(
    tmp_path: Path, number: signal.Signals, late: bool
) -> None:
    """Ctrl-C goes to the whole process group, and may reach the parent `late`; a kill to the parent alone."""
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [sys.executable, str(tmp_path / "program.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True) as running:
        wait_for(lambda: len([*tmp_path.glob("*.pid")]) == 2, "two processes work")
        wait_for(lambda: all(file.read_text() for file in tmp_path.glob("*.pid")), "both are named")
        workers = [int(file.read_text()) for file in tmp_path.glob("*.pid")]
        for worker in workers if late else ():
            with suppress(ProcessLookupError):  # the pool ends all when it misses one
                os.kill(worker, number)
        time.sleep(0.3 if late else 0)
        (os.killpg if number is signal.SIGINT and not late else os.kill)(running.pid, number)
        said = running.communicate(timeout=60)[1]
    wait_for(lambda: not any(map(alive, workers)), "the processes end")
    if number is signal.SIGINT:
        assert running.returncode == 3
        lines = [line for line in said.splitlines() if "waiting: " not in line]
        assert lines == ["stopped by Ctrl-C: what is already written is kept; run the same command to resume"]


def test_where_no_processes_can_start_threads_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evaluate.parallel.processes_fault", lambda count: f"no room for {count} of them")
    assert in_parallel(str, [1, 2, 3], "counting", workers=2, pixels=1 << 30) == ["1", "2", "3"]
    assert "note: counting in threads of one process, which is slower: no room for 2 of them" in capsys.readouterr().err
