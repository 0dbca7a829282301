"""A trained generator and a store in, translated pictures out: each rounded, and truncated as published."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from store.cli import say, track
from store.files import PARTIAL, digest_file, disk_errors, sync, write_json
from store.images import write_png
from store.process import stop_requests
from store.reader import Store, Target, plan_targets
from store.records.predictions import Predictions, load_predictions
from store.run_files import GENERATOR, PredictionFolder, RunFolder
from store.schema import Interrupted, RunError, Split, Stain
from train.methods.registry import check_multiple
from train.run.generator_file import Trained, load_generator
from train.run.inference import rounded, translate, translation_mode, truncated
from train.runtime.device import resolve
from train.settings import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """The folder with the pictures of a split and view, how many there are, and whether they existed before."""

    folder: Path
    pictures: int
    already_existed: bool


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


def predict(folder: RunFolder, store: Store, split: Split, view: str, device: str) -> Predicted:
    """Translate every picture of a split and view as a whole, one at a time, in float32.

    Spectral norm makes no more iterations; batch norm and dropout are as `generator.at_test` says, dropout seeded by
    the picture's place in the store. New predictions are written beside their place and replace older ones when they
    are complete. An interrupted prediction is resumed; complete predictions of the same generator and store are kept.
    Raises RunError, SettingsError, StoreError, and Interrupted when it was stopped.
    """
    trained = load_generator(folder.generator)
    targets = plan_targets(store, split, view)
    check_multiple(store.side(view), trained.multiple, f"the {view} pictures of {store.address}")
    record = _record_of(trained, folder, store, split, view, targets)
    place = folder.predictions(split, view)
    files = [file for target in targets for file in _files(place, target)]
    if _has_record(place, record) and all(file.is_file() for file in files):
        return Predicted(folder=place.path, pictures=len(targets), already_existed=True)
    beside = PredictionFolder(place.path.with_name(place.path.name + PARTIAL))
    _prepare(beside, record)
    compute = resolve(device, Precision.FP32)
    compute.configure()
    generator = compute.place(trained.generator)
    with stop_requests(say) as stop, translation_mode(generator, trained.header.settings.generator.at_test):
        for seed, target in enumerate(track(targets, what=f"translating {split}/{view}", unit="picture")):
            rounded_file, truncated_file = _files(beside, target)
            if not (rounded_file.is_file() and truncated_file.is_file()):
                he = store.picture(split, view, Stain.HE, target.pair, target.index)
                signed = translate(generator, he, compute.device, seed=seed)
                write_png(rounded_file, rounded(signed))
                write_png(truncated_file, truncated(signed))
            if stop.requested:
                raise Interrupted(f"{beside.path} has the predictions so far; run the same command to resume")
    _replace(place, beside)
    return Predicted(folder=place.path, pictures=len(targets), already_existed=False)


def _record_of(
    trained: Trained, folder: RunFolder, store: Store, split: Split, view: str, targets: list[Target]
) -> Predictions:
    return Predictions(
        method=trained.header.method,
        seal=store.manifest.seal,
        split=split,
        view=view,
        pairs_seen=trained.header.pairs_seen,
        step=trained.header.step,
        upscaler=store.manifest.upscaler.name,
        synthetic=store.manifest.synthetic,
        generator=digest_file(folder.generator),
        pictures=tuple(target.name for target in targets),
    )


def _files(folder: PredictionFolder, target: Target) -> tuple[Path, Path]:
    """The rounded and the truncated file of a picture."""
    return folder.rounded / target.name, folder.truncated / target.name


def _prepare(beside: PredictionFolder, record: Predictions) -> None:
    """Make an empty folder for new predictions, unless an earlier start of the same has left one."""
    if _has_record(beside, record):
        return
    with disk_errors(beside.path):
        if beside.path.exists():
            shutil.rmtree(beside.path)
        beside.path.mkdir(parents=True)
    write_json(beside.record, record)


def _replace(place: PredictionFolder, beside: PredictionFolder) -> None:
    """Move complete predictions to their place; older ones are deleted together with their scores."""
    with disk_errors(place.path):
        if place.path.exists():
            shutil.rmtree(place.path)
        beside.path.rename(place.path)
        sync(place.path.parent)


def _has_record(folder: PredictionFolder, record: Predictions) -> bool:
    """Whether a folder has an intact record that equals `record`."""
    try:
        return load_predictions(folder, remedy="") == record
    except RunError:
        return False
