"""The fidelity of a store as plain values for JSON: what the numbers mean, how they were made, and all of them.

JSON has no undefined and no infinite number: they are `None` and `"inf"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from prep.fidelity.measures import LITTLE_DAB, Change
from prep.fidelity.run import Group, Measure, MeasuredPicture, tail
from prep.fidelity.sources import Sample, Unmeasured
from store.files import to_json
from store.process import installed_versions
from store.reader import Store
from store.settings import plain

FORMAT = 1
SOFTWARE = ("magstain", "numpy", "opencv-python", "scikit-image", "scipy")  # what the numbers depend on
COLUMNS = {  # of the table, with their meaning
    "PSNR, dB": "the view, downsampled again by the mean over areas, against its source patch; first that of the mean "
    "squared error of all pictures. `exact`: no difference at all.",
    "dL, da, db": "mean colour drift in CIELAB (sRGB, D65), downsampled view minus patch: lighter, redder, yellower.",
    "CIEDE2000": "mean colour difference per pixel of the same two (Sharma, Wu & Dalal 2005); 1 is about just visible.",
    "DAB": "optical density of DAB gained or lost, downsampled view against patch, as a share of the patch's (colour "
    "deconvolution, Ruifrok & Johnston 2001); first that of all pictures together. A picture whose patch has a mean "
    f"below {LITTLE_DAB} OD has no share, because rounding to grey levels alone changes it by a tenth; the number in "
    "brackets counts the pictures that have one. Not given for H&E, where the formula takes eosin and nuclei for DAB.",
    "detail": "root mean square, in grey levels, of the detail that is too fine for the patch (above its Nyquist "
    "frequency): in the view, and in Lanczos interpolation of the same patch. What the view has more is invented or "
    "restored.",
    "truth": "how much of that detail is restored: its correlation with the detail of the tile as delivered, in the "
    "band that both hold; 1 is restored, 0 invented. Needs tiles that the store keeps and that are finer than the "
    "patch. `Lanczos` is the value of interpolation. In brackets the detail of view and tile in that band.",
}


def tree(store: Store, groups: Sequence[Group], unmeasured: Sequence[Unmeasured], sample: Sample) -> dict[str, Any]:
    """Everything as plain values for JSON: how it was made, every picture, slide and group."""
    manifest = store.manifest
    return {
        "format": FORMAT,
        "store": {
            "address": store.address,
            "name": manifest.name,
            "stain": manifest.stain,
            "synthetic": manifest.synthetic,
            "recipe": manifest.recipe,
            "tile_side": manifest.tile_side,
            "view_side": manifest.view_side,
            "margin": manifest.margin,
            "seal": manifest.seal,
        },
        "upscaler": plain(manifest.upscaler) | {"plain_filter": not manifest.upscaler.digests},
        "sample": {"limit": sample.limit, "seed": sample.seed},
        "software": installed_versions(SOFTWARE),
        "columns": COLUMNS,
        "little_dab": LITTLE_DAB,
        "not_judged": [{"split": one.split, "view": one.view, "reason": one.reason} for one in unmeasured],
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
    return {name: to_json(value) for name, value in values.items()}


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
        "all": numbers(group.pooled()),
        "one_in_20": {by: _picture(tail(order)) for by, order in ranked.items()},
        "worst": {by: _picture(order[0]) for by, order in ranked.items()},
        "slides": {name: {"pictures": count} | numbers(change) for name, (count, change) in group.slides().items()},
        "pictures": [_picture(picture) for picture in group.pictures],
    }


def _picture(picture: MeasuredPicture) -> dict[str, Any]:
    box = {"top": picture.box.top, "left": picture.box.left, "side": picture.box.side}
    place = {"pair": picture.pair, "row": picture.row, "index": picture.index, "slide": picture.slide, "box": box}
    return place | numbers(picture.change)
