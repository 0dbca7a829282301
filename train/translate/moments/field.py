"""Moments as a function of the place in a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.translate.moments.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where the nodes of a field are, in px from the window's corner: the first one, and how far apart they are."""

    top: float = 0.0
    left: float = 0.0
    spacing: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Moments at nodes over a window, bilinear between them and constant beyond the outermost.

    nodes: float32 [B,K,rows,columns]; a single node is the same everywhere.
    """

    nodes: Tensor
    layout: Layout
    geometry: Geometry = Geometry()

    @classmethod
    def everywhere(cls, moments: Tensor, layout: Layout) -> Field:
        """The same moments [K] at each place."""
        return cls(nodes=moments[None, :, None, None], layout=layout)

    @classmethod
    def stack(cls, fields: Sequence[Field]) -> Field:
        """The fields of several windows as one of a batch: of one shape, and with several nodes of one geometry."""
        first = fields[0]
        nodes = torch.cat([field.nodes for field in fields])
        return cls(nodes=nodes, layout=first.layout, geometry=first.geometry)
