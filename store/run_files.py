"""The run folder as a contract: what is where in `runs/<name>/`, and the records that one package leaves for another.

Training writes a run, evaluation reads it; neither imports the other. Records are JSON objects, checked against their
class when they are read; a value that nobody knows is `null`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from store.files import read_json
from store.location.open import locate
from store.reader import Store
from store.schema import FORBID_UNKNOWN, RunError, SettingsError, Split
from store.settings import validate

T = TypeVar("T")

GENERATOR = "generator.safetensors"
RENAMED = {"draws": "pairs_seen"}  # keys of records that earlier versions wrote
PREDICT, FIT = "python -m train predict", "python -m train fit"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`runs/<name>`. A generator file that came without a run lies beside the folder of its predictions."""

    path: Path
    generator_file: Path | None = None

    @property
    def settings(self) -> Path:
        """The settings of the run, resolved."""
        return self.path / "settings.toml"

    @property
    def facts(self) -> Path:
        """What the run is made from (`RunFacts`); written last, so a folder that has it is a run."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def validation(self) -> Path:
        """One JSON line per validation."""
        return self.path / "validation.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Event files of TensorBoard."""
        return self.path / "tensorboard"

    @property
    def model_card(self) -> Path:
        """What the generator is, for a person."""
        return self.path / "MODEL_CARD.md"

    @property
    def checkpoints(self) -> Path:
        """What a run needs to resume."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Contact sheets made while training."""
        return self.path / "samples"

    @property
    def generator(self) -> Path:
        """The trained generator; a folder that has it is a finished run."""
        return self.generator_file or self.path / GENERATOR

    def predictions(self, split: str, view: str) -> PredictionFolder:
        """Where the predictions of a split and view are."""
        return PredictionFolder(self.path / "predictions" / split / view)


@dataclass(frozen=True, slots=True)
class PredictionFolder:
    """`runs/<name>/predictions/<split>/<view>`: translated pictures, and what evaluation makes of them."""

    path: Path

    @property
    def record(self) -> Path:
        """What the pictures are (`Predictions`)."""
        return self.path / "predictions.json"

    @property
    def rounded(self) -> Path:
        """The pictures, rounded to 8 bits."""
        return self.path / "fake"

    @property
    def truncated(self) -> Path:
        """The same pictures, truncated to 8 bits as the ASP repository saves them."""
        return self.path / "fake_truncated"

    @property
    def gates(self) -> Path:
        """Attention maps, one folder per level."""
        return self.path / "gates"

    @property
    def gates_record(self) -> Path:
        """What the attention maps are (`GateRecord`)."""
        return self.gates / "gates.json"

    @property
    def gates_sheet(self) -> Path:
        """A contact sheet of some attention maps."""
        return self.gates / "gates.png"

    @property
    def scores(self) -> Path:
        """Every number of the run on these pictures."""
        return self.path / "scores.json"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """`run.json`: what a run is made from. Of an imported generator most of it is not known (None)."""

    __pydantic_config__ = FORBID_UNKNOWN

    store: str | None
    seal: str | None
    method: str
    synthetic: bool
    upscaler: str
    pairs: int | None
    pairs_seen: int | None
    device: str | None
    precision: str | None
    parameters: dict[str, int]
    software: dict[str, str]
    processes: int = 1
    effective_batch: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """`predictions.json`: `generator` is the sha256 of its file, `pictures` are in the order of the store."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRecord:
    """`gates.json`: the generator's sha256; of each picture and level the mean and the 1st and 99th percentile."""

    generator: str
    levels: dict[str, dict[str, tuple[float, float, float]]]


def read_facts(folder: RunFolder) -> RunFacts:
    """What a run is made from. Raises RunError if the folder is no run."""
    if not folder.facts.is_file():
        raise RunError(f"{folder.path} is not a run: it has no {folder.facts.name}; train one with `{FIT}`")
    remedy = "bring the file back from a copy, or use another run folder"
    tree = with_current_names(
        read_json(folder.facts, remedy), unknown=("store", "seal", "pairs", "pairs_seen", "device", "precision")
    )
    return check_record(RunFacts, tree, folder.facts, remedy)


def load_predictions(folder: PredictionFolder, remedy: str) -> Predictions:
    """What the pictures in a folder are. Raises RunError with the remedy if its record is missing or damaged."""
    tree = with_current_names(read_json(folder.record, remedy), unknown=("pairs_seen", "step"))
    return check_record(Predictions, tree, folder.record, remedy)


def read_predictions(run: Path, split: Split, view: str) -> Predictions:
    """What the predictions of a run for a split and view are. Raises RunError if there are none."""
    folder = RunFolder(run).predictions(split, view)
    remedy = f"make them with: {PREDICT} --run {run} --split {split} --view {view}"
    if not run.is_dir():
        raise RunError(f"no run at {run}; give the folder that `{FIT}` made")
    if not (folder.record.is_file() and folder.rounded.is_dir() and folder.truncated.is_dir()):
        raise RunError(f"no predictions in {folder.path}; {remedy}")
    predictions = load_predictions(folder, remedy)
    if (predictions.split, predictions.view) != (split, view):
        raise RunError(
            f"{folder.path} holds predictions of {predictions.split}/{predictions.view}, not of {split}/{view}; "
            f"{remedy}"
        )
    return predictions


def read_gates(folder: PredictionFolder) -> GateRecord:
    """What the attention maps beside predictions are. Raises RunError if their record is missing or damaged."""
    remedy = f"make them again with: {PREDICT} --gates"
    return check_record(GateRecord, read_json(folder.gates_record, remedy), folder.gates_record, remedy)


def open_store_of(folder: RunFolder) -> Store:
    """The store that a run was trained on, where it was then. Raises RunError if it was moved or is another one now."""
    if folder.generator_file and not folder.facts.exists():
        raise RunError(f"{folder.generator} is not in a run folder; name the store with --store")
    facts = read_facts(folder)
    if facts.store is None:
        raise RunError(f"{folder.path} was imported, not trained on a store; name the store with --store")
    place = locate(facts.store).folder
    if place is not None and not place.exists():
        raise RunError(f"{folder.path} was trained on {facts.store}, and nothing is there; name its place with --store")
    store = Store.open(facts.store)
    if store.manifest.seal != facts.seal:
        raise RunError(
            f"{folder.path} was trained on a store with seal {str(facts.seal)[:12]}, but {facts.store} now has seal "
            f"{store.manifest.seal[:12]}; name the right store with --store"
        )
    return store


def trained_views(folder: RunFolder) -> tuple[str, ...] | None:
    """The views that a run was trained on, as its `settings.toml` says; None if there is no such file."""
    if not folder.settings.is_file():
        return None
    try:
        views = tomllib.loads(folder.settings.read_text(encoding="utf-8"))["data"]["views"]
        return tuple(str(view) for view in views)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise RunError(f"{folder.settings} names no views ({error!r}); bring it back from a copy") from error


def check_record(kind: type[T], tree: Mapping[str, Any], file: Path, remedy: str) -> T:
    """An object as its class; RunError with the remedy if it is another."""
    try:
        return validate(kind, tree)
    except SettingsError as error:
        raise RunError(f"{file} is not what it should be ({error}); {remedy}") from error


def with_current_names(
    tree: Mapping[str, Any], unknown: Collection[str], renamed: Mapping[str, str] = RENAMED
) -> dict[str, Any]:
    """A record under today's names, of an earlier version if it holds one of its names; as it is otherwise.

    In records of earlier versions "" and 0 stand for what is not known: under the keys `unknown` they become None.
    """
    if not renamed.keys() & tree.keys():
        return dict(tree)
    named = {renamed.get(key, key): value for key, value in tree.items()}
    return {key: None if key in unknown and value in ("", 0) else value for key, value in named.items()}
