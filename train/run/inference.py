"""One picture through a trained generator: evaluation mode or as the test scripts leave it, then to 8 bits."""

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
def at_test(network: nn.Module, how: AtTest) -> Iterator[None]:
    """A network as it translates: in evaluation mode, or with batch norm and dropout still as in training.

    Batch norm then takes the statistics of each picture and leaves its running ones alone. Training mode afterwards.
    """
    network.eval()
    living = [m for m in network.modules() if how is AtTest.TRAINING and isinstance(m, nn.BatchNorm2d | nn.Dropout)]
    norms = [module for module in living if isinstance(module, nn.BatchNorm2d)]
    for module in living:
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
    """One picture, u8 [H,W,3], through a generator, `seed` for dropout. Returns signed [H,W,3] on the device."""
    signed = to_signed(torch.from_numpy(he).to(device))
    batch = signed.permute(2, 0, 1)[None]  # [1,3,H,W], channels last as it lies
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        fake: Tensor = generator(batch)
    return fake[0].permute(1, 2, 0)


def rounded(signed: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] as 8 bits, to the nearest level."""
    levels: NDArray[np.uint8] = _levels(signed).round().to(torch.uint8).cpu().numpy()
    return levels


def truncated(signed: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] as 8 bits, cut off: how the ASP repository saves its pictures."""
    levels: NDArray[np.uint8] = _levels(signed).to(torch.uint8).cpu().numpy()
    return levels


def _levels(signed: Tensor) -> Tensor:
    """Grey levels, not yet whole; in the order of operations of the ASP repository."""
    return (signed.float().clamp(-1, 1) + 1) / 2 * 255
