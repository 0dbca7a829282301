"""A run's folder: what stands where, what it was made from, and whether it may be continued."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from store.files import PARTIAL, disk_errors, write_whole
from store.schema import FORBID_UNKNOWN, RunError
from store.settings import load, plain, to_toml, validate
from train.settings import TrainSettings

FREE = frozenset(
    {
        "device",
        "data.workers",
        "checkpoint_every",
        "keep_every",
        "sample_every",
        "validate_every",
        "tensorboard",
        "time_limit",
    }
)
"""Settings that may change between two starts of a run: they do not change its numbers."""

LOCK = "lock"
RESULT = "generator.safetensors"
SHOWN = 3  # differing settings named in an error


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run is made from, as `run.json` says it. Of an imported generator `store` and `seal` are empty."""

    __pydantic_config__ = FORBID_UNKNOWN

    store: str
    seal: str
    method: str
    synthetic: bool
    upscaler: str
    pairs: int
    draws: int
    device: str
    precision: str
    parameters: dict[str, int]
    software: dict[str, str]
    processes: int = 1
    effective_batch: int = 1


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`runs/<name>`. A generator that came without a run lies beside the folder of its pictures."""

    path: Path
    stray: tuple[Path, ...] = ()

    @property
    def settings(self) -> Path:
        """The settings of the run, resolved."""
        return self.path / "settings.toml"

    @property
    def facts(self) -> Path:
        """What the run is made from; written last, so a folder that has it is a run."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per logged step."""
        return self.path / "metrics.jsonl"

    @property
    def validation(self) -> Path:
        """One JSON line per look at val."""
        return self.path / "validation.jsonl"

    @property
    def board(self) -> Path:
        """Event files of TensorBoard."""
        return self.path / "tensorboard"

    @property
    def card(self) -> Path:
        """What the result is, for a person."""
        return self.path / "MODEL_CARD.md"

    @property
    def checkpoints(self) -> Path:
        """What a run needs to go on."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Contact sheets made while training."""
        return self.path / "samples"

    @property
    def generator(self) -> Path:
        """The result; a folder that has it is a finished run."""
        return self.stray[0] if self.stray else self.path / RESULT

    def predictions(self, split: str, view: str) -> Path:
        """Where the pictures of a split and view lie."""
        return self.path / "predictions" / split / view


def read_facts(folder: RunFolder) -> RunFacts:
    """What a run is made from. Raises RunError if the folder is no run."""
    try:
        return validate(RunFacts, json.loads(folder.facts.read_bytes()))
    except OSError as error:
        raise RunError(f"{folder.path} is not a run: it has no {folder.facts.name}; train one with `fit`") from error
    except ValueError as error:
        raise RunError(f"{folder.facts} is damaged ({error}); use another run folder, or delete this one") from error


def make_folder(folder: RunFolder) -> None:
    """Make a run's folder; one with anything in it that is no run is refused."""
    if folder.path.is_dir() and not folder.facts.exists():
        begun = (LOCK, folder.settings.name)  # a start that was cut off leaves these, and partial files
        others = sorted(p.name for p in folder.path.iterdir() if p.name not in begun and p.suffix != PARTIAL)
        if others:
            raise RunError(
                f"{folder.path} is not a run and not empty (it has {others[0]}); choose another with --run (make: RUN=)"
            )
    with disk_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)


def claim(folder: RunFolder, settings: TrainSettings, facts: RunFacts) -> None:
    """Begin a run in its new folder, or check that the one there was begun with the same settings and store."""
    if folder.facts.exists():
        _check_same(folder, settings, facts)
        return
    with disk_errors(folder.path):
        write_whole(folder.settings, to_toml(settings).encode())
        write_whole(folder.facts, (json.dumps(asdict(facts), indent=2, ensure_ascii=False) + "\n").encode())


def _check_same(folder: RunFolder, settings: TrainSettings, facts: RunFacts) -> None:
    began = read_facts(folder)
    remedy = "choose another folder with --run (make: RUN=), or delete this one to start again"
    if not began.store:
        raise RunError(f"{folder.path} holds an imported generator, which is not trained here; {remedy}")
    if began.seal != facts.seal:
        raise RunError(
            f"{folder.path} was begun on {began.store} (seal {began.seal[:12]}), but {facts.store} is another store "
            f"(seal {facts.seal[:12]}); give the first one, or {remedy}"
        )
    if began.processes != facts.processes:
        raise RunError(
            f"{folder.path} was begun by {began.processes} processes with an effective batch of "
            f"{began.effective_batch}, now there are {facts.processes} with {facts.effective_batch}; start as many, or "
            f"{remedy}"
        )
    old, new = (dict(_flat(plain(s), "")) for s in (load(TrainSettings, folder.settings), settings))
    different = [key for key in new if key not in FREE and old[key] != new[key]]
    if different:
        listed = ", ".join(f"{key} = {json.dumps(old[key])} (now {json.dumps(new[key])})" for key in different[:SHOWN])
        more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise RunError(f"{folder.path} was begun with {listed}{more}; give the same settings, or {remedy}")


def _flat(tree: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def software() -> dict[str, str]:
    """The versions that may change a run's numbers."""
    return {"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy", "zarr")}
