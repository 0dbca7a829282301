"""A run's folder: it records settings and store at the first start, and a run is resumed only with the same."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping

from store.files import PARTIAL, disk_errors, write_json, write_whole
from store.process import installed_versions
from store.records.facts import RunFacts, read_facts
from store.run_files import RunFolder
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

SHOWN = 3  # differing settings named in an error


def make_folder(folder: RunFolder) -> None:
    """Make a run's folder. Raises RunError for a folder that is not a run and not empty."""
    if folder.path.is_dir() and not folder.facts.exists():
        unfinished = (folder.lock.name, folder.settings.name)  # a start that was killed leaves these, and partial files
        others = sorted(p.name for p in folder.path.iterdir() if p.name not in unfinished and p.suffix != PARTIAL)
        if others:
            raise RunError(
                f"{folder.path} is not a run and not empty (it has {others[0]}); choose another with --run (make: RUN=)"
            )
    with disk_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)


def claim(folder: RunFolder, settings: TrainSettings, facts: RunFacts) -> None:
    """Record settings and facts in a new run's folder, or check that an existing run was started with the same."""
    if folder.facts.exists():
        _check_same(folder, settings, facts)
        return
    with disk_errors(folder.path):
        write_whole(folder.settings, to_toml(settings).encode())
        write_json(folder.facts, facts)


def _check_same(folder: RunFolder, settings: TrainSettings, facts: RunFacts) -> None:
    before = read_facts(folder)
    remedy = "choose another folder with --run (make: RUN=), or delete this one to start again"
    if before.store is None or before.seal is None or facts.seal is None:
        raise RunError(f"{folder.path} is an imported generator, which cannot be trained further; {remedy}")
    if before.seal != facts.seal:
        raise RunError(
            f"{folder.path} was started on {before.store} (seal {before.seal[:12]}), but {facts.store} is another "
            f"store (seal {facts.seal[:12]}); give the first one, or {remedy}"
        )
    if before.processes != facts.processes:
        raise RunError(
            f"{folder.path} was started by {before.processes} processes with an effective batch of "
            f"{before.effective_batch}, now there are {facts.processes} with {facts.effective_batch}; start as many, "
            f"or {remedy}"
        )
    old, new = (dict(_flat(plain(s), "")) for s in (load(TrainSettings, folder.settings), settings))
    different = [key for key in new if key not in FREE and old[key] != new[key]]
    if different:
        listed = ", ".join(f"{key} = {json.dumps(old[key])} (now {json.dumps(new[key])})" for key in different[:SHOWN])
        more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise RunError(f"{folder.path} was started with {listed}{more}; give the same settings, or {remedy}")


def _flat(tree: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def software() -> dict[str, str]:
    """Versions of what may change a run's numbers."""
    return {"python": platform.python_version()} | installed_versions(("torch", "numpy", "zarr"))
