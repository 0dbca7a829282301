"""The ResNet generator of the ASP repository with named taps, and the paper's: the same with AMMFI in its decoder.

Pictures are `signed` [B,3,H,W]; level 0 is the picture's side, level 1 half of it, level 2 a quarter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from store.schema import SettingsError
from train.attention import AMMFI
from train.choices import Join, Levels, Norm
from train.layers import ResidualBlock, Stage, blur_down, blur_up, make_conv, make_norm, reflect_pad
from train.settings import GeneratorSettings

ATTENTION_LEVELS: dict[Levels, tuple[int, ...]] = {Levels.P1: (2, 1), Levels.P2: (1, 0), Levels.P3: (2, 1, 0)}
TAPPED_BLOCKS = (1, 5)  # counted from 1; layers 12 and 16 of the published network


class ResnetGenerator(nn.Module):
    """Stem, two blurred halvings, residual blocks, two blurred doublings, output.

    Sources: ASP (MICCAI 2023) and CUT (ECCV 2020) for the backbone, the paper for stem and AMMFI.
    """

    multiple: int = 4
    tap_channels: tuple[int, ...]

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__()
        base = settings.base
        self.tap_channels = (3, 2 * base, 4 * base, 4 * base, 4 * base)
        self.stem_margin = settings.stem // 2
        self.output_margin = settings.output // 2
        self.attention = _make_attention(settings)
        joined = [_joined_channels(settings, level) for level in range(3)]
        self.stem = _stage(3, base, settings.stem, 0, settings)
        self.encoder = nn.ModuleList(
            (_stage(base, 2 * base, 3, 1, settings), _stage(2 * base, 4 * base, 3, 1, settings))
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(4 * base, settings.norm, settings.spectral) for _ in range(settings.blocks)
        )
        self.decoder = nn.ModuleList(
            (_stage(joined[2], 2 * base, 3, 1, settings), _stage(joined[1], base, 3, 1, settings))
        )
        self.output = make_conv(joined[0], 3, settings.output, spectral=settings.spectral)

    def forward(self, he: Tensor) -> Tensor:
        """he: signed [B,3,H,W], sides multiples of 4 from 8 on. Returns the fake, signed [B,3,H,W], in he's dtype."""
        return self.forward_with_gates(he)[0]

    def forward_with_gates(self, he: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The fake, and each level's gate a of eq. (3), in (0,1), [B,C|1,h,w] under `level2`, `level1`, `level0`."""
        _check_sides(he, self.multiple)
        levels: list[Tensor] = [self.stem(reflect_pad(he, self.stem_margin))]
        for stage in self.encoder:
            levels.append(blur_down(stage(levels[-1])))
        x = levels[2]  # [B,4b,H/4,W/4]
        for block in self.blocks:
            x = block(x)
        gates: dict[str, Tensor] = {}
        x = self._interact("level2", levels[2], x, gates)
        x = self.decoder[0](blur_up(x))  # [B,2b,H/2,W/2]
        x = self._interact("level1", levels[1], x, gates)
        x = self.decoder[1](blur_up(x))  # [B,b,H,W]
        x = self._interact("level0", levels[0], x, gates)
        x = self.output(reflect_pad(x, self.output_margin))
        return torch.tanh(x.to(he.dtype)), gates

    def encode(self, picture: Tensor) -> list[Tensor]:
        """The five taps: padded picture, both tapped convolutions before their norm, residual blocks 1 and 5.

        picture: signed [B,3,H,W]. Nothing behind the fifth block is computed, so AMMFI never is.
        """
        _check_sides(picture, self.multiple)
        taps = [reflect_pad(picture, self.stem_margin)]  # [B,3,H+2m,W+2m]
        x = self.stem(taps[0])
        for stage in self.encoder:
            taps.append(stage.conv(x))  # type: ignore[operator]  # a Stage; ModuleList does not say so
            x = blur_down(stage.activate(taps[-1]))  # type: ignore[operator]  # as above
        for count, block in enumerate(self.blocks[: TAPPED_BLOCKS[-1]], start=1):
            x = block(x)
            if count in TAPPED_BLOCKS:
                taps.append(x)
        return taps

    def _interact(self, level: str, encoded: Tensor, decoded: Tensor, gates: dict[str, Tensor]) -> Tensor:
        if level not in self.attention:
            return decoded
        joined: Tensor
        joined, gates[level] = self.attention[level](encoded, decoded)
        return joined


def published_names(settings: GeneratorSettings) -> dict[str, str]:
    """Our name -> published name of every stored tensor of a generator with instance norm and without AMMFI.

    Published state dicts also hold the fixed blur filters (`filt`), which are no state here.
    """
    after = 12 + settings.blocks  # index of the first blurred doubling
    layers = {
        "stem.conv": "model.1",
        "encoder.0.conv": "model.4",
        "encoder.1.conv": "model.8",
        "decoder.0.conv": f"model.{after + 1}",
        "decoder.1.conv": f"model.{after + 5}",
        "output": f"model.{after + 9}",
    }
    for block in range(settings.blocks):
        layers[f"blocks.{block}.first"] = f"model.{12 + block}.conv_block.1"
        layers[f"blocks.{block}.second"] = f"model.{12 + block}.conv_block.5"
    tensors = ("bias", "weight_orig", "weight_u", "weight_v") if settings.spectral else ("bias", "weight")
    return {f"{ours}.{tensor}": f"{theirs}.{tensor}" for ours, theirs in layers.items() for tensor in tensors}


def _stage(inputs: int, outputs: int, kernel: int, padding: int, settings: GeneratorSettings) -> Stage:
    bias = settings.norm is not Norm.BATCH
    conv = make_conv(inputs, outputs, kernel, spectral=settings.spectral, padding=padding, bias=bias)
    return Stage(conv, make_norm(settings.norm, outputs), nn.ReLU())


def _levels(settings: GeneratorSettings) -> tuple[int, ...]:
    return ATTENTION_LEVELS[settings.attention.levels] if settings.attention.enabled else ()


def _make_attention(settings: GeneratorSettings) -> nn.ModuleDict:
    return nn.ModuleDict(
        {f"level{level}": AMMFI(settings.base << level, settings.attention) for level in _levels(settings)}
    )


def _joined_channels(settings: GeneratorSettings, level: int) -> int:
    """Channels that the decoder's next convolution reads from `level`."""
    concatenated = level in _levels(settings) and settings.attention.join is Join.CONCAT
    return (settings.base << level) * (2 if concatenated else 1)


def _check_sides(picture: Tensor, multiple: int) -> None:
    for side in picture.shape[2:]:
        if side % multiple or side < 2 * multiple:
            below = max(side // multiple, 2) * multiple
            raise SettingsError(
                f"a picture of {picture.shape[3]} x {picture.shape[2]} px: the generator halves it twice, so sides "
                f"must be multiples of {multiple} from {2 * multiple} on; near {side}: {below} and {below + multiple}"
            )
