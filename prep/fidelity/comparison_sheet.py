"""The places where upscalers differ most, side by side on a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import numpy as np

from prep.fidelity.comparison import Comparison
from prep.fidelity.entrants import Entrant
from prep.fidelity.measures import Change
from prep.fidelity.places import Shown
from prep.fidelity.sheet import SIDE, find_window
from store.contact_sheet import Row, draw_sheet
from store.images import PictureU8


def draw_comparison(found: Comparison) -> PictureU8:
    """The places where the upscalers differ most, their views side by side, u8 [H,W,3]."""
    titles = [entrant.title for entrant in found.entrants]
    finer = any(one.patch.tile.shape[0] > one.patch.source.shape[0] for one in found.shown)
    return draw_sheet(
        title=(
            f"{'SYNTHETIC, drawn and not tissue: ' if found.synthetic else ''}{found.name}: where upscalers differ "
            "most, for every zoom and stain"
        ),
        columns=("source patch, its pixels", *titles, *(["tile as delivered"] if finer else [])),
        rows=[_draw(one, titles) for one in found.shown],
        footer=(
            f"{len(found.shown)} of {len(found.compared):,} places measured; the window shows where views are "
            "furthest from their mean. Truth is the correlation of a view's finer detail with that of the tile: 1 is "
            f"restored, 0 invented. {' '.join(_describe(entrant) for entrant in found.entrants)}"
        ),
        side=SIDE,
    )


def _draw(one: Shown, titles: Sequence[str]) -> Row:
    patch, factor = one.patch, int(one.patch.geometry.factor)
    views = np.stack([*one.views.values()]).astype(np.float64)
    spread = views.std(0).reshape(len(patch.source), factor, len(patch.source), factor, 3).mean((1, 3))
    side = min(len(patch.source), SIDE // factor)
    top, left = find_window(spread, side)
    large = np.s_[factor * top : factor * (top + side), factor * left : factor * (left + side)]
    times = len(patch.tile) / len(patch.source)
    first, last = ([round(times * place) for place in corner] for corner in ((top, left), (top + side, left + side)))
    blank = np.full((factor * side, factor * side, 3), 255, np.uint8)
    changes = one.compared.changes
    return Row(
        label=f"{one.compared.view} {one.compared.stain.upper()}: {one.compared.split} {one.compared.pair}, slide "
        f"{one.compared.slide}",
        pictures=(
            patch.source[top : top + side, left : left + side],
            *(one.views[title][large] if title in one.views else blank for title in titles),
            *([patch.tile[first[0] : last[0], first[1] : last[1]]] if times > 1 else []),
        ),
        captions=(
            f"patch {len(patch.source)} px, x{factor}",
            *(_caption(changes[title]) if title in changes else "does not make this view" for title in titles),
        ),
    )


def _caption(change: Change) -> str:
    truth = "" if isnan(change.truth) else f", truth {change.truth:.2f}"
    return f"PSNR {change.psnr:.1f} dB{truth}"


def _describe(entrant: Entrant) -> str:
    return f"{entrant.title}: {'a plain filter' if entrant.interpolates else entrant.record.name}."
