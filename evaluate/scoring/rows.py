"""The rows of both protocols: all sets of pictures through all networks, then each row's numbers and cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.columns import MISSING, Cell, Metric
from evaluate.features.extract import Arrays, PictureSet, distances, vectors
from evaluate.features.lpips import NETWORKS, Trunk
from evaluate.features.networks import PREPARED
from evaluate.features.weights import Networks
from evaluate.inputs.image_set import Ground
from evaluate.metrics.misregistration import METRICS as LPIPS
from evaluate.metrics.paired import phv
from evaluate.protocol import PROTOCOLS, Protocol, ProtocolName, Reading, Reference
from evaluate.scores_file import Row, Values
from evaluate.scoring.aggregate import PHV_LAYERS, Draws, agreement_cells, fid_cell, kid_cell, mean_cells
from evaluate.scoring.per_image import Judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """The pictures of one protocol: the real ones, and those of each row."""

    real: PictureSet
    fakes: dict[str, PictureSet]


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What the networks need: where they come from, and where their features are kept."""

    networks: Networks
    cache: Path

    def read(self, reading: Reading, sets: Sequence[PictureSet]) -> list[Arrays] | None:
        """Pooled features of sets of pictures; None if the network's weights are missing."""
        weights = self.networks.digest(PREPARED[reading][0])
        if not weights:
            return None
        return vectors(reading, lambda: self.networks.pooled(reading), weights, sets, self.cache, self.networks.device)

    def compare(
        self, trunk: Trunk, pairs: Sequence[tuple[PictureSet, PictureSet]]
    ) -> list[NDArray[np.floating]] | None:
        """LPIPS of pairs of sets; None if the trunk's weights are missing."""
        weights = self.networks.digest(NETWORKS[trunk])
        if not weights:
            return None
        return distances(
            trunk, lambda: self.networks.perceptual(trunk), weights, pairs, self.cache, self.networks.device
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the networks made of one row: features of the real pictures and its own by reading, LPIPS by trunk."""

    features: Mapping[Reading, tuple[Arrays, Arrays]]
    lpips: Mapping[Trunk, NDArray[np.floating]]


def picture_sets(ground: Ground, judged: Sequence[Judged]) -> dict[ProtocolName, Sets]:
    """The sets of pictures of both protocols."""
    return {
        name: Sets(
            real=PictureSet(
                read=ground.reference(protocol.reference),
                digests=tuple(place.references[protocol.reference] for place in judged),
            ),
            fakes={
                row: PictureSet(read=read, digests=tuple(place.rows[name][row].digest for place in judged))
                for row, read in ground.rows(name).items()
            },
        )
        for name, protocol in PROTOCOLS.items()
    }


def score_rows(
    ground: Ground, judged: Sequence[Judged], sets: Mapping[ProtocolName, Sets], depth: Depth
) -> dict[ProtocolName, dict[str, Row]]:
    """Every row of both protocols; a real picture goes through a network once for all rows."""
    draws = Draws.of([target.slide for target in ground.targets])
    seen = _see(sets, depth)
    return {
        name: {row: _row(name, protocol, row, judged, seen[name, row], draws) for row in sets[name].fakes}
        for name, protocol in PROTOCOLS.items()
    }


def _see(sets: Mapping[ProtocolName, Sets], depth: Depth) -> dict[tuple[ProtocolName, str], Seen]:
    """Network by network, all that it has to look at."""
    places = [(name, row) for name, held in sets.items() for row in held.fakes]
    pairs = [(sets[name].fakes[row], sets[name].real) for name, row in places]
    lpips = {trunk: found for trunk in Trunk if (found := depth.compare(trunk, pairs)) is not None}
    features: dict[tuple[ProtocolName, Reading], list[Arrays]] = {}
    for name, protocol in PROTOCOLS.items():
        for reading in dict.fromkeys((protocol.phv, protocol.fid, protocol.kid)):
            read = depth.read(reading, [sets[name].real, *sets[name].fakes.values()])
            if read is not None:
                features[name, reading] = read
    return {
        (name, row): Seen(
            features={
                reading: (found[0], found[1 + list(sets[name].fakes).index(row)])
                for (at, reading), found in features.items()
                if at is name
            },
            lpips={trunk: found[place] for trunk, found in lpips.items()},
        )
        for place, (name, row) in enumerate(places)
    }


def _row(name: ProtocolName, protocol: Protocol, row: str, judged: Sequence[Judged], seen: Seen, draws: Draws) -> Row:
    values = _values(
        [place.rows[name][row].ssim for place in judged],
        [place.rows[name][row].psnr for place in judged],
        seen,
        protocol,
    )
    stained = [place.stained[row] for place in judged] if protocol.reference is Reference.STORED else []
    real = [place.real.parts for place in judged]
    return Row(
        cells=mean_cells(values, draws) | _distance_cells(seen, protocol, draws),
        agreement=agreement_cells([one.parts for one in stained], real, draws) if stained else {},
        values=Values(
            metrics=values,
            density=tuple(one.brown.density for one in stained),
            integrated=tuple(one.brown.integrated for one in stained),
            positive=tuple(one.brown.positive for one in stained),
        ),
    )


def _values(
    ssim: Sequence[float], psnr: Sequence[float], seen: Seen, protocol: Protocol
) -> dict[Metric, tuple[float, ...]]:
    """One number per picture of every paired metric whose network is here."""
    values = {Metric.SSIM: tuple(ssim), Metric.PSNR: tuple(psnr)}
    if protocol.phv in seen.features:
        real, fake = seen.features[protocol.phv]
        layers = phv(fake, real, protocol.phv_threshold)  # [N,4]
        values |= {layer: tuple(layers[:, place].tolist()) for place, layer in enumerate(PHV_LAYERS)}
        values[Metric.PHV] = tuple(layers.mean(axis=1).tolist())
    return values | {LPIPS[trunk]: tuple(float(one) for one in found) for trunk, found in seen.lpips.items()}


def _distance_cells(seen: Seen, protocol: Protocol, draws: Draws) -> dict[Metric, Cell]:
    """FID and KID, of the last stage of their readings."""
    cells = {}
    for metric, reading, cell in ((Metric.FID, protocol.fid, fid_cell), (Metric.KID, protocol.kid, kid_cell)):
        cells[metric] = Cell(note=MISSING)
        if reading in seen.features:
            real, fake = seen.features[reading]
            alone = Cell(note="a distance of sets needs at least 2 pictures")
            cells[metric] = cell(fake[-1], real[-1], protocol, draws) if len(real[-1]) > 1 else alone
    return cells
