"""SSIM and PSNR against scikit-image: extremes, every side, other layouts in memory, shifted and shared sums."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from evaluate.columns import Metric
from evaluate.metrics.misregistration import measure_pixels, shifts_for, windows
from evaluate.metrics.paired import psnr, ssim
from evaluate.metrics.ssim import ROWS, SIDE, shifted_similarities, similarities
from store.images import read_picture
from store.schema import RunError
from tests.support.places import SHARED, needs_shared

PAIRS = SHARED / "data" / "derived-pairs256"


def drawn(seed: int, high: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """Two u8 [H,W,3] pictures that resemble each other a little."""
    rng = np.random.default_rng(seed)
    real = rng.integers(0, 256, (high, wide, 3))
    return np.clip(real + rng.normal(0, 40, real.shape), 0, 255).astype(np.uint8), real.astype(np.uint8)


def reference(fake: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """SSIM and PSNR of scikit-image."""
    with np.errstate(divide="ignore"):
        one = structural_similarity(real, fake, data_range=255, channel_axis=-1)  # type: ignore[no-untyped-call]
        two = peak_signal_noise_ratio(real, fake, data_range=255)  # type: ignore[no-untyped-call]
    return float(one), float(two)


def extremes(side: tuple[int, int]) -> Iterator[np.ndarray]:
    """Black, white, checks of both, one colour, one odd pixel, noise, noise of one grey level, a ramp."""
    rng, shape = np.random.default_rng(5), (*side, 3)
    yield from (np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), np.full(shape, (3, 200, 77), np.uint8))
    yield np.broadcast_to((np.indices(side).sum(axis=0) % 2 * 255)[..., None], shape).astype(np.uint8)
    odd = np.full(shape, 128, np.uint8)
    odd[side[0] // 2, side[1] // 3, 1] = 255
    yield from (odd, rng.integers(0, 256, shape, np.uint8), rng.integers(254, 256, shape, np.uint8))
    yield np.broadcast_to(np.linspace(0, 255, side[1])[:, None], shape).astype(np.uint8)


@pytest.mark.parametrize("side", [(7, 7), (7, 30), (31, 8), (ROWS + 5, 9), (ROWS + 6, 9), (ROWS + 7, 9), (80, 41)])
def test_they_are_scikit_images_numbers_at_every_extreme_and_every_side(side: tuple[int, int]) -> None:
    """Also where a band of windows ends: with one row less, with none and with one row of windows more."""
    pictures = list(extremes(side))
    for real in pictures:
        for fake, shared in zip(pictures, similarities(pictures, real), strict=True):
            due = reference(fake, real)
            assert ssim(fake, real) == shared == ssim(real, fake)
            assert shared == pytest.approx(due[0], rel=0, abs=1e-10)
            assert psnr(fake, real) == due[1]


def test_the_layout_of_a_picture_in_memory_changes_nothing() -> None:
    fake, real = drawn(2, 50, 50)
    planes = [np.ascontiguousarray(picture.transpose(2, 0, 1)).transpose(1, 2, 0) for picture in (fake, real)]
    wide = [np.pad(picture, ((4, 9), (5, 3), (0, 0)), mode="edge")[4:-9, 5:-3] for picture in (fake, real)]
    for one, two in (planes, wide, [fake[::-1], real[::-1]]):
        assert ssim(one, two) == similarities([one, two], two)[0] == ssim(np.array(one), np.array(two))
        assert psnr(one, two) == psnr(np.array(one), np.array(two))
    assert ssim(planes[0], planes[1]) == ssim(fake, real)


def test_a_shifted_picture_has_shifted_sums() -> None:
    _, moved = drawn(3, 45, 60)
    fixed, lefts = [drawn(seed, 45, 40)[0] for seed in (4, 5)], [20, 19, 3, 0]
    found = shifted_similarities(fixed, moved, lefts)
    due = [[reference(one, moved[:, left : left + 40])[0] for left in lefts] for one in fixed]
    np.testing.assert_allclose(found, due, rtol=0, atol=1e-10)
    assert found.tolist() == [[ssim(one, moved[:, left : left + 40]) for left in lefts] for one in fixed]


def test_the_misregistration_curve_is_scikit_images_on_the_parts_that_are_left() -> None:
    fake, real = drawn(6, 60, 60)
    shifts = shifts_for(60)
    found = measure_pixels(fake, real, shifts)
    fixed = [next(windows(picture, shifts)) for picture in (real, fake)]
    due = np.array([[reference(one, other) for other in windows(real, shifts)] for one in fixed])
    np.testing.assert_allclose(found[Metric.SSIM], due[..., 0], rtol=0, atol=1e-10)
    assert np.array_equal(found[Metric.PSNR], due[..., 1])


def test_every_shift_leaves_a_window() -> None:
    assert [max(shifts_for(side)) for side in (7, 8, 10, 14, 40, 96, 1024)] == [0, 1, 2, 4, 16, 48, 48]


@pytest.mark.parametrize("side", [(SIDE - 1, 20), (20, SIDE - 1), (1, 1)])
def test_pictures_smaller_than_a_window_are_refused(side: tuple[int, int]) -> None:
    with pytest.raises(RunError, match=rf"{side[1]} x {side[0]} px are smaller than a window of SSIM, 7 x 7 px"):
        ssim(*drawn(0, *side))


@needs_shared
def test_on_real_tissue_they_are_scikit_images_numbers() -> None:
    """H&E and IHC, a picture and its blurred and its dark self, of some pairs."""
    for file in sorted((PAIRS / "IHC").iterdir())[::10]:
        he, ihc = read_picture(PAIRS / "HE" / file.name), read_picture(file)
        dark, soft = ihc // 4, (ihc.astype(int) + np.roll(ihc, 1, axis=1)).astype(int) // 2
        fakes = [he, dark, soft.astype(np.uint8), ihc]
        due = [reference(fake, ihc) for fake in fakes]
        np.testing.assert_allclose(similarities(fakes, ihc), [one for one, _ in due], rtol=0, atol=1e-10)
        assert [psnr(fake, ihc) for fake in fakes] == [other for _, other in due]
