"""The PatchGAN discriminator: strided as in pix2pix and CycleGAN, or blurred as in CUT and ASP.

It scores a `signed` picture [B,C,H,W] region by region: one logit per position, trained to 1 for real and 0 for fake.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from store.schema import SettingsError
from train.networks.compiling import Runner, run_eagerly
from train.networks.layers import Stage, make_conv, make_norm
from train.networks.norms import without_gradient_of_flat
from train.networks.resampling import blur_down
from train.settings import DiscriminatorSettings, Norm, Resampling

KERNEL = 4
SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """`layers` stages of convolution, norm, leaky ReLU and halving, one more without halving, and the logits.

    The first stage has no norm. Convolutions are 4 x 4 with zero padding 1, so each makes the side one pixel smaller; a
    strided one also halves it. `channels` is 6, H&E and IHC, for a conditional one, else 3.
    A picture of one colour passes no gradient (`without_gradient_of_flat`).
    Sources: pix2pix (CVPR 2017); blurred halving CUT (ECCV 2020); spectral norm ASP (MICCAI 2023).
    """

    def __init__(self, settings: DiscriminatorSettings) -> None:
        super().__init__()
        self.blurred = settings.resampling is Resampling.BLURRED
        self.conditional = settings.conditional
        self.channels = 6 if settings.conditional else 3
        widths = [self.channels, *(settings.base * min(2**stage, 8) for stage in range(settings.layers + 1))]
        norms = [Norm.NONE, *([settings.norm] * settings.layers)]
        self.stages = nn.ModuleList(
            _stage(inputs, outputs, norm, settings, stride=1 if self.blurred or place == settings.layers else 2)
            for place, (inputs, outputs, norm) in enumerate(zip(widths[:-1], widths[1:], norms, strict=True))
        )
        self.output = make_conv(widths[-1], 1, KERNEL, spectral=settings.spectral, padding=1)
        self.runner: Runner = run_eagerly

    def forward(self, picture: Tensor) -> Tensor:
        """picture: signed [B,C,H,W], sides of at least `smallest_side(layers)`. Returns logits [B,1,h,w], its dtype."""
        return without_gradient_of_flat(picture, self.runner(self._logits, picture, [self]))

    def _logits(self, picture: Tensor) -> Tensor:
        x = picture
        for stage in self.stages[:-1]:
            x = blur_down(stage(x)) if self.blurred else stage(x)
        logits: Tensor = self.output(self.stages[-1](x))  # [B,1,h,w]
        return logits.to(picture.dtype)

    def score(self, he: Tensor, picture: Tensor) -> Tensor:
        """Logits [B,1,h,w] of an IHC picture, real or fake, signed [B,3,H,W]; a conditional one also sees its `he`."""
        if not self.conditional:
            logits: Tensor = self(picture)
            return logits
        return without_gradient_of_flat(he, self(torch.cat((he, picture), dim=1)))


def smallest_side(layers: int) -> int:
    """The smallest side, px, that a discriminator with `layers` halvings takes.

    The last instance norm needs a map of 2 px, because one position has no variance, and the convolution before it
    takes 1 px off: 3 px. Each halving needs twice as many, whether a strided convolution rounds down or a blurred one,
    which takes 1 px off, rounds up. The output is then one logit.

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
    """Our name -> published name of every stored tensor: ASP's names for a blurred one, CycleGAN's for a strided one.

    Published state dicts also hold the fixed blur filters (`filt`), which are not state here. CUT uses `model` for both
    `enc` and `final_conv` of ASP.
    """
    blurred, batch_norm = settings.resampling is Resampling.BLURRED, settings.norm is Norm.BATCH
    places = [0, *(4 * n - 1 if blurred else 3 * n - 1 for n in range(1, settings.layers + 1))]
    prefix = "enc" if blurred else "model"
    layers = {f"stages.{n}.conv": f"{prefix}.{place}" for n, place in enumerate(places)}
    layers["output"] = "final_conv" if blurred else f"model.{3 * settings.layers + 2}"
    weight = ("weight_orig", "weight_u", "weight_v") if settings.spectral else ("weight",)
    names: dict[str, str] = {}
    for ours, theirs in layers.items():
        bias = () if batch_norm and ours not in ("stages.0.conv", "output") else ("bias",)
        names |= {f"{ours}.{tensor}": f"{theirs}.{tensor}" for tensor in (*weight, *bias)}
    if batch_norm:
        tensors = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        for n, place in list(enumerate(places))[1:]:
            names |= {f"stages.{n}.norm.{tensor}": f"{prefix}.{place + 1}.{tensor}" for tensor in tensors}
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
