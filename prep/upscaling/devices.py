"""The devices of this machine for super-resolution, and the precision that is fast and close to fp32 on each."""

from __future__ import annotations

import torch

from prep.settings import Device, Precision, how_to_set
from store.schema import SettingsError


def best_device() -> Device:
    """A GPU if this machine has one."""
    return Device.CUDA if torch.cuda.is_available() else Device.CPU


def best_precision(device: Device) -> Precision:
    """The fastest precision whose result has at least 46 dB PSNR against fp32, as measured in `prep/README.md`.

    A GPU multiplies fp16 as fast as bf16, and fp16 is closer. A CPU without instructions for bf16 would emulate it.
    """
    if device is Device.CUDA:
        return Precision.FP16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return Precision.BF16 if native else Precision.FP32


def check_device(device: Device) -> None:
    """Raise SettingsError if a GPU is asked for and this machine has none."""
    if device is Device.CUDA and not torch.cuda.is_available():
        raise SettingsError(
            "device = cuda: this machine shows no NVIDIA GPU to torch; run it on a machine with one, or build another "
            f"store with {how_to_set('device=cpu')} (all of a store is made on one kind of device)"
        )


def count_gpus() -> int:
    """The number of GPUs that this process can use."""
    return torch.cuda.device_count()
