"""Builds that are killed or stopped end byte-identical to one without a break."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from store.format.manifest import journal_of
from store.verify import verify
from tests.support.disks import contents
from tests.support.places import ROOT
from tests.support.stores import draw_tile

KILLS = int(
    os.environ.get("MAGSTAIN_KILLS", "10")
)  # `make soak` asks for 200; a twentieth as many kills of Dask workers
PAIRS = 60
WORDS = ["upscaler=lanczos", "view_side=64", "unit=2", "margin=4"]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of 128 px in MIST layout."""
    data = tmp_path_factory.mktemp("kill") / "tiles"
    for part, count in (("train", PAIRS - 6), ("val", 6)):
        for key, stain in enumerate("AB"):
            folder = data / f"{part}{stain}"
            folder.mkdir(parents=True)
            for index in range(count):
                tile = draw_tile(128, key, index, count)
                assert cv2.imwrite(str(folder / f"{part}{index % 5}_{index}_0.png"), tile[..., ::-1])
    return data


@pytest.fixture(scope="module")
def whole(tiles: Path) -> dict[str, bytes]:
    """The files of a store that was built without a break."""
    store = tiles.parent / "whole.zarr"
    assert start(tiles, store).wait() == 0
    return contents(store)


def start(data: Path, store: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start a build in its own process group."""
    sets = [word for setting in WORDS for word in ("--set", setting)]
    words = ["build", "--data", str(data), "--store", str(store), *sets, *more]
    return subprocess.Popen(
        [sys.executable, "-m", "prep", *words], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    )


def entries(store: Path) -> int:
    return len([*journal_of(store).glob("*.json")])


def await_units(process: subprocess.Popen[bytes], store: Path, units: int) -> None:
    """Wait until so many more units are committed, or the build ended."""
    wanted, deadline = entries(store) + units, time.monotonic() + 120
    while entries(store) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that a build started, and theirs."""
    return [child for child in psutil.Process(process.pid).children(recursive=True) if child.is_running()]


def dask_workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [child for child in family(process) if "spawn_main" in " ".join(child.cmdline())]


def test_kills_at_random_moments_change_nothing(tiles: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    """A build is killed many times, at once or shortly after a commit; when it is finished another one starts."""
    store, chance, finished = tmp_path / "s.zarr", random.Random(7), 0
    for _ in range(KILLS):
        process = start(tiles, store)
        if chance.random() < 0.8:
            await_units(process, store, 1)
            time.sleep(chance.uniform(0, 0.15))
        else:
            time.sleep(chance.uniform(0, 2))
        process.kill()
        process.wait()
        if store.exists() and not journal_of(store).exists():
            assert contents(store) == whole
            finished += 1
            store.rename(tmp_path / f"done{finished}.zarr")
    process = start(tiles, store)
    assert process.wait() == 0
    assert contents(store) == whole
    assert verify(store).intact
    assert {p.name for p in tmp_path.iterdir()} == {"s.zarr", *(f"done{n + 1}.zarr" for n in range(finished))}


@pytest.fixture
def cluster_build(tiles: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A build on two Dask workers that has committed some units; nothing of it is left afterwards."""
    store = tmp_path / "s.zarr"
    process = start(tiles, store, "--workers", "2")
    await_units(process, store, 2)
    yield process, store
    for leftover in [*family(process)] if process.poll() is None else []:
        leftover.kill()
    process.kill()
    process.wait()


@pytest.mark.parametrize("moment", range(max(1, KILLS // 20)))
def test_a_dask_worker_that_is_killed_takes_nothing_with_it(
    cluster_build: tuple[subprocess.Popen[bytes], Path], whole: dict[str, bytes], moment: int
) -> None:
    process, store = cluster_build
    workers = dask_workers(process)
    assert len(workers) >= 2
    time.sleep(random.Random(moment).uniform(0, 0.2))
    workers[0].kill()
    assert process.wait(timeout=120) == 0
    assert contents(store) == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_cluster_build_that_is_stopped_exits_with_3_and_is_resumed(
    cluster_build: tuple[subprocess.Popen[bytes], Path], tiles: Path, whole: dict[str, bytes], number: signal.Signals
) -> None:
    """Ctrl-C reaches every process of the group, and so does the warning of Slurm."""
    process, store = cluster_build
    process.send_signal(number) if number is signal.SIGTERM else os.killpg(process.pid, number)
    assert process.wait(timeout=120) == 3
    assert 0 < entries(store) < PAIRS // 2
    again = start(tiles, store)  # in one process: the bytes do not depend on the process that writes a unit
    assert again.wait() == 0
    assert contents(store) == whole


def test_the_workers_of_a_killed_build_do_not_outlive_it(
    cluster_build: tuple[subprocess.Popen[bytes], Path], tiles: Path, whole: dict[str, bytes]
) -> None:
    process, store = cluster_build
    relatives = family(process)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(relatives, timeout=60)
    assert not alive
    assert start(tiles, store, "--workers", "2").wait() == 0
    assert contents(store) == whole


def test_tiles_are_all_different() -> None:
    """Else an exchanged pair would not be noticed."""
    assert len({draw_tile(128, 0, index).tobytes() for index in range(PAIRS)}) == PAIRS
    assert not np.array_equal(draw_tile(128, 0, 0), draw_tile(128, 1, 0))
