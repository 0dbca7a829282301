"""A batch of pairs on the device, in [-1, 1]: what a training step uses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """One pair per row: H&E and the IHC to learn from, both signed [B,3,S,S]."""

    he: Tensor
    ihc: Tensor


def to_signed(pixels: Tensor) -> Tensor:
    """0..255 bytes of any shape as float32 in [-1, 1]."""
    return pixels.to(torch.float32).div_(127.5).sub_(1)
