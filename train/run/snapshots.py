"""What a person sees of a training run: messages, `metrics.jsonl`, contact sheets of fixed pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn

from store.contact_sheet import Row, draw_sheet
from store.reader import Store
from store.schema import Split, Stain
from train.run.inference import at_test, translate
from train.runtime.device import Compute
from train.settings import AtTest

SHOWN = 4  # pictures of a contact sheet
SHEET_SIDE = 256  # px


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One fixed picture of the contact sheets: pair `pair` of `split` in `view`."""

    split: Split
    view: str
    pair: int


def choose_samples(store: Store, views: Sequence[str]) -> list[Sample]:
    """Pictures spread over val, else test, else train; the views take turns. Of `tile` the whole tile is shown."""
    counts = store.manifest.counts
    split = next(split for split in (Split.VAL, Split.TEST, Split.TRAIN) if counts.get(split, 0))
    shown = min(SHOWN, counts[split])
    return [Sample(split=split, view=views[n % len(views)], pair=n * counts[split] // shown) for n in range(shown)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the contact sheets of a run show: H&E and real IHC as rows, u8, and the words around them."""

    samples: list[Sample]
    rows: list[Row]
    columns: tuple[str, str, str]
    footer: str


def show(store: Store, samples: list[Sample]) -> Shown:
    """Read the pictures of the contact sheets, once."""
    manifest = store.manifest
    made = f"store {manifest.name}, views enlarged by {manifest.upscaler.name}"
    rows = []
    for sample in samples:
        he, ihc = (store.picture(sample.split, sample.view, stain, sample.pair) for stain in Stain)
        rows.append(Row(label=f"{store.pairs(sample.split)[sample.pair].id}, {sample.view}", pictures=(he, ihc)))
    return Shown(
        samples=samples,
        rows=rows,
        columns=("H&E", f"{manifest.stain}, real", f"{manifest.stain}, translated"),
        footer=f"{made}; synthetic, not tissue" if manifest.synthetic else made,
    )


def draw_shown(shown: Shown, fakes: Sequence[NDArray[np.uint8]], title: str) -> NDArray[np.uint8]:
    """H&E, real IHC and translation, u8 [S,S,3] each, side by side, u8 [H,W,3]."""
    rows = [Row(label=row.label, pictures=(*row.pictures, fake)) for row, fake in zip(shown.rows, fakes, strict=True)]
    return draw_sheet(
        title=f"{title}, pictures of {shown.samples[0].split}",
        columns=shown.columns,
        rows=rows,
        footer=shown.footer,
        side=SHEET_SIDE,
    )


def translate_all(
    generator: nn.Module,
    compute: Compute,
    how: AtTest,
    pictures: Sequence[NDArray[np.uint8]],
    seeds: Sequence[int],
) -> list[Tensor]:
    """Pictures, u8 [S,S,3], through a generator: signed [S,S,3], still on the device. Leaves it in training mode."""
    with at_test(generator, how), compute.autocast():
        return [translate(generator, he, compute.device, seed=seed) for he, seed in zip(pictures, seeds, strict=True)]


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
