"""Spectral norm of all layers of a pass at once: three kernels forward, two and a concatenation backward.

Kernels find the layers through a table on the device (`layer_table`); a program works on one layer. A weight is the
matrix out x (in k k) in the order of its memory, so that neighbouring threads read neighbouring values. Every sum is
taken in fixed order, in float32 and without atomics, so that it repeats bit for bit; where a sum needs several
programs, each program that uses it adds their parts anew, which spares a launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from train.kernels.layer_table import (
    BIAS,
    BIAS_AT,
    BIAS_PACKED_AT,
    COLUMNS,
    COLUMNS_AT,
    FIELDS,
    INNER,
    ROWS,
    ROWS_AT,
    WEIGHT,
    WEIGHT_AT,
    WEIGHT_PACKED_AT,
    Layer,
    Table,
    U,
    V,
    table_of,
)

EPSILON = tl.constexpr(1e-12)
DOWN_ROWS, DOWN_COLUMNS = tl.constexpr(32), tl.constexpr(64)  # read at a time by a program that sums over all rows
ACROSS_ROWS, ACROSS_COLUMNS = tl.constexpr(8), tl.constexpr(256)  # by one that sums over all columns
TILE_ROWS, TILE_COLUMNS = tl.constexpr(8), tl.constexpr(512)  # by one that needs the row and column of each value
PIECE = tl.constexpr(4096)  # values, by one that does not


def normalised(layers: Sequence[Layer], dtype: torch.dtype, *, iterate: bool) -> list[tuple[Tensor, Tensor | None]]:
    """Each layer's weight over its largest singular value, and its bias, in `dtype` and in the parameters' layout.

    With `iterate` the vectors make one iteration, v before u, and are written back.
    """
    biases = [layer.bias for layer in layers if layer.bias is not None]
    made = _Normalised.apply(table_of(layers), dtype, iterate, *(layer.weight for layer in layers), *biases)
    rest = iter(made[len(layers) :])
    return [(weight, None if layer.bias is None else next(rest)) for layer, weight in zip(layers, made, strict=False)]


class _Normalised(Function):
    @staticmethod
    def forward(ctx: Any, table: Table, dtype: torch.dtype, iterate: bool, *parameters: Tensor) -> tuple[Tensor, ...]:
        made, u, v, sigma = normalise(table, dtype, iterate)
        ctx.table = table
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*parameters, u, v, sigma)
        return tuple(table.views(made))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        *_, u, v, sigma = ctx.saved_tensors  # PyTorch checks here that the parameters are as they were
        table: Table = ctx.table
        if all(gradient is None for gradient in gradients):
            return None, None, None, *gradients
        made = table.views(differentiate(table, table.packed(gradients), u, v, sigma))
        return None, None, None, *(None if g is None else m for g, m in zip(gradients, made, strict=True))


def normalise(table: Table, dtype: torch.dtype, iterate: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All weights and biases [length], and the pass's own u [rows], v [columns] in order of memory, sigma [layers]."""
    layers, blocks = len(table.sizes), triton.cdiv(table.most_columns, DOWN_COLUMNS.value)
    made = torch.empty(table.length, dtype=dtype, device=table.values.device)
    u, across = (made.new_empty(table.rows, dtype=torch.float32) for _ in range(2))
    v, down = (u.new_empty(table.columns) for _ in range(2))
    sigma, squares = u.new_empty(layers), u.new_empty(layers * blocks)
    if iterate:
        _sum_down[blocks, layers](table.values, down, squares, blocks)
    grid = (triton.cdiv(table.most_rows, ACROSS_ROWS.value), layers)
    _sum_across[grid](table.values, down, squares, v, across, blocks, iterate, triton.next_power_of_2(blocks))
    grid = (triton.cdiv(table.most_values, PIECE.value), layers)
    _scale[grid](table.values, across, u, sigma, made, iterate, triton.next_power_of_2(table.most_rows))
    return made, u, v, sigma


def differentiate(table: Table, gradient: Tensor, u: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """The gradients of all parameters [length], from the packed ones of what `normalise` made."""
    layers, pieces = len(table.sizes), triton.cdiv(table.most_values, PIECE.value)
    sums, made = u.new_empty(layers * pieces), u.new_empty(table.length)
    _dot[pieces, layers](table.values, gradient, sums, pieces)
    tiles = max(triton.cdiv(r, TILE_ROWS.value) * triton.cdiv(c, TILE_COLUMNS.value) for r, c in table.sizes)
    most = triton.next_power_of_2(pieces), triton.next_power_of_2(table.most_rows)
    _differentiate[tiles, layers](table.values, gradient, sums, u, v, sigma, made, pieces, *most)
    return made


@triton.jit
def _field(table, field: tl.constexpr):
    return tl.load(table + tl.program_id(1) * FIELDS + field)


@triton.jit
def _pointer(table, field: tl.constexpr):
    """To the float32 values at the address in a field."""
    return _field(table, field).to(tl.pointer_type(tl.float32))


@triton.jit
def _size(table, field: tl.constexpr):
    return _field(table, field).to(tl.int32)


@triton.jit
def _published(column, columns, inner):
    """The place in the published order (in, k, k) of a column in the order of memory."""
    return (column % inner) * (columns // inner) + column // inner


@triton.jit
def _length(squares):
    """What a vector with these squares is divided by."""
    return tl.maximum(tl.sqrt(tl.sum(squares)), EPSILON)


@triton.jit
def _sum_down(table, down, squares, blocks):
    """W^T u, and the sum of its squares of each program."""
    rows, columns = _size(table, ROWS), _size(table, COLUMNS)
    column = tl.program_id(0) * DOWN_COLUMNS + tl.arange(0, DOWN_COLUMNS)
    if tl.program_id(0) * DOWN_COLUMNS < columns:
        weight, u = _pointer(table, WEIGHT), _pointer(table, U)
        total = tl.zeros((DOWN_ROWS, DOWN_COLUMNS), dtype=tl.float32)
        for first in range(0, rows, DOWN_ROWS):
            row = first + tl.arange(0, DOWN_ROWS)
            mask = (row < rows)[:, None] & (column < columns)[None, :]
            value = tl.load(weight + row[:, None] * columns + column[None, :], mask=mask, other=0.0)
            total += value * tl.load(u + row, mask=row < rows, other=0.0)[:, None]
        product = tl.sum(total, axis=0)
        tl.store(down + _field(table, COLUMNS_AT) + column, product, mask=column < columns)
        tl.store(squares + tl.program_id(1) * blocks + tl.program_id(0), tl.sum(product * product))


@triton.jit
def _sum_across(table, down, squares, v, across, blocks, ITERATE: tl.constexpr, BLOCKS: tl.constexpr):
    """The vector v, written by the first program, and W v."""
    rows, columns, inner = _size(table, ROWS), _size(table, COLUMNS), _size(table, INNER)
    row = tl.program_id(0) * ACROSS_ROWS + tl.arange(0, ACROSS_ROWS)
    if tl.program_id(0) * ACROSS_ROWS < rows:
        weight, held, at = _pointer(table, WEIGHT), _pointer(table, V), _field(table, COLUMNS_AT)
        if ITERATE:
            block = tl.arange(0, BLOCKS)
            known = block * DOWN_COLUMNS < columns
            length = _length(tl.load(squares + tl.program_id(1) * blocks + block, mask=known, other=0.0))
        total = tl.zeros((ACROSS_ROWS, ACROSS_COLUMNS), dtype=tl.float32)
        for first in range(0, columns, ACROSS_COLUMNS):
            column = first + tl.arange(0, ACROSS_COLUMNS)
            inside = column < columns
            place = held + _published(column, columns, inner)
            if ITERATE:
                vector = tl.load(down + at + column, mask=inside, other=0.0) / length
            else:
                vector = tl.load(place, mask=inside, other=0.0)
            if tl.program_id(0) == 0:
                tl.store(v + at + column, vector, mask=inside)
                if ITERATE:
                    tl.store(place, vector, mask=inside)
            mask = (row < rows)[:, None] & inside[None, :]
            value = tl.load(weight + row[:, None] * columns + column[None, :], mask=mask, other=0.0)
            total += value * vector[None, :]
        tl.store(across + _field(table, ROWS_AT) + row, tl.sum(total, axis=1), mask=row < rows)


@triton.jit
def _scale(table, across, u, sigma, made, ITERATE: tl.constexpr, MOST_ROWS: tl.constexpr):
    """The weight over sigma; the first program writes u, sigma and the bias too."""
    rows, at = _size(table, ROWS), _field(table, ROWS_AT)
    place = tl.program_id(0) * PIECE + tl.arange(0, PIECE)
    count = rows * _size(table, COLUMNS)
    if tl.program_id(0) * PIECE < count:
        every = tl.arange(0, MOST_ROWS)
        held = _pointer(table, U)
        product = tl.load(across + at + every, mask=every < rows, other=0.0)
        if ITERATE:
            vector = product / _length(product * product)
        else:
            vector = tl.load(held + every, mask=every < rows, other=0.0)
        largest = tl.sum(vector * product)
        if tl.program_id(0) == 0:
            tl.store(sigma + tl.program_id(1), largest)
            tl.store(u + at + every, vector, mask=every < rows)
            if ITERATE:
                tl.store(held + every, vector, mask=every < rows)
            if _field(table, BIAS) != 0:
                bias = tl.load(_pointer(table, BIAS) + every, mask=every < rows, other=0.0)
                tl.store(made + _field(table, BIAS_AT) + every, bias, mask=every < rows)
        value = tl.load(_pointer(table, WEIGHT) + place, mask=place < count, other=0.0)
        tl.store(made + _field(table, WEIGHT_AT) + place, value * (1.0 / largest), mask=place < count)


@triton.jit
def _dot(table, gradient, sums, pieces):
    """The sum of gradient times weight over each piece."""
    place = tl.program_id(0) * PIECE + tl.arange(0, PIECE)
    count = _size(table, ROWS) * _size(table, COLUMNS)
    if tl.program_id(0) * PIECE < count:
        value = tl.load(_pointer(table, WEIGHT) + place, mask=place < count, other=0.0)
        slope = tl.load(gradient + _field(table, WEIGHT_PACKED_AT) + place, mask=place < count, other=0.0)
        tl.store(sums + tl.program_id(1) * pieces + tl.program_id(0), tl.sum(value * slope.to(tl.float32)))


@triton.jit
def _differentiate(
    table, gradient, sums, u, v, sigma, made, pieces, PIECES: tl.constexpr, MOST_ROWS: tl.constexpr
):  # fmt: skip
    """The gradient g of a scaled weight becomes g / sigma - (sum of g W) / sigma^2 u v^T; that of a bias is copied."""
    rows, columns = _size(table, ROWS), _size(table, COLUMNS)
    width = tl.cdiv(columns, TILE_COLUMNS)
    row = (tl.program_id(0) // width) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    column = (tl.program_id(0) % width) * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    if (tl.program_id(0) // width) * TILE_ROWS < rows:
        piece = tl.arange(0, PIECES)
        used = piece < tl.cdiv(rows * columns, PIECE)
        total = tl.sum(tl.load(sums + tl.program_id(1) * pieces + piece, mask=used, other=0.0))
        inverse = 1.0 / tl.load(sigma + tl.program_id(1))
        along_row = tl.load(u + _field(table, ROWS_AT) + row, mask=row < rows, other=0.0)
        along_column = tl.load(v + _field(table, COLUMNS_AT) + column, mask=column < columns, other=0.0)
        place = row[:, None] * columns + column[None, :]
        mask = (row < rows)[:, None] & (column < columns)[None, :]
        value = tl.load(gradient + _field(table, WEIGHT_PACKED_AT) + place, mask=mask, other=0.0).to(tl.float32)
        value = value * inverse - (along_row * (total * inverse * inverse))[:, None] * along_column[None, :]
        tl.store(made + _field(table, WEIGHT_AT) + place, value, mask=mask)
        if (tl.program_id(0) == 0) & (_field(table, BIAS) != 0):
            every = tl.arange(0, MOST_ROWS)
            bias = tl.load(gradient + _field(table, BIAS_PACKED_AT) + every, mask=every < rows, other=0.0)
            tl.store(made + _field(table, BIAS_AT) + every, bias.to(tl.float32), mask=every < rows)
