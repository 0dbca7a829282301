"""Baselines that a translation has to beat: rows that need no network, fitted on the train split only.

Pictures are u8 [H,W,3] RGB. All train pixels count, one picture in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evaluate.parallel import in_parallel
from evaluate.protocol import Fakes, resave, to_u8
from store.images import PictureU8
from store.reader import Store
from store.schema import Split, Stain, StoreError

Colour = tuple[float, float, float]  # RGB, grey levels
Levels = NDArray[np.float64]
STRIP = 1 << 14  # pixels that are summed together: they stay in the processor's cache


class Baseline(Protocol):
    """A row of the table that is made from colours alone."""

    @property
    def name(self) -> str:
        """Its name in the table."""

    def levels(self, he_u8: PictureU8) -> Levels:
        """Its translation of `he_u8`, grey levels [H,W,3] that are neither clipped nor rounded."""

    def picture(self, he_u8: PictureU8, fakes: Fakes) -> PictureU8:
        """The same as 8 bits, [H,W,3]: `to_u8` of its levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyHE:
    """The H&E picture itself."""

    name: str = "copy H&E"

    def levels(self, he_u8: PictureU8) -> Levels:
        """The identity."""
        return he_u8.astype(np.float64)

    def picture(self, he_u8: PictureU8, fakes: Fakes) -> PictureU8:
        """Whole levels: rounding changes none, and truncation is that of a real picture."""
        return he_u8 if fakes is Fakes.ROUNDED else resave(he_u8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantColour:
    """One colour everywhere: the mean IHC colour of train, which has the least squared error of all colours there."""

    colour: Colour
    name: str = "constant colour"

    def levels(self, he_u8: PictureU8) -> Levels:
        """A picture of that colour."""
        return np.broadcast_to(np.array(self.colour), he_u8.shape)

    def picture(self, he_u8: PictureU8, fakes: Fakes) -> PictureU8:
        """One pixel is enough."""
        return np.broadcast_to(to_u8(np.array(self.colour), fakes), he_u8.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineColourMap:
    """IHC colour = H&E colour @ matrix + offset: the least squares fit over all train pixels."""

    matrix: tuple[Colour, Colour, Colour]
    offset: Colour
    name: str = "affine colour map"

    def levels(self, he_u8: PictureU8) -> Levels:
        """Every pixel mapped."""
        return np.asarray(he_u8 @ np.array(self.matrix) + np.array(self.offset))

    def picture(self, he_u8: PictureU8, fakes: Fakes) -> PictureU8:
        """Every pixel mapped, clipped, and rounded or truncated."""
        return to_u8(self.levels(he_u8), fakes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baselines:
    """The baselines in the order of the table, and the view and number of train pictures that they were fitted on."""

    copy: CopyHE
    constant: ConstantColour
    affine: AffineColourMap
    view: str
    pictures: int

    def __iter__(self) -> Iterator[Baseline]:
        return iter((self.copy, self.constant, self.affine))


@dataclass(frozen=True, slots=True, kw_only=True)
class _TrainSums:
    """Of a pair of train: sums of products over its pixels, RGB of H&E and 1 (rows) by those and RGB of IHC, [4,7]."""

    store: Store
    view: str

    def __call__(self, pair: int) -> Levels:
        """The sums of a pair: integers below 2**53, exact in float64."""
        total = np.zeros((4, 7))
        for index in range(self.store.count(self.view)):
            he, ihc = (
                self.store.planes(Split.TRAIN, self.view, stain, pair, index).reshape(3, -1)
                for stain in (Stain.HE, Stain.IHC)
            )
            for start in range(0, he.shape[1], STRIP):
                strip = slice(start, start + STRIP)
                known = np.ones((4, *he[0, strip].shape))
                known[:3] = he[:, strip]
                total[:, :4] += known @ known.T
                total[:, 4:] += known @ ihc[:, strip].T.astype(np.float64)
        return total


def fit_baselines(store: Store, workers: int = 1) -> Baselines:
    """Fit on the tiles of train if the store keeps them, else on its views of the whole field.

    The normal equations are sums of integers below 2**53, exact in float64: no order of pictures changes the fit.
    """
    view = train_view(store)
    pairs, count = len(store.pairs(Split.TRAIN)), store.count(view)
    if not pairs:
        raise StoreError(
            f"{store.address} has no train pairs, and the baselines are fitted on them; build a store that has a train "
            "split"
        )
    sums = in_parallel(
        _TrainSums(store=store, view=view),
        range(pairs),
        "fitting the baselines",
        workers,
        count * store.side(view) ** 2,
    )
    gram, moment = np.hsplit(np.sum(sums, axis=0), [4])
    solution = np.linalg.lstsq(gram, moment)[0]  # also where train H&E has one colour only
    return Baselines(
        copy=CopyHE(),
        constant=ConstantColour(colour=_colour(moment[3] / gram[3, 3])),
        affine=AffineColourMap(
            matrix=(_colour(solution[0]), _colour(solution[1]), _colour(solution[2])), offset=_colour(solution[3])
        ),
        view=view,
        pictures=pairs * count,
    )


def train_view(store: Store) -> str:
    """What the baselines are fitted on: the tiles if they are kept, else the view of the least zoom."""
    return "tile" if store.manifest.has_tiles(Split.TRAIN) else min(store.manifest.views, key=lambda v: v.zoom).name


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
