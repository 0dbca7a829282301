"""How far two sets of pictures are from each other as distributions: FID and KID, from features that networks made.

Features are [N,D] float, a row per picture. Which network, at what size and of how many pictures is the caller's
protocol; both depend on it, and FID also on N. Sources: FID, Heusel et al. (NeurIPS 2017) as in pytorch-fid; KID,
Bińkowski et al. (ICLR 2018) as in the ASP repository.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from store.schema import RunError

Features = NDArray[np.floating]
SUBSETS, SUBSET = 100, 100  # ASP repository: number of subsets, and pictures of each
RIDGE = 1e-6  # pytorch-fid: added to both diagonals where the root of their product is not finite
IMAGINARY = 1e-3  # pytorch-fid: the most that rounding may leave on the diagonal of the root


def fid(fake: Features, real: Features) -> float:
    """Fréchet distance of two Gaussians: |m1 - m2|² + tr(S1 + S2 - 2 (S1 S2)^½), covariances with N - 1; 0 is alike.

    With fewer pictures than features it is biased upward: compare at equal N. RunError for fewer than two pictures, for
    features of different networks, or where the root is not real.
    """
    _check(fake, real, least=2)
    one, two = fake.astype(np.float64), real.astype(np.float64)
    covariances = [np.atleast_2d(np.cov(features, rowvar=False)) for features in (one, two)]
    root = sqrtm(covariances[0] @ covariances[1])
    if not np.isfinite(root).all():
        ridge = RIDGE * np.eye(len(root))
        root = sqrtm((covariances[0] + ridge) @ (covariances[1] + ridge))
    imaginary = np.abs(np.imag(np.diagonal(root))).max()
    if imaginary > IMAGINARY:
        raise RunError(
            f"the root of the covariances has {imaginary:.2g}i on its diagonal; more than {IMAGINARY} is no rounding: "
            f"use more pictures than {len(fake)} and {len(real)}"
        )
    means = one.mean(axis=0) - two.mean(axis=0)
    return float(means @ means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.trace(root).real)


def kid(
    fake: Features, real: Features, generator: np.random.Generator | np.random.RandomState, subset: int = SUBSET
) -> NDArray[np.float64]:
    """Unbiased squared MMD of `SUBSETS` random subsets, [100]; its mean is KID. Tables show it times 1000.

    A subset has min(N, `subset`) pictures of each set, drawn without replacement, fakes first. Drawing the whole of
    both sets, as a subset of 1000 does on MIST, makes all values equal and their deviation a false 0.
    """
    size = min(len(fake), len(real), subset)
    _check(fake, real, least=2)
    values = []
    for _ in range(SUBSETS):
        one = fake[generator.choice(len(fake), size, replace=False)]
        two = real[generator.choice(len(real), size, replace=False)]
        values.append(mmd(one, two))
    return np.array(values)


def mmd(fake: Features, real: Features) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of equally many pictures, under k(a,b) = (a·b/D + 1)³.

    D is the number of features. [Σ_{i≠j} k(x_i,x_j) + Σ_{i≠j} k(y_i,y_j)] / (m (m - 1)) - 2 Σ_{i,j} k(x_i,y_j) / m².
    """
    _check(fake, real, least=2)
    if len(fake) != len(real):
        raise RunError(f"{len(fake)} and {len(real)} pictures: this estimate needs equally many of both")
    count, one, two = len(fake), fake.astype(np.float64), real.astype(np.float64)
    within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(one, one), _kernel(two, two)))
    return float(within / (count * (count - 1)) - 2 * _kernel(one, two).sum() / count**2)


def _kernel(one: Features, two: Features) -> NDArray[np.float64]:
    kernel: NDArray[np.float64] = (one @ two.T / one.shape[1] + 1) ** 3
    return kernel


def _check(fake: Features, real: Features, *, least: int) -> None:
    if fake.ndim != 2 or real.ndim != 2 or fake.shape[1] != real.shape[1]:
        raise RunError(f"features of shape {fake.shape} and {real.shape}: both must be [N,D] of one network")
    if min(len(fake), len(real)) < least:
        raise RunError(f"{len(fake)} and {len(real)} pictures: a distribution needs at least {least} of each")
    if not (np.isfinite(fake).all() and np.isfinite(real).all()):
        raise RunError("some features are not finite; look for a broken picture or weight file")
