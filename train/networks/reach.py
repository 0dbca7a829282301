"""How far an output pixel of a generator sees, if the statistics of the picture are given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from train.networks.ammfi import AMMFI
from train.networks.resnet import ResnetGenerator
from train.networks.spectral_norm import SpectralConv2d
from train.networks.unet import UnetGenerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the positions of a map depend on: position i on the input from `i step - before` to `i step + after`, px."""

    step: int = 1
    before: int = 0
    after: int = 0

    def convolved(self, kernel: int, padding: int, stride: int = 1) -> Sight:
        """After a convolution, or a blur that halves."""
        before, after = padding * self.step, (kernel - 1 - padding) * self.step
        return Sight(step=self.step * stride, before=self.before + before, after=self.after + after)

    def doubled(self, kernel: int, padding: int) -> Sight:
        """After a transposed convolution with stride 2, whose output positions are half as far apart.

        Output j takes the inputs from (j + padding - kernel + 1) / 2 to (j + padding) / 2.
        """
        half = self.step // 2
        before, after = (kernel - 1 - padding) * half, padding * half
        return Sight(step=half, before=self.before + before, after=self.after + after)

    def joined(self, other: Sight) -> Sight:
        """Of a sum or a concatenation of two maps."""
        return replace(self, before=max(self.before, other.before), after=max(self.after, other.after))


def reach_of(generator: ResnetGenerator | UnetGenerator) -> int:
    """The farthest input pixel, in px to each side, that an output pixel depends on when all statistics are given.

    Of a generator that halves pictures some output pixels see as far, others less by up to its `multiple`.
    """
    sight = _resnet(generator) if isinstance(generator, ResnetGenerator) else _unet(generator)
    assert sight.step == 1, "an output pixel is as large as an input pixel"
    return max(sight.before, sight.after)


def _resnet(generator: ResnetGenerator) -> Sight:
    levels = [_after(Sight(), [generator.stem.conv], margin=generator.stem_margin)]
    for stage in generator.encoder:
        made = _after(levels[-1], [stage.conv])
        levels.append(made.convolved(3, 1, stride=2) if generator.blurred else made)
    sight = levels[-1]
    for block in generator.blocks:
        sight = _after(sight, [block.first, block.second], margin=1)
    for level, stage in ((2, generator.decoder[0]), (1, generator.decoder[1])):
        sight = _interacted(generator, level, levels, sight)
        sight = _after(sight.doubled(4, 1) if generator.blurred else sight, [stage.conv])
    return _after(_interacted(generator, 0, levels, sight), [generator.output], margin=generator.output_margin)


def _interacted(generator: ResnetGenerator, level: int, levels: list[Sight], decoded: Sight) -> Sight:
    """After AMMFI at a level, if it is there: what goes through its gate sees farthest."""
    name = f"level{level}"
    if name not in generator.attention:
        return decoded
    attention = generator.attention[name]
    assert isinstance(attention, AMMFI)
    projected = [
        _after(levels[level], [attention.encoder_projection[0]]),
        _after(decoded, [attention.decoder_projection[0]]),
    ]
    both = projected[0].joined(projected[1])
    return _after(both, [attention.spatial_attention.conv, attention.gate_conv])


def _unet(generator: UnetGenerator) -> Sight:
    """Of the way through all levels: what takes a skip sees less."""
    return _after(Sight(), [level.conv for level in (*generator.down, *reversed(generator.up))])


def _after(sight: Sight, convolutions: Iterable[object], margin: int = 0) -> Sight:
    """After convolutions that follow each other, with each map mirrored by `margin` px before."""
    for conv in convolutions:
        match conv:
            case SpectralConv2d():
                sight = sight.convolved(conv.weight_orig.shape[2], conv.padding + margin, conv.stride)
            case nn.Conv2d(padding=(int(padding), _)):
                sight = sight.convolved(conv.kernel_size[0], padding + margin, conv.stride[0])
            case nn.ConvTranspose2d(padding=(int(padding), _)):
                sight = sight.doubled(conv.kernel_size[0], padding)
            case _:
                raise AssertionError(f"a convolution of type {type(conv)}")
    return sight
