"""A client of a Dask cluster: the workers of a scheduler, or processes that are started on this machine."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster

from store.cli import say
from store.cluster.workers import Workers
from store.machine.cores import count_cores
from store.machine.shared_memory import processes_fault
from store.process import KEEPING, Stop
from store.schema import SettingsError

T = TypeVar("T")

DEATHS = 3  # workers that may die at one task before it is given up; `distributed` counts these separately
VISIBLE = "CUDA_VISIBLE_DEVICES"
GPU = "GPU"  # the resource that GPU workers are started with: `dask worker --resources GPU=1`
TASKS_OF_A_GPU = 3  # at once: one is read, one computed, one packed and written
SHARE = 0.33  # of a GPU that a task asks for
PRE_SPAWN = "distributed.nanny.pre-spawn-environ"  # environment that a worker's process must have when it starts
LOOPBACK = "127.0.0.1"
TIMEOUT = 30  # seconds for a scheduler to answer
POLL = 1  # seconds between checks for a first worker

IGNORE_SIGNALS = """# a signal to the process group is for who started them: workers finish what they do
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
"""


@contextmanager
def open_client(workers: Workers, count_gpus: Callable[[], int]) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a cluster on this machine that ends with it.

    `count_gpus` is asked for the GPUs of this machine that workers started here should have, one each.
    """
    if workers.scheduler:
        with _scheduler_client(workers.scheduler) as client:
            yield client
        return
    if fault := processes_fault(workers.count):
        raise SettingsError(f"--workers {workers.count} (make: WORKERS=): {fault}, or run it without this option")
    dask.config.set({"distributed.scheduler.allowed-failures": DEATHS})
    with _cluster(workers.count, count_gpus()) as cluster, Client(cluster) as client:
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


def _cluster(workers: int, gpus: int) -> SpecCluster:
    """Processes on this machine: one for each GPU, or all of them share the processor cores."""
    if gpus and workers > gpus:
        raise SettingsError(
            f"--workers {workers}: one worker uses one GPU, and there are {gpus}; give at most {gpus} (make: WORKERS=)"
        )
    cores = max(1, count_cores() // workers)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    dask.config.set({PRE_SPAWN: KEEPING | dict.fromkeys(names, str(cores))})
    options = [
        {
            "nthreads": TASKS_OF_A_GPU if gpus else 1,
            "env": {VISIBLE: _visible(gpus)[index]} if gpus else {},
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


def _visible(gpus: int) -> list[str]:
    """The names of the GPUs that this process may use, which a scheduler such as Slurm may have chosen."""
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",")]
    return named[:gpus] if len(named) >= gpus and all(named) else [str(index) for index in range(gpus)]


def await_workers(client: Client, stop: Stop) -> None:
    """Wait until there is a worker; a cluster may take hours to start one."""
    said = False
    while not client.nthreads() and not stop.requested:
        if not said:
            say("waiting for the first worker of the cluster; Ctrl-C stops")
            said = True
        time.sleep(POLL)


def capacity(client: Client) -> int:
    """How many tasks may be started: one for each thread of a worker, and one in reserve for each worker."""
    threads: list[int] = [*client.nthreads().values()]
    return max(1, sum(threads) + len(threads))


def gpu_share(client: Client) -> dict[str, float] | None:
    """The share of a GPU that a task asks for, if workers say that they have one."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {GPU: SHARE} if any(GPU in worker["resources"] for worker in workers) else None


def ask_worker(ask: Callable[[T], T], given: T, scheduler: str, *, gpu: bool) -> T:
    """The answer of a worker of `scheduler`, of one with a GPU if `gpu` and there is one."""
    with _scheduler_client(scheduler) as client:
        await_workers(client, Stop())
        answer: T = client.submit(ask, given, resources=gpu_share(client) if gpu else None, pure=False).result()
        return answer
