"""The pictures that scores belong to: where they are, and whether they are still the ones that were scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluate.inputs.predictions import match_files
from evaluate.inputs.reading import AGAIN, read_exact
from evaluate.scores_file import Scores, load_scores
from store.cli import say
from store.files import digest_file
from store.images import PictureU8, read_picture
from store.reader import Store
from store.records.predictions import load_predictions, place_of
from store.run_files import PredictionFolder, RunFolder
from store.schema import RunError, Split


def require_pairs(store: Store, why: str) -> None:
    """Raise RunError for an unpaired store."""
    if not store.manifest.paired:
        raise RunError(
            f"{store.address} is unpaired: no H&E has a real IHC of its own place, and {why}; use a store of pairs of "
            "the same stain: give it with --store, here and to `train predict`"
        )


def place_in(run: Path, store: Store | None, split: Split, view: str) -> PredictionFolder:
    """Where the predictions and scores of a run are: for a store, or (None) for its own."""
    folder = RunFolder(run)
    if store is None:
        return folder.predictions(split, view)
    return place_of(folder, store.manifest.name, store.manifest.seal, split, view)


def current_scores(run: Path, store: Store | None, split: Split, view: str) -> Scores:
    """The scores of a run, for a store or (None) its own; RunError if its pictures were predicted again since."""
    place = place_in(run, store, split, view)
    of = "" if store is None else f" --store {store.address}"
    scores = load_scores(place, f"--run {run}{of} --split {split} --view {view}")
    if store is not None and scores.seal != store.manifest.seal:
        raise RunError(
            f"the scores of {scores.run} are of a store with seal {scores.seal[:12]}, but {store.address} has seal "
            f"{store.manifest.seal[:12]}; name the right store with --store"
        )
    if scores.source is None:
        _check_current(scores, place)
    return scores


def _check_current(scores: Scores, place: PredictionFolder) -> None:
    """Refuse scores whose predictions were replaced; say what cannot be checked."""
    again = f"{place.scores} is of other pictures than those of {place.record.name} beside it: score again"
    if not place.record.is_file():
        say(f"note: {place.record} is missing, so the pictures of {scores.run} cannot be compared with its scores")
    elif scores.predictions is not None:
        if digest_file(place.record) != scores.predictions:
            raise RunError(again)
    elif scores.generator not in (None, load_predictions(place, AGAIN).generator):
        raise RunError(again)
    else:
        say(f"note: {place.scores} is of an earlier version and has no digest of its pictures; score again to add it")


def files_of(scores: Scores, run: Path) -> tuple[Path, ...]:
    """The rounded pictures that were scored, in their order; RunError if they are no longer there."""
    own = place_of(RunFolder(run), scores.store, scores.seal, scores.split, scores.view).rounded
    folder = own if scores.source is None else Path(scores.source)
    return match_files(folder, [picture.name for picture in scores.pictures], any_suffix=scores.source is not None)


def read_scored(scores: Scores, files: Sequence[Path], place: int) -> PictureU8:
    """A picture that was scored, u8 [H,W,3]; RunError if its file was changed since."""
    return read_picture(files[place]) if scores.contents is None else read_exact(files[place], scores.contents[place])
