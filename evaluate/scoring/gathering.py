"""What is compared: a run's predictions or foreign pictures, all checked, the real pictures and the baselines."""

from __future__ import annotations

from pathlib import Path

from evaluate.inputs.image_set import ImageSet, assemble, stored_sets
from evaluate.inputs.predictions import take_predictions
from evaluate.metrics.standing import Standing, find_baselines, find_standing
from evaluate.scored_set import require_pairs
from store.reader import Store, plan_targets
from store.schema import Split

MEASURED = "SSIM, PSNR, LPIPS, PHV, agreement of stains and misregistration need one for each"


def gather(
    run: Path, pictures: Path | None, store: Store, split: Split, view: str, cache: Path, workers: int = 1
) -> tuple[ImageSet, Standing]:
    """The predictions of a run, or foreign `pictures`, and all that they are compared with and that is known of it.

    Every picture counts once. RunError for an unpaired store, RunError or PictureError if a picture of the split is
    missing, damaged, of another size or not of the split.
    """
    require_pairs(store, MEASURED)
    targets = plan_targets(store, split, view)
    predictions = take_predictions(run, pictures, store, split, view, targets, workers)
    baselines = find_baselines(store, cache, workers)
    stored = stored_sets(store, split, view, targets, baselines)
    standing = find_standing(store, split, view, stored, len(targets), cache, workers)
    return assemble(store, view, targets, baselines, stored, standing.digests(), predictions), standing
