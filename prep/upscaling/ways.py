"""Which way through the network's blocks a build takes, and whether this machine can go it."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
from torch import nn

from prep.settings import Device, Kernels, how_to_set
from prep.upscaling.blocks import Blocks, layers_of, run_compiled, run_plain
from store.cli import say
from store.schema import SettingsError

WIDE, GROWTH = 64, 32  # channels of the published network
TRIED = (1, WIDE, 7, 9)  # what a way is tried on
CLOSE = 0.02  # relative error against fp32: bf16 has 0.003


def make_blocks(kernels: Kernels, body: Any) -> Blocks:
    """One way through the blocks of `body`, which lie on their device in their precision and do not change again."""
    if kernels is Kernels.COMPILED:
        return partial(run_compiled, layers_of(body))
    if kernels is Kernels.TRITON:
        from prep.upscaling.dense_kernels import pack, run_dense_blocks

        packed = [[[pack(*layer) for layer in dense] for dense in block] for block in layers_of(body)]
        return partial(run_dense_blocks, packed)
    return partial(run_plain, body)


def best_kernels(dtype: torch.dtype, device: Device) -> Kernels:
    """The fastest way that was measured on such a device and runs here: `prep/README.md`."""
    if device is Device.CPU:
        return Kernels.PLAIN
    if dtype is torch.float32:
        return Kernels.SINGLE
    if reason := fault(Kernels.COMPILED, dtype, torch.device(device)):
        say(f"the network runs without torch.compile, slower: it failed here ({reason}); the store records it")
        return Kernels.PLAIN
    return Kernels.COMPILED


def check_kernels(kernels: Kernels, dtype: torch.dtype, device: Device) -> None:
    """Raise SettingsError if this machine, or this device and precision, cannot go a way."""
    if kernels in (Kernels.PLAIN, Kernels.SINGLE):
        return
    if device is Device.CPU:
        reason = "it is for a GPU, and device = cpu"
    elif kernels is Kernels.TRITON and dtype is torch.float32:
        reason = "it is for half precision, and precision = fp32"
    else:
        reason = fault(kernels, dtype, torch.device(device))
    if reason:
        raise SettingsError(
            f"kernels = {kernels}: this cannot run here: {reason}; run it where it can, or build another store with "
            f"{how_to_set('kernels=plain')} (all of a store is made in one way)"
        )


@cache
@torch.inference_mode()
def fault(kernels: Kernels, dtype: torch.dtype, device: torch.device) -> str:
    """Why a way cannot be gone here, in one line; "" if it computes what the plain one does. Takes some seconds.

    Compilers fail in many ways: there is none, it does not know the card, it cannot write its cache.
    """
    generator = torch.Generator().manual_seed(0)
    body = nn.ModuleList([_Block(generator)]).requires_grad_(False)
    given = torch.randn(TRIED, generator=generator).contiguous(memory_format=torch.channels_last)
    exact = run_plain(body, given) - given
    try:
        blocks = make_blocks(kernels, body.to(device, dtype).to(memory_format=torch.channels_last))
        found = blocks(given.to(device)).cpu() - given
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
    off = float((found - exact).norm() / exact.norm())
    return "" if off < CLOSE else f"its result is {off:.1%} off"


class _Block(nn.Module):
    """A block of the published width with drawn weights."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        for dense in ("rdb1", "rdb2", "rdb3"):
            layers = nn.ModuleDict()
            for number in range(5):
                outputs = WIDE if number == 4 else GROWTH
                layer = nn.Conv2d(WIDE + number * GROWTH, outputs, 3, padding=1, device="meta").to_empty(device="cpu")
                for parameter in layer.parameters():
                    parameter.normal_(0, (9 * layer.in_channels) ** -0.5, generator=generator)
                layers[f"conv{number + 1}"] = layer
            self.add_module(dense, layers)
