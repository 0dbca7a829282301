"""Where a run computes and in which arithmetic: what `auto` means is decided here, once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from store.schema import SettingsError
from train.choices import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """A device and the arithmetic of networks on it: fp32 or bf16, never auto."""

    device: torch.device
    precision: Precision

    @property
    def cuda(self) -> bool:
        """Whether this is a CUDA device."""
        return self.device.type == "cuda"

    def place(self, module: nn.Module) -> nn.Module:
        """Move a network here, its weights channels last."""
        return module.to(self.device).to(memory_format=torch.channels_last)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Run convolutions and matrix products in the chosen precision.

        The cache of cast weights is off: a weight first cast without gradient would stay without one (PyTorch caches it
        for the whole block), and key features are computed without gradient before query features.
        """
        enabled = self.precision is Precision.BF16
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False):
            yield


def resolve(device: str, precision: Precision) -> Compute:
    """The device called `device` (auto, cpu, cuda, cuda:1) and the precision that `auto` means on it."""
    place = _device(device)
    if precision is Precision.AUTO:
        precision = Precision.BF16 if _computes_bf16(place) else Precision.FP32
    return Compute(device=place, precision=precision)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device = {name!r}: no such device; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(f"device = {name!r}: only cpu and cuda are known; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"device = {name!r}: PyTorch sees {torch.cuda.device_count()} CUDA devices here; use auto or cpu"
        )
    return device


def _computes_bf16(device: torch.device) -> bool:
    """Whether bf16 is native; emulated, it is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
