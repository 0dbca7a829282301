"""What runs the units of a build has in common, in this process or on a cluster: what it is given, what it reports."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from store.format.layout import Unit
from store.process import Stop
from store.schema import Pair
from store.writing.writer import StoreWriter

PairsOfUnit = tuple[Unit, Sequence[Pair]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """How many threads read pictures, and which processes run units.

    `workers` processes are started on this machine, or those of the Dask scheduler at an address are used; with neither
    the units run in this process.
    """

    threads: int
    workers: int = 0
    scheduler: str = ""

    @property
    def cluster(self) -> bool:
        """Whether units run in other processes."""
        return bool(self.workers or self.scheduler)


class Stage(StrEnum):
    """The three parts of the work on a unit."""

    READING = "reading"
    ENLARGING = "enlarging"
    WRITING = "writing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A unit that is written and committed, and the stage that limits the build so far."""

    unit: Unit
    limit: Stage


class Runner(Protocol):
    """Anything that runs units."""

    def run(self, units: Sequence[PairsOfUnit], writer: StoreWriter, stop: Stop) -> Iterator[Committed]:
        """Write these units; yields each that is committed. After a stop is requested no other unit is started."""


@dataclass(slots=True)
class Clock:
    """Seconds that each stage took; the slowest one limits the build."""

    seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(Stage, 0.0))

    @contextmanager
    def time(self, stage: Stage) -> Iterator[None]:
        """Add the time that the body takes to a stage. Each stage may have one thread."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def add(self, seconds: Mapping[Stage, float]) -> None:
        """Add what another process measured."""
        for stage, more in seconds.items():
            self.seconds[stage] += more

    @property
    def limit(self) -> Stage:
        """The slowest stage."""
        return max(self.seconds, key=self.seconds.__getitem__)
