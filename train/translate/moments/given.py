"""A pass of a generator with given moments."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from train.networks.moments import moments_from
from train.translate.moments.field import Field


class Given:
    """Normalises by the moments of a field, in the order in which a `Collector` notes them, in float32.

    side: the window's height and width in px, which says how far apart the positions of a map are.
    """

    def __init__(self, field: Field, side: tuple[int, int]) -> None:
        nodes, layout = field.nodes, field.layout
        self._means, self._deviations = nodes[:, layout.means], nodes[:, layout.deviations]
        self._gate_means, self._peaks = nodes[:, layout.gate_means], nodes[:, layout.gate_peaks]
        self._field = field
        self._side = side
        self._norm = self._gate = 0  # how many channels have been given

    def normalise(self, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """Maps less the means, divided by the deviations, which hold epsilon; the bias where a deviation is 0."""
        taken = slice(self._norm, self._norm + x.shape[1])
        self._norm = taken.stop
        mean, deviation = self._means[:, taken], self._deviations[:, taken]  # [B,C,rows,columns]
        with torch.autocast(x.device.type, enabled=False):
            mean, deviation = self._spread(mean, x), self._spread(deviation, x)
            inverse = torch.where(deviation > 0, weight[:, None, None] / deviation, 0)
            return ((x - mean) * inverse + bias[:, None, None]).to(x.dtype)

    def gate(self, x: Tensor, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The factors at the nodes, and those between them interpolated, which stay in (0,1)."""
        taken = slice(self._gate, self._gate + x.shape[1])
        self._gate = taken.stop
        mean, peak = self._gate_means[:, taken], self._peaks[:, taken]
        batch, channels, rows, columns = mean.shape
        flat = (nodes.permute(0, 2, 3, 1).reshape(-1, channels) for nodes in (mean, peak))
        factors = of(*flat).float().reshape(batch, rows, columns, channels).permute(0, 3, 1, 2)
        with torch.autocast(x.device.type, enabled=False):
            return self._spread(factors, x).to(x.dtype)

    def _spread(self, nodes: Tensor, x: Tensor) -> Tensor:
        """Values at nodes [B,C,rows,columns] at the positions of a map [B,C,h,w]; [B,C,1,1] of a single node."""
        if nodes.shape[2:] == (1, 1):
            return nodes
        at = self._field.geometry
        down = weights_of(x.shape[2], self._side[0], at.top, at.spacing, nodes.shape[2]).to(nodes.device)
        across = weights_of(x.shape[3], self._side[1], at.left, at.spacing, nodes.shape[3]).to(nodes.device)
        return down @ (nodes @ across.T)


def weights_of(count: int, side: int, first: float, spacing: float, nodes: int) -> Tensor:
    """The share of each node in each of `count` positions of a map over `side` px, float32 [count,nodes].

    Positions are the centres of equal parts of the side.
    """
    place = (torch.arange(count, dtype=torch.float64) + 0.5) * (side / count)  # px from the window's corner
    place = ((place - first) / spacing).clamp(0, nodes - 1)
    return (1 - (place[:, None] - torch.arange(nodes)).abs()).clamp(min=0).float()


@torch.inference_mode()
def translate_given(generator: nn.Module, windows: Tensor, field: Field) -> Tensor:
    """Windows translated with the moments of a field, signed [B,3,H,W] to the same shape; one field goes for all."""
    height, width = windows.shape[2:]
    with moments_from(generator, Given(field, (height, width))):
        made: Tensor = generator(windows)
    return made
