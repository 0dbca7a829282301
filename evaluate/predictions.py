"""Where translated pictures lie: those of a run, or a folder that another system filled. None is ever left out."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate.protocol import Fakes
from evaluate.records import check_record, read_record
from store.images import SUFFIXES, load_picture
from store.location import is_remote, locate
from store.reader import Store
from store.schema import PictureError, RunError, Split, picture_name

LISTED = 20  # names in an error
FOREIGN = "foreign pictures"  # the method of a system that we do not know
BOTH_SIDES = "both sides: predictions were cut off when they were made, real pictures are saved again"
ONE_SIDE = (
    "the real side only: real pictures are saved again; the given ones have 8 bits already, and how they were rounded "
    "is not known"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What training says of the pictures it left in `fake/`. `pictures` are in the order of the store."""

    method: str
    seal: str
    split: Split
    view: str
    draws: int
    generator: str
    pictures: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One picture to judge: its place in the store and the name of its prediction."""

    name: str
    slide: str
    pair: int
    index: int


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


def predictions_folder(run: Path, split: Split, view: str) -> Path:
    """Where a run's predictions of a split and view lie."""
    return run / "predictions" / split / view


def plan_targets(store: Store, split: Split, view: str) -> list[Target]:
    """The pictures of a split and view in the order of the store."""
    count, pairs = store.count(view), store.pairs(split)
    if not pairs:
        there = ", ".join(name for name in Split if store.pairs(name))
        raise RunError(f"{store.address} has no pairs in {split}; it has {there}: choose one with --split")
    return [
        Target(name=picture_name(pair.id, index, count), slide=pair.slide, pair=row, index=index)
        for row, pair in enumerate(pairs)
        for index in range(count)
    ]


def take_run(run: Path, store: Store, split: Split, view: str, targets: Sequence[Target]) -> Candidate:
    """A run's own predictions; RunError or PictureError with the names unless they are exactly those of the targets."""
    predictions = _read_predictions(run, split, view)
    if predictions.seal != store.manifest.seal:
        raise RunError(
            f"the predictions of {run} were made from a store with seal {predictions.seal[:12]}, "
            f"but {store.address} has seal {store.manifest.seal[:12]}; name the right one with --store, or predict "
            "again"
        )
    files = {}
    for fakes in Fakes:
        folder = predictions_folder(run, split, view) / fakes
        files[fakes] = match_files(folder, [target.name for target in targets], any_suffix=False)
        check_pictures(folder, files[fakes], store.side(view))
    return Candidate(
        method=predictions.method,
        draws=predictions.draws,
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


def store_of(run: Path) -> str:
    """The store that a run was trained from, as its `run.json` names it; RunError if it is no longer there."""
    file = run / "run.json"
    if not file.is_file():
        raise RunError(
            f"no run at {run}: it has no run.json; give the folder that `python -m train fit` wrote, or name the store "
            "of foreign pictures with --store"
        )
    store = read_record(file, "name the store with --store").get("store")
    if not isinstance(store, str) or not store:
        raise RunError(f"{file} does not say which store the run was trained from; name it with --store")
    if not is_remote(locate(store)) and not Path(store).exists():
        raise RunError(f"{run} was trained from {store}, and nothing is there; name the place it has now with --store")
    return store


def views_of(run: Path) -> tuple[str, ...]:
    """The views that a run was trained on, as its `settings.toml` says; empty if it does not."""
    file = run / "settings.toml"
    if not file.is_file():
        return ()
    try:
        return tuple(str(view) for view in tomllib.loads(file.read_text(encoding="utf-8"))["data"]["views"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise RunError(f"{file} does not say on which views the run was trained ({error!r}); bring it back") from error


def listed(names: Sequence[str]) -> str:
    """Names in an error, the first twenty."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return "; ".join(names[:LISTED]) + more


def _read_predictions(run: Path, split: Split, view: str) -> Predictions:
    folder = predictions_folder(run, split, view)
    file = folder / "predictions.json"
    remedy = f"make them with: python -m train predict --run {run} --split {split} --view {view}"
    if not run.is_dir():
        raise RunError(f"no run at {run}; give the folder that `python -m train fit` wrote")
    if not file.is_file() or not all((folder / fakes).is_dir() for fakes in Fakes):
        raise RunError(f"no predictions in {folder}; {remedy}")
    predictions = check_record(Predictions, read_record(file, remedy), file, remedy)
    if (predictions.split, predictions.view) != (split, view):
        raise RunError(
            f"{folder} holds predictions of {predictions.split}/{predictions.view}, not of {split}/{view}; {remedy}"
        )
    return predictions
