"""What a training run shows of its generator: contact sheets of fixed pictures, and scores on val."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from store.contact_sheet import Row, draw_sheet
from store.reader import Store
from store.schema import Split, Stain
from train.run.inference import translate, translation_mode
from train.runtime.device import Compute
from train.settings import AtTest

SHOWN = 4  # pictures of a contact sheet
SHEET_SIDE = 256  # px
VALIDATED = 16  # pictures
WHITE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRef:
    """A fixed picture of the contact sheets: pair `pair` of `split` in `view`."""

    split: Split
    view: str
    pair: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The fixed part of a run's contact sheets: H&E and its real IHC as rows, u8, and the text around them.

    In an unpaired store no H&E has a real IHC.
    """

    refs: list[SampleRef]
    rows: list[Row]
    columns: tuple[str, ...]
    synthetic: bool
    footer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A picture of val: u8 [S,S,3] both, and its pair."""

    pair: int
    he: NDArray[np.uint8]
    ihc: NDArray[np.uint8]


def sample_split(store: Store) -> Split:
    """The split whose pictures are shown: val, else train. Never test: settings are chosen by what is shown."""
    return Split.VAL if store.rows(Split.VAL, Stain.HE) else Split.TRAIN


def choose_samples(store: Store, views: Sequence[str]) -> list[SampleRef]:
    """Pictures spread over the split that is shown, in turn from each view; for `tile` it is the whole tile."""
    split = sample_split(store)
    pairs = len(store.rows(split, Stain.HE))
    shown = min(SHOWN, pairs)
    return [SampleRef(split=split, view=views[n % len(views)], pair=n * pairs // shown) for n in range(shown)]


def read_samples(store: Store, refs: list[SampleRef]) -> Samples:
    """Read the pictures of the contact sheets, once per run."""
    manifest = store.manifest
    shown = {Stain.HE: "H&E"} | ({Stain.IHC: f"{manifest.stain}, real"} if manifest.paired else {})
    rows = []
    for ref in refs:
        pictures = tuple(store.picture(ref.split, ref.view, stain, ref.pair) for stain in shown)
        rows.append(Row(label=f"{store.pairs(ref.split)[ref.pair].id}, {ref.view}", pictures=pictures))
    footer = f"store {manifest.name}, views enlarged by {manifest.upscaler.name}"
    return Samples(
        refs=refs,
        rows=rows,
        columns=(*shown.values(), f"{manifest.stain}, translated"),
        synthetic=manifest.synthetic,
        footer=f"{footer}; synthetic, not tissue" if manifest.synthetic else footer,
    )


def draw_samples(samples: Samples, fakes: Sequence[NDArray[np.uint8]], title: str) -> NDArray[np.uint8]:
    """H&E, its real IHC and translation, u8 [S,S,3] each, side by side, u8 [H,W,3]."""
    rows = [Row(label=row.label, pictures=(*row.pictures, fake)) for row, fake in zip(samples.rows, fakes, strict=True)]
    return draw_sheet(
        title=f"{'SYNTHETIC DATA. ' * samples.synthetic}{title}, pictures of {samples.refs[0].split}",
        columns=samples.columns,
        rows=rows,
        footer=samples.footer,
        side=SHEET_SIDE,
    )


def choose_examples(store: Store, views: Sequence[str]) -> list[Example]:
    """Up to 16 pictures spread over val, in turn from each view; none if the store has no val pairs or no pairs."""
    pairs = store.manifest.counts.get(Split.VAL, 0) if store.manifest.paired else 0
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


def translate_all(
    generator: nn.Module,
    compute: Compute,
    mode: AtTest,
    pictures: Sequence[NDArray[np.uint8]],
    seeds: Sequence[int],
) -> list[Tensor]:
    """Translations of pictures, u8 [S,S,3]: signed [S,S,3], still on the device. The generator is left in training."""
    with translation_mode(generator, mode), compute.autocast():
        return [translate(generator, he, compute.device, seed=seed) for he, seed in zip(pictures, seeds, strict=True)]


def validation_scores(fakes: Sequence[NDArray[np.uint8]], examples: Sequence[Example]) -> dict[str, float]:
    """Mean SSIM and PSNR (dB) of translations, u8 [S,S,3], against the real pictures."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # 0.7 s, for runs with a val split

    similarities = [
        structural_similarity(example.ihc, fake, data_range=WHITE, channel_axis=-1)  # type: ignore[no-untyped-call]
        for fake, example in zip(fakes, examples, strict=True)
    ]
    with np.errstate(divide="ignore"):  # the PSNR of equal pictures is infinite
        ratios = [
            peak_signal_noise_ratio(example.ihc, fake, data_range=WHITE)  # type: ignore[no-untyped-call]
            for fake, example in zip(fakes, examples, strict=True)
        ]
    count = len(examples)
    return {"ssim": math.fsum(similarities) / count, "psnr": math.fsum(ratios) / count}
