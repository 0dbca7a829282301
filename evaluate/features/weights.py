"""The feature networks whose weights are here: each is loaded when it is first needed, on one device."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from evaluate.features.lpips import TRUNK_NETWORK, Perceptual, Trunk, load_perceptual
from evaluate.features.networks import PREPROCESS, Pooled, find_weights, pooled, read_parameters
from evaluate.features.winograd import quicken
from evaluate.protocol import FILES, FeatureSpec, Network
from store.cli import say
from store.machine.gpus import check_gpus, refusal_of, start_gpu, unused_gpu
from store.schema import RunError, WeightsError

DEVICES = ("auto", "cpu", "cuda")


class Networks(Protocol):
    """Where feature networks come from; tests have their own."""

    @property
    def device(self) -> torch.device:
        """The device of the networks, where pictures have to be."""

    def digest(self, network: Network) -> str | None:
        """The sha256 of a network's weights; None if they are missing."""

    def pooled(self, spec: FeatureSpec) -> Pooled:
        """The network of a feature spec; its weights are here."""

    def perceptual(self, trunk: Trunk) -> Perceptual:
        """LPIPS on a trunk; its weights are here."""


class WeightsFolder:
    """The networks whose weight files are in a folder."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.device = device
        self._files = {network: file for network in Network if (file := find_weights(network, folder))}
        self._pooled: dict[FeatureSpec, Pooled] = {}

    def digest(self, network: Network) -> str | None:
        """The sha256 of a network's weights; None if they are missing."""
        return FILES[network].sha256 if network in self._files else None

    def pooled(self, spec: FeatureSpec) -> Pooled:
        """The network of a feature spec; its weights are here."""
        if spec not in self._pooled:
            network = PREPROCESS[spec].network
            made = pooled(network, read_parameters(self._files[network]), FILES[network].sha256)
            for one in made.values():
                install(one.maps, self.device)
            self._pooled |= made
        return self._pooled[spec]

    def perceptual(self, trunk: Trunk) -> Perceptual:
        """LPIPS on a trunk; its weights are here."""
        network = TRUNK_NETWORK[trunk]
        made = load_perceptual(trunk, read_parameters(self._files[network]), FILES[network].sha256)
        install(made.trunk, self.device)
        made.scale.to(self.device)
        return Perceptual(
            scale=made.scale,
            trunk=made.trunk,
            heads=tuple(head.to(self.device) for head in made.heads),
            digest=made.digest,
        )


def install(network: nn.Module, device: torch.device) -> None:
    """Bring a network to its device; on a CPU its large 3 x 3 convolutions are replaced by faster ones."""
    network.to(device)
    if device.type == "cpu":
        quicken(network)


def choose_device(name: str) -> torch.device:
    """A device by name; `auto` is the GPU if there is one. Numbers are float32 on every device.

    Raises RunError for a name that is unknown or a GPU that is not here, SettingsError for one that PyTorch cannot use.
    """
    if name not in DEVICES:
        raise RunError(f"no device {name!r}; choose one of {', '.join(DEVICES)} with --device")
    if name == "cpu":
        return torch.device("cpu")
    if refusal_of(torch.cuda):
        why = unused_gpu(torch.cuda, torch.version.cuda)
        if name == "cuda":
            raise RunError(
                f"no device 'cuda' on this machine: {why or 'PyTorch finds no GPU'}; or choose auto or cpu with "
                "--device"
            )
        if why:
            say(f"warning: {why}. Feature networks run on the CPU; --device cpu says that they should")
        return torch.device("cpu")
    check_gpus(torch.cuda, [0], f"--device {name}", "--device cpu")
    start_gpu(torch.cuda, 0, f"--device {name}", "--device cpu")
    return torch.device("cuda")


def require_all(networks: Networks) -> None:
    """WeightsError that names every network whose weights are missing."""
    missing = [FILES[network].name for network in Network if not networks.digest(network)]
    if missing:
        raise WeightsError(
            f"weights missing: {', '.join(missing)}; fetch them with `make weights NAMES=evaluate`, or score without "
            "these networks, without --require"
        )
