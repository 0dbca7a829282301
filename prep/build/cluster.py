"""The units of a build on a Dask cluster: processes on this machine, or the workers of a scheduler.

A task is one unit, and a unit owns its shards, so no two tasks write one file; a unit that ran twice wrote the same
bytes twice. A worker loads the networks once and keeps them. Where workers offer the resource GPU, a task asks for a
third of a GPU: one unit is enlarged while another is read and a third is packed and written. A task that runs again
after its worker died first checks whether its unit is already committed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import islice
from typing import Any

from distributed import KilledWorker, as_completed

from prep.build.dask_client import DEATHS, await_workers, capacity, gpu_share, open_client
from prep.build.runner import Clock, Committed, PairsOfUnit, Processes, Stage
from prep.build.units import Work, enlarge_unit, pack_unit, read_unit
from prep.tiles.decoded import expecting
from prep.upscaling.upscale import Enlarges, UpscalerChoice, make_upscaler
from store.cli import say
from store.format.layout import Unit
from store.location.base import Location
from store.pairs.table import Pair
from store.process import Stop
from store.schema import StoreError
from store.writing.writer import StoreWriter

RETRIES = 3  # of a unit that raised an error
_LOADING, _ENLARGING = threading.Lock(), threading.Lock()


class Cluster:
    """Runs units in other processes: on new ones of this machine, or on the workers of a scheduler."""

    def __init__(self, work: Work, processes: Processes) -> None:
        self._work, self._processes, self._clock = work, processes, Clock()

    def run(self, units: Sequence[PairsOfUnit], writer: StoreWriter, stop: Stop) -> Iterator[Committed]:
        """Write these units; yields each that is committed.

        After a stop is requested no other unit is started. Raises the error of a unit that failed after its retries,
        and StoreError when several workers died at one.
        """
        with open_client(self._processes, self._work.upscaler) as client:
            say(f"dashboard of the cluster: {client.dashboard_link}")
            await_workers(client, stop)
            share = gpu_share(client) if self._work.upscaler.on_gpu else None
            waiting, running = iter(units), dict[str, Unit]()

            def start(number: int) -> list[Any]:
                futures = []
                for unit, pairs in islice(waiting, 0 if stop.requested else max(0, number)):
                    futures.append(
                        client.submit(
                            run_unit, self._work, unit, tuple(pairs), writer.location, self._processes.threads,
                            key=f"{unit.name}-{os.urandom(4).hex()}", retries=RETRIES, resources=share, pure=False,
                        )
                    )  # fmt: skip
                    running[str(futures[-1].key)] = unit
                return futures

            completed = as_completed(start(capacity(client)))
            for future in completed:
                unit = running.pop(str(future.key))
                self._clock.add(_result(future, unit))
                yield Committed(unit=unit, limit=self._clock.slowest)
                for other in start(capacity(client) - len(running)):
                    completed.add(other)

    def describe_limit(self) -> str:
        """The slowest stage, and its share of the time of all tasks."""
        slowest = self._clock.slowest
        return f"limited by {slowest}: {self._clock.share(slowest):.0%} of the time of all tasks"


def run_unit(work: Work, unit: Unit, pairs: tuple[Pair, ...], location: Location, threads: int) -> dict[Stage, float]:
    """Write one unit unless it is already committed; returns the seconds of each stage. Runs in a worker."""
    writer, clock = StoreWriter(location, work.manifest), Clock()
    if writer.is_committed(unit):
        return clock.seconds
    with ThreadPoolExecutor(threads) as pool:
        with clock.time(Stage.READING):
            loaded = read_unit(work, unit, pairs, pool, expecting(pairs))
        upscaler = _load(work.upscaler)
        with clock.time(Stage.ENLARGING), _ENLARGING:  # waiting for the device is its time
            enlarged = enlarge_unit(loaded, upscaler)
        with clock.time(Stage.WRITING):
            writer.commit(unit, pack_unit(work, enlarged, pool))
    return clock.seconds


def _load(choice: UpscalerChoice) -> Enlarges:
    """The upscaler of this worker, loaded once."""
    with _LOADING:
        return _loaded(choice)


@cache
def _loaded(choice: UpscalerChoice) -> Enlarges:
    return make_upscaler(choice)


def _result(future: Any, unit: Unit) -> dict[Stage, float]:
    try:
        seconds: dict[Stage, float] = future.result()
    except KilledWorker as error:
        raise StoreError(
            f"unit {unit.name} was given up after {DEATHS} workers died at it, most likely for lack of memory; "
            "committed units are safe: give the workers more memory, or start another store with a lower unit= or "
            "batch=, and run it again"
        ) from error
    return seconds
