"""`predictions.json` and `gates.json`: what translated pictures and attention maps are made from, and their digests.

The predictions of a run's own store are in `predictions/<split>/<view>`; those of another store have a folder of their
own, with that store's name and seal, so that neither replaces the other.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace

from store.files import check_record, read_json, with_current_names
from store.pairs.table import check_distinct
from store.records.exchange import aside
from store.records.facts import read_facts
from store.run_files import FIT, PREDICT, PredictionFolder, RunFolder
from store.schema import FORBID_UNKNOWN, RunError, Split, check_name

NAME = 40  # characters of a store's name in that of a folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """`predictions.json`: `generator` is the sha256 of its file, `pictures` are names in the order of the store.

    `rounded` and `truncated` are the sha256 of the files of the pictures, `views` what the generator was trained on;
    earlier versions did not record them (None).
    """

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
    rounded: tuple[str, ...] | None = None
    truncated: tuple[str, ...] | None = None
    views: tuple[str, ...] | None = None

    @property
    def plan(self) -> Predictions:
        """The same without what earlier versions did not record: sets with one plan have the same pictures."""
        return replace(self, rounded=None, truncated=None, views=None)

    def __post_init__(self) -> None:
        for name in self.pictures:
            check_name(name, "picture")
        check_distinct(self.pictures, "pictures")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRecord:
    """`gates.json`: sha256 of the generator; by level and picture the mean and the 1st and 99th percentile.

    `files` has the sha256 of every map and of the contact sheet by name; earlier versions did not record it (None).
    """

    __pydantic_config__ = FORBID_UNKNOWN

    generator: str
    levels: dict[str, dict[str, tuple[float, float, float]]]
    files: dict[str, str] | None = None


def place_of(run: RunFolder, name: str, seal: str, split: str, view: str) -> PredictionFolder:
    """Where the predictions of a run for a store are, or will be, given the store's name and seal.

    A run without a store of its own, such as an imported one, keeps those of its first store where others keep theirs.
    """
    plain = run.predictions(split, view)
    own = read_facts(run).seal if run.facts.is_file() else None
    found = _seal_in(plain)
    if seal in (own, found) or (own is None and found is None):
        return plain
    return run.predictions_of(f"{re.sub(r'[^A-Za-z0-9_-]+', '_', name)[:NAME]}-{seal[:12]}", split, view)


def _seal_in(folder: PredictionFolder) -> str | None:
    """The seal of the store that predictions are of; None if there are none, or if their record is damaged."""
    for one in (folder, PredictionFolder(aside(folder.path))):  # the second: a killed exchange
        with suppress(RunError):
            return load_predictions(one, "").seal
    return None


def load_predictions(folder: PredictionFolder, remedy: str) -> Predictions:
    """The record of a folder of predictions. Raises RunError with the remedy if it is missing or damaged."""
    tree = with_current_names(read_json(folder.record, remedy), unknown=("pairs_seen", "step"))
    record = check_record(Predictions, tree, folder.record, remedy)
    if any(len(digests) != len(record.pictures) for digests in (record.rounded, record.truncated) if digests):
        raise RunError(f"{folder.record} has other numbers of pictures and of their digests; {remedy}")
    return record


def read_predictions(run: RunFolder, folder: PredictionFolder, split: Split, view: str, store: str) -> Predictions:
    """The record of the predictions of a run for a split and view; RunError if there are none.

    `store` is the address to name in the command that makes them.
    """
    of = "" if folder == run.predictions(split, view) else f" --store {store}"
    remedy = f"make them with: {PREDICT} --run {run.path}{of} --split {split} --view {view}"
    if not run.path.is_dir():
        raise RunError(f"no run at {run.path}; give a folder that `{FIT}` made")
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
