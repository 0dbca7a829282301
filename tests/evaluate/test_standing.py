"""What depends on the store alone is computed once: found again, bit for bit, and never where anything differs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evaluate import parallel
from evaluate.inputs.baselines import fit_baselines
from evaluate.inputs.image_set import REAL, stored_sets
from evaluate.inputs.reading import digest_pixels
from evaluate.metrics import standing as standing_module
from evaluate.metrics.dab import as_numbers, dab_stats, from_numbers
from evaluate.metrics.paired import psnr, ssim
from evaluate.metrics.pictures import Measurement
from evaluate.metrics.standing import find_baselines, find_standing
from evaluate.parallel import SHARE, in_parallel
from evaluate.protocol import CORRECTED, PROTOCOLS, Fakes, ProtocolName, to_u8
from evaluate.scores_file import write_scores
from evaluate.scoring.gathering import gather
from evaluate.scoring.score import score_run
from store.reader import Store, plan_targets
from store.schema import Split, Stain
from tests.support.predictions import fabricate, without_weights
from tests.support.stores import build_small_store

VIEW = "x2"


@pytest.fixture
def run(small_store: Store, tmp_path: Path) -> Path:
    fabricate(tmp_path / "run", small_store, VIEW)
    return tmp_path / "run"


def scores_of(run: Path, store: Store, cache: Path, workers: int = 1) -> bytes:
    """The bytes of `scores.json` with what is in this cache; misregistration curves are always computed."""
    source = replace(without_weights(run.parent), cache=cache)
    for file in cache.glob("*.npz"):
        file.unlink()
    return write_scores(score_run(run, None, store, Split.TEST, VIEW, source, workers), run).read_bytes()


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Split, Stain, int]]:
    """What is read from stores from now on."""
    read: list[tuple[Split, Stain, int]] = []
    plain = Store.many_planes

    def counting(self: Store, split: Split, view: str, stain: Stain, places: list, outs: list) -> None:  # type: ignore[type-arg]
        read.extend((split, stain, pair) for pair, _ in places)
        plain(self, split, view, stain, places, outs)

    monkeypatch.setattr(Store, "many_planes", counting)
    return read


def test_scores_are_the_same_bytes_and_no_picture_of_the_baselines_is_read_again(
    run: Path, small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, read = tmp_path / "cache", count_reads(monkeypatch)
    first = scores_of(run, small_store, cache)
    assert {split for split, _, _ in read} == {Split.TRAIN, Split.TEST}
    assert [stain for split, stain, _ in read if split is Split.TEST].count(Stain.HE) == 4  # once for six rows
    files = {file: file.read_bytes() for file in cache.glob("*.json")}
    read.clear()
    again = scores_of(run, small_store, cache)
    assert {(split, stain) for split, stain, _ in read} == {(Split.TEST, Stain.IHC)}
    assert first == again == scores_of(run, small_store, tmp_path / "another cache")
    assert len(files) == 2
    assert {file: file.read_bytes() for file in cache.glob("*.json")} == files


def test_what_is_kept_is_what_the_plain_functions_say(run: Path, small_store: Store, tmp_path: Path) -> None:
    for _ in ("measured", "found"):
        images, standing = gather(run, None, small_store, Split.TEST, VIEW, tmp_path / "cache")
        baselines = fit_baselines(small_store)
        assert asdict(images.baselines) == asdict(baselines)
        for place, scores in enumerate(standing.places):
            for name, digest in scores.digests.items():
                assert digest == images.digests[name][place] == digest_pixels(images.reads[name](place))
            for (protocol, row), found in scores.metrics.items():
                he = small_store.picture(Split.TEST, VIEW, Stain.HE, place)
                (baseline,) = (one for one in baselines if one.name == row)
                fake = to_u8(baseline.levels(he), PROTOCOLS[protocol].fakes)
                real = images.reads[protocol, REAL](place)
                assert [*found.values()] == [ssim(fake, real), psnr(fake, real)]
            for name, stats in scores.dab.items():
                assert name[0] is ProtocolName.CORRECTED
                assert as_numbers(stats) == as_numbers(dab_stats(images.reads[name](place)))
                assert repr(from_numbers(as_numbers(stats))) == repr(stats)


def test_another_store_split_view_protocol_code_or_package_is_computed_anew(
    run: Path, small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, code = tmp_path / "cache", tmp_path / "code.py"
    code.write_text("one = 1")
    monkeypatch.setattr(standing_module, "CODE", (*standing_module.CODE, type("module", (), {"__file__": str(code)})))
    known = [0]

    def files(store: Store = small_store, split: Split = Split.TEST, view: str = VIEW) -> int:
        """How many files are new."""
        baselines = find_baselines(store, cache, 1)
        reads = stored_sets(store, split, view, plan_targets(store, split, view), baselines)
        find_standing(store, split, view, reads, 2, cache, 1)
        known.append(len([*cache.iterdir()]))
        return known[-1] - known[-2]

    assert (files(), files()) == (2, 0)
    assert files(build_small_store(tmp_path / "other.zarr", tile_side=192)) == 2
    assert files(split=Split.TRAIN) == 1
    assert files(view="x4") == 1
    code.write_text("one = 2")
    assert files() == 2
    with monkeypatch.context() as patch:
        changed = PROTOCOLS | {ProtocolName.CORRECTED: replace(CORRECTED, fakes=Fakes.TRUNCATED)}
        patch.setattr(standing_module, "PROTOCOLS", changed)
        assert files() == 1
    monkeypatch.setattr(standing_module, "installed_versions", lambda _: {"numpy": "99"})
    assert (files(), files()) == (2, 0)


def flip(spot: float, data: bytes) -> bytes:
    place = int(spot * (len(data) - 1))
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        *(partial(flip, spot) for spot in (0.0, 0.001, 0.3, 0.7, 1.0)),
        lambda data: data[:-1],
        lambda data: data + b" ",
        lambda _: b"",
        lambda data: data[65:],  # whole, without its digest
        lambda _: b"PK\3\4",
    ],
)
def test_damage_is_noticed_and_computed_anew(
    run: Path, small_store: Store, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    cache = tmp_path / "cache"
    _, whole = gather(run, None, small_store, Split.TEST, VIEW, cache)
    files = {file: file.read_bytes() for file in cache.glob("*.json")}
    for file, data in files.items():
        file.write_bytes(spoil(data))
    images, standing = gather(run, None, small_store, Split.TEST, VIEW, cache)
    assert repr(standing) == repr(whole)
    assert asdict(images.baselines) == asdict(fit_baselines(small_store))
    assert {file: file.read_bytes() for file in cache.glob("*.json")} == files


def test_a_folder_that_cannot_be_written_is_a_note(
    run: Path, small_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = scores_of(run, small_store, tmp_path / "cache")
    capsys.readouterr()
    (tmp_path / "file").write_text("in the place of a folder")
    assert scores_of(run, small_store, tmp_path / "file" / "cache") == whole
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("note: what was computed is not kept for the next time: cannot write") == 1
    assert said.count("$MAGSTAIN_FEATURES") == 1


def test_two_at_once_leave_whole_files(small_store: Store, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: find_baselines(small_store, tmp_path / "cache", 1), range(8))]
    assert all(one == found[0] for one in found)
    assert len([*(tmp_path / "cache").iterdir()]) == 1
    assert find_baselines(small_store, tmp_path / "cache", 1) == found[0]


def test_processes_measure_the_same_to_the_last_bit(run: Path, small_store: Store, tmp_path: Path) -> None:
    images, standing = gather(run, None, small_store, Split.TEST, VIEW, tmp_path / "cache")
    work = Measurement(reads=images.reads, names=[*images.reads])
    assert repr(in_parallel(work, range(4), "measuring", 4, SHARE)) == repr([*map(work, range(4))])
    assert {name: work(1).metrics[name] for name in standing.places[1].metrics} == standing.places[1].metrics


def test_scores_of_several_processes_are_the_same_bytes(
    run: Path, small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = scores_of(run, small_store, tmp_path / "cache")
    monkeypatch.setattr(parallel, "SHARE", 1)
    assert scores_of(run, small_store, tmp_path / "another cache", workers=2) == alone


def test_the_short_way_to_a_baselines_picture_is_the_plain_one(small_store: Store) -> None:
    """Every grey level in every channel, and a constant that truncation changes."""
    baselines = fit_baselines(small_store)
    he = np.stack([np.roll(np.arange(256, dtype=np.uint8), shift) for shift in (0, 90, 181)], axis=-1)[None]
    for baseline in (*baselines, replace(baselines.constant, colour=(-3.0, 63.6, 254.5))):
        for fakes in Fakes:
            assert np.array_equal(baseline.picture(he, fakes), to_u8(baseline.levels(he), fakes))
