"""Where norms and channel attention take the statistics of a picture from, if not from the maps that they are given.

What such a layer computes depends on the whole picture, so that a tile of it gets other colours. A source replaces its
own statistics for a pass: one that notes them, or one that gives those of a larger picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn


class MomentSource(Protocol):
    """Takes the place of the statistics in the layers of a network; they ask in the order of a forward pass."""

    def normalise(self, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """Maps [B,C,h,w] less a mean, divided by a deviation, times weight, plus bias, [C] each; keeps the dtype."""
        ...

    def gate(self, x: Tensor, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Factors in (0,1) for maps [B,C,h,w], [B,C,h,w] or [B,C,1,1]; `of` makes them of mean and maximum, [N,C]."""
        ...


class TakesMoments:
    """A layer that computes with statistics of whole maps: its own, or those of the source, if it has one."""

    moments: MomentSource | None = None


@contextmanager
def moments_from(network: nn.Module, source: MomentSource) -> Iterator[None]:
    """Let the layers of a network ask `source` for statistics; batch norm with running statistics keeps its own."""
    layers = [layer for layer in network.modules() if isinstance(layer, TakesMoments)]
    for layer in layers:
        layer.moments = source
    try:
        yield
    finally:
        for layer in layers:
            layer.moments = None
