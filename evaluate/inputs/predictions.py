"""Where translated pictures lie: those of a run, or a folder that another system filled. None is ever left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate.protocol import Fakes
from store.images import SUFFIXES, load_picture
from store.reader import Store, Target
from store.run_files import RunFolder, read_predictions
from store.schema import PictureError, RunError, Split

LISTED = 20  # names in an error
FOREIGN = "foreign pictures"  # the method of a system that we do not know
BOTH_SIDES = "both sides: predictions were cut off when they were made, real pictures are saved again"
ONE_SIDE = (
    "the real side only: real pictures are saved again; the given ones have 8 bits already, and how they were rounded "
    "is not known"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Translated pictures, one file for each target in the same order, for both ways of saving 8 bits.

    Of foreign pictures both are the same files, `draws` is 0 and `generator` is empty.
    """

    method: str
    draws: int
    generator: str
    source: str
    round_trip: str
    files: Mapping[Fakes, tuple[Path, ...]]


def take_run(run: Path, store: Store, split: Split, view: str, targets: Sequence[Target]) -> Candidate:
    """A run's own predictions; RunError or PictureError with the names unless they are exactly those of the targets."""
    predictions = read_predictions(run, split, view)
    if predictions.seal != store.manifest.seal:
        raise RunError(
            f"the predictions of {run} were made from a store with seal {predictions.seal[:12]}, "
            f"but {store.address} has seal {store.manifest.seal[:12]}; name the right one with --store, or predict "
            "again"
        )
    files = {}
    for fakes in Fakes:
        folder = RunFolder(run).predictions(split, view).path / fakes
        files[fakes] = match_files(folder, [target.name for target in targets], any_suffix=False)
        check_pictures(folder, files[fakes], store.side(view))
    return Candidate(
        method=predictions.method,
        draws=predictions.pairs_seen or 0,
        generator=predictions.generator,
        source="",
        round_trip=BOTH_SIDES,
        files=files,
    )


def take_folder(folder: Path, store: Store, view: str, targets: Sequence[Target]) -> Candidate:
    """Pictures of any other system: one for each target, of its name and any suffix that can be read."""
    if not folder.is_dir():
        raise RunError(f"no folder {folder}; give the folder of the pictures to judge")
    files = match_files(folder, [target.name for target in targets], any_suffix=True)
    check_pictures(folder, files, store.side(view))
    return Candidate(
        method=FOREIGN,
        draws=0,
        generator="",
        source=str(folder),
        round_trip=ONE_SIDE,
        files=dict.fromkeys(Fakes, files),
    )


def match_files(folder: Path, names: Sequence[str], *, any_suffix: bool) -> tuple[Path, ...]:
    """The file of each picture name below `folder`; RunError if any is missing, additional or there twice."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            place = file.relative_to(folder)
            found.setdefault((place.with_suffix("") if any_suffix else place).as_posix(), []).append(place.as_posix())
    expected = [name.removesuffix(".png") if any_suffix else name for name in names]
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
            f"{folder} does not hold the {len(expected)} predictions of the split; {'; '.join(parts)}. "
            f"Predict again, or remove what is too many: no picture is left out of an average "
            f"(read are {', '.join(sorted(SUFFIXES))})"
        )
    return tuple(folder / found[name][0] for name in expected)


def check_pictures(folder: Path, files: Sequence[Path], side: int) -> None:
    """All predictions can be read as plain 8-bit RGB and are `side` px square; all that are not are named."""
    broken: list[str] = []
    for file in files:
        name = file.relative_to(folder).as_posix()
        try:
            picture = load_picture(file)
        except PictureError as error:
            broken.append(str(error))
            continue
        high, wide = picture.pixels.shape[:2]
        if (high, wide) != (side, side):
            broken.append(f"{name}: is {wide} x {high} px, the real picture {side} x {side} px")
        elif picture.notes:
            broken.append(f"{name}: is no plain 8-bit RGB ({', '.join(picture.notes)})")
    if broken:
        raise PictureError(
            f"{len(broken)} of {len(files)} predictions in {folder} cannot be judged, predict them again: "
            f"{listed(broken)}"
        )


def listed(names: Sequence[str]) -> str:
    """Names in an error, the first twenty."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return "; ".join(names[:LISTED]) + more
