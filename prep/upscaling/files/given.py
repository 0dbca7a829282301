"""Super-resolution networks that a person gives as files: what each is, and which one makes the views of a factor.

A network enlarges by one factor, its scale. Where no network of scale 2 is given, one of scale 4 makes the views of
factor 2: its result is averaged over 2 x 2 pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prep.settings import Precision, how_to_set
from store.schema import NetworkFile, SettingsError, Upscaler, WeightsError

SCALES = (2, 4)
UNUSED = "none: no view is enlarged"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenNetwork:
    """A file that holds a network: its absolute path, sha256, what it is, and what was found when it was tried.

    `halves` are the half precisions that it computes in, `macs` its multiply-adds per pixel of input; a network that is
    `alone` makes another picture of a window when others are in the batch.
    """

    path: str
    digest: str
    record: NetworkFile
    halves: frozenset[Precision]
    alone: bool
    macs: int

    @property
    def scale(self) -> int:
        """The factor by which it enlarges."""
        return self.record.scale

    @property
    def title(self) -> str:
        """Its architecture and the name of its file."""
        return f"{self.record.architecture} {self.record.file}"


def split_paths(text: str) -> list[Path]:
    """The paths in a list with commas, absolute; a file whose own name has a comma is one path.

    >>> [path.name for path in split_paths("x2.pth, x4.pth")]
    ['x2.pth', 'x4.pth']
    """
    parts = [text] if path_exists(text) else [part.strip() for part in text.split(",") if part.strip()]
    return [_expand(part).absolute() for part in parts]


def _expand(text: str) -> Path:
    """A path with the home that it names, if there is one."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # `~nobody`
        return Path(text)


def path_exists(text: str) -> bool:
    """Whether something is at a path, `~` included; not where it is no path."""
    try:
        return _expand(text).exists()
    except OSError:  # two paths together may be too long for one
        return False


def by_factor(
    networks: Sequence[GivenNetwork], factors: Collection[int], views: Mapping[int, str] | None = None
) -> dict[int, GivenNetwork]:
    """The network that makes the views of each factor. Raises SettingsError with the factor and its view if none can.

    `views` names the view of a factor, for the error.
    """
    scales = {network.scale: network for network in networks}
    chosen = {factor: scales[scale] for factor in sorted(factors) if (scale := _nearest(scales, factor))}
    for factor in sorted(set(factors) - chosen.keys()):
        view = f"view {views[factor]} is" if views and factor in views else "views are"
        raise SettingsError(
            f"{view} enlarged by {factor}, and no network of upscaler_file does that: "
            f"{', '.join(f'{network.title} enlarges by {network.scale}' for network in networks)}; add one that does, "
            f"with a comma between the paths: {how_to_set(f'upscaler_file=x2.pth,x{factor}.pth')}"
        )
    return chosen


def record_networks(chosen: Mapping[int, GivenNetwork], precision: str, batch: int, kernels: str) -> Upscaler:
    """The record of these networks in a manifest; its name says what they are, so that every table does."""
    return Upscaler(
        name=_name(chosen),
        digests={f"x{factor}": network.digest for factor, network in chosen.items()},
        precision=precision,
        batch=batch,
        kernels=kernels,
        networks={f"x{factor}": network.record for factor, network in chosen.items()},
    )


def as_recorded(networks: Sequence[GivenNetwork], stored: Upscaler, licence: str) -> tuple[GivenNetwork, ...]:
    """The networks of a store that exists, under the names and, unless a licence is given, the terms that it records.

    A copy of a file under another name, or without its licence beside it, is the same network. Raises WeightsError with
    both digests if the views of a factor were made by another one.
    """
    known = {stored.digests[factor]: record for factor, record in stored.networks.items()}
    if networks:
        for factor, record in stored.networks.items():
            (network,) = by_factor(networks, [int(factor.removeprefix("x"))]).values()
            _check_same(network, factor, stored.digests[factor], record)
    return tuple(
        replace(network, record=known[network.digest]) if network.digest in known and not licence else network
        for network in networks
    )


def _check_same(network: GivenNetwork, factor: str, digest: str, record: NetworkFile) -> None:
    """Raise WeightsError with both digests unless a network is the one that made the views of a factor."""
    if network.digest != digest:
        raise WeightsError(
            f"the {factor} views of this store are made by {record.architecture} {record.file} with sha256 {digest}, "
            f"and {network.path} has sha256 {network.digest}; give the file that it was started with, or choose "
            "another --store (make: STORE=)"
        )


def _nearest(scales: Mapping[int, GivenNetwork], factor: int) -> int:
    """The scale of the network for a factor: its own, else the next larger one; 0 if there is none."""
    return next((scale for scale in SCALES if scale >= factor and scale in scales), 0)


def _name(chosen: Mapping[int, GivenNetwork]) -> str:
    """Architecture, file, digest and terms of each network; with the factors where there are several."""
    factors: dict[GivenNetwork, list[int]] = {}
    for factor, network in chosen.items():
        factors.setdefault(network, []).append(factor)
    parts = {
        network: f"{network.title} (sha256 {network.digest[:12]}, licence {network.record.licence})"
        for network in factors
    }
    if len(parts) < 2:
        return next(iter(parts.values()), UNUSED)
    return ", ".join(f"x{factors[network][0]} {text}" for network, text in parts.items())
