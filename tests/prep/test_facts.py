"""What is measured on tiles for the data card: glass, densities, hashes, and copies across splits."""

from __future__ import annotations

import io
from itertools import product

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from prep.facts.copies import find_copies, turned_hashes
from prep.facts.gather import SourceFacts, StainFacts, gather
from prep.facts.notes import describe_facts
from prep.facts.picture import measure_tile
from store.card.measured import GLASS_SHARE, HASH_BITS
from store.images import PictureU8, read_picture
from store.pictures.claims import Claims
from store.schema import Split, Stain
from store.stain.dab import mean_dab
from tests.support.places import SHARED, needs_shared
from tests.support.stores import draw_tile

GENERATOR = np.random.default_rng(11)


def as_jpeg(tile: PictureU8, quality: int) -> PictureU8:
    stream = io.BytesIO()
    Image.fromarray(tile).save(stream, "JPEG", quality=quality)
    return np.array(Image.open(stream))


def bits_apart(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def hash_of(tile: PictureU8) -> int:
    return measure_tile(tile, Stain.HE).hash


def test_glass_is_bright_and_has_no_colour() -> None:
    white = np.full((64, 64, 3), 255, np.uint8)
    noisy = np.clip(GENERATOR.normal(238, 3, white.shape), 0, 255).astype(np.uint8)
    pink, grey, black = (np.full_like(white, colour) for colour in ((250, 210, 235), (200, 200, 200), (0, 0, 0)))
    found = [measure_tile(tile, Stain.IHC).glass for tile in (white, noisy, pink, grey, black)]
    assert found[0] == 1
    assert found[1] > 0.99
    assert found[2:] == [0, 0, 0]
    pale = np.full_like(white, (255, 224, 240))  # as bright as glass, and pink
    assert measure_tile(pale, Stain.IHC).glass == 0
    half = np.concatenate([white[:32], pink[32:]])
    assert measure_tile(half, Stain.IHC).glass == 0.5


@needs_shared
def test_of_the_real_tiles_only_the_one_called_almost_white_is_nearly_glass() -> None:
    folders = (
        SHARED / "data/histolab/tiles",
        SHARED / "data/derived-pairs256/HE",
        SHARED / "data/derived-pairs256/IHC",
    )
    files = [file for folder in folders for file in sorted(folder.glob("*.png"))]
    shares = {file.stem: measure_tile(read_picture(file), Stain.HE).glass for file in files}
    assert [name for name, share in shares.items() if share >= GLASS_SHARE] == ["almost-white-2"]
    assert sorted(shares.values())[-2] < 0.8


def test_densities_are_those_of_the_deconvolution_and_hardly_depend_on_the_grid() -> None:
    tile = draw_tile(256, 1)
    facts = measure_tile(tile, Stain.IHC)
    assert facts.densities[1] == pytest.approx(mean_dab(tile), rel=1e-12)
    larger = cv2.resize(tile, (1024, 1024), interpolation=cv2.INTER_NEAREST)  # its grid is the small tile
    assert measure_tile(np.asarray(larger, np.uint8), Stain.IHC).densities == facts.densities


def test_stains_are_told_apart() -> None:
    pure = {
        name: 10 ** -np.array(vector) for name, vector in {"h": (0.65, 0.70, 0.29), "d": (0.27, 0.57, 0.78)}.items()
    }
    blue, brown = (np.tile(np.uint8(255 * light), (32, 32, 1)) for light in pure.values())
    assert measure_tile(blue, Stain.IHC).densities == pytest.approx((1, 0), abs=0.02)
    assert measure_tile(brown, Stain.IHC).densities == pytest.approx((0, 1), abs=0.02)


def test_saved_again_resized_or_brightened_a_tile_keeps_its_hash_and_others_have_another() -> None:
    tiles = [draw_tile(256, seed) for seed in range(40)]
    hashes = [hash_of(tile) for tile in tiles]
    for tile, own in zip(tiles, hashes, strict=True):
        small = cv2.resize(tile, (128, 128), interpolation=cv2.INTER_AREA)
        brighter = np.clip(tile * 0.9 + 20, 0, 255)
        for other in (as_jpeg(tile, 30), small, brighter):
            assert bits_apart(own, hash_of(np.asarray(other, np.uint8))) <= HASH_BITS
    apart = [bits_apart(a, b) for n, a in enumerate(hashes) for b in hashes[:n]]
    assert min(apart) > HASH_BITS


def test_the_eight_positions_of_a_hash_are_the_hashes_of_the_picture_in_eight_positions() -> None:
    tile = draw_tile(256, 5)
    found = [int(one[0]) for one in turned_hashes(np.array([hash_of(tile)], np.uint64))]
    turned = []
    for start, down, across in product((tile, tile.swapaxes(0, 1)), (1, -1), (1, -1)):
        turned.append(hash_of(np.ascontiguousarray(start[::down, ::across])))
    assert max(bits_apart(a, b) for a, b in zip(found, turned, strict=True)) <= 1  # rounding of a frequency near 0
    assert len(set(found)) == 8


def slow_copies(held_out: list[int], known: list[int]) -> list[tuple[int, int, int]]:
    """Row, row of the nearest, bits: every position against every known hash."""
    rows = []
    for row, value in enumerate(held_out):
        positions = [int(one[0]) for one in turned_hashes(np.array([value], np.uint64))]
        best = min((bits_apart(p, k), n, index) for n, p in enumerate(positions) for index, k in enumerate(known))
        if best[0] <= HASH_BITS:
            rows.append((row, best[2], best[0]))
    return rows


def test_copies_are_found_as_by_comparing_everything() -> None:
    known = [int(value) & ~1 for value in GENERATOR.integers(0, 2**63, 300)]
    near = [
        value ^ sum(1 << int(bit) for bit in GENERATOR.choice(np.arange(1, 64), n % 10, replace=False))
        for n, value in enumerate(known[:80])
    ]
    turned = [int(list(turned_hashes(np.array([value], np.uint64)))[n % 8][0]) for n, value in enumerate(known[80:120])]
    held_out = near + turned + [int(value) & ~1 for value in GENERATOR.integers(0, 2**63, 50)]
    copies = find_copies(
        {
            Split.TRAIN: [(f"k{n}", value) for n, value in enumerate(known)],
            Split.TEST: [(f"q{n}", value) for n, value in enumerate(held_out)],
        },
        Stain.HE,
    )
    expected = slow_copies(held_out, known)
    assert [(copy.name, copy.original, copy.bits) for copy in copies] == [
        (f"q{row}", f"k{index}", bits) for row, index, bits in expected
    ]
    assert len(expected) > 80
    assert any(copy.turned for copy in copies)


def test_val_and_test_are_compared_with_all_splits_before_them() -> None:
    one, two = 0b1110, 2**40
    rows = {Split.TEST: [("t", one), ("u", two)], Split.VAL: [("v", two)], Split.TRAIN: [("a", one)]}
    found = {(copy.split, copy.name, copy.other, copy.original) for copy in find_copies(rows, Stain.IHC)}
    assert (Split.TEST, "t", Split.TRAIN, "a") in found
    assert (Split.TEST, "u", Split.VAL, "v") in found
    assert find_copies({Split.TRAIN: [("a", one)]}, Stain.HE) == []


def facts(name: str, tile: NDArray[np.uint8], stain: Stain, claims: Claims = Claims()) -> StainFacts:  # noqa: B008 - frozen
    source = SourceFacts(name=f"{stain}/{name}.png", width=64, height=64, claims=claims)
    blank = bool((tile == tile[0, 0]).all())
    return StainFacts(id=name, source=source, tile=measure_tile(tile, stain), one_colour=blank)


def test_glass_copies_and_colours_are_gathered_by_name_in_any_order() -> None:
    wide = Claims(profile="Display P3 (wider than sRGB)")
    white, shiny = np.full((64, 64, 3), 255, np.uint8), np.full((64, 64, 3), 250, np.uint8)
    shiny[0, 0] = 0
    tiles = [draw_tile(64, seed) for seed in range(6)]
    train = [
        {Stain.HE: facts("a", tiles[0], Stain.HE, wide), Stain.IHC: facts("a", tiles[1], Stain.IHC)},
        {Stain.HE: facts("b", white, Stain.HE), Stain.IHC: facts("b", shiny, Stain.IHC)},
        {Stain.HE: facts("c", tiles[2], Stain.HE, Claims(gamma="sRGB")), Stain.IHC: facts("c", tiles[3], Stain.IHC)},
    ]
    flipped = np.ascontiguousarray(tiles[0][:, ::-1])
    test = [{Stain.HE: facts("t", flipped, Stain.HE), Stain.IHC: facts("t", tiles[4], Stain.IHC)}]
    found = gather({Split.TRAIN: train, Split.TEST: test}, read_as="x", set_aside=(), terms=())
    assert gather({Split.TEST: test, Split.TRAIN: train[::-1]}, read_as="x", set_aside=(), terms=()) == found
    glass = found.glass[Split.TRAIN]
    assert (glass[Stain.HE].one_colour.names, glass[Stain.HE].nearly.names) == (("b",), ())
    assert (glass[Stain.IHC].one_colour.names, glass[Stain.IHC].nearly.names) == ((), ("b",))
    assert found.copies == {Split.TEST: {Stain.HE: 1}}
    (copy,) = found.copies_named
    assert (copy.name, copy.original, copy.turned) == ("t", "a", True)
    assert [(one.he, one.ihc, one.differ, one.pairs.names) for one in found.colours] == [
        ("profile 'Display P3 (wider than sRGB)'", "", True, ("train a",)),
        ("sRGB", "", False, ("train c",)),
    ]
    assert sum(found.densities[Split.TRAIN][Stain.HE]["eosin"].tiles) == 3
    notes = describe_facts(found, {})
    assert [note.partition(":")[0][:44] for note in notes] == [
        "1 pair(s) claim two ways to show colours, H&",
        "1 IHC tile(s) of train are at least 90% glas",
        "1 H&E tile(s) of test look like one of a spl",
    ]
    assert "neither is applied" in notes[0]
    assert "'t' like 'a' of train, turned or mirrored" in notes[2]
    assert len(describe_facts(found, {Split.TEST: {Stain.HE: 1}})) == 2  # the leakage report says it already


def test_a_stain_without_pictures_is_left_out() -> None:
    rows = {
        Split.TRAIN: [
            {Stain.HE: facts("a", draw_tile(64, 1), Stain.HE)},
            {Stain.IHC: facts("z", draw_tile(64, 2), Stain.IHC)},
        ]
    }
    found = gather(rows, read_as="", set_aside=(), terms=())
    assert found.sources == {Stain.HE: {"64 x 64": 1}, Stain.IHC: {"64 x 64": 1}}
    assert found.colours == ()
