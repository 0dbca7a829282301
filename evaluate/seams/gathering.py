"""Which translated pictures can be compared: those of one picture in the same tiles; and what their seams are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from store.machine.memory import spare_memory
from store.records.translation import Translation, read_translation, record_of
from store.schema import RunError, SettingsError
from store.slides.reading.open import open_source
from store.slides.seams import Place, Seams, measure_seams
from store.slides.source import Source

LEAST_MEMORY = 2**28  # bytes, where the system does not say what is free


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A translated picture, its record, and what tells it from the others of its group."""

    output: Path
    record: Translation
    setting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Translations of one picture in the same tiles; `skipped` are the tiles that one of them left white."""

    entries: tuple[Entry, ...]

    @property
    def first(self) -> Translation:
        """A record, whose picture and grid are those of all."""
        return self.entries[0].record

    @property
    def skipped(self) -> frozenset[Place]:
        """Tiles that are white in at least one of them, so that all are measured at the same borders."""
        return frozenset[Place]().union(*(entry.record.skipped for entry in self.entries))


def gather(outputs: Sequence[Path]) -> list[Group]:
    """The outputs in groups, in the order in which they are named. RunError if one has no record or is not its own."""
    named: dict[Path, Path] = {}
    for output in outputs:
        if output.resolve() in named:
            raise SettingsError(f"{output} is named twice; name each output once")
        named[output.resolve()] = output
    groups: dict[object, list[tuple[Path, Translation]]] = {}
    for output in outputs:
        record = read_translation(output)
        key = (record.source, record.region, record.mpp, record.height, record.width, record.side)
        groups.setdefault(key, []).append((output, record))
    return [_group(members) for members in groups.values()]


def measure(entry: Entry, skipped: frozenset[Place]) -> Seams | None:
    """The seams of an output; None if no border lies between two translated tiles."""
    with closing(open_output(entry)) as source:
        return measure_seams(source.read, entry.record.grid, skipped)


def open_output(entry: Entry) -> Source:
    """The translated picture. RunError if it does not have the size that its record says."""
    source = open_source(entry.output, max(LEAST_MEMORY, spare_memory() // 4))
    if (source.height, source.width) != (entry.record.height, entry.record.width):
        size, said = f"{source.height} x {source.width}", f"{entry.record.height} x {entry.record.width}"
        source.close()
        raise RunError(
            f"{entry.output} has {size} px and {record_of(entry.output)} says {said}: it is another picture; translate "
            "it again"
        )
    return source


def _group(members: Sequence[tuple[Path, Translation]]) -> Group:
    records = [record for _, record in members]
    settings = _settings(records)
    repeated = {setting for setting in settings if settings.count(setting) > 1}
    return Group(
        entries=tuple(
            Entry(output=output, record=record, setting=f"{setting} ({output})" if setting in repeated else setting)
            for (output, record), setting in zip(members, settings, strict=True)
        )
    )


def _settings(records: Sequence[Translation]) -> list[str]:
    """Of each record how its norms have their statistics, and everything else in which it differs from the others."""
    differing = [
        key
        for key in sorted(set[str]().union(*(record.settings for record in records)) - {"norm_statistics"})
        if len({json.dumps(record.settings.get(key)) for record in records}) > 1
    ]
    of_generators = len({record.generator for record in records}) > 1
    return [
        ", ".join(
            [
                record.norm_statistics,
                *([f"{record.method} {record.generator[:8]}"] if of_generators else []),
                *(f"{key} = {record.settings.get(key, 'none')}" for key in differing),
            ]
        )
        for record in records
    ]
