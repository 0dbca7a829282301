"""What a step learns from: a batch of pairs on the device, in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """A pair per row: what goes in and what should come out, both signed [B,3,S,S]."""

    he: Tensor
    ihc: Tensor


def to_signed(pixels: Tensor) -> Tensor:
    """0..255 bytes of any shape as float32 in [-1, 1]."""
    return pixels.to(torch.float32).div_(127.5).sub_(1)
