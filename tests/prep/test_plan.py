"""What will be written: counts, views, operations, slides in more than one split."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from prep.build.describe import describe_plan
from prep.build.plan import BuildPlan, make_plan, plan_build
from prep.settings import Enlarger, Precision, PrepSettings, SplitRule
from prep.upscaling.upscale import record_upscaler
from prep.views import plan_geometries, super_resolution_flop
from store.schema import PairingError, SchemaError
from store.weights import BSRGAN_FILES
from tests.support.tile_folders import discover, touch, write_pair
from tests.support.tiles import SIDE, lanczos, single, write_tiles


def test_the_plan_writes_nothing_and_counts(mist: Path, tmp_path: Path) -> None:
    plan = make_plan(lanczos(), single(mist), threads=1)
    pictures = 9 * 2 * (3 * 64 * 64 + SIDE * SIDE) * 3
    assert plan.raw_bytes == pictures + 9 * 3 * 3 * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiles"]


@pytest.mark.parametrize(("margin", "tflop"), [(0, 25_987), (16, 34_509)])
def test_super_resolution_of_mist_her2_is_counted_as_published(margin: int, tflop: int) -> None:
    geometries = plan_geometries(PrepSettings(margin=margin), 1024)
    assert round(super_resolution_flop(geometries, 2 * 4642) / 1e12) == tflop


def test_leaking_slides_are_named_and_counted(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "val")):
        for key, stain in enumerate("AB"):
            write_tiles(tmp_path / "d" / f"{part}{stain}", [f"{part}slide_0_0", f"same_0_{number}"], 10 * number + key)
    plan = make_plan(lanczos(), single(tmp_path / "d"), threads=1)
    assert plan.table.leaking == ("same",)
    text = " ".join(describe_plan(plan).split())
    assert "split published, seed 0; 1 of 3 slides occurs in more than one split" in text
    note = "note 1 slide (same) occurs in more than one split (leakage): test scores will be optimistic; "
    assert note in text
    assert text.endswith("--set split=by-slide (make: SET=split=by-slide)")
    apart = make_plan(lanczos(split=SplitRule.BY_SLIDE), single(tmp_path / "d"), threads=1)
    assert "split     by-slide, seed 0; none of 3 slides occurs in more than one split" in describe_plan(apart)


def test_the_nearest_side_that_is_named_suits_every_view() -> None:
    with pytest.raises(SchemaError, match=r"tile side 1022 px .*nearest that do: 1016, 1024"):
        plan_geometries(PrepSettings(), 1022)


def test_a_plan_does_not_load_the_network() -> None:
    code = "import sys; import prep.build.run; assert not {'torch', 'basicsr'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def plan_of(data: Path, **changes: object) -> BuildPlan:
    settings = lanczos(**changes)
    return plan_build(settings, single(data), discover(data), threads=1)


def test_tiles_that_the_recipe_cannot_use_are_refused_by_name(tmp_path: Path) -> None:
    write_pair(tmp_path, "only", 0)
    with pytest.raises(SchemaError) as caught:
        plan_of(tmp_path, view_side=512, margin=16)
    assert str(caught.value) == (
        "HE/only.png: tile side 32 px is smaller than view_side 512 px, to which this recipe downsamples tiles; "
        "set view_side to 32 or less, for example --set view_side=16 (make: SET=view_side=16)"
    )


def test_nothing_left_in_train_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    touch(tmp_path, "HE/a.png", "IHC/a.png")
    with pytest.raises(
        PairingError, match=r"no pair is left in train: 1 bad pair: .*'a' \(HE/a\.png: the file is empty"
    ):
        plan_of(tmp_path)


def test_the_upscaler_is_recorded_without_its_weights() -> None:
    plain = record_upscaler(PrepSettings(upscaler=Enlarger.LANCZOS, precision=Precision.BF16))
    assert (plain.name, plain.digests, plain.precision) == ("lanczos", {}, "u8")
    bsrgan = record_upscaler(PrepSettings(precision=Precision.BF16, batch=3))
    assert (bsrgan.name, bsrgan.precision, bsrgan.batch) == ("bsrgan", "bf16", 3)
    assert bsrgan.digests == {"x2": BSRGAN_FILES[2].sha256, "x4": BSRGAN_FILES[4].sha256}


def test_versions_are_recorded_whichever_package_provides_cv2(mist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters and containers have opencv-python-headless; the key in the manifest stays the same."""
    usual = version

    def headless(package: str) -> str:
        if package == "opencv-python":
            raise PackageNotFoundError(package)
        return "4.99.0" if package == "opencv-python-headless" else usual(package)

    before = make_plan(lanczos(), single(mist), threads=1).manifest.software
    assert before == {package: usual(package) for package in before}
    assert [*before] == ["magstain", "numcodecs", "numpy", "opencv-python", "pillow", "zarr"]
    monkeypatch.setattr("store.process.version", headless)
    assert make_plan(lanczos(), single(mist), threads=1).manifest.software == before | {"opencv-python": "4.99.0"}
