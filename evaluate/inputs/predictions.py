"""Where translated pictures are: those of a run, or a folder that another system filled. Every one is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unicodedata import normalize

from evaluate.inputs.reading import Read, digest_pixels, read_exact
from evaluate.parallel import in_parallel
from evaluate.protocol import Fakes
from store.files import digest_file
from store.foreign.picture_files import pictures_below
from store.images import SUFFIXES, PictureU8, load_picture
from store.reader import Store, Target
from store.records.facts import trained_views
from store.records.predictions import Predictions, place_of, read_predictions
from store.run_files import PredictionFolder, RunFolder
from store.schema import PictureError, RunError, Split

LISTED = 20  # names in an error
DECODING = 4  # a picture is decoded in a quarter of the time in which it is scored
FOREIGN = "foreign pictures"  # the method of a system that is not known
BOTH_SIDES = "both sides: predictions were truncated when they were made, real pictures are saved again"
ONE_SIDE = (
    "the real side only: real pictures are saved again; the given ones have 8 bits already, and how they were rounded "
    "is not known"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionFiles:
    """Translated pictures: one file for each target, in the same order, rounded and truncated; sha256 of their pixels.

    `contents` are the sha256 of the files, and `record` that of `predictions.json`, None for foreign pictures.
    `source` is the folder of foreign pictures, None for a run's own predictions. Of foreign pictures both kinds are the
    same files, and neither `pairs_seen`, `generator` (the sha256 of its file) nor `views` (what the run was trained on)
    is known.
    """

    method: str
    pairs_seen: int | None
    generator: str | None
    source: str | None
    round_trip: str
    views: tuple[str, ...] | None
    files: Mapping[Fakes, tuple[Path, ...]]
    digests: Mapping[Fakes, tuple[str, ...]]
    contents: Mapping[Fakes, tuple[str, ...]]
    record: str | None

    def reader(self, fakes: Fakes) -> Read:
        """How to read the picture of a place; RunError if its file is no longer the one that was checked."""
        return PredictedPictures(files=self.files[fakes], contents=self.contents[fakes])


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedPictures:
    """How to read predictions: their files, and the sha256 that each must have."""

    files: tuple[Path, ...]
    contents: tuple[str, ...]

    def __call__(self, place: int) -> PictureU8:
        """The picture of a place."""
        return read_exact(self.files[place], self.contents[place])


def take_predictions(
    run: Path,
    pictures: Path | None,
    store: Store,
    split: Split,
    view: str,
    targets: Sequence[Target],
    workers: int = 1,
) -> PredictionFiles:
    """The predictions of a run, or foreign `pictures`, all of them checked."""
    if pictures is None:
        return take_run(run, store, split, view, targets, workers)
    return take_folder(pictures, store, view, targets, workers)


def take_run(
    run: Path, store: Store, split: Split, view: str, targets: Sequence[Target], workers: int
) -> PredictionFiles:
    """A run's own predictions; RunError or PictureError with the names unless they are exactly those of the targets."""
    folder, place = RunFolder(run), place_for(run, store, split, view)
    digest = digest_file(place.record) if place.record.is_file() else None
    record = read_record(run, store, split, view)
    names = [target.name for target in targets]
    folders = {fakes: folder_of(place, fakes) for fakes in Fakes}
    files = {fakes: match_files(of_kind, names, any_suffix=False) for fakes, of_kind in folders.items()}
    recorded = {Fakes.ROUNDED: record.rounded, Fakes.TRUNCATED: record.truncated}
    checked = {
        fakes: check_pictures(folders[fakes], files[fakes], store.side(view), recorded[fakes], workers)
        for fakes in Fakes
    }
    return PredictionFiles(
        method=record.method,
        pairs_seen=record.pairs_seen,
        generator=record.generator,
        source=None,
        round_trip=BOTH_SIDES,
        views=record.views or trained_views(folder),
        files=files,
        digests={fakes: tuple(one.pixels for one in found) for fakes, found in checked.items()},
        contents={fakes: tuple(one.file for one in found) for fakes, found in checked.items()},
        record=digest,
    )


def place_for(run: Path, store: Store, split: Split, view: str) -> PredictionFolder:
    """Where the predictions of a run for a store are."""
    return place_of(RunFolder(run), store.manifest.name, store.manifest.seal, split, view)


def read_record(run: Path, store: Store, split: Split, view: str) -> Predictions:
    """The record of a run's predictions; RunError if there are none, or if they were made from another store."""
    place = place_for(run, store, split, view)
    record = read_predictions(RunFolder(run), place, split, view, store.address)
    if record.seal != store.manifest.seal:
        raise RunError(
            f"the predictions of {run} were made from a store with seal {record.seal[:12]}, but {store.address} has "
            f"seal {store.manifest.seal[:12]}; name the right store with --store, or predict again"
        )
    return record


def require_unchanged(run: Path, store: Store, split: Split, view: str, predictions: PredictionFiles) -> None:
    """RunError if a run was predicted again since its predictions were taken."""
    if predictions.source is None:
        file = place_for(run, store, split, view).record
        if not file.is_file() or digest_file(file) != predictions.record:
            raise RunError(f"{file} changed while it was scored: the run was predicted again; run the same score again")


def take_folder(folder: Path, store: Store, view: str, targets: Sequence[Target], workers: int) -> PredictionFiles:
    """Pictures of any other system: one for each target, with its name and any suffix that can be read."""
    if not folder.is_dir():
        raise RunError(f"no folder {folder}; give the folder of the pictures to score")
    files = match_files(folder, [target.name for target in targets], any_suffix=True)
    checked = check_pictures(folder, files, store.side(view), None, workers)
    return PredictionFiles(
        method=FOREIGN,
        pairs_seen=None,
        generator=None,
        source=str(folder),
        round_trip=ONE_SIDE,
        views=None,
        files=dict.fromkeys(Fakes, files),
        digests=dict.fromkeys(Fakes, tuple(one.pixels for one in checked)),
        contents=dict.fromkeys(Fakes, tuple(one.file for one in checked)),
        record=None,
    )


def folder_of(predictions: PredictionFolder, fakes: Fakes) -> Path:
    """The folder of a run's rounded or truncated predictions."""
    return predictions.rounded if fakes is Fakes.ROUNDED else predictions.truncated


def match_files(folder: Path, names: Sequence[str], *, any_suffix: bool) -> tuple[Path, ...]:
    """The file of each picture name below `folder`; RunError if any is missing, additional or there twice.

    Names that differ in Unicode normalisation are one, as macOS decomposes them.
    """
    found: dict[str, list[str]] = {}
    try:
        for file in pictures_below(folder):
            place = file.relative_to(folder)
            name = normalize("NFC", (place.with_suffix("") if any_suffix else place).as_posix())
            found.setdefault(name, []).append(place.as_posix())
    except FileNotFoundError:  # there are none
        pass
    except OSError as error:
        raise RunError(f"{error.filename} cannot be listed ({error.strerror}); allow reading it") from error
    expected = [normalize("NFC", name.removesuffix(".png") if any_suffix else name) for name in names]
    extra = [place for name in sorted(found.keys() - set(expected)) for place in found[name]]
    faults = {
        "missing": [name for name in expected if name not in found],
        "not of this split": extra,
        "several files for one picture": [
            " and ".join(found[name]) for name in expected if len(found.get(name, [])) > 1
        ],
    }
    parts = [f"{fault}: {listed(names)}" for fault, names in faults.items() if names]
    if parts:
        raise RunError(
            f"{folder} does not hold exactly the {len(expected)} predictions of the split; {'; '.join(parts)}. "
            f"Every picture counts in an average: predict again, or remove the additional files "
            f"(files that are read: {', '.join(sorted(SUFFIXES))})"
        )
    return tuple(folder / found[name][0] for name in expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The sha256 of a picture's pixels and of its file; or what is wrong with it."""

    pixels: str = ""
    file: str = ""
    fault: str = ""


def check_pictures(
    folder: Path, files: Sequence[Path], side: int, recorded: Sequence[str] | None, workers: int = 1
) -> tuple[Checked, ...]:
    """The digests of each prediction; PictureError with all that are not 8-bit RGB, `side` px square.

    `recorded` are the sha256 that the files must have, None if they are not known.
    """
    due = [*zip(files, recorded or [""] * len(files), strict=True)]
    found = in_parallel(partial(_check, folder, side), due, f"checking {folder.name}", workers, side * side // DECODING)
    faults = [one.fault for one in found if one.fault]
    if faults:
        raise PictureError(
            f"{len(faults)} of {len(files)} predictions in {folder} cannot be scored, predict them again: "
            f"{listed(faults)}"
        )
    return tuple(found)


def _check(folder: Path, side: int, file_due: tuple[Path, str]) -> Checked:
    file, due = file_due
    name = file.relative_to(folder).as_posix()
    try:
        picture = load_picture(file)
    except PictureError as error:
        return Checked(fault=str(error))
    high, wide = picture.pixels.shape[:2]
    if (high, wide) != (side, side):
        return Checked(fault=f"{name}: is {wide} x {high} px, the real picture {side} x {side} px")
    if picture.notes:
        return Checked(fault=f"{name}: is not plain 8-bit RGB ({', '.join(picture.notes)})")
    if due not in ("", picture.digest):
        return Checked(fault=f"{name}: is not the picture that was predicted (sha256 {picture.digest[:12]})")
    return Checked(pixels=digest_pixels(picture.pixels), file=picture.digest)


def listed(names: Sequence[str]) -> str:
    """Names in an error, the first twenty."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return "; ".join(names[:LISTED]) + more
