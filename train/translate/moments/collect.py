"""The moments of windows: what the norms and the channel attention of a generator take from a picture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from train.networks.moments import moments_from
from train.networks.norms import normalise, varies
from train.networks.resnet import ResnetGenerator
from train.networks.unet import UnetGenerator
from train.translate.moments.layout import Layout

Generator = ResnetGenerator | UnetGenerator


class Collector:
    """Lets the layers of a network compute as they do, and notes their statistics in float32.

    `together`: the pictures of a batch share their statistics, as those of one large picture, but a maximum is the mean
    of their maxima, because it grows with the area that it is taken of.
    """

    def __init__(self, *, together: bool) -> None:
        self._together = together
        self._means: list[Tensor] = []
        self._deviations: list[Tensor] = []
        self._gate_means: list[Tensor] = []
        self._gate_peaks: list[Tensor] = []

    def normalise(self, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        """As the layer does; variances are biased, as there."""
        found = [normalise(maps, weight, bias, epsilon) for maps in self._groups(x)]
        means = torch.stack([mean for _, mean, _ in found])  # [B,C], or [1,C] together
        unbiased = torch.stack([variance for _, _, variance in found])
        positions = x.numel() // x.shape[1] // len(found)
        deviations = (unbiased * ((positions - 1) / positions) + epsilon).sqrt()
        self._means.append(means)
        self._deviations.append(torch.where(varies(means, unbiased), deviations, 0))
        return found[0][0] if len(found) == 1 else torch.cat([made for made, _, _ in found])

    def gate(self, x: Tensor, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """As channel attention does, [B,C,1,1]."""
        mean, peak = x.mean(dim=(2, 3), dtype=torch.float32), x.amax(dim=(2, 3)).float()  # [B,C]
        if self._together:
            mean, peak = mean.mean(dim=0, keepdim=True), peak.mean(dim=0, keepdim=True)
        self._gate_means.append(mean)
        self._gate_peaks.append(peak)
        return of(mean, peak)[:, :, None, None]

    def _groups(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps that share their statistics."""
        return (x,) if self._together else torch.split(x, 1)

    def moments(self, rows: int) -> Tensor:
        """All that was noted, float32 [rows,K] in the order of `Layout`; `rows` says how many where it is nothing."""
        parts = [*self._means, *self._deviations, *self._gate_means, *self._gate_peaks]
        return torch.cat(parts, dim=1).float() if parts else torch.empty(rows, 0)

    def layout(self) -> Layout:
        """How many numbers of which kind were noted."""
        return Layout(norms=_channels(self._means), gates=_channels(self._gate_means))


def _channels(parts: list[Tensor]) -> int:
    return sum(part.shape[1] for part in parts)


def collect(generator: nn.Module, windows: Tensor) -> Tensor:
    """The moments of windows, each under its own statistics, signed [B,3,H,W] -> float32 [B,K]."""
    return _collected(generator, windows, together=False).moments(len(windows))


def collect_together(generator: nn.Module, windows: Tensor) -> Tensor:
    """The moments of windows as if they were one picture, signed [B,3,H,W] -> float32 [K].

    Each layer sees maps that the pooled statistics of the layers before it normalised, as it does when these moments
    are given: moments of single windows, pooled afterwards, are those of other maps.
    """
    return _collected(generator, windows, together=True).moments(1)[0]


def layout_of(generator: Generator) -> Layout:
    """Which moments `collect` returns, found on the smallest picture."""
    side = 2 * generator.multiple
    device = next(generator.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # dropout draws
        return _collected(generator, torch.zeros(1, 3, side, side, device=device), together=False).layout()


@torch.inference_mode()
def _collected(generator: nn.Module, windows: Tensor, *, together: bool) -> Collector:
    collector = Collector(together=together)
    with moments_from(generator, collector):
        generator(windows)
    return collector
