"""Device and precision: from the store that exists, else from the machine, once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prep.build.preflight import stored_settings
from prep.build.settle import settle
from prep.settings import _BEFORE, Device, Enlarger, Kernels, Precision, PrepSettings, recorded
from prep.upscaling.choosing import choose
from prep.upscaling.devices import best_precision
from store.format.manifest import COPY, ROOT
from store.location.local import Folder
from store.reader import Store
from store.schema import SettingsError, StoreError
from store.settings import plain, validate
from store.writing.writer import open_writer
from tests.support.gpus import H100, forget, hide, pretend
from tests.support.stores import small_manifest, small_table

ON_A_GPU = PrepSettings(device=Device.CUDA, precision=Precision.BF16, kernels=Kernels.TRITON, batch=8)


@pytest.fixture
def started(tmp_path: Path) -> Folder:
    """A store that was started on a GPU, in another precision than `auto` gives there."""
    manifest = replace(small_manifest(), settings=plain(ON_A_GPU))
    with open_writer(tmp_path / "s.zarr", manifest, small_table()):
        pass
    return Folder(tmp_path / "s.zarr")


def test_a_resumed_build_keeps_its_device_and_precision(started: Folder) -> None:
    assert settle(PrepSettings(), started) == ON_A_GPU == stored_settings(started)


def test_given_values_are_kept_and_refused_later(started: Folder) -> None:
    asked = PrepSettings(device=Device.CPU, precision=Precision.FP32, kernels=Kernels.PLAIN, batch=2)
    assert settle(asked, started) == asked
    half = settle(PrepSettings(device=Device.CPU, batch=1), started)
    assert half == replace(ON_A_GPU, device=Device.CPU, batch=1)


def test_a_store_from_before_kernels_and_batches_were_chosen_is_resumed_as_it_was(tmp_path: Path) -> None:
    """Its record has no kernels, and the batch that was the default."""
    before = plain(ON_A_GPU) | {"batch": 4}
    del before["kernels"]
    with open_writer(tmp_path / "s.zarr", replace(small_manifest(), settings=before), small_table()):
        pass
    resumed = settle(PrepSettings(), Folder(tmp_path / "s.zarr"))
    assert resumed == replace(ON_A_GPU, kernels=Kernels.PLAIN, batch=4)
    assert recorded(resumed) == {name: value for name, value in before.items() if name not in _BEFORE}


def test_the_way_is_recorded_where_it_is_not_the_plain_one() -> None:
    """So the records, and with them the seals, of stores that are made as before are as before."""
    for settings in (PrepSettings(), replace(ON_A_GPU, kernels=Kernels.PLAIN)):
        assert "kernels" not in recorded(settings)
    assert recorded(PrepSettings())["batch"] == recorded(PrepSettings(upscaler=Enlarger.LANCZOS))["batch"] == 4
    assert validate(PrepSettings, recorded(ON_A_GPU)) == ON_A_GPU


def test_a_new_place_gets_what_the_machine_has(tmp_path: Path) -> None:
    assert settle(PrepSettings(seed=3), Folder(tmp_path / "new.zarr")) == choose(PrepSettings(seed=3))


def test_lanczos_asks_nothing_of_the_machine(started: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("asked"))
    asked = PrepSettings(upscaler=Enlarger.LANCZOS)
    assert settle(asked, started) == asked


def test_a_store_without_device_and_precision_decides_nothing(small_store: Store) -> None:
    assert settle(PrepSettings(), small_store.location) == choose(PrepSettings())


def test_a_lost_root_does_not_say_the_settings(copied: Path) -> None:
    for name in (ROOT, COPY):
        (copied / name).write_text("{}")
    with pytest.raises(
        StoreError, match=r"zarr\.json and the copy of it are missing or damaged, .*give the same settings as then"
    ):
        stored_settings(Folder(copied))
    undecided: tuple[dict[str, Any], ...] = (
        {"device": Device.AUTO},
        {"precision": Precision.AUTO},
        {"kernels": Kernels.AUTO},
        {"batch": 0},
    )
    for given in undecided:
        with pytest.raises(StoreError, match=r"does not say on which device and in which precision .*give device="):
            settle(replace(ON_A_GPU, **given), Folder(copied), repair=True)
    on_a_cpu = settle(PrepSettings(device=Device.CPU, precision=Precision.BF16), Folder(copied), repair=True)
    assert (on_a_cpu.kernels, on_a_cpu.batch) == (Kernels.PLAIN, 4)  # as all stores of a CPU
    assert settle(ON_A_GPU, Folder(copied), repair=True) == ON_A_GPU


def test_a_repair_takes_what_the_store_says(started: Folder) -> None:
    assert settle(PrepSettings(), started, repair=True) == ON_A_GPU


def test_a_machine_decides_by_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch, tmp_path)
    hide(monkeypatch)
    settled = choose(PrepSettings())
    assert settled.device is Device.CPU
    assert settled.precision is best_precision(Device.CPU)
    with pytest.raises(SettingsError, match="device = cuda: this machine shows no NVIDIA GPU"):
        choose(PrepSettings(device=Device.CUDA))
    assert (settled.kernels, settled.batch) == (Kernels.PLAIN, 4)
    pretend(monkeypatch, H100)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**32, 2**32))
    monkeypatch.setattr("prep.upscaling.ways.fault", lambda *_: "")
    on_a_gpu: dict[str, Any] = {
        "device": Device.CUDA,
        "precision": Precision.FP16,
        "kernels": Kernels.COMPILED,
        "batch": 8,
    }
    assert choose(PrepSettings()) == PrepSettings(**on_a_gpu)
    exact = on_a_gpu | {"precision": Precision.FP32, "kernels": Kernels.SINGLE, "batch": 1}
    assert choose(PrepSettings(precision=Precision.FP32)) == PrepSettings(**exact)
    assert choose(PrepSettings(kernels=Kernels.PLAIN, batch=3)) == PrepSettings(
        **on_a_gpu | {"kernels": Kernels.PLAIN, "batch": 3}
    )
    forced = choose(PrepSettings(device=Device.CPU, precision=Precision.FP32))
    assert (forced.device, forced.precision) == (Device.CPU, Precision.FP32)
    plain_filter = PrepSettings(upscaler=Enlarger.LANCZOS)
    assert settle(plain_filter, Folder(tmp_path / "new.zarr")) == plain_filter


def test_no_auto_is_left_after_settling(tmp_path: Path, started: Folder) -> None:
    for given in (PrepSettings(), PrepSettings(device=Device.CPU), PrepSettings(precision=Precision.BF16)):
        for location in (Folder(tmp_path / "new.zarr"), started):
            settled = settle(given, location)
            assert Device.AUTO is not settled.device
            assert Precision.AUTO is not settled.precision
            assert Kernels.AUTO is not settled.kernels
            assert settled.batch > 0
            assert settle(settled, location) == settled


def test_on_a_cluster_a_worker_decides_and_a_store_that_exists_decides_first(
    tmp_path: Path, started: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(function: object, settings: PrepSettings, scheduler: str, *, gpu: bool) -> PrepSettings:
        assert function is choose
        assert gpu
        asked.append(scheduler)
        return ON_A_GPU

    monkeypatch.setattr("store.cluster.client.ask_worker", ask)
    assert settle(PrepSettings(), started, scheduler="tcp://node:8786") == ON_A_GPU
    assert asked == []
    assert settle(PrepSettings(), Folder(tmp_path / "new.zarr"), scheduler="tcp://node:8786") == ON_A_GPU
    assert asked == ["tcp://node:8786"]
