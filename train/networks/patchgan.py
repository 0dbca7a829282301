"""The PatchGAN discriminator: strided as in pix2pix and CycleGAN, or blurred as in CUT and ASP.

It judges a `signed` picture [B,C,H,W] patch by patch: one number per position, towards 1 for real and 0 for fake.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from store.schema import SettingsError
from train.networks.compiling import Runner, directly
from train.networks.layers import Stage, make_conv, make_norm
from train.networks.resampling import blur_down
from train.settings import DiscriminatorSettings, Norm, Resampling

KERNEL = 4
SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """`layers` stages of convolution, norm, leaky ReLU and halving, one more without halving, and the verdict.

    The first stage has no norm. Convolutions are 4 x 4 with zero padding 1, so each takes one pixel off the side; a
    strided one halves it as well. A conditional one sees H&E and IHC, 6 channels.
    Sources: pix2pix (CVPR 2017); blurred halving CUT (ECCV 2020); spectral norm ASP (MICCAI 2023).
    """

    def __init__(self, settings: DiscriminatorSettings) -> None:
        super().__init__()
        self.blurred = settings.resampling is Resampling.BLURRED
        self.conditional = settings.conditional
        widths = [
            6 if settings.conditional else 3,
            *(settings.base * min(2**stage, 8) for stage in range(settings.layers + 1)),
        ]
        norms = [Norm.NONE, *([settings.norm] * settings.layers)]
        self.stages = nn.ModuleList(
            _stage(inputs, outputs, norm, settings, stride=1 if self.blurred or place == settings.layers else 2)
            for place, (inputs, outputs, norm) in enumerate(zip(widths[:-1], widths[1:], norms, strict=True))
        )
        self.output = make_conv(widths[-1], 1, KERNEL, spectral=settings.spectral, padding=1)
        self.runner: Runner = directly

    def forward(self, picture: Tensor) -> Tensor:
        """picture: signed [B,C,H,W], sides from `smallest_side(layers)` on. Returns [B,1,h,w] in its dtype."""
        return self.runner(self._judge, picture, [self])

    def _judge(self, picture: Tensor) -> Tensor:
        x = picture
        for stage in self.stages[:-1]:
            x = blur_down(stage(x)) if self.blurred else stage(x)
        verdict: Tensor = self.output(self.stages[-1](x))
        return verdict.to(picture.dtype)

    def judge(self, he: Tensor, picture: Tensor) -> Tensor:
        """The verdict on an IHC picture, real or fake, signed [B,3,H,W]; a conditional one sees its `he` beside it."""
        verdict: Tensor = self(torch.cat((he, picture), dim=1) if self.conditional else picture)
        return verdict


def smallest_side(layers: int) -> int:
    """The side, in px, from which a discriminator with `layers` halvings works.

    The last instance norm needs a map of 2 px, since one position has no variance, and its convolution takes 1 px off:
    3 px. Before each halving there are twice as many, whether a strided convolution rounds down or a blurred one, which
    takes 1 px off, rounds up. The verdict then is 1 x 1.

    >>> smallest_side(5)
    96
    """
    side: int = 3 * 2**layers
    return side


def check_side(side: int, layers: int) -> None:
    """Refuse pictures in which the last norm would see a single position. Raises SettingsError."""
    smallest = smallest_side(layers)
    if side < smallest:
        raise SettingsError(
            f"pictures of {side} px: the last instance norm of a discriminator with {layers} layers would see fewer "
            f"than 2 x 2 positions; the nearest side that works is {smallest} px, or lower discriminator.layers"
        )


def published_names(settings: DiscriminatorSettings) -> dict[str, str]:
    """Our name -> published name of every stored tensor: ASP's names of a blurred one, CycleGAN's of a strided one.

    Published state dicts also hold the fixed blur filters (`filt`), which are no state here. CUT calls ASP's `enc` and
    `final_conv` both `model`.
    """
    blurred, batch_norm = settings.resampling is Resampling.BLURRED, settings.norm is Norm.BATCH
    places = [0, *(4 * n - 1 if blurred else 3 * n - 1 for n in range(1, settings.layers + 1))]
    room = "enc" if blurred else "model"
    layers = {f"stages.{n}.conv": f"{room}.{place}" for n, place in enumerate(places)}
    layers["output"] = "final_conv" if blurred else f"model.{3 * settings.layers + 2}"
    weight = ("weight_orig", "weight_u", "weight_v") if settings.spectral else ("weight",)
    names: dict[str, str] = {}
    for ours, theirs in layers.items():
        bias = () if batch_norm and ours not in ("stages.0.conv", "output") else ("bias",)
        names |= {f"{ours}.{tensor}": f"{theirs}.{tensor}" for tensor in (*weight, *bias)}
    if batch_norm:
        tensors = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        for n, place in list(enumerate(places))[1:]:
            names |= {f"stages.{n}.norm.{tensor}": f"{room}.{place + 1}.{tensor}" for tensor in tensors}
    return names


def _stage(inputs: int, outputs: int, norm: Norm, settings: DiscriminatorSettings, *, stride: int) -> Stage:
    conv = make_conv(
        inputs,
        outputs,
        KERNEL,
        spectral=settings.spectral,
        stride=stride,
        padding=1,
        bias=norm is not Norm.BATCH,
    )
    return Stage(conv, make_norm(norm, outputs), nn.LeakyReLU(SLOPE))
