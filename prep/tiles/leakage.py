"""Pictures that are in two splits, also under other names, in other files and after they were saved again with loss.

A picture is compared by its pixels, never by its file. Exactly the same pixels are a copy whatever they show, unless
they have one colour. Nearly the same ones are a copy if the means of 16 x 16 blocks differ by less than a fifth of
their own contrast. Of 400 real tiles saved as JPEG none differs by more than 0.13 of it at quality 75 and 0.23 at
quality 50 (medians 0.03, 0.04); of 0.6 million pairs of different real tiles, 128 to 512 px, the nearest differ by
0.36.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.settings import how_to_set
from prep.tiles.overlaps.sharing import Overlap, describe_overlaps
from store.images import PictureU8
from store.pairs.table import Table
from store.schema import PairingError, Split, Stain

BLOCKS = 16  # a side
NEAR = 0.2  # of the contrast
PLAIN = 1.0  # grey levels of contrast below which blocks say nothing: bare glass looks like bare glass
CLEAR = 2 * PLAIN  # grey levels of contrast above which equal blocks show an equal picture: no digest is needed
CHUNK = 512  # pictures that are compared with all others at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What is kept of a picture: its blocks' means, u8 [768], and if these say little the digest of its pixels.

    `blank` says whether it has one colour, to the last bit; then its digest, which would find other glass, is empty.
    """

    blocks: NDArray[np.uint8]
    exact: bytes
    blank: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Print:
    """The fingerprint of a picture under the name of its source."""

    name: str
    of: Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A picture of a held-out split that is also in a split before it; both by the names of their sources."""

    split: Split
    stain: Stain
    name: str
    other: Split
    original: str


def fingerprint(picture_u8: PictureU8) -> Fingerprint:
    """The fingerprint of a picture, u8 [H,W,3]."""
    resized = cv2.resize(picture_u8, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
    blocks = np.asarray(resized, np.uint8).ravel()
    if _contrast(blocks[None])[0] > CLEAR:
        return Fingerprint(blocks=blocks, exact=b"", blank=False)
    blank = bool((picture_u8 == picture_u8[0, 0]).all())
    pixels = repr(picture_u8.shape).encode() + picture_u8.tobytes()
    return Fingerprint(blocks=blocks, exact=b"" if blank else hashlib.sha256(pixels).digest(), blank=blank)


def find_leaks(prints: Mapping[Split, Sequence[Print]], stain: Stain) -> list[Leak]:
    """Every picture of `stain` in val and test that is also in a split before it, train first."""
    order, found = [split for split in Split if split in prints], []
    for place, split in enumerate(order):
        left = list(prints[split])
        for other in order[:place]:
            originals = _originals(left, prints[other])
            found += [
                Leak(split=split, stain=stain, name=one.name, other=other, original=original)
                for one, original in zip(left, originals, strict=True)
                if original
            ]
            left = [one for one, original in zip(left, originals, strict=True) if not original]
    return found


def count_leaks(leaks: Iterable[Leak]) -> dict[Split, dict[Stain, int]]:
    """How many pictures of each split and stain are copies, as a manifest records it."""
    counts = Counter((leak.split, leak.stain) for leak in leaks)
    splits = [split for split in Split if any(split is of for of, _ in counts)]
    return {split: {stain: counts[split, stain] for stain in Stain if (split, stain) in counts} for split in splits}


def describe_leaks(leaks: Sequence[Leak], totals: Mapping[Split, Mapping[Stain, int]]) -> list[str]:
    """A sentence for each held-out split and stain, with an example."""
    sentences = []
    for split, stains in count_leaks(leaks).items():
        for stain, count in stains.items():
            first = next(leak for leak in leaks if (leak.split, leak.stain) == (split, stain))
            sentences.append(
                f"{count} of {totals[split][stain]} {stain.spoken} tiles of {split} are also in "
                f"{' and '.join(dict.fromkeys(leak.other for leak in leaks if leak.split is split))} (leakage), for "
                f"example {first.name!r} is {first.original!r}"
            )
    return sentences


def refuse_leaks(leaks: Sequence[Leak], overlaps: Sequence[Overlap], table: Table, *, allowed: bool) -> None:
    """Raise PairingError if a picture, or a part of one, is in two splits, unless the settings allow it."""
    if allowed or not (leaks or overlaps):
        return
    by_slide = how_to_set("split=by-slide")
    found = [*describe_leaks(leaks, table.tiles), *describe_overlaps(overlaps, table.sizes)]
    ways = [f"keep copies in one split (by {by_slide} and a slide_pattern that gives them one slide), "] * bool(leaks)
    if overlaps:
        ways.append(f"keep tiles that share pixels in one split, as {by_slide} does, give other pictures other names, ")
    raise PairingError(
        f"{'; '.join(found)}: scores on pictures that were trained on say nothing; {''.join(ways)}"
        f"leave them out, or allow them, which every table will say: {how_to_set('allow_leakage=true')}"
    )


def _originals(held_out: Sequence[Print], known: Sequence[Print]) -> list[str]:
    """For each picture the name of the same one among `known`; empty where there is none."""
    exact = {one.of.exact: one.name for one in reversed(known) if one.of.exact}
    names = [exact.get(one.of.exact, "") for one in held_out]
    theirs, spread = _vectors(known), _contrasts(known)
    for start in range(0, len(held_out), CHUNK):
        chunk = held_out[start : start + CHUNK]
        nearest, distances = _nearest(_vectors(chunk), theirs)
        limits = NEAR * np.minimum(_contrasts(chunk), spread[nearest])
        for row in np.flatnonzero((distances < limits) & (limits >= NEAR * PLAIN)):
            names[start + row] = names[start + row] or known[nearest[row]].name
    return names


def _nearest(one: NDArray[np.float32], two: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The row of `two` [M,D] that is nearest to each row of `one` [N,D], and their root mean square difference."""
    squares = (one**2).sum(1)[:, None] - 2 * (one @ two.T) + (two**2).sum(1)[None]
    nearest = squares.argmin(axis=1)
    return nearest, np.sqrt(((one - two[nearest]) ** 2).mean(axis=1))


def _vectors(prints: Sequence[Print]) -> NDArray[np.float32]:
    """The blocks around a middle grey, [N,D], so that products of single precision are exact enough."""
    return np.stack([one.of.blocks for one in prints]).astype(np.float32) - 128


def _contrasts(prints: Sequence[Print]) -> NDArray[np.float32]:
    """The contrast of the blocks of each picture, grey levels."""
    return _contrast(_vectors(prints))


def _contrast(blocks: NDArray[Any]) -> NDArray[np.float32]:
    """The standard deviation of rows of blocks, [N,768], around the mean of their channel, grey levels."""
    channels = blocks.reshape(len(blocks), -1, 3).astype(np.float32)
    return np.asarray(np.sqrt(channels.var(axis=1).mean(axis=1)), np.float32)
