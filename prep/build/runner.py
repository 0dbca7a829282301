"""What runs the units of a build has in common, in this process or on a cluster: what it is given, what it reports."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from store.cluster.workers import Workers
from store.format.layout import Unit
from store.pairs.table import Pair
from store.process import Stop
from store.writing.writer import StoreWriter

PATIENCE = 0.1  # of the time, below which waiting limits nothing: the first unit is read and the last one written so
PairsOfUnit = tuple[Unit, Sequence[Pair]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """How many threads read, cut and pack pictures, and which processes run units.

    With no other processes the units run in this one.
    """

    threads: int
    workers: Workers = field(default_factory=Workers)


class Stage(StrEnum):
    """The three parts of the work on a unit; pictures are packed in the part that finishes them."""

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

    def describe_limit(self) -> str:
        """Which stage limited what was run, with the numbers that say so."""


@dataclass(slots=True)
class Clock:
    """Seconds by stage: of the thread that enlarges, what it worked, and what it waited for the other two stages.

    Where each unit has one thread for all stages, what each stage took.
    """

    seconds: dict[Stage, float] = field(default_factory=lambda: dict.fromkeys(Stage, 0.0))

    @contextmanager
    def time(self, stage: Stage) -> Iterator[None]:
        """Add the time that the body takes to a stage."""
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
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    def share(self, stage: Stage) -> float:
        """The share of a stage of all seconds."""
        return self.seconds[stage] / self.total if self.total else 0.0

    @property
    def slowest(self) -> Stage:
        """The stage that took most, where stages do not overlap."""
        return max(self.seconds, key=self.seconds.__getitem__)

    @property
    def awaited(self) -> Stage:
        """The stage that sets the pace where stages overlap: the one that the device waits for, if it waits at all."""
        longest = max((Stage.READING, Stage.WRITING), key=self.seconds.__getitem__)
        return longest if 1 - self.share(Stage.ENLARGING) > PATIENCE else Stage.ENLARGING
