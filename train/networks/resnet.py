"""The ResNet generators with their taps: blurred as in CUT and ASP, strided as in CycleGAN, and the paper's with AMMFI.

Pictures are `signed` [B,3,H,W]; level 0 is the picture's side, level 1 half of it, level 2 a quarter.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from store.schema import SettingsError
from train.networks.ammfi import AMMFI
from train.networks.compiling import Runner, run_eagerly
from train.networks.layers import (
    ResidualBlock,
    Stage,
    TappedStage,
    make_conv,
    make_doubling_conv,
    make_norm,
    run_blocks,
)
from train.networks.norms import without_gradient_of_flat
from train.networks.resampling import blur_down, blur_up, reflect_pad
from train.settings import GeneratorSettings, Join, Levels, Norm, Resampling

ATTENTION_LEVELS: dict[Levels, tuple[int, ...]] = {Levels.P1: (2, 1), Levels.P2: (1, 0), Levels.P3: (2, 1, 0)}
TAPPED_BLOCKS = (1, 5)  # counted from 1; layers 12 and 16 of the published network


class ResnetGenerator(nn.Module):
    """Stem, two halvings, residual blocks, two doublings, output.

    Sources: CycleGAN (ICCV 2017); blurred, CUT (ECCV 2020) and ASP (MICCAI 2023); the target paper for stem and AMMFI.
    """

    multiple: int = 4
    tap_channels: tuple[int, ...]

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__()
        base = settings.base
        self.tap_channels = (3, 2 * base, 4 * base, 4 * base, 4 * base)
        self.blurred = settings.resampling is Resampling.BLURRED
        self.stem_margin = settings.stem // 2
        self.output_margin = settings.output // 2
        self.attention = _make_attention(settings)
        joined = [_joined_channels(settings, level) for level in range(3)]
        self.stem = _stage(3, base, settings, kernel=settings.stem, padding=0)
        self.encoder = nn.ModuleList((_halving(base, settings), _halving(2 * base, settings)))
        self.blocks = nn.ModuleList(
            ResidualBlock(4 * base, settings.norm, settings.spectral, settings.dropout) for _ in range(settings.blocks)
        )
        self.decoder = nn.ModuleList((_doubling(joined[2], 2 * base, settings), _doubling(joined[1], base, settings)))
        self.output = make_conv(joined[0], 3, settings.output, spectral=settings.spectral)
        self.runner: Runner = run_eagerly

    def forward(self, he: Tensor) -> Tensor:
        """he: signed [B,3,H,W], sides multiples of 4, at least 8. Returns the fake, signed [B,3,H,W], in he's dtype."""
        return self.forward_with_taps(he)[0]

    def forward_with_taps(self, he: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The fake, and the taps that `encode(he)` returns, from one pass."""
        _check_sides(he, self.multiple)
        fake, taps = self.runner(self._translate, he, [self])
        return without_gradient_of_flat(he, fake), taps

    def _translate(self, he: Tensor) -> tuple[Tensor, list[Tensor]]:
        taps, levels, bottom = self._encode(he, len(self.blocks))
        return torch.tanh(self._decode(levels, bottom, {}).to(he.dtype)), taps

    def forward_with_gates(self, he: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The fake, and each level's gate a of eq. (3), in (0,1), [B,C|1,h,w] under `level2`, `level1`, `level0`."""
        _check_sides(he, self.multiple)
        _, levels, bottom = self._encode(he, len(self.blocks))
        gates: dict[str, Tensor] = {}
        return torch.tanh(self._decode(levels, bottom, gates).to(he.dtype)), gates

    def tap_sides(self, side: int) -> tuple[int, ...]:
        """The side of each tap of a picture of `side` px."""
        first = side if self.blurred else side // 2  # a blur halves after the tap, a stride before it
        return (side + 2 * self.stem_margin, first, first // 2, side // 4, side // 4)

    def encode(self, picture: Tensor) -> list[Tensor]:
        """The five taps: padded picture, both tapped convolutions before their norm, residual blocks 1 and 5.

        picture: signed [B,3,H,W]. Nothing after the fifth block is computed, so AMMFI is not either.
        """
        _check_sides(picture, self.multiple)
        return self.runner(self._tap, picture, [self.stem, self.encoder, *self.blocks[: TAPPED_BLOCKS[-1]]])

    def _tap(self, picture: Tensor) -> list[Tensor]:
        return self._encode(picture, TAPPED_BLOCKS[-1])[0]

    def _encode(self, picture: Tensor, blocks: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Taps, the three levels, and the output of the last of the first `blocks` blocks."""
        taps = [reflect_pad(picture, self.stem_margin)]  # [B,3,H+2m,W+2m]
        levels: list[Tensor] = [self.stem(taps[0])]
        for stage in self.encoder:
            features, activated = stage(levels[-1])
            taps.append(features)
            levels.append(blur_down(activated) if self.blurred else activated)
        bottom = levels[2]  # [B,4b,H/4,W/4]
        for count, bottom in enumerate(run_blocks(self.blocks[:blocks], levels[2]), start=1):
            if count in TAPPED_BLOCKS:
                taps.append(bottom)
        return taps, levels, bottom

    def _decode(self, levels: list[Tensor], bottom: Tensor, gates: dict[str, Tensor]) -> Tensor:
        """The picture before its tanh, [B,3,H,W]; `gates` receives the gates."""
        x = self._interact("level2", levels[2], bottom, gates)
        x = self.decoder[0](blur_up(x) if self.blurred else x)  # [B,2b,H/2,W/2]
        x = self._interact("level1", levels[1], x, gates)
        x = self.decoder[1](blur_up(x) if self.blurred else x)  # [B,b,H,W]
        x = self._interact("level0", levels[0], x, gates)
        picture: Tensor = self.output(reflect_pad(x, self.output_margin))
        return picture

    def _interact(self, level: str, encoded: Tensor, decoded: Tensor, gates: dict[str, Tensor]) -> Tensor:
        if level not in self.attention:
            return decoded
        joined: Tensor
        joined, gates[level] = self.attention[level](encoded, decoded)
        return joined


def published_names(settings: GeneratorSettings) -> dict[str, str]:
    """Our name -> published name of every stored tensor of a generator without AMMFI.

    Published state dicts also hold the fixed blur filters (`filt`), which are not state here. With dropout the numbers
    in the second half of a published block are one higher.
    """
    return {
        f"{ours}.{tensor}": f"{theirs}.{tensor}"
        for ours, theirs, tensors in _published_layers(settings)
        for tensor in tensors
    }


def _published_layers(settings: GeneratorSettings) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each layer with state: our name, the published one, and its tensors."""
    weight = ("weight_orig", "weight_u", "weight_v") if settings.spectral else ("weight",)
    bias = () if settings.norm is Norm.BATCH else ("bias",)
    batch = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    norm = batch if settings.norm is Norm.BATCH else ()
    blurred = settings.resampling is Resampling.BLURRED  # a blur is a layer of its own
    first = 12 if blurred else 10  # residual block
    last = first + settings.blocks
    stages = {"stem": 1, "encoder.0": 4, "encoder.1": 8 if blurred else 7}
    stages |= {"decoder.0": last + blurred, "decoder.1": last + 3 + 2 * blurred}
    for ours, index in stages.items():
        yield f"{ours}.conv", f"model.{index}", (*weight, *bias)
        yield f"{ours}.norm", f"model.{index + 1}", norm
    second = 6 if settings.dropout else 5
    for block in range(settings.blocks):
        ours, theirs = f"blocks.{block}", f"model.{first + block}.conv_block"
        yield f"{ours}.first", f"{theirs}.1", (*weight, *bias)
        yield f"{ours}.first_norm", f"{theirs}.2", norm
        yield f"{ours}.second", f"{theirs}.{second}", (*weight, *bias)
        yield f"{ours}.second_norm", f"{theirs}.{second + 1}", norm
    yield "output", f"model.{last + 7 + 2 * blurred}", (*weight, "bias")


def _stage(inputs: int, outputs: int, settings: GeneratorSettings, *, kernel: int, padding: int) -> Stage:
    bias = settings.norm is not Norm.BATCH
    conv = make_conv(inputs, outputs, kernel, spectral=settings.spectral, padding=padding, bias=bias)
    return Stage(conv, make_norm(settings.norm, outputs), nn.ReLU())


def _halving(inputs: int, settings: GeneratorSettings) -> TappedStage:
    """Twice the channels. A strided convolution halves the side; otherwise a blur after it does."""
    stride, bias = 1 if settings.resampling is Resampling.BLURRED else 2, settings.norm is not Norm.BATCH
    conv = make_conv(inputs, 2 * inputs, 3, spectral=settings.spectral, stride=stride, padding=1, bias=bias)
    return TappedStage(conv, make_norm(settings.norm, 2 * inputs), nn.ReLU())


def _doubling(inputs: int, outputs: int, settings: GeneratorSettings) -> Stage:
    """A transposed convolution doubles the side; otherwise a blur before it does."""
    if settings.resampling is Resampling.BLURRED:
        return _stage(inputs, outputs, settings, kernel=3, padding=1)
    conv = make_doubling_conv(inputs, outputs, 3, bias=settings.norm is not Norm.BATCH)
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
                f"must be multiples of {multiple}, at least {2 * multiple}; near {side}: {below} and {below + multiple}"
            )
