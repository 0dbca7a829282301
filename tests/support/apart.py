"""Pictures of two stains that are apart by a known shift, drawn or cut from real ones. Shifts are (down, right), px."""

from __future__ import annotations

from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prep.demo.staining import DAB, EOSIN, HAEMATOXYLIN, draw_tissue, mix_dye, stain
from prep.demo.tissue import plan_glands
from store.images import PictureU8

Both = tuple[PictureU8, PictureU8]  # H&E and IHC, u8 [H,W,3]


@cache
def drawn_field(side: int, seed: int = 0) -> Both:
    """H&E and IHC of the same drawn tissue, pixel on pixel, u8 [side,side,3]."""
    generator = np.random.default_rng([side, seed])
    tissue = draw_tissue((side, side), plan_glands((side, side), generator), generator)
    he_dye = mix_dye((HAEMATOXYLIN, EOSIN), (0.22, 0.3), generator)
    ihc_dye = mix_dye((HAEMATOXYLIN, DAB), (0.08, 0.06), generator)
    return (
        stain(tissue.he_haematoxylin, tissue.he_eosin, he_dye, generator),
        stain(tissue.ihc_haematoxylin, tissue.ihc_dab, ihc_dye, generator),
    )


def cut(picture: PictureU8, top: int, left: int, side: int) -> PictureU8:
    """A square of a picture, u8 [side,side,3], never beyond an edge."""
    assert min(top, left) >= 0
    assert max(top + side - picture.shape[0], left + side - picture.shape[1]) <= 0
    return picture[top : top + side, left : left + side]


def cut_apart(both: Both, side: int, shift: tuple[int, int], corner: tuple[int, int] | None = None) -> Both:
    """The square at `corner` (else the middle) of the H&E, and the IHC that shows it further down and to the right."""
    he, ihc = both
    top, left = corner or ((he.shape[0] - side) // 2, (he.shape[1] - side) // 2)
    return cut(he, top, left, side), cut(ihc, top - shift[0], left - shift[1], side)


def draw_shifts(most: int, count: int) -> list[tuple[int, int]]:
    """`count` shifts of at most `most` px in each direction, two of the largest among them."""
    drawn: NDArray[np.int64] = np.random.default_rng(most).integers(-most, most + 1, (count - 2, 2))
    return [(most, -most), (-most, most), *((int(down), int(right)) for down, right in drawn)]


def as_jpeg(picture: PictureU8, quality: int) -> PictureU8:
    """The picture after a JPEG file, u8 [H,W,3]."""
    data = BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=quality)
    return np.array(Image.open(data))
