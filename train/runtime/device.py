"""The device and the precision of a run: `auto` is resolved here, once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from store.machine.gpus import check_gpus, refusal_of, start_gpu, unused_gpu
from store.schema import SettingsError
from train.runtime.distributed import ALONE, Ranks
from train.settings import Precision

AMPERE = 8  # the first compute capability with TF32 products
ON_CPU = "--set device=cpu (predict: --device cpu)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """A device and the precision of networks on it: fp32, tf32 or bf16, never auto."""

    device: torch.device
    precision: Precision

    @property
    def cuda(self) -> bool:
        """Whether this is a CUDA device."""
        return self.device.type == "cuda"

    def place(self, module: nn.Module) -> nn.Module:
        """Move a network to the device, its weights channels last."""
        return module.to(self.device).to(memory_format=torch.channels_last)

    def configure(self, *, deterministic: bool = False, search: bool = True) -> None:
        """Set PyTorch's switches for this process: TF32 products only where asked, deterministic or fast kernels.

        By default PyTorch lets convolutions use TF32 in every precision. Without `search` cuDNN's own choice of
        algorithms is taken, which repeats; a search times them, and takes seconds for each shape.
        """
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.precision is Precision.TF32
        if self.cuda:
            torch.cuda.set_device(self.device)
        torch.backends.cudnn.benchmark = search and not deterministic  # pictures have one size
        if deterministic != torch.are_deterministic_algorithms_enabled():  # it imports the compiler, in 2 s
            torch.use_deterministic_algorithms(deterministic)
        # Results are written whole; to fill each with NaN before that took a launch of its own.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS sums in varying order

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Run convolutions and matrix products in this precision.

        The cache of cast weights is off: PyTorch caches a weight for the whole block, so one that is first cast without
        gradient would have none later, and key features are computed without gradient before query features.
        """
        enabled = self.precision is Precision.BF16
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False):
            yield


def resolve(device: str, precision: Precision, ranks: Ranks = ALONE) -> Compute:
    """The device named `device` (auto, cpu, cuda, cuda:1) and the precision that `auto` stands for on it.

    With several processes on a machine each uses the GPU of its number. Raises SettingsError if it is not here, if
    PyTorch has no kernels for it (also for `auto`: nobody who has a GPU waits for a CPU), or if it cannot be started.
    """
    found = _device(device, ranks)
    if precision is Precision.AUTO:
        precision = Precision.BF16 if _computes_bf16(found) else Precision.FP32
    if precision is Precision.TF32 and not _computes_tf32(found):
        raise SettingsError(
            f"precision = tf32 on {found}: NVIDIA GPUs have it from Ampere on (A100, RTX 30); use fp32, bf16 or auto"
        )
    return Compute(device=found, precision=precision)


def idle_gpu(name: str) -> str:
    """Why a run on the device `name` leaves a GPU idle that seems to be here; "" if it does not, or if it should."""
    return unused_gpu(torch.cuda, torch.version.cuda) if name == "auto" else ""


def _device(asked: str, ranks: Ranks) -> torch.device:
    name = asked
    if name == "auto":
        name = "cpu" if refusal_of(torch.cuda) else "cuda"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(f"device = {name!r}: no such device; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(f"device = {name!r}: only cpu and cuda are supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    if ranks.count > 1 and device.index is not None:
        raise SettingsError(f"device = {name!r} for {ranks.count} processes: each needs its own GPU; use auto or cuda")
    index = device.index if device.index is not None else ranks.local
    if refusal_of(torch.cuda):
        reason = unused_gpu(torch.cuda, torch.version.cuda) or "PyTorch finds no GPU on this machine"
        raise SettingsError(f"device = {name!r}: {reason}; or use auto or cpu")
    if index >= torch.cuda.device_count():
        raise SettingsError(
            f"device = {name!r}: PyTorch sees {torch.cuda.device_count()} CUDA devices on this machine, and process "
            f"{ranks.local} of it would use number {index}; use auto or cpu, or start fewer processes"
        )
    check_gpus(torch.cuda, [index], f"device = {asked}", ON_CPU)
    start_gpu(torch.cuda, index, f"device = {asked}", ON_CPU)
    return torch.device("cuda", index)


def _computes_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= AMPERE


def _computes_bf16(device: torch.device) -> bool:
    """Whether bf16 is native; emulated, it is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
