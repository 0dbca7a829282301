"""SSIM and PSNR: the published numbers, a plain loop, and the right direction."""

from __future__ import annotations

import json
import warnings
from math import inf, log10

import numpy as np
import pytest

from evaluate.metrics.paired import psnr, ssim
from store.images import read_picture
from tests.support.places import GOLDEN, SHARED

PAIRS = SHARED / "data" / "derived-pairs256"
NUMBERS = json.loads((GOLDEN / "ssim_psnr_derived_pairs256.json").read_text())
real_pictures = pytest.mark.skipif(not PAIRS.is_dir(), reason="the real picture pairs are not beside the checkout")


def drawn(seed: int, height: int = 19, width: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Two u8 [H,W,3] pictures that resemble each other a little."""
    rng = np.random.default_rng(seed)
    real = rng.integers(0, 256, (height, width, 3))
    fake = np.clip(real + rng.normal(0, 40, real.shape), 0, 255)
    return fake.astype(np.uint8), real.astype(np.uint8)


def plain_ssim(fake: np.ndarray, real: np.ndarray) -> float:
    """Wang et al. 2004, eq. (13), window by window, with the sample covariance of 49 pixels."""
    c1, c2, values = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    for channel in range(3):
        for top in range(real.shape[0] - 6):
            for left in range(real.shape[1] - 6):
                x = fake[top : top + 7, left : left + 7, channel].astype(float).ravel()
                y = real[top : top + 7, left : left + 7, channel].astype(float).ravel()
                (vx, vxy), (_, vy) = np.cov(x, y)
                above = (2 * x.mean() * y.mean() + c1) * (2 * vxy + c2)
                values.append(above / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (vx + vy + c2)))
    return float(np.mean(values))


def plain_psnr(fake: np.ndarray, real: np.ndarray) -> float:
    total = sum((int(a) - int(b)) ** 2 for a, b in zip(fake.ravel(), real.ravel(), strict=True))
    return 10 * log10(255**2 / (total / real.size))


@real_pictures
@pytest.mark.parametrize("name", NUMBERS)
def test_golden_numbers_of_the_published_evaluation(name: str) -> None:
    """Origin: both published evaluations' calls of scikit-image, H&E against IHC; 1e-9 leaves room for its versions."""
    he, ihc = read_picture(PAIRS / "HE" / name), read_picture(PAIRS / "IHC" / name)
    assert ssim(he, ihc) == pytest.approx(NUMBERS[name]["ssim"], abs=1e-9)
    assert psnr(he, ihc) == pytest.approx(NUMBERS[name]["psnr"], abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_they_agree_with_a_plain_loop(seed: int) -> None:
    fake, real = drawn(seed)
    assert ssim(fake, real) == pytest.approx(plain_ssim(fake, real), abs=1e-9)
    assert psnr(fake, real) == pytest.approx(plain_psnr(fake, real), abs=1e-9)


def test_identical_pictures_are_one_and_infinite_without_a_warning() -> None:
    _, real = drawn(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (ssim(real, real), psnr(real, real)) == (1.0, inf)


def test_more_noise_is_worse() -> None:
    _, real = drawn(0, 64, 64)
    rng = np.random.default_rng(1)
    noisy = [np.clip(real + rng.normal(0, sigma, real.shape), 0, 255).astype(np.uint8) for sigma in (5, 20, 60)]
    for measure in (ssim, psnr):
        values = [measure(fake, real) for fake in noisy]
        assert values == sorted(values, reverse=True)


@real_pictures
def test_on_real_tissue_blur_is_better_than_another_stain_and_worse_than_the_picture() -> None:
    name = next(iter(NUMBERS))
    he, ihc = read_picture(PAIRS / "HE" / name), read_picture(PAIRS / "IHC" / name)
    blurred = ihc.reshape(128, 2, 128, 2, 3).mean((1, 3)).round().astype(np.uint8).repeat(2, 0).repeat(2, 1)
    assert 1 > ssim(blurred, ihc) > ssim(he, ihc)
    assert inf > psnr(blurred, ihc) > psnr(he, ihc)
