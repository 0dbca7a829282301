"""A contact sheet of the worst pictures of a store: patch, view, their disagreement, and the added detail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan, sqrt
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from prep.fidelity.measures import Change, downsample
from prep.fidelity.run import Group, Measure, MeasuredPicture, Worst, find_worst
from prep.fidelity.sources import Pictures, cut_again
from store.contact_sheet import Row, draw_sheet
from store.images import PictureU8
from store.reader import Store
from store.schema import Stain

SIDE = 256  # px of a picture on the sheet; of a larger view a window of this side is shown, pixel for pixel
DISAGREEMENT, ADDED = 8, 4  # factors by which differences in grey levels are amplified around GREY
GREY = 128
FRAME = (0, 160, 255)  # RGB: neither pink nor brown nor blue-violet

WORDS: Mapping[Measure, str] = MappingProxyType(
    {
        Measure.PSNR: "lowest PSNR",
        Measure.COLOUR: "largest colour difference",
        Measure.DAB: "most DAB gained or lost",
        Measure.DETAIL: "most detail added",
    }
)


def draw_worst(store: Store, groups: Sequence[Group]) -> PictureU8:
    """A contact sheet of the worst picture of every view and stain by every measure, u8 [H,W,3]."""
    manifest, worst = store.manifest, find_worst(groups)
    measured = sum(len(group.pictures) for group in groups)
    filtered = ", interpolation and no super-resolution" if not manifest.upscaler.digests else ""
    return draw_sheet(
        title=(
            f"{'SYNTHETIC, drawn and not tissue: ' if manifest.synthetic else ''}{manifest.name}: the worst pictures "
            f"of every zoom and stain, enlarged by {manifest.upscaler.name}{filtered}"
        ),
        columns=(
            "whole view with the window",
            "source patch, its pixels",
            "view",
            f"disagreement x{DISAGREEMENT}",
            f"beyond Lanczos x{ADDED}",
            "tile as delivered, if finer",
        ),
        rows=[_draw(store, one) for one in worst],
        footer=(
            f"{len(worst) or 'None'} of {measured:,} pictures measured. Disagreement: the view downsampled again minus "
            "its source patch, which PSNR, colour and DAB measure; beyond Lanczos: the view minus interpolation of the "
            "same patch; grey is no difference. The window shows the place of the largest disagreement. "
            f"Seal {manifest.seal[:12]}."
        ),
        side=SIDE,
    )


def find_window(difference: NDArray[np.float64], side: int) -> tuple[int, int]:
    """Top and left of the window of `side` px in which the squared difference [P,P,3] is largest."""
    sums = np.pad(np.square(difference).sum(2), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(windows.argmax()), windows.shape)
    return int(top), int(left)


def amplify(difference: NDArray[np.float64], by: int) -> PictureU8:
    """A difference in grey levels [H,W,3] as a picture around middle grey, u8."""
    return np.clip(np.rint(GREY + by * difference), 0, 255).astype(np.uint8)


def _draw(store: Store, worst: Worst) -> Row:
    group, picture = worst.group, worst.picture
    series = group.series
    cut = cut_again(store, series, group.stain, picture.row, picture.index)
    factor, difference = int(series.geometry.factor), downsample(cut.view, cut.patch.shape[0]) - cut.patch
    side = min(cut.patch.shape[0], SIDE // factor)
    top, left = find_window(difference, side)
    window = np.s_[top : top + side, left : left + side]
    large = np.s_[factor * top : factor * (top + side), factor * left : factor * (left + side)]
    added = cut.view[large].astype(np.float64) - cut.lanczos[large]
    finer, captions = _finer(cut.tile, cut.patch.shape[0], top, left, side), _captions(picture, group.stain, cut)
    return Row(
        label=(
            f"{series.view} {group.stain.upper()}: {', '.join(WORDS[by] for by in worst.measures)}. "
            f"{series.split} {picture_label(picture)}, slide {picture.slide}"
        ),
        pictures=(
            _outlined(cut.view, factor * top, factor * left, factor * side),
            cut.patch[window],
            cut.view[large],
            amplify(difference[window], DISAGREEMENT),
            amplify(added, ADDED),
            *finer,
        ),
        captions=captions[: 5 + len(finer)],
    )


def _captions(picture: MeasuredPicture, stain: Stain, cut: Pictures) -> tuple[str, ...]:
    """A caption for each column."""
    change, box, side = picture.change, picture.box, cut.patch.shape[0]
    return (
        f"box {box.side} px at top {box.top}, left {box.left}",
        f"patch {side} px, x{cut.view.shape[0] // side}{_dab_od(change, stain)}",
        f"PSNR {change.psnr:.1f} dB, CIEDE2000 {change.colour_error:.2f}",
        f"dL {change.drift_l:+.1f}, da {change.drift_a:+.1f}, db {change.drift_b:+.1f}{_dab_share(change)}",
        f"detail {sqrt(change.detail_view):.1f}, Lanczos {sqrt(change.detail_lanczos):.1f}",
        f"truth {change.truth:.2f}, Lanczos {change.truth_lanczos:.2f}",
    )


def picture_label(picture: MeasuredPicture) -> str:
    """The pair's id, with the index of the picture unless it is the first."""
    return f"{picture.pair}, picture {picture.index}" if picture.index else picture.pair


def _dab_od(change: Change, stain: Stain) -> str:
    return f", DAB OD {change.dab_patch:.3f}" if stain is Stain.IHC else ""


def _dab_share(change: Change) -> str:
    return "" if isnan(change.dab_share) else f", DAB {change.dab_share:+.1%}"


def _finer(tile: PictureU8, patch_side: int, top: int, left: int, side: int) -> list[PictureU8]:
    """The same window of the tile if it is finer than the patch, else nothing; top, left, side in patch pixels."""
    first, last = (
        [place * tile.shape[0] // patch_side for place in corner] for corner in ((top, left), (top + side, left + side))
    )
    return [tile[first[0] : last[0], first[1] : last[1]]] if tile.shape[0] > patch_side else []


def _outlined(view: PictureU8, top: int, left: int, side: int) -> PictureU8:
    """The view with the inside edge of a window drawn into it."""
    drawn, line = view.copy(), max(1, view.shape[0] // 128)
    inside = drawn[top : top + side, left : left + side]
    inside[:line] = inside[-line:] = inside[:, :line] = inside[:, -line:] = FRAME
    return drawn
