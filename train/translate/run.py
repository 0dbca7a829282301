"""All pictures of a command: one after the other, and those that cannot be translated are told at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from store.cli import say, track, wrapped
from store.machine.memory import spare_memory
from store.process import device_memory
from store.records.translation import SKIPPED, read_translation, record_of
from store.schema import PictureError, RunError, SchemaError, SettingsError
from store.slides.reading.kinds import is_zarr
from store.slides.writing.finish import is_finishing
from train.run.generator_file import Trained
from train.runtime.memory import smaller_tiles
from train.translate.engine import ready
from train.translate.job import Done, spool_folder, translate_picture
from train.translate.model import Model
from train.translate.names import Item, Listing
from train.translate.picture import Request
from train.translate.settings import TranslateSettings

GIB = 1 << 30
LISTED = 3  # names in a message
USUAL_MEMORY = 2 * GIB  # where the system does not say what is free


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a command: the translations, and why others are none, in a line each."""

    done: tuple[Done, ...]
    bad: tuple[str, ...]


def translate_all(
    listing: Listing, trained: Trained, settings: TranslateSettings, request: Request, device: str, *, overwrite: bool
) -> Outcome:
    """Translate the pictures of a listing; a bad one among several does not stop the others.

    Raises the error of a single picture, StoreError where nothing can be written, and Interrupted when it was stopped.
    """
    check_free(listing.items, overwrite=overwrite)
    memory = round(settings.memory * GIB) or spare_memory() // 4 or USUAL_MEMORY
    done, bad = list[Done](), list[str]()
    several = len(listing.items) > 1
    with ready(trained, device, settings.precision) as network:
        model = Model.of(trained, network, settings)
        for note in model.notes:
            say(wrapped(f"note: pictures of several tiles: {note}"))
        for item in track(listing.items, what="translating", unit="picture", hidden=not several):
            try:
                with device_memory(windows_of(model.settings), smaller_tiles(model.settings.tile, settings.batch)):
                    done.append(translate_picture(item, model, request, memory, overwrite=overwrite))
            except (PictureError, SchemaError, SettingsError) as error:
                if not several:
                    raise
                bad.append(str(error))
            else:
                tell(done[-1])
    return Outcome(done=tuple(done), bad=tuple(bad))


def check_free(items: Sequence[Item], *, overwrite: bool) -> None:
    """Refuse outputs that exist and say nothing about how they were made, and what is in the place of their records.

    Raises SettingsError.
    """
    places = [place for item in items for place in (item.output, record_of(item.output))]
    if folders := [place for place in places if place.is_dir() and not is_zarr(place)]:
        raise SettingsError(
            f"{folders[0]} is a folder in the place of a file, which is not overwritten; choose another --out, or move "
            "it away"
        )
    if overwrite:
        return
    taken = [
        item.output
        for item in items
        if (item.output.exists() or item.output.is_symlink())
        and not (record_of(item.output).is_file() or is_finishing(spool_folder(item.output)))
    ]
    if taken:
        names = ", ".join(map(str, taken[:LISTED])) + ", …" * (len(taken) > LISTED)
        raise SettingsError(
            f"{len(taken)} of {len(items)} outputs already exist and have no record of how they were made: {names}; "
            "choose another --out, or replace them with --overwrite"
        )
    if foreign := [record for record in map(_foreign_record, items) if record is not None]:
        raise SettingsError(
            f"{foreign[0]} would be replaced, and is no record of a translation; choose another --out, move it away, "
            "or replace it with --overwrite"
        )


def _foreign_record(item: Item) -> Path | None:
    """What is in the place of the record of an output that is not there, if it is no such record."""
    record = record_of(item.output)
    if item.output.exists() or not record.exists():
        return None
    try:
        read_translation(item.output)
    except RunError:
        return record
    return None


def tell(done: Done) -> None:
    """Say what was written; of a picture of one tile, of which there may be thousands, only what is to be noted."""
    record, output = done.record, done.item.output
    for note in record.notes:
        say(wrapped(f"note: {done.item.source.name}: {note}"))
    if done.kept:
        say(f"{output} already exists: the same translation, kept")
        return
    tiles = "".join(record.tiles)
    if len(tiles) > 1:
        skipped = tiles.count(SKIPPED)
        counts = f"{len(tiles) - skipped:,} tiles translated, {skipped:,} without tissue skipped and white"
        say(wrapped(f"{output}: {counts}; {record.seams or 'no borders between tiles'}"))


def windows_of(settings: TranslateSettings) -> str:
    """What takes the memory of a device, for people."""
    side = settings.tile + 2 * settings.overlap
    return f"windows of {side} px (tile = {settings.tile}), {settings.batch} at a time"
