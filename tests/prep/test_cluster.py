"""Units on a Dask cluster: which workers get them, what is retried, the errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest
from distributed import KilledWorker, Nanny, Scheduler, SpecCluster, Worker

import prep.build.cluster as room
from prep.build.run import build
from prep.build.runner import Committed, PairsOfUnit, Processes, Stage
from prep.build.units import Loaded, Work, read_unit
from prep.settings import Device, Enlarger, Kernels, Precision, PrepSettings
from prep.tiles.decoded import Decoded
from prep.upscaling.upscale import Enlarges, Lanczos, UpscalerChoice
from store.cluster import client
from store.cluster.tasks import RETRIES, result_of
from store.cluster.workers import Workers
from store.format.layout import Unit
from store.images import PictureU8
from store.pairs.table import Pair
from store.process import KEEPING, Stop
from store.reader import Store
from store.schema import SettingsError, Split, StoreError
from store.writing.writer import StoreWriter
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
    """Enlarges as Lanczos does, and records the workers that call it, and whether two ever call it at once."""

    def __init__(self) -> None:
        self.workers: list[str] = []
        self.loads = 0
        self.busy = threading.Semaphore(1)
        self.overlaps = 0

    def load(self, choice: UpscalerChoice) -> Enlarges:
        assert choice.factors == {2, 4}
        assert (choice.device, choice.precision) == (Device.CUDA, Precision.BF16)
        self.loads += 1
        return self

    def enlarge(self, pictures: PictureU8, factor: int, names: Sequence[str] = ()) -> PictureU8:
        self.workers.append(str(distributed.get_worker().name))
        alone = self.busy.acquire(blocking=False)
        self.overlaps += not alone
        enlarged = Lanczos().enlarge(pictures, factor, names)
        if alone:
            self.busy.release()
        return enlarged


def choose_as_a_worker(settings: PrepSettings) -> PrepSettings:
    """The answer of a worker, with its name in a setting that has nothing to do with the device."""
    return replace(
        settings,
        device=Device.CUDA,
        precision=Precision.BF16,
        kernels=Kernels.SINGLE,
        batch=2,
        stain=str(distributed.get_worker().name),
    )


def on(cluster: SpecCluster) -> Processes:
    return Processes(threads=1, workers=Workers(scheduler=cluster.scheduler_address))


@pytest.mark.parametrize("changes", [{}, {"tile_side": 64, "view_side": 32}], ids=["tiles", "squares"])
def test_units_on_a_scheduler_give_the_same_store(
    changes: dict[str, object], mist: Path, tmp_path: Path, cluster: SpecCluster
) -> None:
    run(lanczos(**changes), mist, tmp_path / "here.zarr")
    build(lanczos(**changes), single(mist), tmp_path / "there.zarr", skip_bad=False, processes=on(cluster))
    assert contents(tmp_path / "there.zarr") == contents(tmp_path / "here.zarr")
    assert len(cluster.workers) == 2  # the cluster of the scheduler still runs


def test_super_resolution_goes_to_workers_with_a_gpu_and_takes_turns(
    mist: Path, tmp_path: Path, cluster: SpecCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched()
    room._loaded.cache_clear()
    monkeypatch.setattr(room, "make_upscaler", watched.load)
    monkeypatch.setattr("prep.build.settle.choose", choose_as_a_worker)
    build(lanczos(upscaler=Enlarger.BSRGAN), single(mist), tmp_path / "s.zarr", skip_bad=False, processes=on(cluster))
    room._loaded.cache_clear()
    manifest = Store.open(tmp_path / "s.zarr").manifest
    settled = (manifest.stain, manifest.settings["device"], manifest.upscaler.precision)
    assert settled == ("gpu", "cuda", "bf16")  # the answer of the worker with a GPU
    assert watched.workers == ["gpu"] * 2 * 5  # two zooms of five units
    assert watched.loads == 1
    assert watched.overlaps == 0


def test_a_unit_that_fails_for_a_moment_is_tried_again_and_one_that_always_fails_is_an_error(
    mist: Path, tmp_path: Path, cluster: SpecCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, int] = {}

    def fails(times: int) -> Callable[[Work, Unit, Sequence[Pair], ThreadPoolExecutor, Decoded], Loaded]:
        def read(work: Work, unit: Unit, pairs: Sequence[Pair], pool: ThreadPoolExecutor, decoded: Decoded) -> Loaded:
            calls[unit.name] = calls.get(unit.name, 0) + 1
            if unit.split is Split.TEST and unit.index == 1 and calls[unit.name] <= times:
                raise StoreError("the file server was busy")
            return read_unit(work, unit, pairs, pool, decoded)

        return read

    monkeypatch.setattr("prep.build.cluster.read_unit", fails(2))
    build(lanczos(), single(mist), tmp_path / "moment.zarr", skip_bad=False, processes=on(cluster))
    assert calls["test-000001"] == 3
    calls.clear()
    monkeypatch.setattr("prep.build.cluster.read_unit", fails(99))
    with pytest.raises(StoreError, match="the file server was busy"):
        build(lanczos(), single(mist), tmp_path / "always.zarr", skip_bad=False, processes=on(cluster))
    assert calls["test-000001"] == 1 + RETRIES
    monkeypatch.setattr("prep.build.cluster.read_unit", read_unit)
    run(lanczos(), mist, tmp_path / "always.zarr")
    assert contents(tmp_path / "always.zarr") == contents(tmp_path / "moment.zarr")


def test_a_unit_is_not_written_twice(mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that runs again after its worker died first checks whether its unit is committed."""
    measured: list[dict[Stage, float]] = []

    def run_twice(
        cluster: room.Cluster, units: Sequence[PairsOfUnit], writer: StoreWriter, stop: Stop
    ) -> Iterator[Committed]:
        for unit, pairs in units:
            task = room.Task(work=cluster._work, unit=unit, pairs=tuple(pairs), location=writer.location, threads=1)
            measured.extend(room.run_unit(task) for _ in range(2))
            yield Committed(unit=unit, limit=Stage.READING)

    monkeypatch.setattr(room.Cluster, "run", run_twice)
    processes = Processes(threads=1, workers=Workers(count=1))
    build(lanczos(), single(mist), tmp_path / "s.zarr", skip_bad=False, processes=processes)
    assert [sum(seconds.values()) > 0 for seconds in measured] == [True, False] * 5


def test_a_unit_at_which_workers_die_is_an_error_with_what_to_do() -> None:
    class Failed:
        def result(self) -> None:
            raise KilledWorker("train-000003", None, 3)  # type: ignore[arg-type] # a worker is not needed

    with pytest.raises(StoreError, match=r"unit train-000003 was given up after 3 workers died at it, .*memory"):
        result_of(Failed(), "unit train-000003", room.REMEDY)


def test_a_scheduler_that_does_not_answer(mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        processes = Processes(threads=1, workers=Workers(scheduler=address))
        with pytest.raises(SettingsError, match=f"no Dask scheduler answers at {address}"):
            build(lanczos(), single(mist), tmp_path / "s.zarr", skip_bad=False, processes=processes)


def test_workers_that_cannot_start_are_refused(mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "processes_fault", lambda count: f"no room for {count}; make some")
    processes = Processes(threads=1, workers=Workers(count=2))
    with pytest.raises(SettingsError, match=r"^--workers 2 \(make: WORKERS=\): no room for 2; make some, or"):
        build(lanczos(), single(mist), tmp_path / "s.zarr", skip_bad=False, processes=processes)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("3,5", ["3", "5"]),
        ("GPU-8932f937, MIG-1f3c", ["GPU-8932f937", "MIG-1f3c"]),
        ("", ["0", "1"]),
    ],
)
def test_workers_get_the_gpus_that_this_process_may_use(
    named: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(dask.config, "config", deepcopy(dask.config.config))
    monkeypatch.setattr(client, "SpecCluster", lambda **options: made.update(options))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    client._cluster(2, gpus=2)
    assert [worker["options"]["env"]["CUDA_VISIBLE_DEVICES"] for worker in made["workers"].values()] == expected


def test_workers_share_the_cores_and_each_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(dask.config, "config", deepcopy(dask.config.config))
    monkeypatch.setattr(client, "SpecCluster", lambda **options: made.update(options))
    monkeypatch.setattr(client, "count_cores", lambda: 16)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    client._cluster(4, gpus=8)
    workers = made["workers"]
    assert {worker["cls"] for worker in workers.values()} == {Nanny}
    assert [worker["options"]["env"]["CUDA_VISIBLE_DEVICES"] for worker in workers.values()] == ["0", "1", "2", "3"]
    assert dask.config.get(client.PRE_SPAWN)["OMP_NUM_THREADS"] == "4"
    assert dask.config.get(client.PRE_SPAWN).items() >= KEEPING.items()
    assert {worker["options"]["resources"]["GPU"] for worker in workers.values()} == {1}
    client._cluster(2, gpus=0)
    assert dask.config.get(client.PRE_SPAWN)["OMP_NUM_THREADS"] == "8"
    assert {worker["options"]["nthreads"] for worker in made["workers"].values()} == {1}
    assert not any("CUDA_VISIBLE_DEVICES" in worker["options"]["env"] for worker in made["workers"].values())
    with pytest.raises(SettingsError, match="--workers 9: one worker uses one GPU, and there are 8; give at most 8"):
        client._cluster(9, gpus=8)
