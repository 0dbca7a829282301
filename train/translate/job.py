"""One picture from its file to its translation: what is finished is kept, and the same command resumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from store.cli import Progress, progress
from store.disk.locks import briefly_locked, locked
from store.files import PARTIAL, digest_file, digest_tree, disk_errors, to_json, write_json
from store.process import installed_versions
from store.records.translated_file import settle
from store.records.translation import Translation, read_translation, record_of, tiles_of
from store.schema import RunError, SettingsError
from store.settings import plain
from store.slides.seams import Place, measure_seams
from store.slides.writing.finish import digest_output, finish, is_finishing, tiles_to_do
from store.slides.writing.flat import check_flat
from store.slides.writing.plan import Unit, plan_spool
from store.slides.writing.spool import Spool
from train.runtime.threads import keep_threads, with_threads_of
from train.translate.model import Model
from train.translate.names import Item
from train.translate.passes import Drawing, count_tiles, run_units, to_numpy
from train.translate.picture import AUTO, NONE, Picture, Request, opened
from train.translate.settings import Compression, NormStatistics, TranslateSettings
from train.translate.statistics import Measuring, measure

LIBRARIES = ("torch", "numpy", "tifffile", "imagecodecs", "opencv-python")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """An output and its record; `kept` if it was there before."""

    item: Item
    record: Translation
    kept: bool


def translate_picture(item: Item, model: Model, request: Request, memory: int, *, overwrite: bool) -> Done:
    """Translate a picture into its output, or keep what is there already if it is the same translation, whole.

    `memory` is in bytes. Raises PictureError, SchemaError, SettingsError, RunError and StoreError, each in one line,
    and Interrupted when it was stopped.
    """
    with opened(item.source, request, model.trained.header.mpp, model.settings.tile, memory) as picture, held(item):
        begun = begin(item, picture, model, request, overwrite=overwrite)
        if isinstance(begun, Done):
            return begun
        spool = open_spool(item, begun, model.settings)
        draw(picture, model, spool, item.source.name, spool.pending())
        return complete(item, spool, begun, overwrite=overwrite)


@contextmanager
def held(item: Item, *, briefly: bool = False) -> Iterator[None]:
    """Hold the lock of an output, whose folder is made. Raises StoreError if another process has it.

    `briefly` is for one of thousands of small pictures.
    """
    with disk_errors(item.output):
        item.output.parent.mkdir(parents=True, exist_ok=True)
    with briefly_locked(item.lock, _translation(item)) if briefly else locked(item.lock, _translation(item)):
        yield


def _translation(item: Item) -> str:
    return f"the translation {item.output}"


def begin(item: Item, picture: Picture, model: Model, request: Request, *, overwrite: bool) -> Translation | Done:
    """What the record of a translation will say; or the translation, if it is there already, whole.

    Raises SchemaError and SettingsError where it cannot be written.
    """
    check_flat(item.kind, picture.grid.height, picture.grid.width)
    settle(item.output)
    wanted = with_threads_of(spool_folder(item.output), _record(item, picture, model, request))
    return find_done(item, wanted, model.settings, overwrite=overwrite) or wanted


def find_done(item: Item, wanted: Translation, settings: TranslateSettings, *, overwrite: bool) -> Done | None:
    """The translation that `wanted` says, if it is there already, whole. Raises SettingsError if another one is."""
    folder = spool_folder(item.output)
    found = _existing(item, wanted, folder, overwrite=overwrite)
    if found is None:
        return None
    if folder.exists():  # killed while it was removed
        open_spool(item, wanted, settings).remove()
    return Done(item=item, record=found, kept=True)


def open_spool(item: Item, wanted: Translation, settings: TranslateSettings) -> Spool:
    """Where what is finished of a translation is kept; it goes on with the threads that it was begun with."""
    grid, lossy = wanted.grid, settings.compression is Compression.JPEG
    identity = digest_tree(_identity(wanted))
    plan = plan_spool(item.kind, grid.height, grid.width, grid.side, identity, lossy=lossy, quality=settings.quality)
    spool = Spool.open(spool_folder(item.output), plan)
    keep_threads(spool.folder, wanted)
    return spool


def measuring(picture: Picture, model: Model, spool: Spool, name: str) -> Measuring:
    """The first pass over a picture, which is called `name` where it is told."""
    alone = picture.is_one_tile or model.settings.norm_statistics is NormStatistics.TILE
    return Measuring(
        picture=picture if alone else picture.lending(),
        units=spool.base.units,
        network=model.network,
        layout=model.layout,
        sides=model.sides,
        settings=model.settings,
        folder=spool.folder / "moments",
        name=name,
    )


def draw(picture: Picture, model: Model, spool: Spool, name: str, units: Sequence[Unit]) -> None:
    """Both passes over units of a picture; the first one as far as it is not done."""
    if not units:
        return
    drawing = Drawing(
        picture=picture,
        network=model.network,
        sides=model.sides,
        overlap=model.settings.overlap,
        field_of=measure(measuring(picture, model, spool, name)),
        batch=model.settings.batch,
        seed=model.settings.seed,
    )
    done = count_tiles(picture, spool.base.units) - count_tiles(picture, units)
    run_units(picture, units, drawing.stream(), f"translating {name}", done, partial(_put, spool))


def complete(item: Item, spool: Spool, wanted: Translation, *, overwrite: bool) -> Done:
    """The output in its place, when all its units are drawn, with its record."""
    record = replace(wanted, seams=measure_seams(spool.read, wanted.grid, wanted.skipped))
    return Done(item=item, record=_finished(item, spool, record, overwrite=overwrite), kept=False)


def description_of(record: Translation) -> str:
    """What a picture says about itself."""
    return f"{record.name} translated by {record.method}, generator {record.generator[:12]}."


def spool_folder(output: Path) -> Path:
    """Where what is finished of an output is kept until all is."""
    return output.with_name(output.name + PARTIAL)


def _put(spool: Spool, unit: Unit, made: Mapping[Place, Tensor]) -> None:
    spool.put(unit, [to_numpy(made[place]) if place in made else None for place in unit.places()])


def _record(item: Item, picture: Picture, model: Model, request: Request) -> Translation:
    """What the record will say, but for what only the result shows."""
    header, part, scale = model.trained.header, request.region, picture.scale
    return Translation(
        name=item.source.name,
        source=picture.source.digest(),
        generator=model.trained.digest,
        method=header.method,
        norm_statistics=model.settings.norm_statistics,
        settings=plain(model.settings),
        height=picture.grid.height,
        width=picture.grid.width,
        side=picture.grid.side,
        region=None if part is None else (part.top, part.left, part.height, part.width),
        source_mpp=scale.source,
        mpp=scale.translated,
        mask=_mask(picture.masked),
        tiles=tiles_of(picture.grid, picture.skipped),
        seams=None,
        notes=(*picture.source.notes, *scale.notes),
        software=installed_versions(("magstain", *LIBRARIES)),
    )


def _mask(masked: str) -> str:
    """What says where tissue is: `auto`, `none`, or the sha256 of a file."""
    return masked or NONE if masked in ("", AUTO) else digest_file(Path(masked))


def _identity(record: Translation) -> dict[str, object]:
    """What makes the pixels but for their rounding, as plain values."""
    settings = {key: value for key, value in record.settings.items() if key != "threads"}
    tree = to_json(asdict(replace(record, settings=settings, seams=None, notes=(), software={}, output=None)))
    assert isinstance(tree, dict)
    return tree


def _existing(item: Item, wanted: Translation, folder: Path, *, overwrite: bool) -> Translation | None:
    """The record of what is at the output's place if it is this translation, whole. Raises SettingsError if not."""
    if not (item.output.exists() or item.output.is_symlink()):
        return None
    why = "has no record of how it was made"
    with suppress(RunError):
        found = read_translation(item.output)
        before, now = _identity(found), _identity(wanted)
        if differing := sorted(key for key in now if before.get(key) != now[key]):
            why = f"is another translation (other {', '.join(differing)})"
        elif digest_output(item.output) != found.output:
            why = "was changed since it was made"
        else:
            return found
    if overwrite or is_finishing(folder):
        return None
    raise SettingsError(f"{item.output} already exists and {why}; choose another --out, or replace it with --overwrite")


def advance(bar: Progress, tiles: int) -> None:
    """Show that tiles are written."""
    bar.update(tiles)


def _finished(item: Item, spool: Spool, record: Translation, *, overwrite: bool) -> Translation:
    """The output in its place, and its record beside it."""
    made = list[Translation]()

    def told(output: str) -> None:
        made.append(replace(record, output=output))
        write_json(record_of(item.output), made[-1])

    total = tiles_to_do(spool, item.kind)
    with progress(total=total, what=f"writing {item.output.name}", unit="tile", hidden=total == 1) as bar:
        finish(
            spool,
            item.output,
            item.kind,
            record.mpp,
            description_of(record),
            overwrite=overwrite,
            each=lambda tiles: advance(bar, tiles),
            told=lambda finished: told(finished.digest),
        )
    return made[-1]
