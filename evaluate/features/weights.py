"""The feature networks that are at hand: each loaded when it is first needed, on one device."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from evaluate.features.lpips import NETWORKS, Perceptual, Trunk, load_perceptual
from evaluate.features.networks import PREPARED as READINGS
from evaluate.features.networks import Pooled, find_weights, pooled, read_parameters
from evaluate.features.winograd import quicken
from evaluate.protocol import FILES, Network, Reading
from store.schema import RunError, WeightsError

DEVICES = ("auto", "cpu", "cuda")


class Networks(Protocol):
    """Where readings and trunks come from; a test brings its own."""

    @property
    def device(self) -> torch.device:
        """Where pictures are to be put."""

    def digest(self, network: Network) -> str:
        """The sha256 of a network's weights; empty if they are not here."""

    def pooled(self, reading: Reading) -> Pooled:
        """A reading whose network is here."""

    def perceptual(self, trunk: Trunk) -> Perceptual:
        """LPIPS on a trunk that is here."""


class WeightsFolder:
    """The networks whose weight files lie in a folder."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.device = device
        self._files = {network: file for network in Network if (file := find_weights(network, folder))}
        self._pooled: dict[Reading, Pooled] = {}

    def digest(self, network: Network) -> str:
        """The sha256 of a network's weights; empty if they are not here."""
        return FILES[network].sha256 if network in self._files else ""

    def pooled(self, reading: Reading) -> Pooled:
        """A reading whose network is here."""
        if reading not in self._pooled:
            network = READINGS[reading][0]
            made = pooled(network, read_parameters(self._files[network]), self.digest(network))
            for one in made.values():
                install(one.maps, self.device)
            self._pooled |= made
        return self._pooled[reading]

    def perceptual(self, trunk: Trunk) -> Perceptual:
        """LPIPS on a trunk that is here."""
        network = NETWORKS[trunk]
        made = load_perceptual(trunk, read_parameters(self._files[network]), self.digest(network))
        install(made.trunk, self.device)
        made.scale.to(self.device)
        return Perceptual(
            scale=made.scale,
            trunk=made.trunk,
            heads=tuple(head.to(self.device) for head in made.heads),
            digest=made.digest,
        )


def install(network: nn.Module, device: torch.device) -> None:
    """Bring a network to its device; on a CPU its large 3 x 3 convolutions take the quicker way."""
    network.to(device)
    if device.type == "cpu":
        quicken(network)


def choose_device(name: str) -> torch.device:
    """A device by name; `auto` is the GPU if there is one. Numbers are float32 on each."""
    if name not in DEVICES or (name == "cuda" and not torch.cuda.is_available()):
        raise RunError(f"no device {name!r} here; choose one of {', '.join(DEVICES)} with --device")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def require_all(networks: Networks) -> None:
    """WeightsError that names every network whose weights are missing."""
    missing = [FILES[network].name for network in Network if not networks.digest(network)]
    if missing:
        raise WeightsError(
            f"weights missing: {', '.join(missing)}; fetch them with `make weights NAMES=evaluate`, or leave out "
            "--require to score without these networks"
        )
