"""The precision that each device gets."""

from __future__ import annotations

import pytest
import torch

from prep.settings import Device, Precision
from prep.upscaling.devices import best_device, best_precision, check_device
from store.schema import SettingsError


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


def test_a_gpu_is_used_where_there_is_one_and_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, best in ((True, Device.CUDA), (False, Device.CPU)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda present=present: present)
        assert best_device() is best
        check_device(best)
    with pytest.raises(SettingsError, match=r"device = cuda: .*build another store with --set device=cpu \(make: SET="):
        check_device(Device.CUDA)
