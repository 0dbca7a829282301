"""One picture through a trained generator, and its output as 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.data.batch import to_signed
from train.settings import AtTest


@contextmanager
def translation_mode(network: nn.Module, mode: AtTest) -> Iterator[None]:
    """A network in evaluation mode, or with batch norm and dropout as in training; in training mode afterwards.

    As in training, batch norm uses the statistics of each picture; its running statistics do not change.
    """
    network.eval()
    training = [m for m in network.modules() if mode is AtTest.TRAINING and isinstance(m, nn.BatchNorm2d | nn.Dropout)]
    norms = [module for module in training if isinstance(module, nn.BatchNorm2d)]
    for module in training:
        module.train()
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        network.train()


@torch.inference_mode()
def translate(generator: nn.Module, he: NDArray[np.uint8], device: torch.device, *, seed: int = 0) -> Tensor:
    """One picture, u8 [H,W,3], through a generator; `seed` is for dropout. Returns signed [H,W,3] on the device."""
    signed = to_signed(torch.from_numpy(he).to(device))
    batch = signed.permute(2, 0, 1)[None]  # [1,3,H,W], channels last without a copy
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        fake: Tensor = generator(batch)
    return fake[0].permute(1, 2, 0)


def rounded(signed: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] as 8 bits, to the nearest level."""
    levels: NDArray[np.uint8] = _levels(signed).round().to(torch.uint8).cpu().numpy()
    return levels


def truncated(signed: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] as 8 bits, to the level below: how the ASP repository saves its pictures."""
    levels: NDArray[np.uint8] = _levels(signed).to(torch.uint8).cpu().numpy()
    return levels


def _levels(signed: Tensor) -> Tensor:
    """Grey levels with fractions, by the same operations as in the ASP repository."""
    return (signed.float().clamp(-1, 1) + 1) / 2 * 255
