"""The statistics of one picture for every picture: what makes tiles of it fit together in any program."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from train.translate.moments.field import Field
from train.translate.moments.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """The moments of a picture, float32 [K]; `source` is the sha256 of the picture."""

    moments: Tensor
    layout: Layout
    source: str

    @property
    def field(self) -> Field:
        """The same for a translation in PyTorch."""
        return Field.everywhere(self.moments, self.layout)


@dataclass(slots=True)
class InOrder:
    """Moments as layers take them, in the order of a forward pass."""

    frozen: Frozen
    norms: int = 0
    gates: int = 0

    def norm(self, channels: int) -> tuple[Tensor, Tensor]:
        """Means and deviations of the next norm, [C] each; a deviation is 0 where the map does not vary."""
        taken = slice(self.norms, self.norms + channels)
        self.norms = taken.stop
        moments, layout = self.frozen.moments, self.frozen.layout
        return moments[layout.means][taken], moments[layout.deviations][taken]

    def gate(self, channels: int) -> tuple[Tensor, Tensor]:
        """Means and maxima of the next channel attention, [1,C] each."""
        taken = slice(self.gates, self.gates + channels)
        self.gates = taken.stop
        moments, layout = self.frozen.moments, self.frozen.layout
        return moments[layout.gate_means][None, taken], moments[layout.gate_peaks][None, taken]
