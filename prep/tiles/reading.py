"""Read the two source pictures of a pair: strictly before a build, and unchanged in it, to cut its tiles from them.

Files are named relative to the data folder, so that a store does not depend on where the data are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prep.tiles.decoded import NONE_KEPT, Decoded, PairU8
from prep.tiles.layouts import Sources
from store.images import Picture, PictureU8, digest_picture, load_picture
from store.pairs.table import Pair
from store.schema import Box, PairingError, PictureError, Stain


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePair:
    """The two pictures of a candidate, u8 [H,W,3] each, and the files that they are in.

    `joined` says whether one file holds both, H&E left, IHC right. The picture of a tile alone is in both places.
    """

    he: PictureU8
    ihc: PictureU8
    he_file: Picture
    ihc_file: Picture
    joined: bool = False

    @property
    def pictures(self) -> PairU8:
        """H&E and IHC."""
        return self.he, self.ihc


def read_sources(sources: Sources, he: str, ihc: str, *, regions: bool) -> SourcePair:
    """Read the sources of these names completely; a file that holds both pictures is read once. Raises PictureError.

    Squares are cut of `regions`, which may be larger than a tile. One of the names is empty for a tile alone.
    """
    if not (he and ihc):
        lone = _read_one(sources.he, he, regions) if he else _read_one(sources.ihc, ihc, regions)
        return SourcePair(he=lone.pixels, ihc=lone.pixels, he_file=lone, ihc_file=lone)
    he_file = _read_one(sources.he, he, regions)
    if not sources.joined:
        ihc_file = _read_one(sources.ihc, ihc, regions)
        return SourcePair(he=he_file.pixels, ihc=ihc_file.pixels, he_file=he_file, ihc_file=ihc_file)
    half = he_file.pixels.shape[1] // 2  # [H,2W,3], H&E left
    he_u8, ihc_u8 = he_file.pixels[:, :half].copy(), he_file.pixels[:, half:].copy()
    return SourcePair(he=he_u8, ihc=ihc_u8, he_file=he_file, ihc_file=he_file, joined=True)


def read_pair(sources: Sources, pair: Pair, decoded: Decoded = NONE_KEPT) -> PairU8:
    """H&E and IHC tile of a checked pair, u8 [S,S,3] each; raises PairingError if a file changed since the check.

    A tile alone is in both places.
    """

    def prove(kept: PairU8 | None) -> PairU8:
        if kept:
            roots = {Stain.HE: sources.he, Stain.IHC: sources.ihc}
            _refuse_change(pair, {stain: _digest_one(roots[stain], pair.tile_of(stain)) for stain in pair.stains})
            return kept
        read = read_sources(sources, pair.he, pair.ihc, regions=bool(pair.he_box or pair.ihc_box))
        _refuse_change(pair, {Stain.HE: read.he_file.digest, Stain.IHC: read.ihc_file.digest})
        return read.pictures

    return cut_squares(decoded.take(pair, prove), pair)


def cut_squares(pictures: PairU8, pair: Pair) -> PairU8:
    """The two tiles of a pair, u8 [S,S,3]: its squares of the source pictures, or the pictures themselves."""
    boxes = (pair.he_box, pair.ihc_box) if len(pair.stains) == len(Stain) else (pair.he_box or pair.ihc_box,) * 2
    return _cut(pictures[0], boxes[0]), _cut(pictures[1], boxes[1])


def in_px(picture: PictureU8) -> str:
    """The size of a picture as a person says it: width first."""
    return f"{picture.shape[1]} x {picture.shape[0]} px"


def _cut(picture: PictureU8, box: Box | None) -> PictureU8:
    if box is None:
        return picture
    return picture[box.top : box.top + box.side, box.left : box.left + box.side].copy()  # else the source stays with it


def _refuse_change(pair: Pair, digests: Mapping[Stain, str]) -> None:
    for stain in pair.stains:
        found, expected = digests[stain], pair.digest_of(stain)
        if found != expected:
            raise PairingError(
                f"{pair.tile_of(stain)}: changed while the store was built: sha256 was {expected}, is {found}; "
                "put the file back as it was, or start a new store"
            )


def _read_one(root: Path, name: str, region: bool) -> Picture:
    with _named_within(root):
        return load_picture(root / name, region=region)


def _digest_one(root: Path, name: str) -> str:
    with _named_within(root):
        return digest_picture(root / name)


@contextmanager
def _named_within(root: Path) -> Iterator[None]:
    """Errors in the block name a file relative to the data folder."""
    try:
        yield
    except PictureError as error:
        raise type(error)(str(error).removeprefix(f"{root}/")) from error
