"""The record of a translation that nobody made."""

from __future__ import annotations

from store.records.translation import Translation
from store.slides.seams import Ratio, Seams, Worst

RATIO = Ratio(value=1.25, error=0.03, excess=0.4, borders=3)
FLAT = Ratio(value=None, error=None, excess=0.0, borders=0)
RECORD = Translation(
    name="a.png",
    source="0" * 64,
    generator="1" * 64,
    method="asp",
    norm_statistics="global",
    settings={"norm_statistics": "global", "tile": 64},
    height=100,
    width=130,
    side=64,
    region=(10, 20, 100, 130),
    source_mpp=0.25,
    mpp=None,
    mask="auto",
    tiles=("#.#", "###"),
    seams=Seams(
        every=RATIO,
        vertical=RATIO,
        horizontal=FLAT,
        control=RATIO,
        worst=Worst(first=(0, 1), second=(1, 1), across=5.0, beside=4.0),
        candidates=3,
    ),
)
