"""A run's folder: what stands where, what it was made from, and whether it may be continued."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version

from store.files import PARTIAL, disk_errors, write_json, write_whole
from store.run_files import RunFacts, RunFolder, read_facts
from store.schema import RunError
from store.settings import load, plain, to_toml
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
SHOWN = 3  # differing settings named in an error


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
        write_json(folder.facts, facts)


def _check_same(folder: RunFolder, settings: TrainSettings, facts: RunFacts) -> None:
    began = read_facts(folder)
    remedy = "choose another folder with --run (make: RUN=), or delete this one to start again"
    if began.store is None or began.seal is None or facts.seal is None:
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
