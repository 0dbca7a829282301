"""Predictions and store to scores: both protocols and the floors side by side, every number with its origin."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from evaluate.columns import Metric
from evaluate.features.extract import features_key, load_features, save_features
from evaluate.features.lpips import NETWORKS, Trunk
from evaluate.features.networks import PREPARED
from evaluate.inputs.image_set import Ground, gather
from evaluate.metrics.misregistration import METRICS, SHOWN, measure, shifts_for
from evaluate.metrics.statistics import spread_ranks
from evaluate.protocol import FAKE, PROTOCOLS, Network, ProtocolName, Reading
from evaluate.scores_file import SCORES_FORMAT, Judged, Misregistration, Scores
from evaluate.scoring.per_image import Judged as JudgedPlace
from evaluate.scoring.per_image import judge_all
from evaluate.scoring.rows import Depth, picture_sets, score_rows
from store.reader import Store
from store.run_files import RunFolder, trained_views
from store.schema import Split, Stain

SOFTWARE = ("lpips", "numpy", "scikit-image", "scipy", "torch", "torch-fidelity", "torchvision")


def score_run(run: Path, pictures: Path | None, store: Store, split: Split, view: str, depth: Depth) -> Scores:
    """Judge a run's predictions of a split, or foreign `pictures` under the run's name, against the store.

    RunError or PictureError as of `gather`; metrics whose weights are missing say so in their cells.
    """
    ground = gather(run, pictures, store, split, view)
    judged = judge_all(ground)
    sets = picture_sets(ground, judged)
    manifest, candidate = store.manifest, ground.candidate
    return Scores(
        format=SCORES_FORMAT,
        run=run.resolve().name,
        method=candidate.method,
        draws=candidate.draws,
        generator=candidate.generator,
        source=candidate.source,
        store=manifest.name,
        stain=manifest.stain,
        seal=manifest.seal,
        synthetic=manifest.synthetic,
        upscaler=manifest.upscaler.name,
        split=split,
        view=view,
        views=(trained_views(RunFolder(run)) or ()) if pictures is None else (),
        protocols=PROTOCOLS,
        round_trip=candidate.round_trip,
        networks={network: depth.networks.digest(network) for network in Network},
        software={name: version(name) for name in SOFTWARE},
        sets={
            f"{name}: {row}": one.digest
            for name, held in sets.items()
            for row, one in {"real": held.real, **held.fakes}.items()
        },
        floors_view=ground.floors.view,
        floors_pictures=ground.floors.pictures,
        pictures=tuple(
            Judged(
                name=target.name,
                slide=target.slide,
                density=place.real.brown.density,
                integrated=place.real.brown.integrated,
                positive=place.real.brown.positive,
            )
            for target, place in zip(ground.targets, judged, strict=True)
        ),
        misregistration=misregister(ground, judged, depth),
        rows=score_rows(ground, judged, sets, depth),
    )


def misregister(ground: Ground, judged: Sequence[JudgedPlace], depth: Depth) -> Misregistration:
    """The misregistration curve over a few pictures, at equally spaced ranks of their real DAB; cached."""
    shown = spread_ranks([place.real.brown.density for place in judged], SHOWN)
    fake = ground.rows(ProtocolName.CORRECTED)[FAKE]
    networks, shifts = depth.networks, shifts_for(ground.store.side(ground.view))
    phv = networks.digest(PREPARED[Reading.PHV][0])
    trunks = {trunk: networks.digest(NETWORKS[trunk]) for trunk in Trunk}
    metrics = (Metric.SSIM, Metric.PSNR, *((Metric.PHV,) if phv else ()), *(METRICS[t] for t in trunks if trunks[t]))
    seen = [(judged[place].rows[ProtocolName.CORRECTED][FAKE].digest, judged[place].real.digest) for place in shown]
    key = features_key("misregistration", phv, *trunks.values(), repr(shifts), repr(seen))
    held = load_features(depth.cache, key, len(shifts))
    if held is None:
        held = measure(
            [(fake(place), ground.real(Stain.IHC, place)) for place in shown],
            shifts,
            networks.pooled(Reading.PHV) if phv else None,
            {trunk: networks.perceptual(trunk) for trunk in trunks if trunks[trunk]},
            networks.device,
        )
        save_features(depth.cache, key, held)
    perfect, translated = (
        {m: tuple(column.tolist()) for m, column in zip(metrics, side.T, strict=True)} for side in held
    )
    return Misregistration(
        shifts=shifts,
        pictures=len(shown),
        width=ground.store.side(ground.view) - max(shifts),
        perfect=perfect,
        fake=translated,
    )
