"""A batch of pairs as it comes from the store, and on the device in [-1, 1], as a training step uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """One pair per row: H&E and the IHC to learn from, both signed [B,3,S,S]."""

    he: Tensor
    ihc: Tensor


class RawBatch(NamedTuple):
    """A batch as it comes from the store: `pixels` u8 [2,B,S,S,3] (he, ihc), `flips` bool [2,B]."""

    pixels: Tensor
    flips: Tensor


def to_signed(pixels: Tensor) -> Tensor:
    """0..255 bytes of any shape as float32 in [-1, 1]."""
    return pixels.to(torch.float32).div_(127.5).sub_(1)
