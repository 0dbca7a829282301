"""Baselines that a translation has to beat: rows that need no network, fitted on the train split only.

Pictures are u8 [H,W,3] RGB. All train pixels count, one picture in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from store.cli import track
from store.images import PictureU8
from store.reader import Store
from store.schema import Split, Stain, StoreError

Colour = tuple[float, float, float]  # RGB, grey levels
Levels = NDArray[np.float64]


class Baseline(Protocol):
    """A row of the table that is made from colours alone."""

    @property
    def name(self) -> str:
        """Its name in the table."""

    def levels(self, he_u8: PictureU8) -> Levels:
        """Its translation of `he_u8`, grey levels [H,W,3] that are neither clipped nor rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyHE:
    """The H&E picture itself."""

    name: str = "copy H&E"

    def levels(self, he_u8: PictureU8) -> Levels:
        """The identity."""
        return he_u8.astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantColour:
    """One colour everywhere: the mean IHC colour of train, which has the least squared error of all colours there."""

    colour: Colour
    name: str = "constant colour"

    def levels(self, he_u8: PictureU8) -> Levels:
        """A picture of that colour."""
        return np.broadcast_to(np.array(self.colour), he_u8.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class AffineColourMap:
    """IHC colour = H&E colour @ matrix + offset: the least squares fit over all train pixels."""

    matrix: tuple[Colour, Colour, Colour]
    offset: Colour
    name: str = "affine colour map"

    def levels(self, he_u8: PictureU8) -> Levels:
        """Every pixel mapped."""
        return np.asarray(he_u8 @ np.array(self.matrix) + np.array(self.offset))


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


def fit_baselines(store: Store) -> Baselines:
    """Fit on the tiles of train if the store keeps them, else on its views of the whole field.

    The normal equations are sums of integers below 2**53, exact in float64: no order of pictures changes the fit.
    """
    view = "tile" if store.manifest.has_tiles(Split.TRAIN) else min(store.manifest.views, key=lambda v: v.zoom).name
    pairs, count = len(store.pairs(Split.TRAIN)), store.count(view)
    if not pairs:
        raise StoreError(
            f"{store.address} has no train pairs, and the baselines are fitted on them; build a store that has a train "
            "split"
        )
    gram, moment = np.zeros((4, 4)), np.zeros((4, 3))
    for pair in track(range(pairs), what="fitting the baselines", unit="pair"):
        for index in range(count):
            he = store.picture(Split.TRAIN, view, Stain.HE, pair, index).reshape(-1, 3)
            ihc = store.picture(Split.TRAIN, view, Stain.IHC, pair, index).reshape(-1, 3).astype(np.float64)
            known = np.column_stack([he, np.ones(len(he))])  # [pixels, R G B 1]
            gram += known.T @ known
            moment += known.T @ ihc
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


def _colour(values: NDArray[np.float64]) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
