"""SSIM and PSNR on fixed pictures of `val` while training: a curve to watch. The scores of a run are evaluate's.

`val` is held out of train by slide. Both numbers are computed as in `evaluate/paired.py`: on 8-bit pictures, rounded,
SSIM with 7 x 7 uniform windows per channel, PSNR in dB with 255.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from store.reader import Store
from store.schema import Split, Stain

VALIDATED = 16  # pictures
WHITE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A picture of val: u8 [S,S,3] both, and its pair."""

    pair: int
    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]


def choose_examples(store: Store, views: Sequence[str]) -> list[Example]:
    """Up to 16 pictures spread over val, the views taking turns; none if the store has no val."""
    pairs = store.manifest.counts.get(Split.VAL, 0)
    shown = min(VALIDATED, pairs)
    chosen = [(n * pairs // shown, views[n % len(views)]) for n in range(shown)]
    return [
        Example(
            pair=pair,
            he=store.picture(Split.VAL, view, Stain.HE, pair),
            ihc=store.picture(Split.VAL, view, Stain.IHC, pair),
        )
        for pair, view in chosen
    ]


def validation(fakes: Sequence[NDArray[np.uint8]], examples: Sequence[Example]) -> dict[str, float]:
    """Mean SSIM and PSNR (dB) of translations, u8 [S,S,3], against the real pictures."""
    similarities = [
        structural_similarity(example.ihc, fake, data_range=WHITE, channel_axis=-1)  # type: ignore[no-untyped-call]
        for fake, example in zip(fakes, examples, strict=True)
    ]
    with np.errstate(divide="ignore"):  # of equal pictures it is infinite
        ratios = [
            peak_signal_noise_ratio(example.ihc, fake, data_range=WHITE)  # type: ignore[no-untyped-call]
            for fake, example in zip(fakes, examples, strict=True)
        ]
    count = len(examples)
    return {"ssim": math.fsum(similarities) / count, "psnr": math.fsum(ratios) / count}
