"""The run folder: the paths in `runs/<name>/`, and the records through which training and evaluation meet.

Training writes a run, evaluation reads it; neither imports the other. Records are JSON objects, checked against their
class when they are read; an unknown value is `null`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from store.files import check_record, read_json, with_current_names
from store.location.open import locate
from store.reader import Store
from store.schema import FORBID_UNKNOWN, RunError, Split

GENERATOR = "generator.safetensors"
PREDICT, FIT = "python -m train predict", "python -m train fit"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`runs/<name>`. A generator file without a run has its predictions in a folder beside it."""

    path: Path
    generator_file: Path | None = None

    @property
    def settings(self) -> Path:
        """The settings of the run: defaults, presets and `--set` merged."""
        return self.path / "settings.toml"

    @property
    def facts(self) -> Path:
        """What the run is made from (`RunFacts`); written last, so that a folder with it is a run."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """One JSON line for each logged step."""
        return self.path / "metrics.jsonl"

    @property
    def validation(self) -> Path:
        """One JSON line for each validation."""
        return self.path / "validation.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Event files of TensorBoard."""
        return self.path / "tensorboard"

    @property
    def model_card(self) -> Path:
        """A description of the generator."""
        return self.path / "MODEL_CARD.md"

    @property
    def checkpoints(self) -> Path:
        """What training needs to resume."""
        return self.path / "checkpoints"

    @property
    def lock(self) -> Path:
        """Held by the process that trains the run."""
        return self.path / "lock"

    @property
    def samples(self) -> Path:
        """Contact sheets from training."""
        return self.path / "samples"

    @property
    def generator(self) -> Path:
        """The trained generator; a folder that has it is a finished run."""
        return self.generator_file or self.path / GENERATOR

    def predictions(self, split: str, view: str) -> PredictionFolder:
        """The folder of the predictions of a split and view."""
        return PredictionFolder(self.path / "predictions" / split / view)


@dataclass(frozen=True, slots=True)
class PredictionFolder:
    """`runs/<name>/predictions/<split>/<view>`: translated pictures, and their scores."""

    path: Path

    @property
    def record(self) -> Path:
        """What the pictures are made from (`Predictions`)."""
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
        """Attention maps, one folder for each level."""
        return self.path / "gates"

    @property
    def gates_record(self) -> Path:
        """What the attention maps are made from, and their statistics (`GateRecord`)."""
        return self.gates / "gates.json"

    @property
    def gates_sheet(self) -> Path:
        """A contact sheet of some attention maps."""
        return self.gates / "gates.png"

    @property
    def scores(self) -> Path:
        """All scores of the run on these pictures."""
        return self.path / "scores.json"

    @property
    def contact_sheet(self) -> Path:
        """A contact sheet of some pictures beside the real ones."""
        return self.path / "contact.png"

    @property
    def report(self) -> Path:
        """The page with scores and pictures."""
        return self.path / "report.html"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """`run.json`: what a run is made from. Most of it is unknown (None) for an imported generator."""

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
    """`predictions.json`: `generator` is the sha256 of its file, `pictures` are names in the order of the store."""

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
    """`gates.json`: sha256 of the generator; by level and picture the mean and the 1st and 99th percentile."""

    generator: str
    levels: dict[str, dict[str, tuple[float, float, float]]]


def read_facts(folder: RunFolder) -> RunFacts:
    """What a run is made from. Raises RunError if the folder is not a run."""
    if not folder.facts.is_file():
        raise RunError(f"{folder.path} is not a run: it has no {folder.facts.name}; train one with `{FIT}`")
    remedy = "restore the file from a copy, or use another run folder"
    tree = with_current_names(
        read_json(folder.facts, remedy), unknown=("store", "seal", "pairs", "pairs_seen", "device", "precision")
    )
    return check_record(RunFacts, tree, folder.facts, remedy)


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


def open_store_of(folder: RunFolder) -> Store:
    """The store that a run was trained on, at its old address. Raises RunError if it was moved or replaced."""
    if folder.generator_file and not folder.facts.exists():
        raise RunError(f"{folder.generator} is not in a run folder; name the store with --store")
    facts = read_facts(folder)
    if facts.store is None:
        raise RunError(f"{folder.path} was imported, not trained on a store; name the store with --store")
    path = locate(facts.store).folder
    if path is not None and not path.exists():
        raise RunError(f"{folder.path} was trained on {facts.store}, which does not exist; name its copy with --store")
    store = Store.open(facts.store)
    if store.manifest.seal != facts.seal:
        raise RunError(
            f"{folder.path} was trained on a store with seal {str(facts.seal)[:12]}, but {facts.store} now has seal "
            f"{store.manifest.seal[:12]}; name the right store with --store"
        )
    return store


def trained_views(folder: RunFolder) -> tuple[str, ...] | None:
    """The views that a run was trained on, from its `settings.toml`; None if that file does not exist."""
    if not folder.settings.is_file():
        return None
    try:
        views = tomllib.loads(folder.settings.read_text(encoding="utf-8"))["data"]["views"]
        return tuple(str(view) for view in views)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise RunError(f"{folder.settings} names no views ({error!r}); restore it from a copy") from error
