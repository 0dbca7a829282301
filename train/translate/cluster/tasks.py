"""What is said between the process that shares out translations and those that do them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from store.cluster.workers import Workers
from store.records.translation import Translation
from store.schema import MagstainError
from store.slides.writing.plan import Unit
from train.translate.job import Done
from train.translate.names import Item
from train.translate.picture import AUTO, NONE, Request
from train.translate.settings import TranslateSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What all translations of a command have in common; `digest` is that of the generator's file, for workers.

    `command` is a random name: a worker keeps no picture open for a later command, which may find it changed.
    """

    generator: Path
    settings: TranslateSettings
    request: Request
    device: str
    workers: Workers
    overwrite: bool
    digest: str = ""
    command: str = field(default_factory=lambda: secrets.token_hex(8))

    def anywhere(self) -> Order:
        """The same with paths that do not depend on the folder in which a worker was started."""
        mask = self.request.mask
        mask = mask if mask in (AUTO, NONE) else str(Path(mask).absolute())
        return replace(self, generator=self.generator.absolute(), request=replace(self.request, mask=mask))


class Step(StrEnum):
    """What a worker does of a translation at once, in the order in which a slide needs it."""

    WHOLE = "whole"  # all of a picture that is not read in parts
    BEGIN = "begin"
    MEASURE = "measure"  # the statistics of a unit
    GATHER = "gather"  # what was measured becomes what tiles are translated with
    DRAW = "draw"  # a unit
    FINISH = "finish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A step of the translation of a picture: of a unit where it is one of a unit; `record` is known after `BEGIN`."""

    order: Order
    item: Item
    step: Step
    unit: Unit | None = None
    record: Translation | None = None

    def __str__(self) -> str:
        return f"{self.step} of {self.item.source.name}" + (f" {self.unit.name}" if self.unit else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A slide that is not finished: what its record will say, and the steps that are left, with their units.

    A step without units is done once, for all of it.
    """

    record: Translation
    steps: tuple[tuple[Step, tuple[Unit | None, ...]], ...]

    @property
    def tasks(self) -> int:
        """How many tasks are left."""
        return sum(len(units) for _, units in self.steps)


Result = Done | Begun | MagstainError | None
"""What came of a task: a translation, one that is begun, why there is none, or nothing to tell."""
