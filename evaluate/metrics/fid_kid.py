"""FID and KID: how far two sets of pictures are from each other as distributions, by feature vectors of a network.

Vectors are [N,D] float, a row per picture. The protocol says which network, at what picture size; both distances depend
on it, and FID depends on N as well. Sources: FID, Heusel et al. (NeurIPS 2017) as in pytorch-fid; KID, Bińkowski et al.
(ICLR 2018) as in the ASP repository.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning, sqrtm, svdvals

from evaluate.columns import Cell
from evaluate.metrics.statistics import COSTLY_RESAMPLES, Counts, Interval, as_cell, interval
from evaluate.protocol import ALL, PUBLISHED, Protocol, Root
from store.schema import RunError

Vectors = NDArray[np.floating]
RIDGE = 1e-6  # pytorch-fid: added to both diagonals where the root of their product is not finite
IMAGINARY = 1e-3  # pytorch-fid: the most that rounding may leave on the diagonal of the root
ALONE = "a distance of two sets needs at least 2 pictures"
DIMENSIONS = 2048  # of both Inceptions: with fewer pictures than that, covariances are singular and FID is biased


def fid_cell(fake: Vectors, real: Vectors, protocol: Protocol, samples: Sequence[Counts]) -> Cell:
    """FID as the protocol has it; its interval has the width by singular values, centred on the number."""
    if len(real) < 2:
        return Cell(note=ALONE)
    products = Products.of(fake, real)
    ones = np.ones(len(fake), dtype=np.int64)
    value = fid(fake, real) if protocol.fid_root is Root.SQRTM else products.fid(ones)
    within = interval(value, products.fid, samples[:COSTLY_RESAMPLES], centred=True)
    few = f"FID of {len(fake)} pictures, fewer than {DIMENSIONS}, is biased upward: compare at equal N, and see KID"
    return as_cell(value, within, few if len(fake) < DIMENSIONS else "")


def kid_cell(fake: Vectors, real: Vectors, protocol: Protocol, samples: Sequence[Counts]) -> Cell:
    """KID times the protocol's scale: of all pictures, or mean and standard deviation of random subsets.

    A remainder below the protocol's batch is dropped from both sets, also for the interval; the note says so.
    """
    if len(real) < 2:
        return Cell(note=ALONE)
    kept = whole_batches(len(real), protocol.kid_batch)
    notes = [_remainder(len(real), protocol.kid_batch)]
    fake, real, samples = fake[:kept], real[:kept], [counts[:kept] for counts in samples]
    products, spread = Products.of(fake, real), nan
    if protocol.kid_subset == ALL:
        value = products.kid(np.ones(len(fake), dtype=np.int64))
    else:
        generator = np.random.RandomState(protocol.kid_seed)
        subsets = kid(fake, real, generator, subsets=protocol.kid_subsets, subset=protocol.kid_subset)
        value, spread = float(subsets.mean()), float(subsets.std())
        if len(fake) <= protocol.kid_subset:
            notes.append(f"KID's {len(subsets)} subsets are all the same {len(fake)} pictures: ± 0 is not a deviation")
    within = interval(value, products.kid, samples[:COSTLY_RESAMPLES])
    scale = protocol.kid_scale
    scaled = Interval(low=scale * within.low, high=scale * within.high, absent=within.absent)
    return as_cell(scale * value, scaled, "; ".join(filter(None, notes)), spread=scale * spread)


def whole_batches(pictures: int, batch: int) -> int:
    """How many pictures KID sees: whole batches only, as in the ASP repository; all where there is no whole batch.

    >>> [whole_batches(pictures, 50) for pictures in (1000, 977, 130, 49)]
    [1000, 950, 100, 49]
    """
    return pictures // batch * batch or pictures


def _remainder(pictures: int, batch: int) -> str:
    """What a reader should know of pictures that do not fill a batch; nothing where all do."""
    if pictures < batch:
        return f"KID of {pictures} pictures: ASP's evaluation has none below its batch of {batch}, here all are kept"
    if dropped := pictures % batch:
        return (
            f"KID without the last {dropped} of {pictures} pictures: ASP's evaluation drops an incomplete batch of "
            f"{batch}"
        )
    return ""


def fid(fake: Vectors, real: Vectors) -> float:
    """Fréchet distance of two Gaussians: |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½), covariances with N - 1; 0 is alike.

    With fewer pictures than features it is biased upward: compare at equal N. RunError for fewer than two pictures, for
    features of different networks, or where the root is not real.
    """
    _check(fake, real, least=2)
    one, two = fake.astype(np.float64), real.astype(np.float64)
    covariances = [np.atleast_2d(np.cov(features, rowvar=False)) for features in (one, two)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)  # the matrix is singular with fewer pictures than features
        root = sqrtm(covariances[0] @ covariances[1])
        if not np.isfinite(root).all():
            ridge = RIDGE * np.eye(len(root))
            root = sqrtm((covariances[0] + ridge) @ (covariances[1] + ridge))
    imaginary = np.abs(np.imag(np.diagonal(root))).max()
    if imaginary > IMAGINARY:
        raise RunError(
            f"FID: the root of the covariances has {imaginary:.2g}i on its diagonal, more than rounding explains "
            f"({IMAGINARY}); use more pictures than {len(fake)} and {len(real)}"
        )
    means = one.mean(axis=0) - two.mean(axis=0)
    return float(means @ means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root).real)


def kid(
    fake: Vectors,
    real: Vectors,
    generator: np.random.Generator | np.random.RandomState,
    *,
    subsets: int = PUBLISHED.kid_subsets,
    subset: int = PUBLISHED.kid_subset,
) -> NDArray[np.float64]:
    """Unbiased squared MMD of random subsets, [subsets]; its mean is KID. Tables show it times 1000.

    A subset has min(N, `subset`) pictures of each set, drawn without replacement, the real ones first, as the ASP
    repository does: with the same generator the other order is another number. Drawing the whole of both sets, as a
    subset of 1000 does on MIST, makes all values equal and their deviation a false 0.
    """
    size = min(len(fake), len(real), subset)
    _check(fake, real, least=2)
    values = []
    for _ in range(subsets):
        two = real[generator.choice(len(real), size, replace=False)]
        one = fake[generator.choice(len(fake), size, replace=False)]
        values.append(mmd(one, two))
    return np.array(values)


def mmd(fake: Vectors, real: Vectors) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of equally many pictures, under k(a,b) = (a·b/D + 1)³.

    D is the number of features. [Σ_{i≠j} k(x_i,x_j) + Σ_{i≠j} k(y_i,y_j)] / (m (m - 1)) - 2 Σ_{i,j} k(x_i,y_j) / m².
    """
    _check(fake, real, least=2)
    if len(fake) != len(real):
        raise RunError(f"{len(fake)} and {len(real)} pictures: this estimate needs equally many of both")
    count, one, two = len(fake), fake.astype(np.float64), real.astype(np.float64)
    within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(one, one), _kernel(two, two)))
    return float(within / (count * (count - 1)) - 2 * _kernel(one, two).sum() / count**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """Scalar products of two sets of equally many pictures, all that FID and KID depend on, float64 [N,N].

    `centred` are products after the mean of all pictures is subtracted, which leaves FID as it is and reduces rounding;
    `kernels` are KID's. Each holds: fake with fake, real with real, fake with real.
    """

    centred: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
    kernels: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

    @classmethod
    def of(cls, fake: Vectors, real: Vectors) -> Products:
        """The products of features [N,D] of both sets."""
        _check(fake, real, least=2)
        if len(fake) != len(real):
            raise RunError(f"{len(fake)} and {len(real)} pictures: this estimate needs equally many of both")
        one, two = fake.astype(np.float64), real.astype(np.float64)
        middle = (one.mean(axis=0) + two.mean(axis=0)) / 2
        left, right = one - middle, two - middle
        return cls(
            centred=(left @ left.T, right @ right.T, left @ right.T),
            kernels=(_kernel(one, one), _kernel(two, two), _kernel(one, two)),
        )

    def fid(self, counts: NDArray[np.int64]) -> float:
        """FID where picture i counts `counts[i]` times in both sets, by singular values: exact however few they are.

        With X the centred features, tr (S1 S2)^½ is the sum of the singular values of X1 X2ᵀ over N - 1.
        """
        kept = np.flatnonzero(counts)
        weights = counts[kept].astype(np.float64)
        total = weights.sum()
        share = weights / total
        one, two, both = (product[np.ix_(kept, kept)] for product in self.centred)
        means = [share @ product @ share for product in (one, two, both)]
        traces = [weights @ np.diagonal(p) - total * mean for p, mean in zip((one, two), means[:2], strict=True)]
        cross = both - (share @ both)[None, :] - (both @ share)[:, None] + means[2]
        root = svdvals(np.sqrt(weights)[:, None] * cross * np.sqrt(weights)[None, :]).sum()
        return float(means[0] + means[1] - 2 * means[2] + (traces[0] + traces[1] - 2 * root) / (total - 1))

    def kid(self, counts: NDArray[np.int64]) -> float:
        """Unbiased MMD, as `mmd`, where picture i counts `counts[i]` times; never a picture with a copy of itself.

        NaN where only one picture counts: there is no pair.
        """
        weights = counts.astype(np.float64)
        pairs = weights.sum() ** 2 - (weights**2).sum()
        if not pairs:
            return nan
        within = sum(weights @ kernel @ weights - weights**2 @ np.diagonal(kernel) for kernel in self.kernels[:2])
        return float(within / pairs - 2 * (weights @ self.kernels[2] @ weights) / weights.sum() ** 2)


def _kernel(one: Vectors, two: Vectors) -> NDArray[np.float64]:
    kernel: NDArray[np.float64] = (one @ two.T / one.shape[1] + 1) ** 3
    return kernel


def _check(fake: Vectors, real: Vectors, *, least: int) -> None:
    if fake.ndim != 2 or real.ndim != 2 or fake.shape[1] != real.shape[1]:
        raise RunError(f"features of shape {fake.shape} and {real.shape}: both must be [N,D] of one network")
    if min(len(fake), len(real)) < least:
        raise RunError(f"{len(fake)} and {len(real)} pictures: a distribution needs at least {least} of each")
    if not (np.isfinite(fake).all() and np.isfinite(real).all()):
        raise RunError(
            "some features are not finite; remove the saved features (the folder MAGSTAIN_FEATURES or "
            "~/.cache/magstain/features) and score again"
        )
