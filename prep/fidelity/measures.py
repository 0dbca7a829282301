"""What enlarging did to one picture: agreement with its source patch, colour, DAB, and the finer detail.

Pictures are u8 [H,W,3] RGB: a `patch` of side P, and the `view` of side S = factor x P that an upscaler made from it.
Agreement is measured on the view downsampled again by the mean over areas, as the store itself downsamples. Detail
above the Nyquist frequency of the patch, P/2 cycles per picture, which a patch cannot hold, is measured in the view.

Units: grey levels 0 to 255, CIELAB (sRGB, D65, 2 degrees), decadic optical density, OD = -log10(I / 255).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import inf, isnan, log10, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from skimage.color import deltaE_ciede2000, rgb2lab

from store.images import PictureU8
from store.schema import SchemaError, Stain
from store.stain.dab import mean_dab

Values = NDArray[np.float64]

WHITE = 255
LITTLE_DAB = 0.02  # mean OD; of less stain, half a grey level in light tissue (0.0025 OD) is more than a tenth
FADED = 1e-6  # grey levels²; less energy in a band is rounding of the transform, not detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What changed from patch to view, as means over pixels, so that the mean over pictures is a Change again.

    error: squared, grey levels². drift_*: L*, a*, b* of the view minus the patch. colour_error: CIEDE2000.
    dab_*: OD, NaN for H&E. detail_*: mean square above the patch's Nyquist frequency, grey levels², of the view and of
    Lanczos interpolation. shared_*: the same for view, Lanczos and the tile as delivered, up to the highest frequency
    that all three can hold. product_*: mean product of view and tile, of Lanczos and tile, in that band. The last two
    kinds are 0 where the tile is no finer than the patch.
    """

    error: float
    drift_l: float
    drift_a: float
    drift_b: float
    colour_error: float
    dab_patch: float
    dab_view: float
    detail_view: float
    detail_lanczos: float
    shared_view: float
    shared_lanczos: float
    shared_tile: float
    product_view: float
    product_lanczos: float

    @property
    def psnr(self) -> float:
        """10 log10(255² / error) in dB; infinite if view and patch agree exactly."""
        return 10 * log10(WHITE**2 / self.error) if self.error else inf

    @property
    def dab_share(self) -> float:
        """DAB gained (above 0) or lost, as a share of the patch's; NaN if the patch has almost none, and for H&E."""
        return (self.dab_view - self.dab_patch) / self.dab_patch if self.dab_patch >= LITTLE_DAB else nan

    @property
    def added(self) -> float:
        """Detail of the view minus that of Lanczos, root mean squares in grey levels; 0 for Lanczos itself."""
        return sqrt(self.detail_view) - sqrt(self.detail_lanczos)

    @property
    def truth(self) -> float:
        """Correlation of the view's detail with the tile's: 1 is restored, 0 invented; NaN if the tile is not finer."""
        return _correlation(self.product_view, self.shared_view, self.shared_tile)

    @property
    def invented(self) -> float:
        """Root mean square, grey levels, of the view's detail that has no counterpart in the tile; NaN as `truth`."""
        return nan if isnan(self.truth) else sqrt(self.shared_view * max(0.0, 1 - self.truth**2))

    @property
    def truth_lanczos(self) -> float:
        """The same for Lanczos interpolation, whose weak finer detail is partly right."""
        return _correlation(self.product_lanczos, self.shared_lanczos, self.shared_tile)


def measure(*, view: PictureU8, patch: PictureU8, lanczos: PictureU8, tile: PictureU8, stain: Stain) -> Change:
    """All numbers of one view.

    view, lanczos: u8 [S,S,3]; patch: u8 [P,P,3]; tile: u8 [T,T,3], the same place in the tile as delivered, or the
    patch again if the store has nothing finer. Raises SchemaError if the view is no enlargement of the patch.
    """
    down, side = downsample(view, patch.shape[0]), patch.shape[0]
    error = float(np.square(down - patch).mean())
    lab_view, lab_patch = rgb2lab(down / WHITE), rgb2lab(patch / WHITE)  # [P,P,3]
    drift = (lab_view - lab_patch).mean((0, 1))
    dab_patch, dab_view = (nan, nan) if stain is Stain.HE else (mean_dab(patch.astype(np.float64)), mean_dab(down))
    of_view, of_lanczos, of_tile = (spectrum(picture) for picture in (view, lanczos, tile))
    most, shared = view.shape[0], min(view.shape[0], tile.shape[0])
    return Change(
        error=error,
        drift_l=float(drift[0]),
        drift_a=float(drift[1]),
        drift_b=float(drift[2]),
        colour_error=colour_error(lab_view, lab_patch),
        dab_patch=dab_patch,
        dab_view=dab_view,
        detail_view=energy(of_view, of_view, side, most),
        detail_lanczos=energy(of_lanczos, of_lanczos, side, most),
        shared_view=energy(of_view, of_view, side, shared),
        shared_lanczos=energy(of_lanczos, of_lanczos, side, shared),
        shared_tile=energy(of_tile, of_tile, side, shared),
        product_view=energy(of_view, of_tile, side, shared),
        product_lanczos=energy(of_lanczos, of_tile, side, shared),
    )


def downsample(view: PictureU8, side: int) -> Values:
    """The view brought back to the patch's side by the mean over areas, not rounded; [P,P,3] in grey levels."""
    factor, rest = divmod(view.shape[0], side)
    if factor < 2 or rest:
        raise SchemaError(
            f"a view of {view.shape[0]} px is no enlargement of a patch of {side} px by a whole factor; "
            "give the view first, then the patch that it was made from"
        )
    return np.asarray(view.reshape(side, factor, side, factor, 3).mean((1, 3)))


def colour_error(one: Values, other: Values) -> float:
    """Mean CIEDE2000 (Sharma, Wu & Dalal 2005) over the pixels of two pictures in CIELAB, [P,P,3]."""
    return float(np.mean(deltaE_ciede2000(one, other)))  # type: ignore[no-untyped-call]  # scikit-image is not typed


def spectrum(picture: PictureU8 | Values) -> Values:
    """Cosine transform, [S,S,3]; the sum of its squares is the sum over channels of their mean square.

    Coefficient k is k/2 cycles per picture for every side, so pictures of different sides can be compared. A cosine
    transform implies mirrored edges, which have no jump that would count as detail.
    """
    return np.asarray(dctn(picture.astype(np.float64), axes=(0, 1), norm="ortho") / picture.shape[0], np.float64)


def energy(one: Values, other: Values, low: int, high: int) -> float:
    """Mean product over pixels and channels of two spectra, coefficients from `low` to below `high`, both axes.

    For a picture with itself it is the mean square of the detail that a side of `high` px can hold and one of `low` px
    cannot.
    """
    product = one[:high, :high] * other[:high, :high]
    return float((product[low:].sum() + product[:low, low:].sum()) / product.shape[2])


def pool(changes: Sequence[Change]) -> Change:
    """The mean over pictures; its PSNR, shares and correlations are those of all their pixels together."""
    return Change(**{f.name: float(np.mean([getattr(change, f.name) for change in changes])) for f in fields(Change)})


def _correlation(product: float, one: float, other: float) -> float:
    return product / sqrt(one * other) if min(one, other) > FADED else nan
