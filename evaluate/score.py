"""Predictions and store to scores: every picture of a split against the real one, with the floors beside it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from evaluate.floors import Floors, fit_floors
from evaluate.paired import psnr, ssim
from evaluate.results import (
    FAKE,
    SCORES_FORMAT,
    Judged,
    Predictions,
    Scored,
    Scores,
    Summary,
    Values,
    predictions_folder,
    read_predictions,
)
from evaluate.stain import Brown, brown
from evaluate.statistics import pearson, spearman
from store.images import SUFFIXES, load_picture, read_picture
from store.reader import Store
from store.schema import PictureError, RunError, Split, Stain, picture_name

PictureU8 = NDArray[np.uint8]
PROTOCOL = "rounded"  # 8-bit predictions as they are, against the pictures of the store
LISTED = 20  # names in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One picture to judge: its place in the store and the name of its prediction."""

    name: str
    slide: str
    pair: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One picture of one row against the real one: SSIM, PSNR in dB, and its own DAB."""

    ssim: float
    psnr: float
    stain: Brown


def score_run(run: Path, store: Store, split: Split, view: str) -> Scores:
    """Judge a run's predictions of a split, u8 as they lie on disk, against the store.

    Every picture of the split counts once: RunError or PictureError with the names if any is missing, broken, of
    another size or too many, or if the predictions were made from another store.
    """
    targets = plan_targets(store, split, view)
    predictions = read_predictions(run, split, view)
    folder = predictions_folder(run, split, view) / FAKE
    check_seal(run, predictions, store)
    check_names(folder, [target.name for target in targets])
    check_pictures(folder, targets, store.side(view))
    floors = fit_floors(store)
    pictures, rows = _judge_all(store, split, view, targets, floors, folder)
    manifest = store.manifest
    return Scores(
        format=SCORES_FORMAT,
        run=run.resolve().name,
        method=predictions.method,
        draws=predictions.draws,
        generator=predictions.generator,
        store=manifest.name,
        stain=manifest.stain,
        seal=manifest.seal,
        synthetic=manifest.synthetic,
        upscaler=manifest.upscaler.name,
        split=split,
        view=view,
        protocol=PROTOCOL,
        floors_view=floors.view,
        floors_pictures=floors.pictures,
        pictures=pictures,
        rows=rows,
    )


def plan_targets(store: Store, split: Split, view: str) -> list[Target]:
    """The pictures of a split and view in the order of the store."""
    count, pairs = store.count(view), store.pairs(split)
    if not pairs:
        there = ", ".join(name for name in Split if store.pairs(name))
        raise RunError(f"{store.address} has no pairs in {split}; it has {there}: choose one with --split")
    return [
        Target(name=picture_name(pair.id, index, count), slide=pair.slide, pair=row, index=index)
        for row, pair in enumerate(pairs)
        for index in range(count)
    ]


def check_seal(run: Path, predictions: Predictions, store: Store) -> None:
    """The predictions were made from this very store."""
    if predictions.seal != store.manifest.seal:
        raise RunError(
            f"the predictions of {run} were made from a store with seal {predictions.seal[:12]}, "
            f"but {store.address} has seal {store.manifest.seal[:12]}; name the right one with --store, or predict "
            "again"
        )


def check_names(folder: Path, expected: Sequence[str]) -> None:
    """The picture files below `folder` are the expected ones, no fewer and no more."""
    found = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES}
    missing = [name for name in expected if name not in found]
    extra = sorted(found.difference(expected))
    parts = [f"missing: {_listed(missing)}"] * bool(missing) + [f"not of this split: {_listed(extra)}"] * bool(extra)
    if parts:
        raise RunError(
            f"{folder} does not hold the {len(expected)} predictions of the split; {'; '.join(parts)}. "
            "Predict again, or remove what is too many: no picture is left out of an average"
        )


def check_pictures(folder: Path, targets: Sequence[Target], side: int) -> None:
    """All predictions can be read as plain 8-bit RGB and are `side` px square; all that are not are named."""
    broken: list[str] = []
    for target in targets:
        try:
            picture = load_picture(folder / target.name)
        except PictureError as error:
            broken.append(str(error))
            continue
        high, wide = picture.pixels.shape[:2]
        if (high, wide) != (side, side):
            broken.append(f"{target.name}: is {wide} x {high} px, the real picture {side} x {side} px")
        elif picture.notes:
            broken.append(f"{target.name}: is no plain 8-bit RGB ({', '.join(picture.notes)})")
    if broken:
        raise PictureError(
            f"{len(broken)} of {len(targets)} predictions in {folder} cannot be judged, predict them again: "
            f"{_listed(broken)}"
        )


def judge(fake_u8: PictureU8, ihc_u8: PictureU8) -> Judgement:
    """All numbers of one picture, u8 [H,W,3], against the real one."""
    return Judgement(ssim=ssim(fake_u8, ihc_u8), psnr=psnr(fake_u8, ihc_u8), stain=brown(fake_u8))


def summarise(values: Values, real_dab: Sequence[float]) -> Summary:
    """One row of a table; all means are over pictures."""
    return Summary(
        ssim=float(np.mean(values.ssim)),
        psnr=float(np.mean(values.psnr)),
        dab_spearman=spearman(real_dab, values.dab),
        dab_pearson=pearson(real_dab, values.dab),
        dab_error=float(np.abs(np.subtract(values.dab, real_dab)).mean()),
    )


def _judge_all(
    store: Store, split: Split, view: str, targets: Sequence[Target], floors: Floors, folder: Path
) -> tuple[tuple[Judged, ...], dict[str, Scored]]:
    """Picture by picture, the rows of one picture side by side in threads: SSIM releases the interpreter."""
    judged: list[Judged] = []
    judgements: dict[str, list[Judgement]] = {name: [] for name in (*(floor.name for floor in floors), FAKE)}
    with ThreadPoolExecutor(len(judgements)) as pool:
        for target in tqdm(targets, desc="scoring", unit="picture", file=sys.stderr):
            he = store.picture(split, view, Stain.HE, target.pair, target.index)
            ihc = store.picture(split, view, Stain.IHC, target.pair, target.index)
            fakes = [*(floor.apply(he) for floor in floors), read_picture(folder / target.name)]
            for row, judgement in zip(judgements.values(), pool.map(judge, fakes, [ihc] * len(fakes)), strict=True):
                row.append(judgement)
            real = brown(ihc)
            judged.append(Judged(name=target.name, slide=target.slide, dab=real.density, positive=real.positive))
    return tuple(judged), _rows(judgements, [picture.dab for picture in judged])


def _rows(judgements: Mapping[str, Sequence[Judgement]], real_dab: Sequence[float]) -> dict[str, Scored]:
    rows: dict[str, Scored] = {}
    for name, row in judgements.items():
        values = Values(
            ssim=tuple(judgement.ssim for judgement in row),
            psnr=tuple(judgement.psnr for judgement in row),
            dab=tuple(judgement.stain.density for judgement in row),
            positive=tuple(judgement.stain.positive for judgement in row),
        )
        rows[name] = Scored(summary=summarise(values, real_dab), values=values)
    return rows


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return "; ".join(names[:LISTED]) + more
