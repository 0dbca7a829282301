"""The units of a build on a Dask cluster: processes on this machine, or the workers of a scheduler.

A task is one unit, and a unit owns its shards, so no two tasks write one file; a unit that ran twice wrote the same
bytes twice. A worker loads the networks once and keeps them. Where workers offer the resource GPU, a task asks for a
third of a GPU: one unit is enlarged while another is read and a third is packed and written. A task that runs again
after its worker died first checks whether its unit is already committed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any

import dask
from distributed import Client, KilledWorker, Nanny, Scheduler, SpecCluster, as_completed

from prep.build.runner import Clock, Committed, PairsOfUnit, Processes, Stage
from prep.build.units import Work, enlarge_unit, read_unit, write_unit
from prep.settings import Device, PrepSettings
from prep.upscaling.upscale import Enlarges, UpscalerChoice, make_upscaler
from store.cli import say
from store.format.layout import Unit
from store.location.base import Location
from store.process import KEEPING, Stop
from store.schema import Pair, SettingsError, StoreError
from store.writing.writer import StoreWriter

RETRIES = 3  # of a unit that raised an error
DEATHS = 3  # workers that may die at one unit before it is given up; `distributed` counts these separately
GPU = "GPU"  # the resource that GPU workers are started with: `dask worker --resources GPU=1`
UNITS_OF_A_GPU = 3  # at once: one is read, one enlarged, one packed and written
SHARE = 0.33  # of a GPU that a unit asks for
PRE_SPAWN = "distributed.nanny.pre-spawn-environ"  # environment that a worker's process must have when it starts
LOOPBACK = "127.0.0.1"
TIMEOUT = 30  # seconds for a scheduler to answer
POLL = 1  # seconds between checks for a first worker

IGNORE_SIGNALS = """# a signal to the process group is for the builder: it starts no other unit, workers finish theirs
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
"""

_LOADING, _ENLARGING = threading.Lock(), threading.Lock()


class Cluster:
    """Runs units in other processes: on new ones of this machine, or on the workers of a scheduler."""

    def __init__(self, work: Work, processes: Processes) -> None:
        self._work, self._processes = work, processes

    def run(self, units: Sequence[PairsOfUnit], writer: StoreWriter, stop: Stop) -> Iterator[Committed]:
        """Write these units; yields each that is committed.

        After a stop is requested no other unit is started. Raises the error of a unit that failed after its retries,
        and StoreError when several workers died at one.
        """
        with _client(self._processes, self._work.upscaler) as client:
            say(f"dashboard of the cluster: {client.dashboard_link}")
            _await_workers(client, stop)
            share = _gpu_share(client) if self._work.upscaler.on_gpu else None
            clock, waiting, running = Clock(), iter(units), dict[str, Unit]()

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

            completed = as_completed(start(_capacity(client)))
            for future in completed:
                unit = running.pop(str(future.key))
                clock.add(_result(future, unit))
                yield Committed(unit=unit, limit=clock.limit)
                for other in start(_capacity(client) - len(running)):
                    completed.add(other)


def ask_worker(ask: Callable[[PrepSettings], PrepSettings], settings: PrepSettings, scheduler: str) -> PrepSettings:
    """The answer of a worker of `scheduler`, one with a GPU unless the settings exclude it."""
    with _scheduler_client(scheduler) as client:
        _await_workers(client, Stop())
        share = None if settings.device is Device.CPU else _gpu_share(client)
        answer: PrepSettings = client.submit(ask, settings, resources=share, pure=False).result()
        return answer


def run_unit(work: Work, unit: Unit, pairs: tuple[Pair, ...], location: Location, threads: int) -> dict[Stage, float]:
    """Write one unit unless it is already committed; returns the seconds of each stage. Runs in a worker."""
    writer, clock = StoreWriter(location, work.manifest), Clock()
    if writer.is_committed(unit):
        return clock.seconds
    with ThreadPoolExecutor(threads) as pool, clock.time(Stage.READING):
        loaded = read_unit(work, unit, pairs, pool)
    upscaler = _load(work.upscaler)
    with _ENLARGING, clock.time(Stage.ENLARGING):
        enlarged = enlarge_unit(loaded, upscaler)
    with clock.time(Stage.WRITING):
        write_unit(writer, enlarged, threads)
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


@contextmanager
def _client(processes: Processes, choice: UpscalerChoice) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a cluster on this machine that ends with it."""
    if processes.scheduler:
        with _scheduler_client(processes.scheduler) as client:
            yield client
        return
    dask.config.set({"distributed.scheduler.allowed-failures": DEATHS})
    with _cluster(processes.workers, _count_gpus(choice)) as cluster, Client(cluster) as client:
        yield client


@contextmanager
def _scheduler_client(address: str) -> Iterator[Client]:
    dask.config.set({"distributed.scheduler.allowed-failures": DEATHS})
    try:
        client = Client(address, timeout=TIMEOUT)
    except (OSError, ValueError, TimeoutError) as error:
        raise SettingsError(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`, and give the address "
            "that it prints, such as tcp://node:8786, with --scheduler (make: SCHEDULER=)"
        ) from error
    with client:
        yield client


def _count_gpus(choice: UpscalerChoice) -> int:
    """The GPUs of this machine that the upscaler uses."""
    if not choice.on_gpu:
        return 0
    from prep.upscaling.devices import count_gpus

    return count_gpus()


def _cluster(workers: int, gpus: int) -> SpecCluster:
    """Processes on this machine: one for each GPU, or all of them share the processor cores."""
    if gpus and workers > gpus:
        raise SettingsError(
            f"--workers {workers}: one worker uses one GPU, and there are {gpus}; give at most {gpus} (make: WORKERS=)"
        )
    cores = max(1, (os.cpu_count() or 1) // workers)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    dask.config.set({PRE_SPAWN: KEEPING | dict.fromkeys(names, str(cores))})
    options = [
        {
            "nthreads": UNITS_OF_A_GPU if gpus else 1,
            "env": {"CUDA_VISIBLE_DEVICES": str(index)} if gpus else {},
            "resources": {GPU: 1} if gpus else {},
            "silence_logs": logging.ERROR,
            "preload": [IGNORE_SIGNALS],
        }
        for index in range(workers)
    ]
    return SpecCluster(
        scheduler={"cls": Scheduler, "options": {"dashboard_address": ":0", "host": LOOPBACK, "port": 0}},
        workers={index: {"cls": Nanny, "options": each} for index, each in enumerate(options)},
        name="magstain",
        silence_logs=logging.ERROR,
    )


def _await_workers(client: Client, stop: Stop) -> None:
    """Wait until there is a worker; a cluster may take hours to start one."""
    said = False
    while not client.nthreads() and not stop.requested:
        if not said:
            say("waiting for the first worker of the cluster; Ctrl-C stops")
            said = True
        time.sleep(POLL)


def _capacity(client: Client) -> int:
    """How many units may be started: one for each thread of a worker, and one in reserve for each worker."""
    threads: list[int] = [*client.nthreads().values()]
    return max(1, sum(threads) + len(threads))


def _gpu_share(client: Client) -> dict[str, float] | None:
    """The share of a GPU that a unit asks for, if workers say that they have one."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {GPU: SHARE} if any(GPU in worker["resources"] for worker in workers) else None
