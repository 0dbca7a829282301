"""Patches of feature maps and the heads that project them: what PatchNCE compares.

A patch is one position of a map, counted row by row. Sources: CUT (ECCV 2020); normalisation of ASP (MICCAI 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from train.kernels import launching
from train.settings import UnitLength

HEAD_GAIN = 0.02
NORM_SHIFT = 1e-7


def draw_positions(places: Sequence[int], patches: int, generator: torch.Generator) -> list[Tensor]:
    """For each map of so many places, h w, min(patches, h w) different positions, int64 [P] on the generator's device.

    The same positions serve all pictures of the batch, query and key.
    """
    return [draw_first(count, patches, generator) for count in places]


def draw_first(count: int, wanted: int, generator: torch.Generator) -> Tensor:
    """The first of a permutation: `torch.randperm(count, generator=generator)[:wanted]`, and as many draws after it.

    PyTorch swaps place n with the place z behind it, where z is the next 32 bits modulo count - n. Only the first swaps
    are made here: the taps of a picture of 512 px take 1.2 ms, not 4.0, for which a GPU might wait.
    """
    if 2 * wanted >= count or generator.device.type != "cpu":
        return torch.randperm(count, generator=generator, device=generator.device)[:wanted]
    words = torch.empty((count - 1) // 2, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    if count % 2 == 0:
        torch.empty(1, dtype=torch.int32).random_(generator=generator)  # the last 32 bits
    if type(words) is not Tensor:  # a fake tensor has no values
        return words[:wanted]
    used = words[: wanted // 2 + 1].numpy().view(np.uint64)
    draws = np.stack((used >> np.uint64(32), used & np.uint64(2**32 - 1)), axis=1).reshape(-1)[:wanted].astype(np.int64)
    first = np.arange(wanted)
    swapped: dict[int, int] = {}
    for place, other in zip(first.tolist(), (first + draws % (count - first)).tolist(), strict=True):
        first[place] = swapped.get(other, other)
        swapped[other] = swapped.get(place, place)
    return torch.from_numpy(first)


def gather_patches(features: Tensor, positions: Tensor) -> Tensor:
    """The columns of a map at `positions`: [B,C,h,w], [P] -> [B,P,C]."""
    rows = features.permute(0, 2, 3, 1).flatten(1, 2)  # [B,hw,C], a view of a channels-last map
    return rows.index_select(1, positions.to(features.device))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The taps of two pictures, maps [B,C,h,w], and the positions [P] of each tap at which they are compared."""

    query: Sequence[Tensor]
    key: Sequence[Tensor]
    positions: Sequence[Tensor]

    @property
    def even(self) -> bool:
        """Whether all taps have as many patches."""
        return len({len(positions) for positions in self.positions}) == 1


class ProjectionHeads(nn.Module):
    """A two-layer perceptron per tap, C -> width -> width, whose output has unit length.

    It stays float32 under autocast: its cosines are divided by a temperature of 0.07, and it costs little. Weights are
    Xavier normal with gain 0.02, biases 0; no spectral norm. Source: CUT, netF mlp_sample.
    """

    def __init__(self, channels: Sequence[int], width: int, unit_length: UnitLength = UnitLength.ASP) -> None:
        super().__init__()
        self.unit_length = unit_length
        self.normalise = NORMALISERS[unit_length]
        self.heads = nn.ModuleList(_head(inputs, width) for inputs in channels)

    def forward(self, features: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Maps [B,C,h,w] and positions [P], one per tap. Returns unit vectors, [B,P,width] per tap."""
        projected = []
        for head, tap, chosen in zip(self.heads, features, positions, strict=True):
            with torch.autocast(tap.device.type, enabled=False):
                patches = gather_patches(tap, chosen).to(head.get_parameter("0.weight").dtype)
                projected.append(self.normalise(head(patches)))  # [B,P,width]
        return projected

    def compare(self, comparisons: Sequence[Comparison]) -> list[tuple[list[Tensor], list[Tensor]]]:
        """Unit vectors of queries and keys for each comparison; those of keys have no gradient.

        [B,P,width] per tap; from fused kernels one tensor for all taps, [taps,B,P,width].
        """
        maps = [tap for comparison in comparisons for tap in (*comparison.query, *comparison.key)]
        if launching.takes(*maps) and all(comparison.even for comparison in comparisons):
            return self._compare_at_once(comparisons)
        made = []
        for comparison in comparisons:
            queries = self(comparison.query, comparison.positions)
            with torch.no_grad():
                made.append((queries, self(comparison.key, comparison.positions)))
        return made

    def _compare_at_once(self, comparisons: Sequence[Comparison]) -> list[tuple[list[Tensor], list[Tensor]]]:
        from train.kernels.patches import heads

        asp = self.unit_length is UnitLength.ASP
        terms = [
            heads.Term(query=c.query, key=c.key, positions=[p.to(c.query[0].device) for p in c.positions])
            for c in comparisons
        ]
        job = heads.Job(terms=terms, inside=NORM_SHIFT if asp else 0.0, outside=0.0 if asp else NORM_SHIFT)
        first, second = (
            [(head.get_parameter(f"{n}.weight"), head.get_parameter(f"{n}.bias")) for head in self.heads]
            for n in (0, 2)
        )
        return [([query], [key]) for query, key in heads.project(job, first, second)]


def normalise(vectors: Tensor) -> Tensor:
    """Unit length along the last axis as in ASP: 1e-7 is added to every component before the length is computed.

    A zero vector then has a length and a finite gradient.
    """
    length: Tensor = torch.linalg.vector_norm(vectors + NORM_SHIFT, dim=-1, keepdim=True)
    return vectors / length


def normalise_as_cut(vectors: Tensor) -> Tensor:
    """Unit length along the last axis as in CUT: divided by length + 1e-7."""
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / (length + NORM_SHIFT)


NORMALISERS: dict[UnitLength, Callable[[Tensor], Tensor]] = {
    UnitLength.ASP: normalise,
    UnitLength.CUT: normalise_as_cut,
}


def _head(inputs: int, width: int) -> nn.Sequential:
    first, second = nn.Linear(inputs, width), nn.Linear(width, width)
    for layer in (first, second):
        nn.init.xavier_normal_(layer.weight, HEAD_GAIN)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), second)
