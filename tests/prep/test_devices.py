"""The precision that each device gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prep.build.cluster import count_gpus_for
from prep.settings import Device, Enlarger, Kernels, Precision, PrepSettings
from prep.upscaling.choosing import choose
from prep.upscaling.devices import best_device, best_precision, check_device
from prep.upscaling.upscale import UpscalerChoice
from store.schema import SettingsError
from tests.support.gpus import H100, V100, forget, hide, pretend

ON_GPU = UpscalerChoice(
    enlarger=Enlarger.BSRGAN,
    device=Device.CUDA,
    precision=Precision.FP16,
    kernels=Kernels.PLAIN,
    batch=4,
    factors=frozenset({2}),
)


def test_which_precision_a_device_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """prep/README.md has the table: bf16 has at least 46 dB, fp16 58; on a CPU fp16 is slow, and bf16 if emulated."""
    for bf16, amx, wanted in (
        (False, False, Precision.FP32),
        (True, False, Precision.BF16),
        (False, True, Precision.BF16),
    ):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda bf16=bf16: bf16)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        assert best_precision(Device.CPU) is wanted
    assert best_precision(Device.CUDA) is Precision.FP16


def test_a_gpu_is_used_where_there_is_one_and_refused_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(monkeypatch, tmp_path)
    pretend(monkeypatch, H100)
    assert best_device() is Device.CUDA
    check_device(Device.CUDA)
    hide(monkeypatch, "Found no NVIDIA driver on your system.")
    assert best_device() is Device.CPU
    check_device(Device.CPU)
    assert capsys.readouterr().err == ""
    with pytest.raises(SettingsError, match=r"device = cuda: .*build another store with --set device=cpu \(make: SET="):
        check_device(Device.CUDA)


def test_a_gpu_that_is_hidden_is_named_and_one_without_kernels_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(monkeypatch, tmp_path)
    hide(monkeypatch)
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert best_device() is Device.CPU
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("warning: a GPU is here (SLURM_JOB_GPUS=0), but PyTorch cannot use it: CUDA_VISIBLE_DEVICES")
    with pytest.raises(SettingsError, match=r"^device = cuda: a GPU is here \(SLURM_JOB_GPUS=0\), but .* hides it; "):
        choose(PrepSettings(device=Device.CUDA))
    pretend(monkeypatch, H100, V100)
    check_device(Device.CUDA)
    with pytest.raises(SettingsError, match=r"this GPU is 7\.0, this torch begins at 7\.5 \(cuda:1"):
        count_gpus_for(ON_GPU, workers=2)
    pretend(monkeypatch, V100)
    for asked in (Device.CUDA, Device.AUTO):
        with pytest.raises(SettingsError, match=r"this GPU is 7\.0, this torch begins at 7\.5.*--set device=cpu"):
            choose(PrepSettings(device=asked))
