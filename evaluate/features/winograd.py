"""3 x 3 convolutions on a CPU with a quarter of the multiplications: Winograd's minimal filtering, F(4x4, 3x3).

A tile of 6 x 6 inputs gives 4 x 4 outputs. Tile and kernel are transformed, multiplied position by position (36
products of matrices over channels), and the products transformed back. Numbers differ from the direct convolution by
rounding, at most 1e-5 of the largest. Source: Lavin & Gray, Fast Algorithms for Convolutional Neural Networks (CVPR
2016), section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OUT, IN = 4, 6  # px, side of a tile of outputs and of inputs
TILES = 256  # transformed together, so that they stay in the processor's cache
LEAST = 128  # channels from which it is faster: 1.3 times at 128, 1.7 at 256, 2.2 at 512, 1.0 at 64 (measured)
INPUT = (  # Bᵀ
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
KERNEL = (  # G
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = (  # Aᵀ
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def twofold(matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """A transform of both axes of a tile as one matrix over its flattened positions, float64."""
    one = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(one, one)


class Winograd(nn.Module):
    """A convolution with the parameters of `conv`: 3 x 3, stride 1, one pixel of zeros around."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        kernel = twofold(KERNEL) @ conv.weight.detach().double().flatten(2).permute(2, 1, 0).flatten(1)  # [36,C*K]
        shape = (IN * IN, conv.in_channels, conv.out_channels)
        self.register_buffer("kernel", kernel.view(shape).float().contiguous())
        self.register_buffer("to_products", twofold(INPUT).float())
        self.register_buffer("to_outputs", twofold(OUTPUT).float())
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach().clone()
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] to [B,K,H,W], channels last."""
        kernel = self.get_buffer("kernel")
        batch, _, high, wide = x.shape
        rows, columns = -(-high // OUT), -(-wide // OUT)  # of tiles
        around = (0, 0, 1, OUT * columns + 1 - wide, 1, OUT * rows + 1 - high)
        padded = F.pad(x.permute(0, 2, 3, 1), around).contiguous()  # [B,4*rows+2,4*columns+2,C]
        out = x.new_empty(batch, OUT * rows, OUT * columns, kernel.shape[2])
        strip = min(rows, max(1, TILES // columns))  # rows of tiles
        space = self._space(strip * columns, padded)
        for one, result in zip(padded, out, strict=True):
            for top in range(0, rows, strip):
                first = min(top, rows - strip)  # the last strip overlaps the one before
                band = result[OUT * first : OUT * (first + strip)].view(strip, OUT, columns, OUT, -1)
                self._fill(band, one[OUT * first :], space)
        return out[:, :high, :wide].permute(0, 3, 1, 2)

    def _space(self, tiles: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Buffers for a strip's tiles, transformed tiles, products and outputs, allocated once to stay in the cache."""
        _, inputs, outputs = self.get_buffer("kernel").shape
        widths = ((IN * IN, inputs), (IN * IN, inputs), (IN * IN, outputs), (OUT * OUT, outputs))
        one, two, three, four = (like.new_empty(places, tiles, channels) for places, channels in widths)
        return one, two, three, four

    def _fill(self, band: Tensor, padded: Tensor, space: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        """The outputs of a strip into `band` [rows,4,columns,4,K]; `padded` begins at the strip's first row."""
        rows, _, columns, _, outputs = band.shape
        line, pixel, inputs = padded.stride(0), padded.stride(1), padded.shape[2]
        tiles, transformed, products, found = space
        overlapping = padded.as_strided(
            (IN, IN, rows, columns, inputs), (line, pixel, OUT * line, OUT * pixel, 1), padded.storage_offset()
        )
        tiles.view(overlapping.shape).copy_(overlapping)
        torch.mm(self.get_buffer("to_products"), tiles.flatten(1), out=transformed.flatten(1))
        torch.bmm(transformed, self.get_buffer("kernel"), out=products)
        torch.mm(self.get_buffer("to_outputs"), products.flatten(1), out=found.flatten(1))
        laid = found.view(OUT, OUT, rows, columns, outputs).permute(2, 0, 3, 1, 4)
        torch.add(laid, self.get_buffer("bias"), out=band)


def quicken(module: nn.Module) -> None:
    """Replace every convolution below `module` by a `Winograd` where that is the same and faster."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d) and _fits(child):
            module.set_submodule(name, Winograd(child))
        else:
            quicken(child)


def _fits(conv: nn.Conv2d) -> bool:
    plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
    shaped = conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.padding == (1, 1)
    return plain and shaped and min(conv.in_channels, conv.out_channels) >= LEAST
