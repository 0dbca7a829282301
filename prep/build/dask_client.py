"""A Dask cluster for a build: the workers of a scheduler, or processes that are started on this machine."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster

from prep.build.runner import Processes
from prep.settings import Device, PrepSettings
from prep.upscaling.upscale import UpscalerChoice
from store.cli import say
from store.machine.cores import count_cores
from store.machine.shared_memory import processes_fault
from store.process import KEEPING, Stop
from store.schema import SettingsError

DEATHS = 3  # workers that may die at one unit before it is given up; `distributed` counts these separately
VISIBLE = "CUDA_VISIBLE_DEVICES"
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


@contextmanager
def open_client(processes: Processes, choice: UpscalerChoice) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a cluster on this machine that ends with it."""
    if processes.scheduler:
        with _scheduler_client(processes.scheduler) as client:
            yield client
        return
    if fault := processes_fault(processes.workers):
        raise SettingsError(f"--workers {processes.workers} (make: WORKERS=): {fault}, or build without this option")
    dask.config.set({"distributed.scheduler.allowed-failures": DEATHS})
    with _cluster(processes.workers, _count_gpus(choice, processes.workers)) as cluster, Client(cluster) as client:
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


def _count_gpus(choice: UpscalerChoice, workers: int) -> int:
    """The GPUs of this machine that the upscaler can use. Raises SettingsError if one that a worker gets cannot be."""
    if not choice.on_gpu:
        return 0
    from prep.upscaling.devices import check_device, count_gpus

    check_device(Device.CUDA, range(min(workers, count_gpus())))
    return count_gpus()


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
            "nthreads": UNITS_OF_A_GPU if gpus else 1,
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
    """How many units may be started: one for each thread of a worker, and one in reserve for each worker."""
    threads: list[int] = [*client.nthreads().values()]
    return max(1, sum(threads) + len(threads))


def gpu_share(client: Client) -> dict[str, float] | None:
    """The share of a GPU that a unit asks for, if workers say that they have one."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {GPU: SHARE} if any(GPU in worker["resources"] for worker in workers) else None


def ask_worker(ask: Callable[[PrepSettings], PrepSettings], settings: PrepSettings, scheduler: str) -> PrepSettings:
    """The answer of a worker of `scheduler`, one with a GPU unless the settings exclude it."""
    with _scheduler_client(scheduler) as client:
        await_workers(client, Stop())
        share = None if settings.device is Device.CPU else gpu_share(client)
        answer: PrepSettings = client.submit(ask, settings, resources=share, pure=False).result()
        return answer
