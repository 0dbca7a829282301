"""The published networks, plainly: `nn.Sequential` as the pix2pix/CycleGAN, CUT and ASP repositories number it.

Written from the papers' appendices and the names of published state dicts, without a line of our networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What the options of the repositories change in a network."""

    norm: str = "instance"
    dropout: bool = False
    blurred: bool = False
    spectral: bool = False
    base: int = 4
    blocks: int = 5
    depth: int = 5
    channels: int = 3
    blurred_doublings: bool | None = None

    def norm_of(self, channels: int) -> nn.Module:
        match self.norm:
            case "instance":
                return nn.InstanceNorm2d(channels, affine=False, track_running_stats=False)
            case "old instance":  # PyTorch before 0.4 kept statistics that it never used
                return _OldInstanceNorm(channels)
            case "batch":
                return nn.BatchNorm2d(channels)
        return nn.Identity()

    @property
    def bias(self) -> bool:
        return self.norm in ("instance", "old instance")

    def conv(self, conv: nn.Module) -> nn.Module:
        return spectral_norm(conv) if self.spectral else conv


class _OldInstanceNorm(nn.InstanceNorm2d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x)


def published_blur(weights: list[int], stride: int, channels: int) -> Tensor:
    """The buffer `filt` of a blur."""
    line = torch.tensor(weights, dtype=torch.float32)
    kernel = line[:, None] * line[None, :]
    return (kernel / kernel.sum() * stride**2)[None, None].repeat(channels, 1, 1, 1)


class Downsample(nn.Module):
    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", published_blur([1, 2, 1], 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


class Upsample(nn.Module):
    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", published_blur([1, 3, 3, 1], 2, channels))

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        made = F.conv_transpose2d(padded, self.filt, stride=2, padding=2, groups=x.shape[1])
        return made[:, :, 1:, 1:][:, :, :-1, :-1]


class Block(nn.Module):
    def __init__(self, v: Variant, width: int) -> None:
        super().__init__()
        layers = [nn.ReflectionPad2d(1), v.conv(nn.Conv2d(width, width, 3, bias=v.bias)), v.norm_of(width), nn.ReLU()]
        layers += [nn.Dropout(0.5)] if v.dropout else []
        layers += [nn.ReflectionPad2d(1), v.conv(nn.Conv2d(width, width, 3, bias=v.bias)), v.norm_of(width)]
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.conv_block(x)
        return made


class Resnet(nn.Module):
    """ResnetGenerator."""

    def __init__(self, v: Variant) -> None:
        super().__init__()
        b, bias = v.base, v.bias
        layers = [nn.ReflectionPad2d(3), v.conv(nn.Conv2d(v.channels, b, 7, bias=bias)), v.norm_of(b), nn.ReLU()]
        for width in (b, 2 * b):
            stride = 1 if v.blurred else 2
            conv = v.conv(nn.Conv2d(width, 2 * width, 3, stride=stride, padding=1, bias=bias))
            layers += [conv, v.norm_of(2 * width), nn.ReLU()]
            layers += [Downsample(2 * width)] if v.blurred else []
        layers += [Block(v, 4 * b) for _ in range(v.blocks)]
        for width in (4 * b, 2 * b):
            if v.blurred if v.blurred_doublings is None else v.blurred_doublings:
                layers += [Upsample(width), v.conv(nn.Conv2d(width, width // 2, 3, padding=1, bias=bias))]
            else:
                layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, padding=1, output_padding=1, bias=bias)]
            layers += [v.norm_of(width // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), v.conv(nn.Conv2d(b, v.channels, 7)), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made


class SkipBlock(nn.Module):
    def __init__(self, v: Variant, outer: int, inner: int, inside: SkipBlock | None, dropped: bool, out: bool) -> None:
        super().__init__()
        self.out = out
        down = nn.Conv2d(v.channels if out else outer, inner, 4, 2, 1, bias=v.bias)
        wide = inner if inside is None else 2 * inner
        up = nn.ConvTranspose2d(wide, v.channels if out else outer, 4, 2, 1, bias=out or v.bias)
        if out:
            assert inside is not None
            layers = [down, inside, nn.ReLU(), up, nn.Tanh()]
        elif inside is None:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, v.norm_of(outer)]
        else:
            layers = [nn.LeakyReLU(0.2), down, v.norm_of(inner), inside, nn.ReLU(), up, v.norm_of(outer)]
            layers += [nn.Dropout(0.5)] if dropped else []
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made if self.out else torch.cat([x, made], 1)


class Unet(nn.Module):
    """UnetGenerator, whose level of `depth` - 4 innermost ones have eight times the base channels."""

    def __init__(self, v: Variant) -> None:
        super().__init__()
        b = v.base
        block = SkipBlock(v, 8 * b, 8 * b, None, False, False)
        for _ in range(v.depth - 5):
            block = SkipBlock(v, 8 * b, 8 * b, block, v.dropout, False)
        for outer in (4 * b, 2 * b, b):
            block = SkipBlock(v, outer, 2 * outer, block, False, False)
        self.model = SkipBlock(v, v.channels, b, block, False, True)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.model(x)
        return made


def patchgan(inputs: int = 3, base: int = 4) -> nn.Module:
    """NLayerDiscriminator with three layers, as `*_net_D.pth` has it."""
    layers = [nn.Conv2d(inputs, base, 4, 2, 1), nn.LeakyReLU(0.2)]
    for width, stride in ((base, 2), (2 * base, 2), (4 * base, 1)):
        layers += [nn.Conv2d(width, 2 * width, 4, stride, 1), nn.InstanceNorm2d(2 * width), nn.LeakyReLU(0.2)]
    return _named("model", nn.Sequential(*layers, nn.Conv2d(8 * base, 1, 4, 1, 1)))


def pixelgan(base: int = 4) -> nn.Module:
    """PixelDiscriminator."""
    return _named("net", nn.Sequential(nn.Conv2d(3, base, 1), nn.LeakyReLU(0.2), nn.Conv2d(base, 1, 1)))


def heads(width: int = 8) -> nn.Module:
    """PatchSampleF, as `*_net_F.pth` has it."""
    parts = [nn.Sequential(nn.Linear(c, width), nn.ReLU(), nn.Linear(width, width)) for c in (3, 8, 16)]
    return nn.ModuleDict({f"mlp_{place}": part for place, part in enumerate(parts)})


def drawn(make: Callable[[Variant], nn.Module], variant: Variant, seed: int = 0) -> nn.Module:
    """A network in evaluation mode whose batch norms have statistics and whose spectral norms have settled."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make(variant).train()
        with torch.no_grad():
            for _ in range(3):
                network(torch.randn(2, variant.channels, 2**variant.depth, 2**variant.depth))
    return network.eval()


def _named(name: str, module: nn.Module) -> nn.Module:
    return nn.ModuleDict({name: module})
