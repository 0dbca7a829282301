"""The patches of all contrastive terms through the projection heads of all taps, in one autograd function.

Patches of queries and keys are gathered into one matrix for each tap; the second layers and the unit length of all taps
are computed together. Only the queries' rows are kept for the gradient. Gathering and its transpose read and write a
map in place, whatever its memory format; the positions of a term differ, so no two programs add to one pixel, and terms
are added one after the other: it repeats bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

CHANNELS = 256  # of a program that copies a pixel
ROWS = tl.constexpr(4)  # of a program that normalises vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Maps [B,C,h,w] of each tap, and positions [P], int64 on their device and as many at every tap."""

    query: Sequence[Tensor]
    key: Sequence[Tensor]
    positions: Sequence[Tensor]

    @property
    def shape(self) -> tuple[int, int]:
        """Pictures and patches of each."""
        return self.query[0].shape[0], self.positions[0].shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All terms, and how unit length is made: length = |v + inside| + outside."""

    terms: Sequence[Term]
    inside: float
    outside: float

    @property
    def taps(self) -> int:
        """How many there are."""
        return len(self.terms[0].query)

    @property
    def starts(self) -> list[int]:
        """The first row of each term among all queries, or among all keys; and their number."""
        found = [0]
        for batch, patches in (term.shape for term in self.terms):
            found.append(found[-1] + batch * patches)
        return found


def project(
    job: Job, first: Sequence[tuple[Tensor, Tensor]], second: Sequence[tuple[Tensor, Tensor]]
) -> list[tuple[Tensor, Tensor]]:
    """Unit vectors of queries and, without gradient, of keys for each term: [taps,B,P,width] both.

    first, second: weight and bias of each tap's two linear layers, float32.
    """
    maps = [tap for term in job.terms for tap in term.query]
    parameters = [part for layers in (first, second) for parts in zip(*layers, strict=True) for part in parts]
    made = _Project.apply(job, *maps, *parameters)
    return list(zip(made[: len(job.terms)], made[len(job.terms) :], strict=True))


class _Project(Function):
    @staticmethod
    def forward(ctx: Any, job: Job, *inputs: Tensor) -> tuple[Tensor, ...]:
        maps = len(job.terms) * job.taps
        weights, biases, seconds, ends = (inputs[maps + n * job.taps : maps + (n + 1) * job.taps] for n in range(4))
        starts, half = job.starts[:-1], job.starts[-1]
        hidden = weights[0].new_empty(job.taps, 2 * half, weights[0].shape[0])
        patches = [weight.new_empty(2 * half, weight.shape[1]) for weight in weights]
        with torch.autocast(hidden.device.type, enabled=False):
            for tap, rows in enumerate(patches):
                for start, term in zip(starts, job.terms, strict=True):
                    gather(term.query[tap], term.positions[tap], rows[start:])
                    gather(term.key[tap], term.positions[tap], rows[half + start :])
                torch.addmm(biases[tap], rows, weights[tap].t(), out=hidden[tap])
            stacked = torch.stack(seconds)  # [taps,width,width]
            raw = torch.baddbmm(torch.stack(ends)[:, None], hidden.relu_(), stacked.transpose(1, 2))
        vectors = unit(raw, job.inside, job.outside)
        ctx.starts, ctx.taps, ctx.length = job.starts, job.taps, (job.inside, job.outside)
        ctx.maps = [(x.shape, x.dtype) for x in inputs[:maps]]
        ctx.same = [next(n for n, other in enumerate(inputs) if other is x) for x in inputs[:maps]]
        positions = [chosen for term in job.terms for chosen in term.positions]
        ctx.save_for_backward(*weights, stacked, hidden, raw, *patches, *positions)
        sides = [
            [
                vectors[:, first + start :][:, : term.shape[0] * term.shape[1]].unflatten(1, term.shape)
                for start, term in zip(starts, job.terms, strict=True)
            ]
            for first in (0, half)
        ]
        ctx.mark_non_differentiable(*sides[1])
        ctx.set_materialize_grads(False)
        return *sides[0], *sides[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        taps, half = ctx.taps, ctx.starts[-1]
        weights, (stacked, hidden, raw) = ctx.saved_tensors[:taps], ctx.saved_tensors[taps : taps + 3]
        patches = ctx.saved_tensors[taps + 3 : 2 * taps + 3]
        hidden = hidden[:, :half]
        upstream = _upstream(gradients, ctx.starts, hidden)
        with torch.autocast(raw.device.type, enabled=False):
            slope = unit_gradient(raw, upstream, *ctx.length)
            seconds, ends = torch.bmm(slope.transpose(1, 2), hidden), slope.sum(dim=1)
            slope = torch.ops.aten.threshold_backward(torch.bmm(slope, stacked), hidden, 0)
            biases = slope.sum(dim=1)
            firsts = [torch.mm(s.t(), rows[:half]) for s, rows in zip(slope, patches, strict=True)]
            rows = [torch.mm(s, weight) for s, weight in zip(slope, weights, strict=True)]
        return None, *_scatter_all(ctx, rows), *firsts, *biases, *seconds, *ends


def _upstream(gradients: Sequence[Tensor | None], starts: Sequence[int], like: Tensor) -> Tensor:
    """The gradients of all terms' queries [taps,rows,width], 0 for a term that nothing uses."""
    parts = [
        like.new_zeros(len(like), end - start, like.shape[2]) if gradient is None else gradient.flatten(1, 2)
        for gradient, (start, end) in zip(gradients, pairwise(starts), strict=False)
    ]
    return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts, dim=1)


def _scatter_all(ctx: Any, rows: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients of all maps; of a map that several terms use, the first holds all and the others None."""
    made: list[Tensor | None] = []
    for place, (shape, dtype) in enumerate(ctx.maps):
        term, tap = divmod(place, ctx.taps)
        same = ctx.same[place]
        held = made[same] if same < place else None
        if held is None and ctx.needs_input_grad[1 + place]:
            held = torch.empty(shape, dtype=dtype, device=rows[tap].device, memory_format=torch.channels_last).zero_()
        if held is not None:
            positions = ctx.saved_tensors[place - len(ctx.maps)]
            scatter(held, positions, rows[tap][ctx.starts[term] : ctx.starts[term + 1]])
        made.append(held if same == place else None)
    return made


def gather(features: Tensor, positions: Tensor, rows: Tensor) -> None:
    """Write the columns of a map [B,C,h,w] at `positions` [P] to the first B x P of `rows` [...,C]."""
    batch, channels = features.shape[:2]
    side = min(triton.next_power_of_2(channels), CHANNELS)
    grid = (batch * len(positions), triton.cdiv(channels, side))
    _gather[grid](features, positions, rows, channels, features.shape[3], len(positions), *features.stride(), side)


def scatter(features: Tensor, positions: Tensor, rows: Tensor) -> None:
    """Add `rows` [B x P,C] to the columns of a map at `positions`, all different."""
    batch, channels = features.shape[:2]
    side = min(triton.next_power_of_2(channels), CHANNELS)
    grid = (batch * len(positions), triton.cdiv(channels, side))
    _scatter[grid](features, positions, rows, channels, features.shape[3], len(positions), *features.stride(), side)


def unit(vectors: Tensor, inside: float, outside: float) -> Tensor:
    """`vectors` [...,D], without gaps, over |v + inside| + outside."""
    made, (count, width) = torch.empty_like(vectors), vectors.flatten(0, -2).shape
    _unit[triton.cdiv(count, ROWS.value),](vectors, made, count, width, inside, outside, triton.next_power_of_2(width))
    return made


def unit_gradient(vectors: Tensor, upstream: Tensor, inside: float, outside: float) -> Tensor:
    """The gradient of the first rows of vectors [taps,rows,D] from that of their unit vectors [taps,fewer rows,D]."""
    (taps, count, width), made = upstream.shape, torch.empty_like(upstream)
    grid = (triton.cdiv(count, ROWS.value), taps)
    sizes = (count, vectors.shape[1], width)
    _unit_gradient[grid](vectors, upstream, made, *sizes, inside, outside, triton.next_power_of_2(width))
    return made


@triton.jit
def _pixel(
    positions, channels, width, patches, picture_stride, channel_stride, row_stride, column_stride,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    """Where a program's channels lie in the map and in the rows, and which of them there are."""
    row = tl.program_id(0)
    place = tl.load(positions + row % patches)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    pixel = (row // patches).to(tl.int64) * picture_stride + place // width * row_stride + place % width * column_stride
    return pixel + channel * channel_stride, row.to(tl.int64) * channels + channel, channel < channels


@triton.jit
def _gather(
    features, positions, rows, channels, width, patches, picture_stride, channel_stride, row_stride, column_stride,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    source, goal, mask = _pixel(
        positions, channels, width, patches, picture_stride, channel_stride, row_stride, column_stride, CHANNELS
    )
    tl.store(rows + goal, tl.load(features + source, mask=mask), mask=mask)


@triton.jit
def _scatter(
    features, positions, rows, channels, width, patches, picture_stride, channel_stride, row_stride, column_stride,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    goal, source, mask = _pixel(
        positions, channels, width, patches, picture_stride, channel_stride, row_stride, column_stride, CHANNELS
    )
    value = tl.load(features + goal, mask=mask).to(tl.float32) + tl.load(rows + source, mask=mask)
    tl.store(features + goal, value, mask=mask)


@triton.jit
def _unit(vectors, made, count, width, inside, outside, WIDTH: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    mask = (row < count) & (column < width)
    value = tl.load(vectors + row.to(tl.int64) * width + column, mask=mask, other=0.0)
    shifted = tl.where(mask, value + inside, 0.0)
    length = tl.where(row < count, tl.sqrt(tl.sum(shifted * shifted, axis=1))[:, None] + outside, 1.0)
    tl.store(made + row.to(tl.int64) * width + column, value / length, mask=mask)


@triton.jit
def _unit_gradient(
    vectors, upstream, made, count, rows, width, inside, outside, WIDTH: tl.constexpr
):  # fmt: skip
    """Of v / (l + outside) with l = |v + inside|: g / (l + outside) - (g . v) / (l + outside)^2 (v + inside) / l."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, WIDTH)[None, :]
    mask = (row < count) & (column < width)
    tap = tl.program_id(1).to(tl.int64)
    place = (tap * count + row) * width + column
    value = tl.load(vectors + (tap * rows + row) * width + column, mask=mask, other=0.0)
    slope = tl.load(upstream + place, mask=mask, other=0.0)
    shifted = tl.where(mask, value + inside, 0.0)
    length = tl.sqrt(tl.sum(shifted * shifted, axis=1))[:, None]
    direction = shifted / tl.where(length > 0.0, length, 1.0)
    divisor = tl.where(row < count, length + outside, 1.0)
    along = tl.sum(slope * value, axis=1)[:, None] / (divisor * divisor)
    tl.store(made + place, slope / divisor - along * direction, mask=mask)
