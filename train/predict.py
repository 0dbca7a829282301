"""A trained generator and a store in, translated pictures out: each rounded, and truncated as is published."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from store.files import PARTIAL, digest_file, disk_errors, sync, write_json
from store.images import write_png
from store.process import stop_requests
from store.reader import Store, Target, plan_targets
from store.run_files import GENERATOR, PredictionFolder, Predictions, RunFolder, load_predictions
from store.schema import Interrupted, RunError, Split, Stain
from train.methods.registry import check_multiple
from train.run.checkpoint import load_generator
from train.run.inference import at_test, rounded, translate, truncated
from train.runtime.device import resolve
from train.settings import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Where the pictures of a split and view lie, how many there are, and whether they had been there before."""

    folder: Path
    pictures: int
    complete_before: bool


def place_of(run: Path | None, checkpoint: Path | None) -> RunFolder:
    """Where a generator lies and its pictures go: a run's folder, or that of a file, or one beside a file by its name.

    Raises RunError unless exactly one of the two is named.
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
    """Translate every picture of a split and view, whole, one at a time, in float32.

    Spectral norm makes no more iterations; batch norm and dropout are as `generator.at_test` says, the latter seeded by
    the picture's place in the store.
    The set grows in a folder beside its place and is renamed when it is complete, in place of an older one. A set that
    was cut off is continued; a complete one of the same generator and store is left alone.
    """
    trained = load_generator(folder.generator)
    targets = plan_targets(store, split, view)
    check_multiple(store.side(view), trained.multiple, f"the {view} pictures of {store.address}")
    record = Predictions(
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
    place = folder.predictions(split, view)
    files = [file for target in targets for file in _files(place, target)]
    if _is_of(place, record) and all(file.is_file() for file in files):
        return Predicted(folder=place.path, pictures=len(targets), complete_before=True)
    beside = PredictionFolder(place.path.with_name(place.path.name + PARTIAL))
    _begin(beside, record)
    compute = resolve(device, Precision.FP32)
    compute.settle()
    generator = compute.place(trained.generator)
    progress_bar = tqdm(targets, desc=f"translating {split}/{view}", unit="picture", file=sys.stderr)
    mode = at_test(generator, trained.header.settings.generator.at_test)
    with stop_requests(lambda text: tqdm.write(text, file=sys.stderr)) as stop, progress_bar as bar, mode:
        for place_in_store, target in enumerate(bar):
            whole, cut = _files(beside, target)
            if not (whole.is_file() and cut.is_file()):
                he = store.picture(split, view, Stain.HE, target.pair, target.index)
                signed = translate(generator, he, compute.device, seed=place_in_store)
                write_png(whole, rounded(signed))
                write_png(cut, truncated(signed))
            if stop.requested:
                raise Interrupted(f"{beside.path} has the pictures so far; run the same again")
    _finish(beside, place)
    return Predicted(folder=place.path, pictures=len(targets), complete_before=False)


def _files(folder: PredictionFolder, target: Target) -> tuple[Path, Path]:
    """The rounded and the truncated file of a picture."""
    return folder.rounded / target.name, folder.truncated / target.name


def _begin(beside: PredictionFolder, record: Predictions) -> None:
    """Make room for a new set, unless this very set was begun before."""
    if _is_of(beside, record):
        return
    with disk_errors(beside.path):
        if beside.path.exists():
            shutil.rmtree(beside.path)
        beside.path.mkdir(parents=True)
    write_json(beside.record, record)


def _finish(beside: PredictionFolder, place: PredictionFolder) -> None:
    """Put a complete set in its place; an older one goes, and with it the scores of its pictures."""
    with disk_errors(place.path):
        if place.path.exists():
            shutil.rmtree(place.path)
        beside.path.rename(place.path)
        sync(place.path.parent)


def _is_of(folder: PredictionFolder, record: Predictions) -> bool:
    """Whether a folder has a record, whole, that equals `record`."""
    try:
        return load_predictions(folder, remedy="") == record
    except RunError:
        return False
