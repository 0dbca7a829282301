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


@contextmanager
def interpreted() -> Iterator[None]:
    """Meanwhile CPU tensors go through the interpreter. TRITON_INTERPRET=1 must be set before Triton is imported."""
    assert os.environ.get("TRITON_INTERPRET") == "1", "set TRITON_INTERPRET=1 before the first kernel is imported"
    before, _switch.interpreted = _switch.interpreted, True
    try:
        yield
    finally:
        _switch.interpreted = before
