"""Pictures that the check decoded are not decoded again where memory allows; a changed file is noticed all the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import prep.build.run as building
from prep.build.plan import BuildPlan
from prep.build.preflight import check_free_space
from prep.tiles.checking import collect_pairs, inspect_pairs
from prep.tiles.decoded import NONE_KEPT, Decoded, PairU8
from prep.tiles.pairs import Discovery
from prep.tiles.reading import read_pair
from store.images import Picture, load_picture, write_png
from store.location.base import Location
from store.pairs.table import Pair
from store.schema import PairingError, PictureError, Split
from tests.support.disks import contents
from tests.support.tile_folders import discover, tile, write_pair
from tests.support.tiles import TILES, lanczos, run

PAIR_BYTES = 2 * 3 * 32 * 32


def found_pairs(place: Path, count: int) -> Discovery:
    for n in range(count):
        write_pair(place, f"t{n}", n)
    return discover(place)


def check(discovery: Discovery, decoded: Decoded) -> tuple[Pair, ...]:
    return collect_pairs(discovery, inspect_pairs(discovery, threads=1, decoded=decoded)).table.pairs[Split.TRAIN]


def taken(decoded: Decoded, pair: Pair) -> PairU8 | None:
    """What is kept for a pair."""
    found: list[PairU8 | None] = []

    def prove(kept: PairU8 | None) -> PairU8:
        found.append(kept)
        return kept or (tile(0), tile(0))

    decoded.take(pair, prove)
    return found[0]


@pytest.mark.parametrize(("room", "kept"), [(0, 0), (PAIR_BYTES - 1, 0), (3 * PAIR_BYTES, 3), (99 * PAIR_BYTES, 5)])
def test_what_fits_is_kept_and_the_last_pairs_stay(room: int, kept: int, tmp_path: Path) -> None:
    decoded = Decoded(room)
    pairs = check(found_pairs(tmp_path, 5), decoded)
    found = [taken(decoded, pair) for pair in pairs]
    assert [one is not None for one in found] == [False] * (5 - kept) + [True] * kept
    for n, one in enumerate(found):
        if one is not None:
            np.testing.assert_array_equal(one[0], tile(n))
            np.testing.assert_array_equal(one[1], tile(1000 + n))
    assert [taken(decoded, pair) for pair in pairs] == [None] * 5  # a picture leaves when it is used


def test_room_is_free_again_when_pictures_were_taken(tmp_path: Path) -> None:
    decoded = Decoded(2 * PAIR_BYTES)
    pairs = check(found_pairs(tmp_path, 4), decoded)
    assert taken(decoded, pairs[2]) is not None
    decoded.keep(pairs[0], (tile(0), tile(1000)))
    assert [taken(decoded, pairs[n]) is not None for n in (0, 3)] == [True, True]


@pytest.mark.parametrize("room", [0, 9 * PAIR_BYTES])
def test_a_source_stays_until_its_last_tile_is_taken_and_is_decoded_once(room: int, tmp_path: Path) -> None:
    """By many threads at once: none decodes what another one decodes."""
    decoded, pairs, calls = Decoded(room), check(found_pairs(tmp_path, 3), NONE_KEPT), list[Pair]()
    rows = [pair for pair in pairs for _ in range(20)]
    decoded.expect(rows)

    def take(pair: Pair) -> PairU8:
        def prove(_kept: PairU8 | None) -> PairU8:
            calls.append(pair)
            return tile(0), tile(1)

        return decoded.take(pair, prove)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(take, rows))
    assert len({id(pictures) for pictures in found}) == len(calls) == 3
    take(pairs[0])
    assert len(calls) == 4  # it left with its last tile


def test_what_no_unit_needs_leaves_before_the_build(tmp_path: Path) -> None:
    decoded = Decoded(9 * PAIR_BYTES)
    pairs = check(found_pairs(tmp_path, 3), decoded)
    decoded.expect(pairs[1:2])
    assert [taken(decoded, pair) is not None for pair in pairs] == [False, True, False]


@pytest.mark.parametrize("spoil", ["change", "remove", "folder"])
def test_a_file_that_changed_is_noticed_although_its_picture_is_kept(spoil: str, tmp_path: Path) -> None:
    found, decoded = found_pairs(tmp_path, 1), Decoded(PAIR_BYTES)
    (pair,) = check(found, decoded)
    file = tmp_path / "IHC" / "t0.png"
    file.unlink()
    if spoil == "change":
        write_png(file, tile(77))
    elif spoil == "folder":
        file.mkdir()
    with pytest.raises((PairingError, PictureError), match=r"^IHC/t0\.png: (changed while|no such file|is a folder)"):
        read_pair(found.sources, pair, decoded)


@pytest.mark.parametrize(("spare", "times"), [(0, 2), (10**9, 1)])
def test_each_source_is_decoded_once_where_memory_allows(
    spare: int, times: int, mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []

    def load(path: Path, *, region: bool) -> Picture:
        loaded.append(path)
        return load_picture(path, region=region)

    run(lanczos(), mist, tmp_path / "expected.zarr")
    monkeypatch.setattr("prep.tiles.reading.load_picture", load)
    monkeypatch.setattr(building, "spare_memory", lambda: spare)
    run(lanczos(), mist, tmp_path / "s.zarr")
    assert sorted(loaded) == sorted([*mist.rglob("*.png")] * times)
    assert contents(tmp_path / "s.zarr") == contents(tmp_path / "expected.zarr")


@pytest.mark.parametrize("spare", [0, 10**9])
def test_a_build_notices_a_source_that_changes_after_the_check(
    spare: int, mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change_a_tile(location: Location, plan: BuildPlan) -> None:
        check_free_space(location, plan)
        write_png(mist / "trainA" / f"{TILES[3]}.png", np.zeros((128, 128, 3), np.uint8))

    monkeypatch.setattr(building, "spare_memory", lambda: spare)
    monkeypatch.setattr(building, "check_free_space", change_a_tile)
    with pytest.raises(PairingError, match=rf"trainA/{TILES[3]}\.png: changed while the store was built"):
        run(lanczos(), mist, tmp_path / "s.zarr")
