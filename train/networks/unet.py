"""The U-Net generator of pix2pix: pictures are halved `depth` times and doubled back, with a skip at each level.

Pictures are `signed` [B,3,H,W]. Level 0 is the outermost. Source: pix2pix (CVPR 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from store.schema import SettingsError
from train.networks.compiling import Runner, run_eagerly
from train.networks.layers import DROPPED, make_conv, make_doubling_conv, make_norm
from train.networks.norms import without_gradient_of_flat
from train.settings import GeneratorSettings, Norm

SLOPE = 0.2
FIRST_DROPPED = 4  # the first level with dropout; the innermost has none


class Level(nn.Module):
    """Activation, convolution, norm, dropout: one level, on the way down or up."""

    def __init__(self, activation: nn.Module, conv: nn.Module, norm: nn.Module, dropout: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.conv = conv
        self.norm = norm
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """[B,in,H,W] -> [B,out,H/2,W/2] down, [B,out,2H,2W] up."""
        made: Tensor = self.dropout(self.norm(self.conv(self.activation(x))))
        return made


class UnetGenerator(nn.Module):
    """`depth` levels; sides are multiples of `multiple` = 2 ** depth, and at that side the innermost map is 1 x 1.

    The published leaky ReLU works in place, so skips carry its output; the ReLU that follows makes both the same.
    """

    multiple: int

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__()
        self.multiple = 2**settings.depth
        widths = [settings.base * min(2**level, 8) for level in range(settings.depth)]
        self.down = nn.ModuleList(_down(level, widths, settings) for level in range(settings.depth))
        self.up = nn.ModuleList(_up(level, widths, settings) for level in range(settings.depth))
        self.runner: Runner = run_eagerly

    def forward(self, he: Tensor) -> Tensor:
        """he: signed [B,3,H,W], sides multiples of `multiple`. Returns the fake, signed [B,3,H,W], in he's dtype."""
        self._check_sides(he)
        return without_gradient_of_flat(he, self.runner(self._translate, he, [self]))

    def _translate(self, he: Tensor) -> Tensor:
        skips: list[Tensor] = []
        x = self.down[0](he)  # [B,c,H/2,W/2]
        for level in self.down[1:]:
            skips.append(x)
            x = level(x)
        x = self.up[-1](x)
        for level, skip in zip(reversed(self.up[:-1]), reversed(skips), strict=True):
            x = level(torch.cat((skip, x), dim=1))
        return torch.tanh(x.to(he.dtype))

    def _check_sides(self, picture: Tensor) -> None:
        for side in picture.shape[2:]:
            if side % self.multiple:
                near = max(side // self.multiple, 1) * self.multiple
                raise SettingsError(
                    f"a picture of {picture.shape[3]} x {picture.shape[2]} px: a U-Net halves it generator.depth = "
                    f"{len(self.down)} times, so sides must be multiples of {self.multiple}, such as {near}"
                )


def published_names(settings: GeneratorSettings) -> dict[str, str]:
    """Our name -> published name of every stored tensor."""
    bias = () if settings.norm is Norm.BATCH else ("bias",)
    batch = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    norm = batch if settings.norm is Norm.BATCH else ()
    names: dict[str, str] = {}
    place = "model.model.1"
    for level in range(settings.depth):
        if level == 0:
            layers = {"down.0.conv": "model.model.0", "up.0.conv": "model.model.3"}
        elif level == settings.depth - 1:
            layers = {f"down.{level}.conv": f"{place}.model.1", f"up.{level}.conv": f"{place}.model.3"}
            layers[f"up.{level}.norm"] = f"{place}.model.4"
        else:
            layers = {f"down.{level}.conv": f"{place}.model.1", f"down.{level}.norm": f"{place}.model.2"}
            layers |= {f"up.{level}.conv": f"{place}.model.5", f"up.{level}.norm": f"{place}.model.6"}
            place += ".model.3"
        for ours, theirs in layers.items():
            always = ("bias",) if ours == "up.0.conv" else bias
            tensors = norm if ours.endswith("norm") else ("weight", *always)
            names |= {f"{ours}.{tensor}": f"{theirs}.{tensor}" for tensor in tensors}
    return names


def _down(level: int, widths: list[int], settings: GeneratorSettings) -> Level:
    outermost, innermost = level == 0, level == settings.depth - 1
    inputs = 3 if outermost else widths[level - 1]
    conv = make_conv(
        inputs, widths[level], 4, spectral=False, stride=2, padding=1, bias=settings.norm is not Norm.BATCH
    )
    activation = nn.Identity() if outermost else nn.LeakyReLU(SLOPE)
    norm = make_norm(Norm.NONE if outermost or innermost else settings.norm, widths[level])
    return Level(activation, conv, norm, nn.Identity())


def _up(level: int, widths: list[int], settings: GeneratorSettings) -> Level:
    outermost, innermost = level == 0, level == settings.depth - 1
    inputs = widths[level] if innermost else 2 * widths[level]
    outputs = 3 if outermost else widths[level - 1]
    conv = make_doubling_conv(inputs, outputs, 4, bias=outermost or settings.norm is not Norm.BATCH)
    norm = make_norm(Norm.NONE if outermost else settings.norm, outputs)
    dropped = settings.dropout and level >= FIRST_DROPPED and not innermost
    return Level(nn.ReLU(), conv, norm, nn.Dropout(DROPPED) if dropped else nn.Identity())
