"""All pictures of a command: in their order, and those that cannot be translated are told at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from store.cli import say, wrapped
from store.files import disk_errors, sync
from store.machine.memory import spare_memory
from store.process import device_memory
from store.records.translated_file import is_published
from store.records.translation import read_translation, record_of
from store.schema import MagstainError, PictureError, RunError, SchemaError, SettingsError
from store.slides.reading.kinds import is_zarr
from store.slides.writing.finish import is_finishing
from store.untrusted.names import folded
from train.run.generator_file import Trained
from train.runtime.beside import write_behind
from train.runtime.memory import smaller_tiles
from train.translate.engine import ready
from train.translate.job import Done, spool_folder, translate_picture
from train.translate.many.sheets import sheets_of
from train.translate.many.telling import telling
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
    several = len(listing.items) > 1
    done, bad = list[Done](), list[str]()
    with ready(trained, device, settings.precision) as network, telling() as told:
        model = Model.of(trained, network, settings)
        for note in model.notes:
            say(wrapped(f"note: pictures of several tiles: {note}"))

        def take(result: Done | MagstainError) -> None:
            if isinstance(result, Done):
                done.append(result)
                told.take(result)
            elif several:
                bad.append(str(result))
            else:
                raise result

        with device_memory(windows_of(model.settings), smaller_tiles(model.settings.tile, settings.batch)):
            _translate(listing.items, model, request, memory, take, overwrite=overwrite)
    return Outcome(done=tuple(done), bad=tuple(bad))


def _translate(
    items: Sequence[Item],
    model: Model,
    request: Request,
    memory: int,
    take: Callable[[Done | MagstainError], None],
    *,
    overwrite: bool,
) -> None:
    """Give what came of each picture to `take`, in order: sheets flow through threads, others are done in between."""
    with (
        renames_synced({item.output.parent for item in items}),
        sheets_of(model, request, memory, overwrite=overwrite) as sheets,
        write_behind(take, sheets.ahead) as behind,
        closing(sheets.stream().each(items, "translating", "picture", hidden=len(items) == 1)) as drawn,
    ):
        for item, made in drawn:
            if made is not None:
                behind.submit(partial(sheets.finish, made))
                continue
            behind.wait()
            try:
                result: Done | MagstainError = translate_picture(item, model, request, memory, overwrite=overwrite)
            except (PictureError, SchemaError, SettingsError) as error:
                result = error
            take(result)


@contextmanager
def renames_synced(folders: Collection[Path]) -> Iterator[None]:
    """Wait at the end of a block, however it ends, until the names that were given in folders are on the disk."""
    try:
        yield
    finally:
        for folder in folders:
            if folder.is_dir():
                with disk_errors(folder):
                    sync(folder)


def check_free(items: Sequence[Item], *, overwrite: bool) -> None:
    """Refuse outputs that exist and say nothing about how they were made, and what is in the place of their records.

    Raises SettingsError.
    """
    total, items = len(items), _met(items)
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
        and not (
            record_of(item.output).is_file() or is_finishing(spool_folder(item.output)) or is_published(item.output)
        )
    ]
    if taken:
        names = ", ".join(map(str, taken[:LISTED])) + ", …" * (len(taken) > LISTED)
        raise SettingsError(
            f"{len(taken)} of {total} outputs already exist and have no record of how they were made: {names}; "
            "choose another --out, or replace them with --overwrite"
        )
    if foreign := [record for record in map(_foreign_record, items) if record is not None]:
        raise SettingsError(
            f"{foreign[0]} would be replaced, and is no record of a translation; choose another --out, move it away, "
            "or replace it with --overwrite"
        )


def _met(items: Sequence[Item]) -> list[Item]:
    """The items that meet something at their places: a look into each folder, not several questions for each item."""
    there = {folder: _names_in(folder) for folder in {item.output.parent for item in items}}
    return [
        item
        for item in items
        if (names := there[item.output.parent]) is None
        or not names.isdisjoint((folded(item.output.name), folded(record_of(item.output).name)))
    ]


def _names_in(folder: Path) -> set[str] | None:
    """What is in a folder, in small letters; None where it cannot be listed."""
    try:
        return {folded(path.name) for path in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError:
        return None


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


def windows_of(settings: TranslateSettings) -> str:
    """What takes the memory of a device, for people."""
    side = settings.tile + 2 * settings.overlap
    return f"windows of {side} px (tile = {settings.tile}), {settings.batch} at a time"
