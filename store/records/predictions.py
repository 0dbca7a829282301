"""`predictions.json` and `gates.json`: what translated pictures and attention maps are made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from store.files import check_record, read_json, with_current_names
from store.run_files import FIT, PREDICT, PredictionFolder, RunFolder
from store.schema import FORBID_UNKNOWN, RunError, Split, check_distinct, check_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """`predictions.json`: `generator` is the sha256 of its file, `pictures` are names in the order of the store."""

    __pydantic_config__ = FORBID_UNKNOWN

    method: str
    seal: str
    split: Split
    view: str
    pairs_seen: int | None
    step: int | None
    upscaler: str
    synthetic: bool
    generator: str
    pictures: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.pictures:
            check_name(name, "picture")
        check_distinct(self.pictures, "pictures")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRecord:
    """`gates.json`: sha256 of the generator; by level and picture the mean and the 1st and 99th percentile."""

    __pydantic_config__ = FORBID_UNKNOWN

    generator: str
    levels: dict[str, dict[str, tuple[float, float, float]]]


def load_predictions(folder: PredictionFolder, remedy: str) -> Predictions:
    """The record of a folder of predictions. Raises RunError with the remedy if it is missing or damaged."""
    tree = with_current_names(read_json(folder.record, remedy), unknown=("pairs_seen", "step"))
    return check_record(Predictions, tree, folder.record, remedy)


def read_predictions(run: Path, split: Split, view: str) -> Predictions:
    """The record of the predictions of a run for a split and view. Raises RunError if there are none."""
    folder = RunFolder(run).predictions(split, view)
    remedy = f"make them with: {PREDICT} --run {run} --split {split} --view {view}"
    if not run.is_dir():
        raise RunError(f"no run at {run}; give a folder that `{FIT}` made")
    if not (folder.record.is_file() and folder.rounded.is_dir() and folder.truncated.is_dir()):
        raise RunError(f"no predictions in {folder.path}; {remedy}")
    predictions = load_predictions(folder, remedy)
    if (predictions.split, predictions.view) != (split, view):
        found = f"{predictions.split}/{predictions.view}"
        raise RunError(f"{folder.path} holds predictions of {found}, not of {split}/{view}; {remedy}")
    return predictions


def read_gates(folder: PredictionFolder) -> GateRecord:
    """The record of attention maps. Raises RunError if it is missing or damaged."""
    remedy = f"make them again with: {PREDICT} --gates"
    return check_record(GateRecord, read_json(folder.gates_record, remedy), folder.gates_record, remedy)
