"""What enlarges a patch: the common protocol, Lanczos interpolation, and the choice between it and networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import cv2
import numpy as np

from prep.settings import BATCH, Device, Enlarger, Kernels, Precision, PrepSettings, how_to_set
from prep.upscaling.files.given import SCALES, GivenNetwork, record_networks, split_paths
from store.images import PictureU8
from store.schema import SettingsError, Upscaler, WeightsError
from store.weights import BSRGAN_FILES

NOBODY: Mapping[int, GivenNetwork] = MappingProxyType({})


class Enlarges(Protocol):
    """Anything that enlarges pictures of one size."""

    def enlarge(self, pictures: PictureU8, factor: int, names: Sequence[str] = ()) -> PictureU8:
        """u8 [B,h,w,3] RGB to u8 [B,h x factor,w x factor,3]; factor is 2 or 4, `names` are for errors."""


class Lanczos:
    """Lanczos interpolation over 8 x 8 pixels, in place of super-resolution. Adds no detail."""

    def enlarge(self, pictures: PictureU8, factor: int, names: Sequence[str] = ()) -> PictureU8:
        """u8 [B,h,w,3] to u8 [B,h x factor,w x factor,3]."""
        side = (pictures.shape[2] * factor, pictures.shape[1] * factor)
        return np.stack([cv2.resize(picture, side, interpolation=cv2.INTER_LANCZOS4) for picture in pictures])


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscalerChoice:
    """The upscaler of a build, decided: every process of the build loads the same one, and none chooses again.

    `factors` are those that the views need, `networks` the files that were given. Lanczos has none of these.
    """

    enlarger: Enlarger
    device: Device
    precision: Precision
    kernels: Kernels
    batch: int
    factors: frozenset[int]
    networks: tuple[GivenNetwork, ...] = ()

    def __post_init__(self) -> None:
        decided = "auto" not in (self.device, self.precision, self.kernels) and self.batch
        assert decided or self.enlarger is Enlarger.LANCZOS, "settle the settings first"

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is needed."""
        return self.enlarger is not Enlarger.LANCZOS and self.device is Device.CUDA


def upscaler_choice(
    settings: PrepSettings, factors: frozenset[int], networks: tuple[GivenNetwork, ...]
) -> UpscalerChoice:
    """The upscaler that settled settings decide."""
    return UpscalerChoice(
        enlarger=settings.upscaler,
        device=settings.device,
        precision=settings.precision,
        kernels=settings.kernels,
        batch=settings.batch,
        factors=factors,
        networks=networks,
    )


def make_upscaler(choice: UpscalerChoice) -> Enlarges:
    """Load an upscaler.

    Raises WeightsError if weight files are missing or damaged, SettingsError if this machine lacks the device or cannot
    run the kernels.
    """
    if choice.enlarger is Enlarger.LANCZOS:
        return Lanczos()
    if choice.enlarger is Enlarger.FILE:
        from prep.upscaling.files.spandrel_network import FileUpscaler

        return FileUpscaler.from_files(
            choice.precision, choice.batch, choice.device, choice.factors, choice.networks, choice.kernels
        )
    from prep.upscaling.bsrgan import Bsrgan

    with lanczos_hint():
        return Bsrgan.from_weights(choice.precision, choice.batch, choice.device, choice.factors, choice.kernels)


def read_networks(settings: PrepSettings) -> tuple[GivenNetwork, ...]:
    """The networks that the settings name, by scale, each loaded and tried once; none unless upscaler = file.

    Raises SettingsError if no file is named or two have one scale, WeightsError if a file holds no network that
    enlarges RGB pictures by 2 or 4.
    """
    if settings.upscaler is not Enlarger.FILE:
        return ()
    if not settings.upscaler_file:
        raise SettingsError(
            "upscaler = file names no file; give the path of a super-resolution network, for example "
            f"{how_to_set('upscaler=file', 'upscaler_file=weights/x4.pth')}, also to resume or repair a store: its "
            "manifest holds the digest of the file, not its place"
        )
    from prep.upscaling.files.spandrel_network import inspect_network

    networks = [inspect_network(path, settings.upscaler_licence) for path in split_paths(settings.upscaler_file)]
    for scale in SCALES:
        if len(same := [network for network in networks if network.scale == scale]) > 1:
            raise SettingsError(
                f"upscaler_file names two networks of scale {scale} ({same[0].record.file}, {same[1].record.file}); "
                "give one for each scale"
            )
    return tuple(sorted(networks, key=lambda network: network.scale))


def record_upscaler(settings: PrepSettings, chosen: Mapping[int, GivenNetwork] = NOBODY) -> Upscaler:
    """The record of the upscaler in the manifest; `chosen` are the networks that were given, by factor.

    BSRGAN needs no weight files here, because their digests are known.
    """
    batch = settings.batch or BATCH
    kernels = "" if settings.kernels in (Kernels.AUTO, Kernels.PLAIN) else settings.kernels
    if settings.upscaler is Enlarger.LANCZOS:
        return Upscaler(name=settings.upscaler, digests={}, precision="u8", batch=batch)
    if settings.upscaler is Enlarger.FILE:
        return record_networks(chosen, settings.precision, batch, kernels)
    digests = {f"x{factor}": weight.sha256 for factor, weight in BSRGAN_FILES.items()}
    return Upscaler(name=settings.upscaler, digests=digests, precision=settings.precision, batch=batch, kernels=kernels)


@contextmanager
def lanczos_hint() -> Iterator[None]:
    """Add to an error about weights how to build without them."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(
            f"{error}. To build without super-resolution choose interpolation, {how_to_set('upscaler=lanczos')}; the "
            "store will say so"
        ) from error
