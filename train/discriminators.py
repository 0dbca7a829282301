"""The antialiased PatchGAN discriminator of CUT and ASP.

It judges a `signed` picture [B,C,H,W] patch by patch: one number per position, towards 1 for real and 0 for fake.
"""

from __future__ import annotations

from torch import Tensor, nn

from store.schema import SettingsError
from train.choices import Norm
from train.layers import Stage, blur_down, make_conv, make_norm
from train.settings import DiscriminatorSettings

KERNEL = 4
SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """`layers` stages of convolution, norm, leaky ReLU and blurred halving, one more without halving, and the verdict.

    The first stage has no norm. Convolutions are 4 x 4 with zero padding 1, so each takes one pixel off the side.
    Sources: pix2pix (CVPR 2017); blurred halving CUT (ECCV 2020); spectral norm ASP (MICCAI 2023).
    """

    def __init__(self, settings: DiscriminatorSettings, channels: int = 3) -> None:
        super().__init__()
        widths = [channels, *(settings.base * min(2**stage, 8) for stage in range(settings.layers + 1))]
        norms = [Norm.NONE, *([settings.norm] * settings.layers)]
        self.stages = nn.ModuleList(
            _stage(inputs, outputs, norm, settings.spectral)
            for inputs, outputs, norm in zip(widths[:-1], widths[1:], norms, strict=True)
        )
        self.output = make_conv(widths[-1], 1, KERNEL, spectral=settings.spectral, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        """picture: signed [B,C,H,W], sides from `smallest_side(layers)` on. Returns [B,1,h,w] in its dtype."""
        x = picture
        for stage in self.stages[:-1]:
            x = blur_down(stage(x))
        verdict: Tensor = self.output(self.stages[-1](x))
        return verdict.to(picture.dtype)


def smallest_side(layers: int) -> int:
    """The side, in px, from which a discriminator with `layers` halvings works.

    The last instance norm needs a map of 2 px, since one position has no variance, and its convolution takes 1 px off:
    3 px. For s px after a stage, which rounds up when it halves, 2 s - 1 px must be halved, and its convolution takes
    1 px off as well. The verdict then is 1 x 1.

    >>> smallest_side(5)
    96
    """
    side = 3
    for _ in range(layers):
        side = (2 * side - 1) + 1
    return side


def check_side(side: int, layers: int) -> None:
    """Refuse pictures in which the last instance norm would see a single position. Raises SettingsError."""
    smallest = smallest_side(layers)
    if side < smallest:
        raise SettingsError(
            f"pictures of {side} px: the last instance norm of a discriminator with {layers} layers would see fewer "
            f"than 2 x 2 positions; the nearest side that works is {smallest} px, or lower discriminator.layers"
        )


def published_names(settings: DiscriminatorSettings) -> dict[str, str]:
    """Our name -> published name of every stored tensor of a discriminator with instance norm.

    Published state dicts also hold the fixed blur filters (`filt`), which are no state here.
    """
    layers = {"stages.0.conv": "enc.0", "output": "final_conv"}
    for stage in range(1, settings.layers + 1):
        layers[f"stages.{stage}.conv"] = f"enc.{4 * stage - 1}"
    tensors = ("bias", "weight_orig", "weight_u", "weight_v") if settings.spectral else ("bias", "weight")
    return {f"{ours}.{tensor}": f"{theirs}.{tensor}" for ours, theirs in layers.items() for tensor in tensors}


def _stage(inputs: int, outputs: int, norm: Norm, spectral: bool) -> Stage:
    conv = make_conv(inputs, outputs, KERNEL, spectral=spectral, padding=1, bias=norm is not Norm.BATCH)
    return Stage(conv, make_norm(norm, outputs), nn.LeakyReLU(SLOPE))
