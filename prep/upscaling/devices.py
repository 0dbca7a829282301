"""The devices of this machine for super-resolution, and the precision that is fast and close to fp32 on each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from prep.settings import Device, Precision, how_to_set
from store.cli import say
from store.machine.gpus import check_gpus, refusal_of, start_gpu, unused_gpu
from store.schema import SettingsError

ON_CPU = how_to_set("device=cpu")


def best_device() -> Device:
    """A GPU if PyTorch can use one here; where one seems to be here that it cannot use, a line says so."""
    if not refusal_of(torch.cuda):
        return Device.CUDA
    if why := unused_gpu(torch.cuda, torch.version.cuda):
        say(f"warning: {why}. Super-resolution runs on the CPU; {ON_CPU} says that it should")
    return Device.CPU


def best_precision(device: Device) -> Precision:
    """The fastest precision whose result has at least 46 dB PSNR against fp32, as measured in `prep/README.md`.

    A GPU multiplies fp16 as fast as bf16, and fp16 is closer. A CPU without instructions for bf16 would emulate it.
    """
    if device is Device.CUDA:
        return Precision.FP16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return Precision.BF16 if native else Precision.FP32


def check_device(device: Device, numbers: Sequence[int] = (0,)) -> None:
    """Raise SettingsError if GPUs are used, and this machine has none or PyTorch has no kernels for one of them."""
    if device is not Device.CUDA:
        return
    if refusal_of(torch.cuda):
        why = unused_gpu(torch.cuda, torch.version.cuda) or "this machine shows no NVIDIA GPU to torch"
        raise SettingsError(
            f"device = cuda: {why}; run it on a machine with one, or build another store with {ON_CPU} (all of a store "
            "is made on one kind of device)"
        )
    check_gpus(torch.cuda, numbers, "device = cuda", f"{ON_CPU}, for another store")


def start_device(device: Device) -> None:
    """Check a device that this process uses, and start it. Raises SettingsError where that is not possible."""
    check_device(device)
    if device is Device.CUDA:
        start_gpu(torch.cuda, 0, "device = cuda", f"{ON_CPU}, for another store")


def count_gpus() -> int:
    """The number of GPUs that this process can use."""
    return torch.cuda.device_count()
