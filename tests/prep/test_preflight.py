"""What stands at the place of a store decides where and in which precision its views are enlarged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prep.build.preflight import settle_again, settle_for, stored_settings
from prep.settings import Device, Enlarger, Precision, PrepSettings
from prep.upscaling.upscale import settle
from store.location.local import Folder
from store.reader import Store
from store.schema import StoreError
from store.settings import plain
from store.writing.writer import open_writer
from tests.support.stores import small_manifest, small_table

ON_A_GPU = PrepSettings(device=Device.CUDA, precision=Precision.BF16)


@pytest.fixture
def begun(tmp_path: Path) -> Folder:
    """A store that was begun on a GPU, in another precision than a GPU gets by itself."""
    manifest = replace(small_manifest(), settings=plain(ON_A_GPU))
    with open_writer(tmp_path / "s.zarr", manifest, small_table()):
        pass
    return Folder(tmp_path / "s.zarr")


def test_a_build_goes_on_with_the_device_and_precision_that_it_was_begun_with(begun: Folder) -> None:
    assert settle_for(PrepSettings(), begun) == ON_A_GPU == stored_settings(begun)


def test_what_is_asked_for_is_kept_and_left_to_be_refused(begun: Folder) -> None:
    asked = PrepSettings(device=Device.CPU, precision=Precision.FP32)
    assert settle_for(asked, begun) == asked
    half = settle_for(PrepSettings(device=Device.CPU), begun)
    assert (half.device, half.precision) == (Device.CPU, Precision.BF16)


def test_a_new_place_gets_what_the_machine_has(tmp_path: Path) -> None:
    assert settle_for(PrepSettings(seed=3), Folder(tmp_path / "new.zarr")) == settle(PrepSettings(seed=3))


def test_a_plain_filter_asks_nothing_of_the_machine(begun: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("asked"))
    asked = PrepSettings(upscaler=Enlarger.LANCZOS)
    assert settle_for(asked, begun) == asked


def test_a_store_that_says_nothing_of_them_decides_nothing(small_store: Store) -> None:
    assert settle_for(PrepSettings(), small_store.location) == settle(PrepSettings())


def test_a_lost_root_cannot_tell_the_settings(copied: Path) -> None:
    (copied / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match=r"zarr\.json is missing or damaged, .*give the same settings as then"):
        stored_settings(Folder(copied))
    with pytest.raises(StoreError, match=r"does not say on which device and in which precision .*give device="):
        settle_again(PrepSettings(precision=Precision.BF16), Folder(copied))
    assert settle_again(ON_A_GPU, Folder(copied)) == ON_A_GPU


def test_a_repair_takes_what_the_store_says(begun: Folder) -> None:
    assert settle_again(PrepSettings(), begun) == ON_A_GPU
