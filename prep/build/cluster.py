"""The units of a build on a Dask cluster: processes on this machine, or the workers of a scheduler.

A task is one unit, and a unit owns its shards, so no two tasks write one file; a unit that ran twice wrote the same
bytes twice. A worker loads the networks once and keeps them. Where workers offer the resource GPU, a task asks for a
third of a GPU: one unit is enlarged while another is read and a third is packed and written. A task that runs again
after its worker died first checks whether its unit is already committed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

from prep.build.runner import Clock, Committed, PairsOfUnit, Processes, Stage
from prep.build.units import Work, enlarge_unit, pack_unit, read_unit
from prep.settings import Device
from prep.tiles.decoded import expecting
from prep.upscaling.upscale import Enlarges, UpscalerChoice, make_upscaler
from store.cli import say
from store.cluster.client import await_workers, gpu_share, open_client
from store.cluster.tasks import Job, run_tasks
from store.format.layout import Unit
from store.location.base import Location
from store.pairs.table import Pair
from store.process import Stop
from store.writing.writer import StoreWriter

REMEDY = (
    "committed units are safe: give the workers more memory, or start another store with a lower unit= or batch=, and "
    "run it again"
)
_LOADING, _ENLARGING = threading.Lock(), threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A unit with its pairs, and where it is written."""

    work: Work
    unit: Unit
    pairs: tuple[Pair, ...]
    location: Location
    threads: int


class Cluster:
    """Runs units in other processes: on new ones of this machine, or on the workers of a scheduler."""

    def __init__(self, work: Work, processes: Processes) -> None:
        self._work, self._processes, self._clock = work, processes, Clock()

    def run(self, units: Sequence[PairsOfUnit], writer: StoreWriter, stop: Stop) -> Iterator[Committed]:
        """Write these units; yields each that is committed.

        After a stop is requested no other unit is started. Raises the error of a unit that failed after its retries,
        and StoreError when several workers died at one.
        """
        choice, processes = self._work.upscaler, self._processes
        with open_client(processes.workers, lambda: count_gpus_for(choice, processes.workers.count)) as client:
            say(f"dashboard of the cluster: {client.dashboard_link}")
            await_workers(client, stop)
            job = Job(call=run_unit, name=_name, remedy=REMEDY, resources=gpu_share(client) if choice.on_gpu else None)
            tasks = (
                Task(
                    work=self._work, unit=unit, pairs=tuple(pairs), location=writer.location, threads=processes.threads
                )
                for unit, pairs in units
            )
            for task, seconds in run_tasks(client, lambda: next(tasks, None), job, stop):
                self._clock.add(seconds)
                yield Committed(unit=task.unit, limit=self._clock.slowest)

    def describe_limit(self) -> str:
        """The slowest stage, and its share of the time of all tasks."""
        slowest = self._clock.slowest
        return f"limited by {slowest}: {self._clock.share(slowest):.0%} of the time of all tasks"


def run_unit(task: Task) -> dict[Stage, float]:
    """Write one unit unless it is already committed; returns the seconds of each stage. Runs in a worker."""
    work, unit = task.work, task.unit
    writer, clock = StoreWriter(task.location, work.manifest), Clock()
    if writer.is_committed(unit):
        return clock.seconds
    with ThreadPoolExecutor(task.threads) as pool:
        with clock.time(Stage.READING):
            loaded = read_unit(work, unit, task.pairs, pool, expecting(task.pairs))
        upscaler = _load(work.upscaler)
        with clock.time(Stage.ENLARGING), _ENLARGING:  # waiting for the device is its time
            enlarged = enlarge_unit(loaded, upscaler)
        with clock.time(Stage.WRITING):
            writer.commit(unit, pack_unit(work, enlarged, pool))
    return clock.seconds


def count_gpus_for(choice: UpscalerChoice, workers: int) -> int:
    """The GPUs of this machine that the upscaler can use. Raises SettingsError if one that a worker gets cannot be."""
    if not choice.on_gpu:
        return 0
    from prep.upscaling.devices import check_device, count_gpus

    check_device(Device.CUDA, range(min(workers, count_gpus())))
    return count_gpus()


def _name(task: Task) -> str:
    return f"unit {task.unit.name}"


def _load(choice: UpscalerChoice) -> Enlarges:
    """The upscaler of this worker, loaded once."""
    with _LOADING:
        return _loaded(choice)


@cache
def _loaded(choice: UpscalerChoice) -> Enlarges:
    return make_upscaler(choice)
