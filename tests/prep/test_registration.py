"""How far two pictures are apart: known shifts are found, and pictures that say nothing get no confidence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from prep.registration.correlation import Band, correlate, find_peak
from prep.registration.estimate import ALIKE, Evidence, register
from store.images import PictureU8, read_picture
from tests.support.apart import Both, as_jpeg, cut_apart, draw_shifts, drawn_field
from tests.support.places import SHARED, needs_shared

DATA = SHARED / "data"
PLAIN = Band(fine=1, coarse=64, whitening=0)


def off(pair: Both, down: int, right: int) -> int:
    """By how many px the estimate is wrong, in the worse direction."""
    found = register(*pair)
    return max(abs(found.down - down), abs(found.right - right))


def white(grey: int, deviation: float, seed: int, side: int = 256) -> PictureU8:
    """Empty glass, u8 [side,side,3], with the noise of a camera."""
    noise = np.random.default_rng(seed).normal(grey, deviation, (side, side, 3))
    return noise.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("side", "most", "count"), [(256, 32, 20), (512, 64, 6), (1024, 64, 3)])
def test_known_shifts_of_drawn_pairs_are_found_to_1_px(side: int, most: int, count: int) -> None:
    errors = []
    for number, shift in enumerate(draw_shifts(most, count)):
        fields = 2 if side == 256 else 1  # a large one takes seconds to draw
        found = register(*cut_apart(drawn_field(side + 2 * most, number % fields), side, shift))
        errors.append(max(abs(found.down - shift[0]), abs(found.right - shift[1])))
        assert found.percent >= 90
    assert np.mean(np.array(errors) <= 1) >= 0.95


@needs_shared
@pytest.mark.parametrize(("side", "count"), [(256, 20), (384, 6)])
def test_known_shifts_of_a_restained_section_are_found_to_1_px(side: int, count: int) -> None:
    """About 2 px up and 8 px to the right remain in these pictures, more or less from place to place."""
    folder = DATA / "restained-he-ihc"
    both = read_picture(folder / "split_HE.png"), read_picture(folder / "split_IHC.png")
    most = side // 8
    room = both[0].shape[0] - side
    whole = register(*both)
    assert (whole.down, whole.right) in [(down, right) for down in (-3, -2) for right in (7, 8)]
    assert whole.percent >= 95
    errors = []
    for number, (down, right) in enumerate(draw_shifts(most, count)):
        at = np.random.default_rng(number).integers(most, room - most + 1, 2)
        here, there = (cut_apart(both, side, shift, (int(at[0]), int(at[1]))) for shift in ((0, 0), (down, right)))
        known = register(*here)
        errors.append(off(there, known.down + down, known.right + right))
    assert np.mean(np.array(errors) <= 1) >= 0.95


@needs_shared
@pytest.mark.parametrize(
    ("picture", "side", "most"),
    [
        ("scikit-image/ihc.png", 256, 32),
        ("birl/rat-kidney_/scale-5pc/Rat-Kidney_PanCytokeratin.jpg", 256, 32),
        ("histology-landmarks/lung-lesion_3/scale-5pc/29-041-Izd2-w35-CD31-3-les3.jpg", 512, 64),
        ("tiatoolbox/target_image.png", 512, 64),
    ],
)
def test_a_real_picture_is_found_in_a_worse_copy_of_its_surroundings(picture: str, side: int, most: int) -> None:
    """The copy is darker, noisier and compressed; both are cut from a larger picture, so nothing wraps around."""
    real = read_picture(DATA / picture)
    darker = 255 * (real / 255) ** 1.3 + np.random.default_rng(0).normal(0, 5, real.shape)
    copy = as_jpeg(darker.clip(0, 255).astype(np.uint8), 60)
    errors = [off(cut_apart((real, copy), side, shift), *shift) for shift in draw_shifts(most, 8)]
    assert max(errors) <= 1
    assert errors.count(0) >= 6


def test_smooth_pictures_with_noise_are_found_to_1_px() -> None:
    """Soft spots, 4 to 14 px wide, that hardly have fine structure, under the noise of a camera."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:640, :640]
    spots = np.zeros((640, 640))
    for top, left in generator.uniform(0, 640, (25, 2)):
        reach = generator.uniform(4, 14)
        spots = np.maximum(spots, np.exp(-((rows - top) ** 2 + (columns - left) ** 2) / (2 * reach**2)))
    noise = generator.normal(0, 4, (640, 640, 3))  # the same in both, in other channels
    he = np.array((235, 190, 225)) - np.outer(spots, (120, 140, 70)).reshape(noise.shape) + noise
    ihc = np.array((240, 235, 230)) - np.outer(spots, (110, 150, 190)).reshape(noise.shape) + noise[..., ::-1]
    both = he.clip(0, 255).astype(np.uint8), ihc.clip(0, 255).astype(np.uint8)
    for shift in draw_shifts(64, 4):
        assert off(cut_apart(both, 512, shift), *shift) <= 1


def test_swapped_pictures_have_the_opposite_shift() -> None:
    he, ihc = cut_apart(drawn_field(320), 256, (21, -9))
    there, back = register(he, ihc), register(ihc, he)
    assert abs(there.down + back.down) <= 1
    assert abs(there.right + back.right) <= 1
    assert abs(there.percent - back.percent) <= 1


@pytest.mark.parametrize("deviation", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("quality", [0, 60, 90])
def test_empty_glass_has_no_confidence(deviation: float, quality: int) -> None:
    """Neither do the blocks of JPEG, which are at the same places in every picture."""
    first, second = (white(grey, deviation, seed) for seed, grey in enumerate((238, 243)))
    if quality:
        first, second = as_jpeg(first, quality), as_jpeg(second, quality)
    assert register(first, second).percent <= 20
    assert register(cut_apart(drawn_field(320), 256, (0, 0))[0], second).percent <= 20


def test_pictures_of_one_colour_have_no_shift_and_no_confidence() -> None:
    black, tissue = np.zeros((256, 256, 3), np.uint8), drawn_field(320)[0][:256, :256]
    for pair in ((black, black), (black, tissue), (tissue, np.full_like(black, 255))):
        found = register(*pair)
        assert (found.down, found.right) == (0, 0)
        assert found.percent <= 10


def test_pictures_of_different_tissue_have_little_confidence() -> None:
    fields = [drawn_field(320, seed) for seed in range(4)]
    percents = [
        register(he[:256, :256], ihc[:256, :256]).percent
        for first, (he, _) in enumerate(fields)
        for second, (_, ihc) in enumerate(fields)
        if first != second
    ]
    assert np.mean(np.array(percents) < 50) >= 0.9
    assert np.median(percents) <= 15


def test_a_brown_picture_without_haematoxylin_is_found_by_the_light_that_it_absorbs() -> None:
    he, _ = drawn_field(320)
    light = he[..., :1] / 255
    brown = np.concatenate([255 * light**share for share in (0.35, 0.75, 1)], axis=2).astype(np.uint8)
    assert off(cut_apart((he, brown), 256, (-13, 22)), -13, 22) <= 1


def test_the_same_pair_gives_the_same_estimate_in_any_number_of_threads() -> None:
    pairs = [cut_apart(drawn_field(320, seed), 256, shift) for seed in (0, 1) for shift in draw_shifts(32, 4)]
    alone = [register(*pair) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda pair: register(*pair), pairs)) == alone


@pytest.mark.parametrize("shape", [(16, 16), (40, 300), (301, 97)])
def test_pictures_of_any_shape_are_measured(shape: tuple[int, int]) -> None:
    he, ihc = drawn_field(320)
    assert 0 <= register(he[: shape[0], : shape[1]], ihc[: shape[0], : shape[1]]).percent <= 100


def test_correlation_agrees_with_a_slow_plain_one() -> None:
    """A sum over every shift in a padded picture, without a band, has its maximum at the same place."""
    generator = np.random.default_rng(0)
    large = generator.normal(size=(48, 48))
    first, second = large[8:40, 8:40], large[5:37, 12:44]  # the second shows it 3 down, 4 to the left
    peak = find_peak(correlate(first, second, PLAIN, 7), 2)
    sums = {
        (down, right): np.vdot(first[7:-7, 7:-7], second[7 + down : 25 + down, 7 + right : 25 + right])
        for down in range(-7, 8)
        for right in range(-7, 8)
    }
    assert (round(peak.down), round(peak.right)) == max(sums, key=lambda shift: sums[shift]) == (3, -4)
    assert peak.lead > 3


def test_a_straight_border_of_tissue_does_not_say_where_along_it_the_pictures_fit() -> None:
    """The two halves have different tissue: they fit at the border, wherever it is moved along itself."""
    percents = []
    for angle in np.linspace(0.2, 6.0, 12):
        rows, columns = np.mgrid[:256, :256] - 128
        empty = columns * np.cos(angle) + rows * np.sin(angle) < 0
        first, second = drawn_field(320, int(angle) % 4)[0], drawn_field(320, int(angle + 1) % 4)[1]
        he, ihc = first[:256, :256].copy(), second[:256, :256].copy()
        he[empty], ihc[empty] = white(240, 2, 1)[empty], white(238, 2, 2)[empty]
        percents.append(register(he, ihc).percent)
    assert np.mean(np.array(percents) < 50) >= 0.8


def test_confidence_follows_the_lead_and_likeness_up_to_what_any_border_has() -> None:
    def percent(lead: float, likeness: float, disagreement: float = 0.2) -> int:
        return Evidence(lead=lead, likeness=likeness, disagreement=disagreement).percent

    assert percent(1, ALIKE / 2) < percent(1, ALIKE) == percent(1, 1.0) < percent(2, ALIKE)
    assert percent(1, ALIKE, disagreement=0.5) < percent(1, ALIKE)
