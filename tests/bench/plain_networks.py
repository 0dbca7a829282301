"""The networks of ASP written plainly: stock layers at the published places, so that all names are the published ones.

Pictures are `signed` [B,3,S,S], all tensors contiguous. Sources: CUT (ECCV 2020), ASP (MICCAI 2023), the ASP
repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.settings import DiscriminatorSettings, GeneratorSettings

TAPS = (0, 4, 8, 12, 16)  # places in the generator: nce_layers
HALVING, DOUBLING = (1.0, 2.0, 1.0), (1.0, 3.0, 3.0, 1.0)
SHIFT = 1e-7


def conv(inputs: int, outputs: int, kernel: int, padding: int = 0) -> nn.Module:
    """A convolution under the classic spectral norm, with PyTorch's default weights and a bias of 0."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=padding)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one
    return torch.nn.utils.spectral_norm(layer)


def norm(channels: int) -> nn.Module:
    """Instance norm, as groups of one channel, which is as fast.

    Under the stock `InstanceNorm2d` the stem's gradient was 14 % off: patches are sampled from permuted maps, their
    gradient comes back channels-last, and PyTorch's kernel is wrong for it at batch 1 on a CPU.
    """
    return nn.GroupNorm(channels, channels, affine=False)


def outer(taps: Sequence[float], channels: int) -> Tensor:
    """The square kernel of a row of taps with sum 1, once for each channel, [C,1,k,k]."""
    row = torch.tensor(taps)
    square = torch.outer(row, row)
    return (square / square.sum()).repeat(channels, 1, 1, 1)


class Filter(nn.Module):
    """A fixed depthwise filter. The published state holds it under this name; here the state leaves it out."""

    filt: Tensor

    def __init__(self, taps: Sequence[float], channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("filt", outer(taps, channels), persistent=False)


class Downsample(Filter):
    """Half the side, rounded up, [B,C,H,W] -> [B,C,h,w]."""

    def __init__(self, channels: int) -> None:
        super().__init__(HALVING, channels)
        self.pad = nn.ReflectionPad2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.pad(x), self.filt, stride=2, groups=self.channels)


class Upsample(Filter):
    """Twice the side, [B,C,H,W] -> [B,C,2H,2W]."""

    def __init__(self, channels: int) -> None:
        super().__init__(DOUBLING, channels)
        self.pad = nn.ReplicationPad2d(1)

    def forward(self, x: Tensor) -> Tensor:
        doubled = F.conv_transpose2d(self.pad(x), 4 * self.filt, stride=2, padding=2, groups=self.channels)
        return doubled[:, :, 1:-1, 1:-1]


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first = (nn.ReflectionPad2d(1), conv(channels, channels, 3), norm(channels), nn.ReLU(inplace=True))
        self.conv_block = nn.Sequential(*first, nn.ReflectionPad2d(1), conv(channels, channels, 3), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.conv_block(x)
        return x + changed


class Generator(nn.Module):
    """ResNet, blurred: `model` with the published places of its layers."""

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__()
        base, stem, out = settings.base, settings.stem, settings.output
        self.model = nn.Sequential(
            *(nn.ReflectionPad2d(stem // 2), conv(3, base, stem), norm(base), nn.ReLU(inplace=True)),
            *(conv(base, 2 * base, 3, 1), norm(2 * base), nn.ReLU(inplace=True), Downsample(2 * base)),
            *(conv(2 * base, 4 * base, 3, 1), norm(4 * base), nn.ReLU(inplace=True), Downsample(4 * base)),
            *(Block(4 * base) for _ in range(settings.blocks)),
            *(Upsample(4 * base), conv(4 * base, 2 * base, 3, 1), norm(2 * base), nn.ReLU(inplace=True)),
            *(Upsample(2 * base), conv(2 * base, base, 3, 1), norm(base), nn.ReLU(inplace=True)),
            *(nn.ReflectionPad2d(out // 2), conv(base, 3, out), nn.Tanh()),
        )

    def forward(self, he: Tensor) -> Tensor:
        """The fake."""
        fake: Tensor = self.model(he)
        return fake

    def encode(self, picture: Tensor) -> list[Tensor]:
        """What the layers at `TAPS` make of a picture, [B,C,h,w] each; nothing behind the last is computed."""
        taps = []
        x = picture
        for place, layer in enumerate(self.model[: TAPS[-1] + 1]):
            x = layer(x)
            if place in TAPS:
                taps.append(x)
        return taps


class Discriminator(nn.Module):
    """PatchGAN, blurred: `enc` and `final_conv` with the published places of their layers."""

    def __init__(self, settings: DiscriminatorSettings) -> None:
        super().__init__()
        widths = [settings.base * min(2**stage, 8) for stage in range(settings.layers + 1)]
        layers = [conv(3, widths[0], 4, 1), nn.LeakyReLU(0.2, inplace=True), Downsample(widths[0])]
        for inputs, outputs in pairwise(widths[:-1]):
            layers += [conv(inputs, outputs, 4, 1), norm(outputs), nn.LeakyReLU(0.2, inplace=True), Downsample(outputs)]
        layers += [conv(widths[-2], widths[-1], 4, 1), norm(widths[-1]), nn.LeakyReLU(0.2, inplace=True)]
        self.enc = nn.Sequential(*layers)
        self.final_conv = conv(widths[-1], 1, 4, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """The verdict on each patch, [B,1,h,w]."""
        verdict: Tensor = self.final_conv(self.enc(picture))
        return verdict


class Heads(nn.Module):
    """A perceptron `mlp_k` per tap, whose output has unit length."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        for k, inputs in enumerate(channels):
            first, second = nn.Linear(inputs, width), nn.Linear(width, width)
            for layer in (first, second):
                nn.init.xavier_normal_(layer.weight, 0.02)
                nn.init.zeros_(layer.bias)
            self.add_module(f"mlp_{k}", nn.Sequential(first, nn.ReLU(), second))

    def forward(self, taps: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Maps [B,C,h,w] and positions [P] -> patches [B,P,width]."""
        projected = []
        for head, tap, chosen in zip(self.children(), taps, positions, strict=True):
            patches = head(tap.permute(0, 2, 3, 1).flatten(1, 2)[:, chosen, :])
            projected.append(patches / (patches + SHIFT).norm(dim=-1, keepdim=True))
        return projected
