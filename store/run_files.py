"""The paths in `runs/<name>/`: training writes a run, evaluation reads it, and neither imports the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
        """The folder of the predictions of a split and view of the run's own store."""
        return PredictionFolder(self.path / "predictions" / split / view)

    def predictions_of(self, store: str, split: str, view: str) -> PredictionFolder:
        """The same of another store, given the name of its folder."""
        return PredictionFolder(self.path / "predictions" / store / split / view)


@dataclass(frozen=True, slots=True)
class PredictionFolder:
    """`runs/<name>/predictions/<split>/<view>`: translated pictures, and their scores."""

    path: Path

    @property
    def lock(self) -> Path:
        """Held by the process that writes here, or by all that read; beside the folder, which is replaced whole."""
        return self.path.with_name(f"{self.path.name}.lock")

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
