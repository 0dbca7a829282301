"""The units of a build on a Dask cluster: processes on this machine, or whatever a scheduler has.

A task is one unit, and a unit owns its shards, so no two tasks write one file; a unit that ran twice wrote the same
bytes twice. A worker loads the networks once and keeps them. Where workers offer the resource GPU, a task asks for a
third of a GPU: one unit is enlarged while another is read and a third is packed and written. A task that is run again
after its worker died looks first whether its unit was already committed.
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

from prep.build.pipeline import ENLARGING, READING, WRITING, Clock, write_unit
from prep.build.units import Work, enlarge_unit, read_unit
from prep.settings import Device, Enlarger, PrepSettings
from prep.upscaling.upscale import Enlarges, count_gpus, make_upscaler, settle
from store.format.layout import Unit
from store.location.base import Location
from store.process import KEEPING, Stop
from store.schema import Pair, SettingsError, StoreError
from store.writing.writer import StoreWriter

RETRIES = 3  # of a unit that raised an error
DEATHS = 3  # workers that may die at one unit before it is given up; `distributed` counts these apart
GPU = "GPU"  # the resource that GPU workers are started with: `dask worker --resources GPU=1`
UNITS_OF_A_GPU = 3  # at once: one is read, one enlarged, one packed and written
SHARE = 0.33  # of a GPU that a unit asks for
PRE_SPAWN = "distributed.nanny.pre-spawn-environ"  # what the C library must find when a worker's process begins
LOOPBACK = "127.0.0.1"
PATIENCE = 30  # seconds for a scheduler to answer
POLL = 1  # seconds between looks for a first worker

DEAF = """# a signal to the process group is the builder's to obey: it stops handing out, and workers finish
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
"""

_LOADING, _ENLARGING = threading.Lock(), threading.Lock()


def run_on_cluster(
    work: Work,
    settings: PrepSettings,
    units: Sequence[tuple[Unit, Sequence[Pair]]],
    location: Location,
    *,
    workers: int,
    scheduler: str,
    threads: int,
    stop: Stop,
    say: Callable[[str], None],
    done: Callable[[Unit, str], object],
) -> None:
    """Write these units on `workers` processes of this machine, or on the workers of `scheduler`.

    After a stop is requested no other unit is handed out. Raises what a unit raised after its retries, and StoreError
    when workers keep dying at one.
    """
    with _client(workers, scheduler, settings) as client:
        say(f"dashboard of the cluster: {client.dashboard_link}")
        _await_workers(client, stop, say)
        resources = _resources(client, settings)
        clock, waiting, running = Clock(), iter(units), dict[str, Unit]()

        def hand_out(number: int) -> list[Any]:
            futures = []
            for unit, pairs in islice(waiting, 0 if stop.requested else max(0, number)):
                futures.append(
                    client.submit(
                        run_unit, work, settings, unit, tuple(pairs), location, threads,
                        key=f"{unit.name}-{os.urandom(4).hex()}", retries=RETRIES, resources=resources, pure=False,
                    )
                )  # fmt: skip
                running[str(futures[-1].key)] = unit
            return futures

        completed = as_completed(hand_out(_places(client)))
        for future in completed:
            unit = running.pop(str(future.key))
            clock.add(_result(future, unit))
            done(unit, clock.limit)
            for other in hand_out(_places(client) - len(running)):
                completed.add(other)


def settle_there(settings: PrepSettings, scheduler: str, say: Callable[[str], None]) -> PrepSettings:
    """The settings with the device and the precision of a worker of `scheduler` in place of `auto`."""
    with _client(0, scheduler, settings) as client:
        _await_workers(client, Stop(), say)
        settled: PrepSettings = client.submit(
            settle, settings, resources=_resources(client, settings), pure=False
        ).result()
        return settled


def run_unit(
    work: Work, settings: PrepSettings, unit: Unit, pairs: tuple[Pair, ...], location: Location, threads: int
) -> dict[str, float]:
    """Write one unit unless it is already committed; returns the seconds that each stage took. Runs in a worker."""
    writer, clock = StoreWriter(location, work.manifest), Clock()
    if writer.is_committed(unit):
        return clock.busy
    with ThreadPoolExecutor(threads) as pool:
        loaded = clock.timed(READING, read_unit)(work, unit, pairs, pool)
    upscaler = _load(settings, work.factors)
    with _ENLARGING:
        enlarged = clock.timed(ENLARGING, enlarge_unit)(loaded, upscaler)
    clock.timed(WRITING, write_unit)(writer, enlarged, threads)
    return clock.busy


def _load(settings: PrepSettings, factors: frozenset[int]) -> Enlarges:
    """The upscaler of this worker, loaded once."""
    with _LOADING:
        return _loaded(settings, factors)


@cache
def _loaded(settings: PrepSettings, factors: frozenset[int]) -> Enlarges:
    return make_upscaler(settings, factors)


def _result(future: Any, unit: Unit) -> dict[str, float]:
    try:
        seconds: dict[str, float] = future.result()
    except KilledWorker as error:
        raise StoreError(
            f"unit {unit.name} was given up after {DEATHS} workers died at it, most likely for lack of memory; "
            "what is committed is safe: give the workers more memory or set unit= or batch= lower, and run it again"
        ) from error
    return seconds


@contextmanager
def _client(workers: int, scheduler: str, settings: PrepSettings) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a cluster on this machine that ends with it."""
    dask.config.set({"distributed.scheduler.allowed-failures": DEATHS})
    if scheduler:
        try:
            client = Client(scheduler, timeout=PATIENCE)
        except (OSError, ValueError, TimeoutError) as error:
            raise SettingsError(
                f"no Dask scheduler answers at {scheduler} ({error}); start one with `dask scheduler`, and give the "
                "address that it prints, such as tcp://node:8786"
            ) from error
        with client:
            yield client
        return
    with _cluster(workers, count_gpus(settings)) as cluster, Client(cluster) as client:
        yield client


def _cluster(workers: int, gpus: int) -> SpecCluster:
    """Processes on this machine: one for each GPU, or processor cores shared out among them."""
    if gpus and workers > gpus:
        raise SettingsError(f"--workers {workers}: one worker uses one GPU, and there are {gpus}; give at most {gpus}")
    cores = max(1, (os.cpu_count() or 1) // workers)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    dask.config.set({PRE_SPAWN: KEEPING | dict.fromkeys(names, str(cores))})
    options = [
        {
            "nthreads": UNITS_OF_A_GPU if gpus else 1,
            "env": {"CUDA_VISIBLE_DEVICES": str(index)} if gpus else {},
            "resources": {GPU: 1} if gpus else {},
            "silence_logs": logging.ERROR,
            "preload": [DEAF],
        }
        for index in range(workers)
    ]
    return SpecCluster(
        scheduler={"cls": Scheduler, "options": {"dashboard_address": ":0", "host": LOOPBACK, "port": 0}},
        workers={index: {"cls": Nanny, "options": own} for index, own in enumerate(options)},
        name="magstain",
        silence_logs=logging.ERROR,
    )


def _await_workers(client: Client, stop: Stop, say: Callable[[str], None]) -> None:
    """Wait until there is a worker; a cluster's queue may take hours to give one."""
    told = False
    while not client.nthreads() and not stop.requested:
        if not told:
            say("waiting for the first worker of the cluster; Ctrl-C stops")
            told = True
        time.sleep(POLL)


def _places(client: Client) -> int:
    """How many units to keep handed out: one for each thread of a worker, and one in reserve for each worker."""
    threads: list[int] = [*client.nthreads().values()]
    return max(1, sum(threads) + len(threads))


def _resources(client: Client, settings: PrepSettings) -> dict[str, float] | None:
    """What a unit asks for: a share of a GPU where the network runs on one and workers have said that they do."""
    if settings.upscaler is Enlarger.LANCZOS or settings.device is Device.CPU:
        return None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {GPU: SHARE} if any(GPU in worker["resources"] for worker in workers) else None
