"""Units on a Dask cluster: who gets them, what is retried, what is said when it goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
from distributed import KilledWorker, Nanny, Scheduler, SpecCluster, Worker

import prep.build.cluster as room
from prep.build.run import Hands, build
from prep.settings import Device, Enlarger, Precision, PrepSettings
from prep.upscaling.upscale import Enlarges, Lanczos
from store.format.layout import Unit
from store.process import KEEPING
from store.reader import Store
from store.schema import SettingsError, Split, StoreError
from tests.support.disks import contents
from tests.support.tiles import lanczos, run, single


@pytest.fixture(scope="module")
def cluster() -> Iterator[SpecCluster]:
    """One worker with a GPU, or so it says, and one without; both are threads of this process."""
    workers = {
        name: {"cls": Worker, "options": {"nthreads": 2, "resources": resources}}
        for name, resources in (("gpu", {"GPU": 1}), ("cpu", {}))
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": ":0", "host": "127.0.0.1"}}
    with SpecCluster(scheduler=scheduler, workers=workers) as made:
        yield made


class Watched:
    """Enlarges as Lanczos does, and notes who asked, and whether two ever did at once."""

    def __init__(self) -> None:
        self.workers: list[str] = []
        self.loads = 0
        self.busy = threading.Semaphore(1)
        self.overlaps = 0

    def load(self, settings: PrepSettings, factors: frozenset[int]) -> Enlarges:
        assert factors == {2, 4}
        self.loads += 1
        return self

    def enlarge(self, pictures: np.ndarray[Any, Any], factor: int, names: list[str]) -> np.ndarray[Any, Any]:
        self.workers.append(str(distributed.get_worker().name))
        alone = self.busy.acquire(blocking=False)
        self.overlaps += not alone
        enlarged = Lanczos().enlarge(pictures, factor, names)
        if alone:
            self.busy.release()
        return enlarged


def settle_as_a_worker(settings: PrepSettings) -> PrepSettings:
    """What a worker says it has; its name goes where a precision would not look for it."""
    return replace(settings, device=Device.CUDA, precision=Precision.BF16, stain=str(distributed.get_worker().name))


def on(cluster: SpecCluster) -> Hands:
    return Hands(threads=1, scheduler=cluster.scheduler_address)


def test_units_on_a_scheduler_give_the_same_store(mist: Path, tmp_path: Path, cluster: SpecCluster) -> None:
    run(lanczos(), mist, tmp_path / "here.zarr")
    build(lanczos(), single(mist), tmp_path / "there.zarr", skip_bad=False, hands=on(cluster))
    assert contents(tmp_path / "there.zarr") == contents(tmp_path / "here.zarr")
    assert len(cluster.workers) == 2  # a scheduler that was there before stays


def test_super_resolution_goes_to_workers_with_a_gpu_and_takes_turns(
    mist: Path, tmp_path: Path, cluster: SpecCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    room._loaded.cache_clear()
    monkeypatch.setattr(room, "make_upscaler", watched.load)
    monkeypatch.setattr(room, "settle", settle_as_a_worker)
    build(lanczos(upscaler=Enlarger.BSRGAN), single(mist), tmp_path / "s.zarr", skip_bad=False, hands=on(cluster))
    room._loaded.cache_clear()
    manifest = Store.open(tmp_path / "s.zarr").manifest
    settled = (manifest.stain, manifest.settings["device"], manifest.upscaler.precision)
    assert settled == ("gpu", "cuda", "bf16")  # as a worker said, and that was the one with a GPU
    assert watched.workers == ["gpu"] * 2 * 5  # two zooms of five units
    assert watched.loads == 1
    assert watched.overlaps == 0


def test_a_unit_that_fails_for_a_moment_is_tried_again_and_one_that_always_fails_is_told(
    mist: Path, tmp_path: Path, cluster: SpecCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = room.read_unit, dict[str, int]()

    def fails(times: int) -> Any:
        def read(work: Any, unit: Unit, pairs: Any, pool: Any) -> Any:
            calls[unit.name] = calls.get(unit.name, 0) + 1
            if unit.split is Split.TEST and unit.index == 1 and calls[unit.name] <= times:
                raise StoreError("the file server hiccuped")
            return original(work, unit, pairs, pool)

        return read

    monkeypatch.setattr(room, "read_unit", fails(2))
    build(lanczos(), single(mist), tmp_path / "moment.zarr", skip_bad=False, hands=on(cluster))
    assert calls["test-000001"] == 3
    calls.clear()
    monkeypatch.setattr(room, "read_unit", fails(99))
    with pytest.raises(StoreError, match="the file server hiccuped"):
        build(lanczos(), single(mist), tmp_path / "always.zarr", skip_bad=False, hands=on(cluster))
    assert calls["test-000001"] == 1 + room.RETRIES
    monkeypatch.setattr(room, "read_unit", original)
    run(lanczos(), mist, tmp_path / "always.zarr")
    assert contents(tmp_path / "always.zarr") == contents(tmp_path / "moment.zarr")


def test_a_unit_is_not_written_twice(mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is run again after its worker died looks for the entry of its unit first."""
    import prep.build.run as builder

    seen: list[dict[str, float]] = []

    def twice(work: Any, settings: Any, units: Any, location: Any, **rest: Any) -> None:
        for unit, pairs in units:
            seen.extend(room.run_unit(work, settings, unit, pairs, location, 1) for _ in range(2))
            rest["done"](unit, "")

    monkeypatch.setattr(room, "run_on_cluster", twice)
    builder.build(lanczos(), single(mist), tmp_path / "s.zarr", skip_bad=False, hands=Hands(threads=1, workers=1))
    assert [sum(busy.values()) > 0 for busy in seen] == [True, False] * 5


def test_workers_that_die_at_a_unit_are_told_with_what_to_do() -> None:
    class Given:
        def result(self) -> None:
            raise KilledWorker("train-000003", None, 3)

    unit = Unit(split=Split.TRAIN, index=3, first=6, stop=8)
    with pytest.raises(StoreError, match=r"unit train-000003 was given up after 3 workers died at it, .*memory"):
        room._result(Given(), unit)


def test_a_scheduler_that_is_not_there(mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(SettingsError, match=f"no Dask scheduler answers at {address}"):
            build(
                lanczos(), single(mist), tmp_path / "s.zarr", skip_bad=False, hands=Hands(threads=1, scheduler=address)
            )


def test_workers_share_the_cores_and_each_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(dask.config, "config", deepcopy(dask.config.config))
    monkeypatch.setattr(room, "SpecCluster", lambda **options: made.update(options))
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    room._cluster(4, gpus=8)
    workers = made["workers"]
    assert {worker["cls"] for worker in workers.values()} == {Nanny}
    assert [worker["options"]["env"]["CUDA_VISIBLE_DEVICES"] for worker in workers.values()] == ["0", "1", "2", "3"]
    assert dask.config.get(room.PRE_SPAWN)["OMP_NUM_THREADS"] == "4"
    assert dask.config.get(room.PRE_SPAWN).items() >= KEEPING.items()
    assert {worker["options"]["resources"]["GPU"] for worker in workers.values()} == {1}
    room._cluster(2, gpus=0)
    assert dask.config.get(room.PRE_SPAWN)["OMP_NUM_THREADS"] == "8"
    assert {worker["options"]["nthreads"] for worker in made["workers"].values()} == {1}
    assert not any("CUDA_VISIBLE_DEVICES" in worker["options"]["env"] for worker in made["workers"].values())
    with pytest.raises(SettingsError, match="--workers 9: one worker uses one GPU, and there are 8; give at most 8"):
        room._cluster(9, gpus=8)
