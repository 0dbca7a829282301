"""A table on the device that tells kernels where the parameters and vectors of many layers are.

It is made once for a set of layers and never dropped, because a recorded step holds its address. It is found again by
the addresses and sizes that it lists, so that moved parameters get another one; no address travels to the device in a
step after the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import triton.language as tl
from torch import Tensor

FIELDS = tl.constexpr(13)  # of a layer, all int64
WEIGHT, BIAS, U, V = (tl.constexpr(field) for field in range(4))  # addresses; 0 for no bias
ROWS, COLUMNS, INNER = (tl.constexpr(field) for field in range(4, 7))
ROWS_AT, COLUMNS_AT = (tl.constexpr(field) for field in range(7, 9))  # among the rows and columns of all layers
WEIGHT_AT, BIAS_AT = (tl.constexpr(field) for field in range(9, 11))  # among the aligned values of all layers
WEIGHT_PACKED_AT, BIAS_PACKED_AT = (tl.constexpr(field) for field in range(11, 13))  # among those without gaps
ALIGNED = 64  # values, at least 128 bytes: cuDNN wants 16, and a line of memory has 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A convolution's weight [out,in,k,k], channels last or contiguous, bias [out], and vectors u [out], v [in k k]."""

    weight: Tensor
    bias: Tensor | None
    u: Tensor
    v: Tensor

    @property
    def rows(self) -> int:
        """Rows of the weight as a matrix."""
        return self.weight.shape[0]

    @property
    def columns(self) -> int:
        """Its columns."""
        return self.weight[0].numel()

    @property
    def inner(self) -> int:
        """Column m in the order of memory is number (m % inner) (columns / inner) + m // inner in (in, k, k)."""
        return self.columns if self.weight.is_contiguous() else self.weight.shape[1]

    @property
    def vectors(self) -> tuple[Tensor, ...]:
        """What has one axis."""
        return (self.u, self.v) if self.bias is None else (self.u, self.v, self.bias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Where everything is. `values` is int64 [layers, FIELDS] on the device."""

    values: Tensor
    sizes: tuple[tuple[int, int], ...]
    """Rows and columns of each layer."""
    shapes: tuple[torch.Size, ...]
    """Of all weights, then of all biases: the order of parameters everywhere."""
    strides: tuple[tuple[int, ...], ...]
    places: tuple[int, ...]
    """Where each parameter begins in a buffer for all of them."""
    length: int
    """Of that buffer."""

    @property
    def rows(self) -> int:
        """Of all layers together."""
        return sum(rows for rows, _ in self.sizes)

    @property
    def columns(self) -> int:
        """Of all layers together."""
        return sum(columns for _, columns in self.sizes)

    @property
    def most_rows(self) -> int:
        """Of a layer."""
        return max(rows for rows, _ in self.sizes)

    @property
    def most_columns(self) -> int:
        """Of a layer."""
        return max(columns for _, columns in self.sizes)

    @property
    def most_values(self) -> int:
        """Of a weight."""
        return max(rows * columns for rows, columns in self.sizes)

    def views(self, buffer: Tensor) -> Iterator[Tensor]:
        """Each parameter's part of a buffer [length], with its shape and strides."""
        for shape, strides, place in zip(self.shapes, self.strides, self.places, strict=True):
            yield buffer.as_strided(shape, strides, place)

    def packed(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """The gradients of all parameters without gaps, in the order of the parameters' memory; those missing are 0."""
        present = next(gradient for gradient in gradients if gradient is not None)
        missing = (shape.numel() for gradient, shape in zip(gradients, self.shapes, strict=True) if gradient is None)
        zeros = present.new_zeros(max(missing, default=0))
        return torch.cat(
            [
                zeros[: shape.numel()] if gradient is None else _flat(gradient, strides)
                for gradient, shape, strides in zip(gradients, self.shapes, self.strides, strict=True)
            ]
        )


def is_listable(layers: Sequence[Layer]) -> bool:
    """Whether kernels find their way in these layers: float32, without gaps, no weight of 2^31 values."""
    weights = [layer.weight for layer in layers]
    vectors = [vector for layer in layers for vector in layer.vectors]
    return (
        all(tensor.dtype == torch.float32 for tensor in (*weights, *vectors))
        and all(vector.is_contiguous() for vector in vectors)
        and all(w.is_contiguous() or w.is_contiguous(memory_format=torch.channels_last) for w in weights)
        and all(w.numel() < 2**31 for w in weights)
    )


_tables: dict[tuple[object, ...], Table] = {}


def table_of(layers: Sequence[Layer]) -> Table:
    """The table of these layers, made at the first call."""
    key = (layers[0].weight.device, *(part for layer in layers for part in _listed(layer)))
    if key not in _tables:
        _tables[key] = _make_table(layers)
    return _tables[key]


def _listed(layer: Layer) -> tuple[object, ...]:
    """What the table says of a layer."""
    bias = 0 if layer.bias is None else layer.bias.data_ptr()
    addresses = (layer.weight.data_ptr(), bias, layer.u.data_ptr(), layer.v.data_ptr())
    return *addresses, layer.weight.shape, layer.weight.stride()


def _make_table(layers: Sequence[Layer]) -> Table:
    parameters = [layer.weight for layer in layers] + [layer.bias for layer in layers if layer.bias is not None]
    places = _starts([-(-parameter.numel() // ALIGNED) * ALIGNED for parameter in parameters])
    packed = _starts([parameter.numel() for parameter in parameters])
    rows, columns = _starts([layer.rows for layer in layers]), _starts([layer.columns for layer in layers])
    biases = iter(range(len(layers), len(parameters)))
    table = []
    for n, layer in enumerate(layers):
        bias = n if layer.bias is None else next(biases)  # where there is none, nothing is read or written
        addresses = [0 if x is None else x.data_ptr() for x in (layer.weight, layer.bias, layer.u, layer.v)]
        sizes = [layer.rows, layer.columns, layer.inner, rows[n], columns[n]]
        table.append([*addresses, *sizes, places[n], places[bias], packed[n], packed[bias]])
    return Table(
        values=torch.tensor(table, dtype=torch.int64, device=layers[0].weight.device),
        sizes=tuple((layer.rows, layer.columns) for layer in layers),
        shapes=tuple(parameter.shape for parameter in parameters),
        strides=tuple(parameter.stride() for parameter in parameters),
        places=tuple(places[:-1]),
        length=places[-1],
    )


def _starts(lengths: Sequence[int]) -> list[int]:
    """Where each of several pieces begins, and where the last one ends."""
    return list(accumulate(lengths, initial=0))


def _flat(gradient: Tensor, strides: tuple[int, ...]) -> Tensor:
    """The values of a gradient in the order of memory that its parameter's strides give; a copy only if need be."""
    if gradient.dim() == 4:
        last = strides != torch.empty(gradient.shape, device="meta").stride()
        gradient = gradient.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    return gradient.contiguous().view(-1) if gradient.dim() == 1 else gradient.as_strided((gradient.numel(),), (1,))
