"""A pass of a generator with given moments."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.networks.moments import moments_from
from train.translate.moments.field import Field

IN_CACHE = {"cpu": 1 << 17, "cuda": 1 << 24}  # values of a map that are normalised at once by moments of each place
SMALLEST = 1e-30  # for a weight of 0, by which nothing can be divided


class Given:
    """Normalises by the moments of a field, in the order in which a `Collector` notes them, in float32.

    side: the window's height and width in px, which says how far apart the positions of a map are.
    """

    def __init__(self, field: Field, side: tuple[int, int]) -> None:
        nodes, layout = field.nodes.movedim(1, -1), field.layout  # [B,rows,columns,K]
        self._means, self._deviations = nodes[..., layout.means], nodes[..., layout.deviations]
        self._gate_means, self._peaks = nodes[..., layout.gate_means], nodes[..., layout.gate_peaks]
        self._geometry = field.geometry
        self._side = side
        self._norm = self._gate = 0  # how many channels have been given

    def normalise(self, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """Maps less the means, divided by the deviations, which hold epsilon; the bias where a deviation is 0."""
        taken = slice(self._norm, self._norm + x.shape[1])
        self._norm = taken.stop
        means, deviations = (
            of[..., taken].to(weight).expand(len(x), -1, -1, -1) for of in (self._means, self._deviations)
        )
        if means.shape[1:3] == (1, 1):
            pictures = [
                F.batch_norm(maps, mean.flatten(), _variance(deviation.flatten()), weight, bias, eps=0.0)
                for maps, mean, deviation in zip(torch.split(x, 1), means, deviations, strict=True)
            ]
            return pictures[0] if len(pictures) == 1 else torch.cat(pictures)
        made = torch.empty_like(x)
        divisors = torch.where(deviations > 0, deviations, 1) / torch.where(weight == 0, SMALLEST, weight)
        for maps, target, mean, divisor in zip(x, made, means - bias * divisors, divisors, strict=True):
            self._normalise_each(maps.movedim(0, -1), target.movedim(0, -1), mean, divisor)
        return made

    def _normalise_each(self, x: Tensor, made: Tensor, mean: Tensor, divisor: Tensor) -> None:
        """Write (x - mean) / divisor of each place to `made`: maps [h,w,C] of a picture, nodes [rows,columns,C].

        A few rows at a time, whose moments stay in the cache: three times as fast as with whole maps of moments.
        """
        height, width, channels = x.shape
        block = min(height, max(1, IN_CACHE[x.device.type] // (width * channels)))
        with torch.autocast(x.device.type, enabled=False):
            down, across = self._weights(height, width, x.device)
            mean, divisor = (torch.einsum("wn,rnc->rwc", across, nodes).flatten(1) for nodes in (mean, divisor))
            means, divisors = (mean.new_empty(block, width * channels) for _ in range(2))
            for top in range(0, height, block):
                rows = down[top : top + block]
                at = torch.mm(rows, mean, out=means[: len(rows)]).view(-1, width, channels)
                by = torch.mm(rows, divisor, out=divisors[: len(rows)]).view(-1, width, channels)
                made[top : top + block] = torch.sub(x[top : top + block], at, out=at).div_(by)

    def gate(self, x: Tensor, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The factors at the nodes, and those between them interpolated, which stay in (0,1)."""
        taken = slice(self._gate, self._gate + x.shape[1])
        self._gate = taken.stop
        mean, peak = self._gate_means[..., taken], self._peaks[..., taken]  # [B,rows,columns,C]
        factors = of(mean.to(x.device).flatten(0, 2), peak.to(x.device).flatten(0, 2)).reshape(mean.shape)
        if mean.shape[1:3] == (1, 1):
            return factors.movedim(-1, 1)
        height, width = x.shape[2:]
        with torch.autocast(x.device.type, enabled=False):
            down, across = (weights.to(factors.dtype) for weights in self._weights(height, width, x.device))
            spread = torch.einsum("hr,wn,brnc->bhwc", down, across, factors)
        return spread.movedim(-1, 1).to(x.dtype)

    def _weights(self, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The share of each row of nodes in the rows of a map, and of each column in its columns.

        Made on the device: a GPU would be waited for at each layer if they were copied to it.
        """
        at = self._geometry
        rows, columns = self._means.shape[1:3]
        down = weights_of(height, self._side[0], at.top, at.spacing, rows, device)
        return down, weights_of(width, self._side[1], at.left, at.spacing, columns, device)


def weights_of(
    count: int, side: int, first: float, spacing: float, nodes: int, device: torch.device | None = None
) -> Tensor:
    """The share of each node in each of `count` positions of a map over `side` px, float32 [count,nodes].

    Positions are the centres of equal parts of the side.

    >>> weights_of(4, side=4, first=1, spacing=2, nodes=2)[:, 1]
    tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    place = (torch.arange(count, dtype=torch.float64, device=device) + 0.5) * (
        side / count
    )  # px from the window's corner
    place = ((place - first) / spacing).clamp(0, nodes - 1)
    return (1 - (place[:, None] - torch.arange(nodes, device=device)).abs()).clamp(min=0).float()


def _variance(deviation: Tensor) -> Tensor:
    """Its square; infinite where it is 0, which makes the result the bias."""
    return torch.where(deviation > 0, deviation.square(), torch.inf)


@torch.inference_mode()
def translate_given(generator: nn.Module, windows: Tensor, field: Field) -> Tensor:
    """Windows translated with the moments of a field, signed [B,3,H,W] to the same shape; one field goes for all."""
    height, width = windows.shape[2:]
    with moments_from(generator, Given(field, (height, width))):
        made: Tensor = generator(windows)
    return made
