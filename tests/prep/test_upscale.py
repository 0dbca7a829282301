"""Lanczos interpolation, and an upscaler whose files are missing or wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from prep.settings import Device, Enlarger, Kernels, Precision
from prep.upscaling.upscale import Lanczos, UpscalerChoice, make_upscaler
from store.schema import WeightsError
from store.weights import BSRGAN_FILES, FOLDER_VARIABLE
from tests.support.places import ROOT

PICTURES = np.random.default_rng(3).integers(0, 256, (5, 12, 16, 3), dtype=np.uint8)
BSRGAN, LANCZOS = (
    UpscalerChoice(
        enlarger=enlarger,
        device=Device.CPU,
        precision=Precision.FP32,
        kernels=Kernels.PLAIN,
        batch=4,
        factors=frozenset({2, 4}),
    )
    for enlarger in (Enlarger.BSRGAN, Enlarger.LANCZOS)
)


def test_missing_and_wrong_files_stop_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    file, weight = tmp_path / BSRGAN_FILES[4].name, BSRGAN_FILES[4]
    for damage, told in (
        (None, f"BSRGAN.pth ({weight.what}) is not in {tmp_path}; fetch it with `make weights`"),
        (1000, f"{file} is not {weight.what}: it has 1,000 bytes and begins with nothing but zero bytes"),
        (1000, "the right file has 67,046,751 bytes"),
        (weight.size, f"and sha256 {weight.sha256}; remove it and fetch the right one from {weight.address}"),
    ):
        if damage is not None:
            with file.open("wb") as handle:
                handle.truncate(damage)  # zeros: the right length has the wrong digest
        with pytest.raises(WeightsError) as caught:
            make_upscaler(BSRGAN)
        assert told in str(caught.value)
        assert "SET=upscaler=lanczos" in str(caught.value)
        assert "--set upscaler=lanczos" in str(caught.value)


@pytest.mark.parametrize("factor", [2, 4])
def test_lanczos_keeps_flat_areas_places_and_pictures_apart(factor: int) -> None:
    lanczos = make_upscaler(LANCZOS)
    assert isinstance(lanczos, Lanczos)
    together = lanczos.enlarge(PICTURES, factor)
    assert together.shape == (5, factor * 12, factor * 16, 3)
    for picture, enlarged in zip(PICTURES, together, strict=True):
        assert np.array_equal(lanczos.enlarge(picture[None], factor)[0], enlarged)
    flat = np.full((1, 8, 8, 3), (10, 200, 90), np.uint8)
    assert np.array_equal(lanczos.enlarge(flat, factor), np.full((1, 8 * factor, 8 * factor, 3), (10, 200, 90)))
    smooth = cv2.resize(PICTURES[0], (64, 64), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    back = cv2.resize(lanczos.enlarge(smooth[None], factor)[0], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(back.astype(int) - smooth).mean() < 1.5  # a shift by half a pixel would be more than 5


def test_planning_and_lanczos_never_import_the_network() -> None:
    """basicsr takes seconds to import, torch more; `plan` and `--help` need neither."""
    script = (
        "import sys, prep.upscaling.upscale, prep.views, prep.tiles.pairs, prep.tiles.checking\n"
        "import prep.build.manifest, prep.build.plan, prep.build.run, prep.build.settle\n"
        "from pathlib import Path\n"
        "from prep.settings import Device, Enlarger, Kernels, Precision, PrepSettings\n"
        "from store.location.local import Folder\n"
        "wanted = PrepSettings(upscaler=Enlarger.LANCZOS)\n"
        "assert prep.build.settle.settle(wanted, Folder(Path('none.zarr'))) == wanted\n"
        "prep.upscaling.upscale.make_upscaler(prep.upscaling.upscale.UpscalerChoice(enlarger=Enlarger.LANCZOS,\n"
        "    device=Device.AUTO, precision=Precision.AUTO, kernels=Kernels.AUTO, batch=0, factors=frozenset({2, 4})))\n"
        "prep.build.manifest.record_upscaler(PrepSettings())\n"
        "print(sorted({'torch', 'torchvision', 'basicsr'} & sys.modules.keys()))\n"
        "import prep.upscaling.bsrgan\n"
        "print(sorted({'torch', 'torchvision', 'basicsr'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['torch']"]


@pytest.mark.parametrize(
    "open_", [{"device": Device.AUTO}, {"precision": Precision.AUTO}, {"kernels": Kernels.AUTO}, {"batch": 0}]
)
def test_a_choice_of_bsrgan_is_never_open(open_: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="settle the settings first"):
        replace(BSRGAN, **open_)
    assert replace(LANCZOS, **open_) != LANCZOS


def test_a_gpu_is_needed_by_bsrgan_on_a_gpu_only() -> None:
    assert not BSRGAN.on_gpu
    assert replace(BSRGAN, device=Device.CUDA).on_gpu
    assert not replace(LANCZOS, device=Device.CUDA).on_gpu
