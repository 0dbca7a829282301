"""What lies in a folder of predictions: `predictions.json`, written by training, and `scores.json`, added by scoring.

In JSON an undefined number is `null` and an infinite one `"inf"`; in Python they are NaN and infinity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import inf, isnan, nan
from pathlib import Path
from typing import Any, TypeVar

from store.files import disk_errors, write_whole
from store.location import is_remote, locate
from store.schema import RunError, SettingsError, Split
from store.settings import validate

SCORES_FORMAT = 1
FAKE = "fake"  # the row of the run's own pictures, and their folder
T = TypeVar("T")


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
class Judged:
    """One real IHC picture: the prediction's name, the slide, its mean DAB density and positive share."""

    name: str
    slide: str
    dab: float
    positive: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """One number per picture, in the order of `Scores.pictures`: SSIM, PSNR (dB), mean DAB density, positive share."""

    ssim: tuple[float, ...]
    psnr: tuple[float, ...]
    dab: tuple[float, ...]
    positive: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One row of a table: mean SSIM, PSNR (dB), absolute DAB error (OD) over pictures; both correlations of DAB."""

    ssim: float
    psnr: float
    dab_spearman: float
    dab_pearson: float
    dab_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A row: its summary and what it is the summary of."""

    summary: Summary
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """`scores.json`: a run and the floors on the same pictures of one store. `rows` has the floors first, then `fake`.

    `upscaler` made the views that the run was trained on; `floors_view`, `floors_pictures` say what the floors were
    fitted on; `generator` is the sha256 of the generator's file.
    """

    format: int
    run: str
    method: str
    draws: int
    generator: str
    store: str
    stain: str
    seal: str
    synthetic: bool
    upscaler: str
    split: Split
    view: str
    protocol: str
    floors_view: str
    floors_pictures: int
    pictures: tuple[Judged, ...]
    rows: dict[str, Scored]

    @property
    def slides(self) -> int:
        """From how many slides the pictures come."""
        return len({picture.slide for picture in self.pictures})


def predictions_folder(run: Path, split: Split, view: str) -> Path:
    """Where a run's predictions of a split and view lie."""
    return run / "predictions" / split / view


def read_predictions(run: Path, split: Split, view: str) -> Predictions:
    """What a run says of its predictions; RunError if there are none."""
    folder = predictions_folder(run, split, view)
    file = folder / "predictions.json"
    remedy = f"make them with: python -m train predict --run {run} --split {split} --view {view}"
    if not run.is_dir():
        raise RunError(f"no run at {run}; give the folder that `python -m train fit` wrote")
    if not file.is_file() or not (folder / FAKE).is_dir():
        raise RunError(f"no predictions in {folder}; {remedy}")
    predictions = _checked(Predictions, _read(file, remedy), file, remedy)
    if (predictions.split, predictions.view) != (split, view):
        raise RunError(
            f"{folder} holds predictions of {predictions.split}/{predictions.view}, not of {split}/{view}; {remedy}"
        )
    return predictions


def store_of(run: Path) -> str:
    """The store that a run was trained from, as its `run.json` names it; RunError if it is no longer there."""
    file = run / "run.json"
    if not file.is_file():
        raise RunError(f"no run at {run}: it has no run.json; give the folder that `python -m train fit` wrote")
    store = _read(file, "name the store with --store").get("store")
    if not isinstance(store, str) or not store:
        raise RunError(f"{file} does not say which store the run was trained from; name it with --store")
    if not is_remote(locate(store)) and not Path(store).exists():
        raise RunError(f"{run} was trained from {store}, and nothing is there; name the place it has now with --store")
    return store


def write_scores(scores: Scores, folder: Path) -> Path:
    """Write `scores.json` whole or not at all."""
    file = folder / "scores.json"
    text = json.dumps(_encoded(asdict(scores)), indent=1, ensure_ascii=False, allow_nan=False)
    with disk_errors(file):
        write_whole(file, (text + "\n").encode())
    return file


def read_scores(run: Path, split: Split, view: str) -> Scores:
    """A run's scores; RunError if it has none or they are of another format."""
    file = predictions_folder(run, split, view) / "scores.json"
    remedy = f"make them with: python -m evaluate score --run {run} --split {split} --view {view}"
    if not file.is_file():
        raise RunError(f"no scores in {file.parent}; {remedy}")
    tree = _read(file, remedy)
    if tree.get("format") != SCORES_FORMAT:
        raise RunError(f"{file} has format {tree.get('format')}, this version reads {SCORES_FORMAT}; {remedy}")
    facts = _checked(Scores, tree | {"rows": {}}, file, remedy)
    try:
        return replace(facts, rows={name: _scored(row) for name, row in tree["rows"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{file} is not what it should be (rows: {error!r}); {remedy}") from error


def _read(file: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{file} is not JSON ({error}); {remedy}") from error
    if not isinstance(tree, dict):
        raise RunError(f"{file} holds a {type(tree).__name__}, not an object; {remedy}")
    return tree


def _checked(kind: type[T], tree: Mapping[str, Any], file: Path, remedy: str) -> T:
    try:
        return validate(kind, tree)
    except SettingsError as error:
        raise RunError(f"{file} is not what it should be ({error}); {remedy}") from error


def _encoded(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _encoded(value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return [_encoded(value) for value in tree]
    if isinstance(tree, float) and isnan(tree):
        return None
    return "inf" if tree == inf else tree


def _scored(row: Mapping[str, Any]) -> Scored:
    """A row by hand: settings, and with them `validate`, know finite numbers only."""
    summary, values = row["summary"], row["values"]
    return Scored(
        summary=Summary(
            ssim=_decoded(summary["ssim"]),
            psnr=_decoded(summary["psnr"]),
            dab_spearman=_decoded(summary["dab_spearman"]),
            dab_pearson=_decoded(summary["dab_pearson"]),
            dab_error=_decoded(summary["dab_error"]),
        ),
        values=Values(
            ssim=tuple(_decoded(value) for value in values["ssim"]),
            psnr=tuple(_decoded(value) for value in values["psnr"]),
            dab=tuple(_decoded(value) for value in values["dab"]),
            positive=tuple(_decoded(value) for value in values["positive"]),
        ),
    )


def _decoded(value: Any) -> float:
    return nan if value is None else float(value)  # `float` knows "inf"
