"""The fidelity of a store as plain values: what the numbers mean, how they were made, and all of them.

An undefined number is `None` and an infinite one `"inf"`, as JSON has neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from math import isinf, isnan, sqrt
from typing import Any

from prep.fidelity.measures import LITTLE_DAB, Change
from prep.fidelity.run import Group, Judged, Measure, tail
from prep.fidelity.sources import Sample, Unjudged
from store.reader import Store
from store.settings import plain

FORMAT = 1
SOFTWARE = ("magstain", "numpy", "opencv-python", "scikit-image", "scipy")  # what the numbers depend on
COLUMNS = {  # of the table, with what they mean
    "PSNR, dB": "the view, downsampled again by the mean over areas, against its source patch; first that of the mean "
    "squared error of all pictures. `exact`: no difference at all.",
    "dL, da, db": "mean colour drift in CIELAB (sRGB, D65), downsampled view minus patch: lighter, redder, yellower.",
    "CIEDE2000": "mean colour difference per pixel of the same two (Sharma, Wu & Dalal 2005); 1 is about just visible.",
    "DAB": "optical density of DAB gained or lost, downsampled view against patch, as a share of the patch's (colour "
    "deconvolution, Ruifrok & Johnston 2001); first that of all pictures together. Pictures whose patch has a mean "
    f"below {LITTLE_DAB} OD have no share of their own, since rounding to grey levels alone moves it by a tenth; in "
    "brackets how many have one. Left out for H&E: what the formula calls DAB there is eosin and nuclei.",
    "detail": "root mean square, in grey levels, of what is finer than the patch can hold (above its Nyquist "
    "frequency): in the view, and in Lanczos interpolation of the same patch. What the view has more is invented or "
    "restored.",
    "truth": "which of the two, where the tile as delivered is kept and is finer than the source: correlation of that "
    "detail with the tile's own, up to the finest that both hold; 1 is restored, 0 invented. Lanczos beside it is what "
    "interpolation gets right by itself. In brackets the detail of view and tile in that band.",
}


def tree(store: Store, groups: Sequence[Group], unjudged: Sequence[Unjudged], sample: Sample) -> dict[str, Any]:
    """Everything as plain values for JSON: how it was made, every picture, slide and group."""
    manifest = store.manifest
    facts = ("name", "stain", "synthetic", "recipe", "tile_side", "view_side", "margin", "seal")
    return {
        "format": FORMAT,
        "store": {"address": store.address} | {name: getattr(manifest, name) for name in facts},
        "upscaler": plain(manifest.upscaler) | {"plain_filter": not manifest.upscaler.digests},
        "sample": {"limit": sample.limit, "seed": sample.seed},
        "software": {package: version(package) for package in SOFTWARE},
        "columns": COLUMNS,
        "little_dab": LITTLE_DAB,
        "not_judged": [{"split": what.split, "view": what.view, "reason": what.reason} for what in unjudged],
        "groups": [_group(group) for group in groups],
    }


def numbers(change: Change) -> dict[str, float | str | None]:
    """The numbers of a picture, a slide or a group under the names that they have in JSON."""
    values = {
        "psnr_db": change.psnr,
        "drift_l": change.drift_l,
        "drift_a": change.drift_a,
        "drift_b": change.drift_b,
        "ciede2000": change.colour_error,
        "dab_share": change.dab_share,
        "dab_od_patch": change.dab_patch,
        "dab_od_view": change.dab_view,
        "detail_view": sqrt(change.detail_view),
        "detail_lanczos": sqrt(change.detail_lanczos),
        "truth": change.truth,
        "truth_lanczos": change.truth_lanczos,
        "shared_detail_view": sqrt(change.shared_view),
        "shared_detail_tile": sqrt(change.shared_tile),
    }
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: float) -> float | str | None:
    if isnan(value):
        return None
    return "inf" if isinf(value) else value


def _group(group: Group) -> dict[str, Any]:
    series, ranked = group.series, {by: order for by in Measure if (order := group.ranked(by))}
    return {
        "split": series.split,
        "view": series.view,
        "stain": group.stain,
        "source": series.geometry.view.source,
        "origin": series.origin,
        "factor": int(series.geometry.factor),
        "patch_side": series.geometry.patch_side,
        "judged": len(group.pictures),
        "available": group.available,
        "exact": sum(picture.change.error == 0 for picture in group.pictures),
        "all": numbers(group.whole()),
        "one_in_20": {by: _picture(tail(order)) for by, order in ranked.items()},
        "worst": {by: _picture(order[0]) for by, order in ranked.items()},
        "slides": {name: {"pictures": count} | numbers(change) for name, (count, change) in group.slides().items()},
        "pictures": [_picture(picture) for picture in group.pictures],
    }


def _picture(picture: Judged) -> dict[str, Any]:
    box = {"top": picture.box.top, "left": picture.box.left, "side": picture.box.side}
    place = {"pair": picture.pair, "row": picture.row, "index": picture.index, "slide": picture.slide, "box": box}
    return place | numbers(picture.change)
