"""Which statistics a generator takes from a picture, as one vector of numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The moments of a picture: means and deviations of `norms` maps, then means and maxima of `gates` maps.

    `norms` are the channels of all norms that take their statistics from the picture, in the order of a forward pass,
    and `gates` those of all channel attentions. With running statistics and without AMMFI there are none.
    """

    norms: int
    gates: int

    @property
    def size(self) -> int:
        """How many numbers, K.

        >>> Layout(norms=3, gates=2).size
        10
        """
        return 2 * (self.norms + self.gates)

    @property
    def means(self) -> slice:
        """Where the means of the norms are in the K numbers."""
        return slice(0, self.norms)

    @property
    def deviations(self) -> slice:
        """Where their deviations are, sqrt(variance + epsilon); 0 of a map whose variance is rounding."""
        return slice(self.norms, 2 * self.norms)

    @property
    def gate_means(self) -> slice:
        """Where the means of the channel attentions are."""
        return slice(2 * self.norms, 2 * self.norms + self.gates)

    @property
    def gate_peaks(self) -> slice:
        """Where their maxima are."""
        return slice(2 * self.norms + self.gates, self.size)
