"""Other processes that work: which may be asked for, and tasks on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from distributed import Client, Scheduler, SpecCluster, Worker

from store.cluster import workers as room
from store.cluster.client import await_workers, capacity, open_client
from store.cluster.tasks import RETRIES, Job, run_tasks
from store.cluster.workers import Workers
from store.process import Stop
from store.schema import SettingsError


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two workers of one thread each, which are threads of this process."""
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    workers = {name: {"cls": Worker, "options": {"nthreads": 1}} for name in ("one", "two")}
    with (
        SpecCluster(scheduler=scheduler, workers=workers) as cluster,
        open_client(Workers(scheduler=cluster.scheduler_address), lambda: 0) as opened,
    ):
        yield opened


def job(call: object) -> Job[int, int]:
    return Job(call=call, name=lambda task: f"task {task}", remedy="")  # type: ignore[arg-type] # a test's own function


def each(tasks: Iterable[int]) -> Callable[[], int | None]:
    """The tasks, one when asked."""
    waiting = iter(tasks)
    return lambda: next(waiting, None)


def test_only_one_kind_of_other_processes_is_used() -> None:
    assert not Workers()
    assert Workers(count=2)
    assert Workers(scheduler="tcp://node:8786")
    with pytest.raises(SettingsError, match="--workers starts processes on this machine, --scheduler uses"):
        Workers(count=2, scheduler="tcp://node:8786")


@pytest.mark.parametrize(
    ("asked", "named"), [({"count": 2}, "--workers"), ({"scheduler": "tcp://node:8786"}, "--scheduler")]
)
def test_without_dask_the_extra_is_named(asked: dict[str, object], named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "find_spec", lambda name: None)
    assert not Workers()
    with pytest.raises(
        SettingsError, match=rf"^{named} needs an extra; run `make setup`, or pip install '.\[cluster\]'"
    ):
        Workers(**asked)  # type: ignore[arg-type] # a test names its changes


def test_every_task_runs_once_and_comes_with_its_result(client: Client) -> None:
    done = dict(run_tasks(client, each(range(30)), job(lambda task: task * task), Stop()))
    assert done == {task: task * task for task in range(30)}


def test_results_may_lead_to_other_tasks(client: Client) -> None:
    """Each task below 100 is followed by two others, which are not known before."""
    waiting, done = deque([1]), list[int]()
    for task, result in run_tasks(
        client, lambda: waiting.popleft() if waiting else None, job(lambda task: 2 * task), Stop()
    ):
        done.append(task)
        if result < 200:
            waiting.extend([result, result + 1])
    assert sorted(done) == [*range(1, 200)]


def test_after_a_stop_no_other_task_is_started(client: Client, tmp_path: Path) -> None:
    stop, finished = Stop(), list[int]()

    def work(task: int) -> int:  # it is pickled, so what it did is told by files
        (tmp_path / f"{task}").touch()
        return task

    for task, _ in run_tasks(client, each(range(100)), job(work), stop):
        finished.append(task)
        stop.requested = True
    assert sorted(finished) == sorted(int(file.name) for file in tmp_path.iterdir())  # what was started is finished
    assert len(finished) == capacity(client)


def test_a_task_that_fails_is_tried_again_and_then_its_error_is_raised(client: Client, tmp_path: Path) -> None:
    def work(task: int) -> int:
        calls = len([*tmp_path.glob(f"{task}-*")])
        (tmp_path / f"{task}-{calls}").touch()
        if calls < task:
            raise SettingsError(f"{task} failed")
        return task

    assert dict(run_tasks(client, each([0, RETRIES]), job(work), Stop())) == {0: 0, RETRIES: RETRIES}
    assert len([*tmp_path.iterdir()]) == 1 + RETRIES + 1
    with pytest.raises(SettingsError, match="7 failed"):
        dict(run_tasks(client, each([7]), job(work), Stop()))


def test_a_stop_ends_the_wait_for_the_first_worker() -> None:
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    with SpecCluster(scheduler=scheduler, workers={}) as cluster, Client(cluster) as alone:
        await_workers(alone, Stop(requested=True))
        assert capacity(alone) == 1
