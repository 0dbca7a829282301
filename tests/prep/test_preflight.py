"""Checks before a build: the place of the store, and the weight files."""

from __future__ import annotations

from pathlib import Path

import pytest

from prep.build.plan import make_plan
from prep.build.preflight import check_weights, is_finished
from prep.settings import Enlarger
from store.format.manifest import all_units
from store.location.local import Folder
from store.schema import StoreError, WeightsError
from store.weights import BSRGAN_FILES
from store.writing.writer import StoreWriter, open_writer
from tests.support.tiles import lanczos, run, single


def test_a_store_is_finished_when_it_is_sealed_and_lacks_all_units_before(mist: Path, tmp_path: Path) -> None:
    location, settings = Folder(tmp_path / "s.zarr"), lanczos(name="tiles")
    plan = make_plan(settings, single(mist), threads=1)
    assert StoreWriter(location, plan.manifest).pending() == all_units(plan.manifest)
    assert not is_finished(location, settings)
    with open_writer(location, plan.manifest, plan.table):
        pass
    assert StoreWriter(location, plan.manifest).pending() == all_units(plan.manifest)
    assert not is_finished(location, settings)
    run(settings, mist, location.path)
    assert is_finished(location, settings)


def test_a_store_with_other_settings_is_refused_with_both_values_and_what_to_do(mist: Path, tmp_path: Path) -> None:
    location, other = Folder(tmp_path / "s.zarr"), lanczos(name="tiles", seed=1)
    plan = make_plan(lanczos(), single(mist), threads=1)
    with open_writer(location, plan.manifest, plan.table):
        pass
    remedy = r"\(seed: 0 -> 1\); give the same settings, choose another --store \(make: STORE=\), or remove this one"
    with pytest.raises(StoreError, match=rf"s\.zarr was started with other settings {remedy}"):
        is_finished(location, other)
    run(lanczos(), mist, location.path)
    with pytest.raises(StoreError, match=rf"s\.zarr is finished and was made with other settings {remedy}"):
        is_finished(location, other)


def test_weights_are_expected_of_bsrgan_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGSTAIN_WEIGHTS", str(tmp_path))
    check_weights(Enlarger.LANCZOS)
    with pytest.raises(WeightsError, match=r"`make weights` .*To build without super-resolution .* upscaler=lanczos"):
        check_weights(Enlarger.BSRGAN)
    (tmp_path / BSRGAN_FILES[2].name).touch()
    check_weights(Enlarger.BSRGAN)
