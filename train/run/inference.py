"""One picture through a trained generator, and its output as 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.data.batch import to_signed
from train.settings import AtTest


@contextmanager
def translation_mode(network: nn.Module, mode: AtTest) -> Iterator[None]:
    """A network as `set_translating` leaves it; every module of it as before afterwards."""
    training = {module: module.training for module in network.modules()}
    tracking = {norm: norm.track_running_stats for norm in training if isinstance(norm, nn.BatchNorm2d)}
    set_translating(network, mode)
    try:
        yield
    finally:
        for module, before in training.items():
            module.training = before
        for norm, before in tracking.items():
            norm.track_running_stats = before


def set_translating(network: nn.Module, mode: AtTest) -> None:
    """Put a network in evaluation mode, or leave batch norm and dropout in it as in training.

    As in training, batch norm uses the statistics of each picture; its running statistics do not change.
    """
    network.eval()
    for module in network.modules():
        if mode is AtTest.TRAINING and isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.train()
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False


Pass = Callable[[Tensor], Tensor]
"""A generator, or one with statistics that are given: signed [B,3,H,W] to the same shape."""


@torch.inference_mode()
def translate(generator: Pass, he: NDArray[np.uint8], device: torch.device, *, seed: int = 0) -> Tensor:
    """One picture, u8 [H,W,3], through a generator; `seed` is for dropout. Returns signed [H,W,3] on the device."""
    with seeded(device, seed):
        return translate_batch(generator, [he], device)[0]


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """A block in which what is drawn, as by dropout, follows from a seed; nothing outside changes."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@torch.inference_mode()
def translate_batch(generator: Pass, hes: Sequence[NDArray[np.uint8]], device: torch.device) -> list[Tensor]:
    """Pictures of one size, u8 [H,W,3], in one pass of a generator. Returns signed [H,W,3] on the device, one each.

    On a GPU this returns before they are computed, if nothing else waits for them.
    """
    return list(generator(to_input(hes, device)).permute(0, 2, 3, 1))


def to_input(hes: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """Pictures of one size, u8 [H,W,3], as a generator takes them: signed [B,3,H,W], channels last, on the device."""
    pixels = torch.stack([torch.from_numpy(he) for he in hes])
    if device.type == "cuda":  # from pageable memory the copy would wait for the pass before this one
        pixels = pixels.pin_memory().to(device, non_blocking=True)
    batch = to_signed(pixels).permute(0, 3, 1, 2)  # without a copy
    return batch if len(hes) > 1 else batch[0][None]  # strides choose kernels: those of a picture


def batches_change_nothing(generator: Pass, count: int, size: tuple[int, int], device: torch.device) -> bool:
    """Whether `count` pictures come out of one pass to the last bit as they do one by one.

    `size` is their height and width in px. Tried on noise: kernels are chosen by shape, and another order of sums
    shows in millions of values. What draws or normalises over a batch, as dropout and batch norm do in training mode,
    shows as well.
    """
    pictures = list(np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8))
    together = translate_batch(generator, pictures, device)
    alone = (translate(generator, picture, device) for picture in pictures)
    return all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """A translation as 8 bits, u8 [H,W,3] on its device: to the nearest level, and to the level below."""

    rounded: Tensor
    truncated: Tensor

    @classmethod
    def of(cls, signed: Tensor) -> Levels:
        """Both roundings of [-1, 1]; nothing waits for the device. The second is how the ASP repository saves."""
        levels = _levels(signed)
        return cls(rounded=levels.round().to(torch.uint8), truncated=levels.to(torch.uint8))


def rounded(signed: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] as 8 bits, to the nearest level."""
    levels: NDArray[np.uint8] = Levels.of(signed).rounded.cpu().numpy()
    return levels


def _levels(signed: Tensor) -> Tensor:
    """Grey levels with fractions, by the same operations as in the ASP repository."""
    return (signed.float().clamp(-1, 1) + 1) / 2 * 255
