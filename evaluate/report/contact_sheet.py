"""The contact sheet of a run: H&E, real and translated IHC of a few pictures, chosen by the real DAB alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.columns import Metric
from evaluate.metrics.ranks import spread_ranks
from evaluate.protocol import ProtocolName
from evaluate.report.captions import PUBLISHED_PAIRS_SEEN, label, length, title, upscaler_label
from evaluate.scored_set import read_scored
from evaluate.scores_file import Scores
from store.contact_sheet import Row, draw_sheet
from store.images import write_png
from store.reader import Store
from store.run_files import PredictionFolder
from store.schema import Stain

SHOWN = 8  # pictures on a contact sheet


def contact_sheet(scores: Scores, store: Store, files: Sequence[Path]) -> NDArray[np.uint8]:
    """H&E, real and translated IHC of a few pictures, u8 [H,W,3]; `files` are the translated ones in order."""
    values, rows = scores.row(ProtocolName.CORRECTED).values, []
    count = store.count(scores.view)
    for place in spread_ranks([picture.density for picture in scores.pictures], SHOWN):
        picture, (pair, index) = scores.pictures[place], divmod(place, count)
        he, ihc = (store.picture(scores.split, scores.view, stain, pair, index) for stain in (Stain.HE, Stain.IHC))
        translated = f"DAB {values.density[place]:.3f}, PSNR {values.metrics[Metric.PSNR][place]:.2f} dB"
        rows.append(
            Row(
                label=f"{picture.name.removesuffix('.png')}, slide {picture.slide}",
                pictures=(he, ihc, read_scored(scores, files, place)),
                captions=("", f"DAB {picture.density:.3f}", translated),
            )
        )
    return draw_sheet(
        title=(
            f"{label(scores)}{title(scores)}: {scores.run}, {scores.method}, upscaler {upscaler_label(scores.upscaler)}"
        ),
        columns=("H&E", "real IHC", "translated IHC"),
        rows=rows,
        footer=(
            f"Shown: {len(rows)} of {len(scores.pictures)} pictures, at equally spaced ranks of the real mean DAB. "
            f"Training: {length(scores)} (the published run: {PUBLISHED_PAIRS_SEEN:,}). DAB: mean optical density."
        ),
    )


def write_contact(sheet: NDArray[np.uint8], place: PredictionFolder) -> Path:
    """Write a contact sheet, u8 [H,W,3], beside the scores."""
    write_png(place.contact_sheet, sheet)
    return place.contact_sheet
