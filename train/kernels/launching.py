"""Which tensors fused kernels take. A module with kernels imports Triton, so it is imported where this says yes.

Triton comes with PyTorch on Linux. Under TRITON_INTERPRET=1 its kernels run on a CPU, a block at a time in NumPy: tests
compare them so with their plain twins, within `interpreted`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from store.schema import SettingsError
from train.runtime.distributed import any_process
from train.settings import Use

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns that 3.10 sets it otherwise


@dataclass(slots=True)
class _Switch:
    """Whether CUDA tensors go through fused kernels, and CPU tensors through interpreted ones."""

    fused: bool = True
    interpreted: bool = False


_switch = _Switch()


def takes(*tensors: Tensor) -> bool:
    """Whether fused kernels compute on these tensors, which are on one device.

    The compiler fuses plain operations itself, fake tensors have no values, and kernels sum in float32, which is too
    little for float64: none of these gets here.
    """
    if torch.compiler.is_compiling() or not all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors):
        return False
    if any(tensor.dtype == torch.float64 for tensor in tensors):
        return False
    if all(tensor.is_cuda for tensor in tensors):
        return _switch.fused and has_triton()
    return _switch.interpreted and all(tensor.is_cpu for tensor in tensors)


@cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def switch(*, fused: bool) -> None:
    """Let CUDA tensors go through fused kernels from now on in this process, or through their plain twins."""
    _switch.fused = fused


def choose(wanted: Use, recorded: Use, device: torch.device) -> tuple[Use, str]:
    """Switch fused kernels on or off, in all processes of a run alike; returns which, and what the user should know.

    recorded: as the run began; it goes on so unless another is wanted, because rounding depends on it. On a CPU `auto`
    stays, and nothing is switched. Raises SettingsError where they are wanted and do not run.
    """
    if device.type != "cuda":
        if wanted is Use.ON:
            raise SettingsError(f"fused = on, but on {device}: fused kernels need an NVIDIA GPU; use auto or off")
        return wanted, ""
    intended = recorded if wanted is Use.AUTO else wanted
    reason = "" if intended is Use.OFF else settle(device)
    if any_process(bool(reason)) and not reason:
        reason = "they fail in another process"
    if reason and wanted is Use.ON:
        raise SettingsError(f"fused = on: fused kernels do not run on {device} ({reason}); use auto or off")
    now = Use.OFF if reason or intended is Use.OFF else Use.ON
    switch(fused=now is Use.ON)
    notes = [f"fused kernels do not run here ({reason}): the run takes PyTorch's, which are slower"] if reason else []
    if recorded not in (Use.AUTO, now):
        notes.append(
            f"warning: the run began with fused = {recorded} and goes on with {now}: sums are rounded otherwise, so it "
            "does not end bit for bit like a run without a break"
        )
    elif wanted is Use.AUTO and recorded is Use.OFF:
        notes.append("the run goes on without fused kernels, as it began; fused=on is faster and rounds otherwise")
    return now, "\n".join(notes)


def settle(device: torch.device) -> str:
    """Try a kernel on this CUDA device; returns why kernels do not run there, "" if they do.

    Triton needs a C compiler for the part that launches, a driver that reads its code, and a folder for both.
    """
    if not has_triton():
        return "Triton is not installed"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "TRITON_INTERPRET is set"
    try:
        from train.kernels.padding import pad

        for dtype in (torch.float32, torch.bfloat16):
            x = torch.arange(4, device=device, dtype=dtype).view(1, 1, 2, 2)
            if pad(x, 1).flatten().tolist() != [3, 2, 3, 2, 1, 0, 1, 0, 3, 2, 3, 2, 1, 0, 1, 0]:
                return f"a kernel returned wrong numbers in {dtype}"
    except Exception as error:  # anything that Triton, or the C compiler it calls, cannot do
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return ""


@contextmanager
def interpreted() -> Iterator[None]:
    """Meanwhile CPU tensors go through the interpreter. TRITON_INTERPRET=1 must be set before Triton is imported."""
    assert os.environ.get("TRITON_INTERPRET") == "1", "set TRITON_INTERPRET=1 before the first kernel is imported"
    before, _switch.interpreted = _switch.interpreted, True
    try:
        yield
    finally:
        _switch.interpreted = before
