"""A run's folder: it records settings and store at the first start, and a run is resumed only with the same."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

from store.disk.names import check_length
from store.disk.removing import remove_file
from store.files import PARTIAL, digest_tree, disk_errors, write_json, write_whole
from store.process import installed_versions
from store.records.facts import RunFacts, StartedFrom, read_facts
from store.run_files import GENERATOR, RunFolder
from store.schema import RunError, SettingsError
from store.settings import load, plain, to_toml
from train.settings import TrainSettings, Use

FREE = frozenset(
    {
        "device",
        "fused",
        "threads",
        "graph",
        "data.workers",
        "checkpoint_every",
        "keep_every",
        "sample_every",
        "validate_every",
        "tensorboard",
        "time_limit",
        "optimiser.stop_after_skips",
        "init_from",
    }
)
"""Settings that may change between two starts of a run: they change no number, `fused` and `threads` but rounding.

`init_from` is only where a file lies, which may be moved; what was in it is told by its digest in `run.json`.
"""

WITHIN = 350  # bytes of the longest name in a run: a picture among predictions
SHOWN = 3  # differing settings named in an error


def generator_folder(run: Path | None, checkpoint: Path | None) -> RunFolder:
    """The run folder of a generator: that of a run, that of a generator file, or one beside the file with its name.

    Raises RunError unless exactly one of the two is given.
    """
    if (run is None) == (checkpoint is None):
        raise RunError("which generator? Name a run with --run, or a generator file with --checkpoint, not both")
    if run is not None:
        return RunFolder(run)
    assert checkpoint is not None
    if checkpoint.name == GENERATOR:
        return RunFolder(checkpoint.parent)
    return RunFolder(checkpoint.with_suffix(""), checkpoint)


def make_folder(folder: RunFolder) -> None:
    """Make a run's folder. Raises RunError for one that is not a run and not empty, StoreError for too long a name."""
    check_length(folder.path, within=WITHIN)
    if folder.path.is_dir() and not folder.facts.exists():
        unfinished = (folder.lock.name, folder.settings.name)  # a start that was killed leaves these, and partial files
        others = sorted(p.name for p in folder.path.iterdir() if p.name not in unfinished and p.suffix != PARTIAL)
        if others:
            raise RunError(
                f"{folder.path} is not a run and not empty (it has {others[0]}); choose another with --run (make: RUN=)"
            )
    with disk_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)


def sweep(folder: RunFolder) -> None:
    """Remove the partial files that a killed start left; only for the process that holds the lock."""
    for place in (folder.path, folder.checkpoints, folder.samples):
        with disk_errors(place):
            for partial in place.glob(f"*{PARTIAL}"):
                remove_file(partial)


def claim(folder: RunFolder, settings: TrainSettings, facts: RunFacts) -> list[str]:
    """Record settings and facts in a new run's folder, or check that an existing run was started with the same.

    Returns a warning if the record of the settings was lost and is written again.
    """
    if folder.facts.exists():
        return _check_same(folder, settings, facts)
    with disk_errors(folder.path):
        write_whole(folder.settings, to_toml(settings).encode())
        write_json(folder.facts, facts)
    return []


def _check_same(folder: RunFolder, settings: TrainSettings, facts: RunFacts) -> list[str]:
    before, warnings = _recorded_facts(folder, facts)
    remedy = "choose another folder with --run (make: RUN=)"
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
    if _digest_of(before.started_from) != _digest_of(facts.started_from):
        then, now = recorded_init(folder), json.dumps(settings.init_from)
        raise RunError(
            f"{folder.path} was started from {before.started_from or 'fresh weights'}, now init_from is {now}"
            f"{f': {facts.started_from}' if facts.started_from else ''}; give the first one "
            f"(init_from={json.dumps(then)}), or {remedy}"
        )
    recorded, more_warnings = _recorded_settings(folder, settings, before.settings)
    old, new = (dict(_flat(plain(s), "")) for s in (recorded, settings))
    different = [key for key in new if key not in FREE and old[key] != new[key]]
    if different:
        listed = ", ".join(f"{key} = {json.dumps(old[key])} (now {json.dumps(new[key])})" for key in different[:SHOWN])
        more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise RunError(f"{folder.path} was started with {listed}{more}; give the same settings, or {remedy}")
    return warnings + more_warnings


def _digest_of(start: StartedFrom | None) -> str | None:
    return start.sha256 if start else None


def _recorded_facts(folder: RunFolder, given: RunFacts) -> tuple[RunFacts, list[str]]:
    """The facts of the first start. A damaged record that still shows store, processes and settings is replaced."""
    try:
        return read_facts(folder), []
    except RunError as error:
        left = folder.facts.read_bytes()
        shown = [f'"seal": "{given.seal}",', f'"processes": {given.processes},', f'"settings": "{given.settings}",']
        start = b'"started_from": {'  # a version that had none did not say so
        shown += [f'"sha256": "{given.started_from.sha256}"'] if given.started_from else []
        if (start in left and not given.started_from) or not all(mark.encode() in left for mark in shown):
            raise
        write_json(folder.facts, given)
        return given, [f"{error}; it is written again: store, processes and settings are those of this command"]


def _recorded_settings(folder: RunFolder, given: TrainSettings, digest: str | None) -> tuple[TrainSettings, list[str]]:
    """The settings of the first start. If their file is lost or damaged, `given` with the same digest replace it."""
    file, problem = folder.settings, "is not what the run was started with: it was damaged or edited"
    try:
        recorded = load(TrainSettings, file)
        if digest in (None, settings_digest(recorded)):
            return recorded, []
    except SettingsError as error:
        problem = f"is missing or damaged ({error})"
    if settings_digest(given) == digest or (digest is None and not file.exists()):
        with disk_errors(file):
            write_whole(file, to_toml(given).encode())
        doubt = "" if digest else "; nothing can tell whether they are those of the first start"
        return given, [f"{file} {problem}; it is written again, with the settings of this command{doubt}"]
    remedy = "run again with those settings, which writes it again" if digest else "delete it if nothing else helps"
    raise RunError(f"{file} {problem}; bring back a copy, or {remedy}")


def recorded_threads(folder: RunFolder) -> int:
    """The threads of a run's first start; 0 if it has none or they are unknown."""
    recorded = _recorded(folder)
    return recorded.threads if recorded else 0


def recorded_fused(folder: RunFolder) -> Use:
    """Whether a run's first start used fused kernels; `auto` if it has none, was on a CPU, or it is unknown.

    A run on a GPU that does not say is older than the kernels.
    """
    recorded = _recorded(folder)
    if not recorded or recorded.fused is not Use.AUTO:
        return recorded.fused if recorded else Use.AUTO
    try:
        return Use.OFF if (read_facts(folder).device or "").startswith("cuda") else Use.AUTO
    except RunError:  # `claim` says what to do about it
        return Use.AUTO


def recorded_init(folder: RunFolder) -> str:
    """The `init_from` of a run's first start; empty if it has none or it is unknown."""
    recorded = _recorded(folder)
    return recorded.init_from if recorded else ""


def _recorded(folder: RunFolder) -> TrainSettings | None:
    """The settings of a run's first start, if there was one and they are intact."""
    try:
        return load(TrainSettings, folder.settings) if folder.facts.exists() else None
    except SettingsError:  # `claim` says what to do about it
        return None


def settings_digest(settings: TrainSettings) -> str:
    """The sha256 of settings that change numbers and are not at their defaults: new ones may come with a version."""
    defaults = dict(_flat(plain(TrainSettings()), ""))
    flat = _flat(plain(settings), "")
    return digest_tree({key: value for key, value in flat if key not in FREE and value != defaults[key]})


def _flat(tree: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def software() -> dict[str, str]:
    """Versions of what may change a run's numbers."""
    return {"python": platform.python_version()} | installed_versions(("torch", "numpy", "zarr"))
