"""Pictures through feature networks: vectors of each picture, and LPIPS of each picture and the real one.

A picture goes through a network once, however many others it is compared with, and equal pictures go through it once;
features that were computed before come from the cache. Features are saved network by network: a scoring that was
interrupted resumes with the next network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluate.features.cache import Arrays, cached, features_key
from evaluate.features.lpips import TRUNK_NETWORK, Trunk
from evaluate.features.networks import PREPROCESS
from evaluate.features.weights import Networks
from evaluate.inputs.image_set import REAL, ImageSet, SetName
from evaluate.inputs.kept import keep_pictures
from evaluate.inputs.reading import digest_set
from evaluate.protocol import PROTOCOLS, FeatureSpec
from store.cli import track
from store.images import PictureU8
from store.machine.memory import spare_memory
from store.machine.threads import in_order

PIXELS = 1 << 20  # of the pictures that go through a network together
GPU_PIXELS = 8 << 20  # the same on a GPU: all pictures of a place
WHITE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSource:
    """Where features come from: the networks whose weights are here, and the folder in which features are saved."""

    networks: Networks
    cache: Path

    def weights_of_spec(self, spec: FeatureSpec) -> str | None:
        """The sha256 of the weights that a feature spec needs; None if they are missing."""
        return self.networks.digest(PREPROCESS[spec].network)

    def weights_of_trunk(self, trunk: Trunk) -> str | None:
        """The sha256 of the weights of a trunk of LPIPS; None if they are missing."""
        return self.networks.digest(TRUNK_NETWORK[trunk])


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What the networks saw, by name; a spec or trunk whose weights are missing is absent.

    `vectors`: the spatial means [N,C] of each stage, for the pictures of each set. `lpips`: the distance [N] of the
    pictures of each row from the real ones of its protocol.
    """

    vectors: Mapping[FeatureSpec, Mapping[SetName, Arrays]]
    lpips: Mapping[Trunk, Mapping[SetName, NDArray[np.floating]]]


def extract(images: ImageSet, source: FeatureSource) -> Features:
    """The features of all pictures that the protocols need, from every network whose weights are here.

    Pictures are read once for all networks, as many as fit into a quarter of the memory that is free.
    """
    images = keep_pictures(images, spare_memory() // 4)
    return Features(
        vectors={
            spec: compute_vectors(spec, images, source, weights)
            for spec in FeatureSpec
            if (weights := source.weights_of_spec(spec))
        },
        lpips={
            trunk: measure_lpips(trunk, images, source, weights)
            for trunk in Trunk
            if (weights := source.weights_of_trunk(trunk))
        },
    )


def compute_vectors(spec: FeatureSpec, images: ImageSet, source: FeatureSource, weights: str) -> dict[SetName, Arrays]:
    """The vectors of the sets whose protocol needs `spec`: of each stage [N,C].

    The network is loaded only if something is missing in the cache; `weights` is the sha256 of its weights.
    """
    names = [name for name in images.reads if spec in PROTOCOLS[name[0]].specs]
    keys = {name: features_key(spec, weights, digest_set(images.digests[name])) for name in names}
    return cached(source.cache, keys, len(images), lambda missing: _run_pooled(spec, images, missing, source))


def _run_pooled(
    spec: FeatureSpec, images: ImageSet, names: Sequence[SetName], source: FeatureSource
) -> dict[SetName, Arrays]:
    """The vectors of these sets, [N,C] of each stage; pictures with the same pixels go through the network once."""
    pooled, device = source.networks.pooled(spec), source.networks.device
    together = PIXELS if device.type == "cpu" else GPU_PIXELS
    plan = plan_reads(images, names)
    read = in_order(lambda step: [(digest, images.reads[name](place)) for digest, name, place in step], plan)
    seen: dict[str, Arrays] = {}  # by the sha256 of a picture's pixels, [C] of each stage
    for pictures in track(read, what=spec.partition(",")[0], unit="picture", total=len(plan)):
        batch = max(1, together // max((one.shape[0] * one.shape[1] for _, one in pictures), default=1))
        for start in range(0, len(pictures), batch):
            some = pictures[start : start + batch]
            stages = [stage.cpu().numpy() for stage in pooled(to_unit([one for _, one in some], device))]
            for row, (digest, _) in enumerate(some):
                seen[digest] = tuple(stage[row] for stage in stages)
    rows = {name: [seen[digest] for digest in images.digests[name]] for name in names}
    return {name: tuple(np.stack(stage) for stage in zip(*stages, strict=True)) for name, stages in rows.items()}


def plan_reads(images: ImageSet, names: Sequence[SetName]) -> list[list[tuple[str, SetName, int]]]:
    """What is read at each place, with its sha256: every picture of these sets whose pixels did not occur before."""
    seen: set[str] = set()
    plan = []
    for place in range(len(images)):
        new = {images.digests[name][place]: name for name in names if images.digests[name][place] not in seen}
        seen |= new.keys()
        plan.append([(digest, name, place) for digest, name in new.items()])
    return plan


def measure_lpips(
    trunk: Trunk, images: ImageSet, source: FeatureSource, weights: str
) -> dict[SetName, NDArray[np.floating]]:
    """LPIPS of the pictures of each row and the real ones of its protocol, [N] each; arguments as `compute_vectors`."""
    pixels = {name: digest_set(digests) for name, digests in images.digests.items()}
    keys = {
        (protocol, row): features_key("lpips 0.1", trunk, weights, pixels[protocol, row], pixels[protocol, REAL])
        for protocol, row in images.rows
    }
    found = cached(source.cache, keys, len(images), lambda missing: _run_perceptual(trunk, images, missing, source))
    return {name: distances for name, (distances,) in found.items()}


def _run_perceptual(
    trunk: Trunk, images: ImageSet, rows: Sequence[SetName], source: FeatureSource
) -> dict[SetName, Arrays]:
    """Distances [N] of each row. Taps are large: they stay only while one of the next pairs needs the same picture."""
    perceptual, device = source.networks.perceptual(trunk), source.networks.device
    steps = [(place, row, (row[0], REAL)) for place in range(len(images)) for row in rows]
    taps: dict[str, tuple[Tensor, ...]] = {}
    found: dict[SetName, list[float]] = {row: [] for row in rows}
    for step, (place, row, real) in enumerate(track(steps, what=f"LPIPS {trunk}", unit="pair")):
        ahead = steps[step : step + len(rows) + 1]
        soon = {images.digests[name][at] for at, *both in ahead for name in both}
        taps = {digest: tap for digest, tap in taps.items() if digest in soon}
        for name in (row, real):
            if images.digests[name][place] not in taps:
                taps[images.digests[name][place]] = perceptual.taps(to_unit([images.reads[name](place)], device))
        first, second = (taps[images.digests[name][place]] for name in (row, real))
        found[row].append(float(perceptual.distance(first, second)[0]))
    return {row: (np.array(distances),) for row, distances in found.items()}


def to_unit(pictures_u8: Sequence[PictureU8], device: torch.device) -> Tensor:
    """Pictures u8 [H,W,3] of one size as unit [B,3,H,W] float32."""
    stacked = torch.from_numpy(np.stack(pictures_u8)).to(device)  # [B,H,W,3]
    return stacked.permute(0, 3, 1, 2).float() / WHITE
