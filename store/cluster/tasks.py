"""Tasks on the workers of a cluster: as many as there are threads, and those of a worker that died again.

A task writes what it makes where the others find it, and returns little. It may run twice, when its worker died after
the work or seemed to, so it begins by looking whether the work is done.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from distributed import Client, KilledWorker, as_completed

from store.cluster.client import DEATHS, capacity
from store.process import Stop
from store.schema import StoreError

RETRIES = 3  # of a task that raised an error

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Generic[T, R]):
    """What is called for each task in a worker, and what to do when several workers died at one.

    `name` is that of a task, for people. `resources` are what a task asks of a worker.
    """

    call: Callable[[T], R]
    name: Callable[[T], str]
    remedy: str
    resources: Mapping[str, float] | None = None


def run_tasks(client: Client, following: Callable[[], T | None], job: Job[T, R], stop: Stop) -> Iterator[tuple[T, R]]:
    """Run tasks in workers; yields each that is done, with its result.

    `following` is asked for the next task when a worker is free for one, and answers None while there is none; it is
    asked again after each result. After a stop is requested no other task is started. Raises the error of a task that
    failed after its retries, and StoreError when several workers died at one.
    """
    running = dict[str, T]()

    def start(number: int) -> list[Any]:
        futures = list[Any]()
        while len(futures) < number and not stop.requested and (task := following()) is not None:
            key = f"{job.name(task)}-{os.urandom(4).hex()}"
            futures.append(client.submit(job.call, task, key=key, retries=RETRIES, resources=job.resources, pure=False))
            running[key] = task
        return futures

    completed = as_completed(start(capacity(client)))
    for future in completed:
        task = running.pop(str(future.key))
        yield task, result_of(future, job.name(task), job.remedy)
        for other in start(capacity(client) - len(running)):
            completed.add(other)


def result_of(future: Any, name: str, remedy: str) -> Any:
    """What a task returned. Raises its error, and StoreError with the remedy when its workers died."""
    try:
        return future.result()
    except KilledWorker as error:
        raise StoreError(
            f"{name} was given up after {DEATHS} workers died at it, most likely for lack of memory; {remedy}"
        ) from error
