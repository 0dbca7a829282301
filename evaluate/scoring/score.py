"""Predictions and store to scores: pictures are gathered, features extracted, metrics computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluate.features.extract import FeatureSource, extract
from evaluate.inputs.image_set import REAL, ImageSet
from evaluate.inputs.predictions import require_unchanged
from evaluate.inputs.reading import digest_set
from evaluate.metrics.dab import DabStats
from evaluate.metrics.misregistration import SHOWN, misregister
from evaluate.metrics.ranks import spread_ranks
from evaluate.metrics.statistics import resample
from evaluate.protocol import PROTOCOLS, Fakes, Network, ProtocolName
from evaluate.scores_file import SCORES_FORMAT, SOFTWARE, RealPicture, Scores
from evaluate.scoring.aggregate import compute_rows
from evaluate.scoring.gathering import gather
from evaluate.scoring.per_image import score_images
from store.overview import describe_leakage
from store.process import installed_versions
from store.reader import Store
from store.schema import Split


def score_run(
    run: Path,
    pictures: Path | None,
    store: Store,
    split: Split,
    view: str,
    source: FeatureSource,
    workers: int = 1,
) -> Scores:
    """Score a run's predictions of a split, or foreign `pictures` under the run's name, against the store.

    Pictures are scored in up to `workers` processes, whose number changes no number.

    RunError or PictureError as of `gather`; a metric whose weights are missing has a cell that says so.
    """
    images, standing = gather(run, pictures, store, split, view, source.cache, workers)
    features = extract(images, source)
    scores = score_images(images, standing, features, workers)
    samples = resample([target.slide for target in images.targets])
    rows = compute_rows(images.rows, scores, features, samples)
    real = [place.dab[ProtocolName.CORRECTED, REAL] for place in scores]
    shown = spread_ranks([dab.density for dab in real], SHOWN)
    misregistration = misregister(images, shown, source)
    manifest, predictions = store.manifest, images.predictions
    require_unchanged(run, store, split, view, predictions)
    return Scores(
        format=SCORES_FORMAT,
        run=run.resolve().name,
        method=predictions.method,
        pairs_seen=predictions.pairs_seen,
        generator=predictions.generator,
        source=predictions.source,
        store=manifest.name,
        stain=manifest.stain,
        seal=manifest.seal,
        synthetic=manifest.synthetic,
        upscaler=manifest.upscaler.name,
        split=split,
        view=view,
        views=predictions.views,
        protocols=PROTOCOLS,
        round_trip=predictions.round_trip,
        networks={network: source.networks.digest(network) for network in Network},
        software=installed_versions(SOFTWARE),
        predictions=predictions.record,
        contents=predictions.contents[Fakes.ROUNDED],
        sets={f"{protocol}: {row}": digest_set(digests) for (protocol, row), digests in images.digests.items()},
        baselines_view=images.baselines.view,
        baselines_pictures=images.baselines.pictures,
        pictures=_describe_real(images, real),
        misregistration=misregistration,
        rows=rows,
        leakage=tuple(describe_leakage(store, split)),
    )


def _describe_real(images: ImageSet, real: Sequence[DabStats]) -> tuple[RealPicture, ...]:
    return tuple(
        RealPicture(
            name=target.name,
            slide=target.slide,
            density=dab.density,
            integrated=dab.integrated,
            positive=dab.positive,
        )
        for target, dab in zip(images.targets, real, strict=True)
    )
