"""What enlarges a patch: a small protocol, Lanczos, and the way to BSRGAN."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.settings import Device, Enlarger, Precision, PrepSettings
from store.schema import Upscaler, WeightsError
from store.weights import BSRGAN_FILES, locate, weights_folder


class Enlarges(Protocol):
    """Anything that enlarges pictures of one size."""

    def enlarge(self, pictures: NDArray[np.uint8], factor: int, names: Sequence[str] = ()) -> NDArray[np.uint8]:
        """u8 [B,h,w,3] RGB to u8 [B,h x factor,w x factor,3]; factor is 2 or 4, `names` are for errors."""


class Lanczos:
    """Lanczos interpolation over 8 x 8 pixels: the stand-in where no super-resolution is wanted. Adds no detail."""

    def enlarge(self, pictures: NDArray[np.uint8], factor: int, names: Sequence[str] = ()) -> NDArray[np.uint8]:
        """u8 [B,h,w,3] to u8 [B,h x factor,w x factor,3]."""
        side = (pictures.shape[2] * factor, pictures.shape[1] * factor)
        return np.stack([cv2.resize(picture, side, interpolation=cv2.INTER_LANCZOS4) for picture in pictures])


def describe_upscaler(settings: PrepSettings) -> Upscaler:
    """What the store will say of its upscaler; needs no weights, for these have known digests."""
    if settings.upscaler is Enlarger.LANCZOS:
        return Upscaler(name=settings.upscaler, digests={}, precision="u8", batch=settings.batch)
    digests = {f"x{factor}": weight.sha256 for factor, weight in BSRGAN_FILES.items()}
    return Upscaler(name=settings.upscaler, digests=digests, precision=settings.precision, batch=settings.batch)


def settle(settings: PrepSettings) -> PrepSettings:
    """The settings with this machine's device and its precision in place of `auto`; a plain filter has neither.

    Raises SettingsError if the device that is asked for is not here.
    """
    if settings.upscaler is Enlarger.LANCZOS:
        return settings
    from prep.upscaling.bsrgan import default_precision, find_device

    device = find_device(settings.device)
    precision = default_precision(device) if settings.precision is Precision.AUTO else settings.precision
    return replace(settings, device=device, precision=precision)


def is_settled(settings: PrepSettings) -> bool:
    """Whether it is known where and in which precision views are enlarged."""
    open_ends = settings.device is Device.AUTO or settings.precision is Precision.AUTO
    return settings.upscaler is Enlarger.LANCZOS or not open_ends


def count_gpus(settings: PrepSettings) -> int:
    """How many GPUs of this machine would be used: none for a plain filter or on request."""
    if settings.upscaler is Enlarger.LANCZOS or settings.device is Device.CPU:
        return 0
    from prep.upscaling.bsrgan import count_gpus as count

    return count()


def make_upscaler(settings: PrepSettings, factors: Collection[int] = tuple(BSRGAN_FILES)) -> Enlarges:
    """The upscaler that the settings ask for, able to enlarge by these factors.

    Raises WeightsError if weights are missing or not the right ones, SettingsError if the device is not here.
    """
    if settings.upscaler is Enlarger.LANCZOS:
        return Lanczos()
    from prep.upscaling.bsrgan import Bsrgan

    settled = settle(settings)
    with _or_lanczos():
        return Bsrgan.from_weights(settled.precision, settled.batch, settled.device, factors)


def expect_weights(settings: PrepSettings) -> None:
    """Raise WeightsError at once if no weights at all are here, before an hour is spent on looking at pictures."""
    folder = weights_folder()
    there = [weight for weight in BSRGAN_FILES.values() if (folder / weight.name).is_file()]
    if settings.upscaler is Enlarger.BSRGAN and not there:
        with _or_lanczos():
            locate(BSRGAN_FILES[4], folder)


@contextmanager
def _or_lanczos() -> Iterator[None]:
    """Say with an error of weights how to do without."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(
            f"{error}. To go on without super-resolution ask for the stand-in with SET=upscaler=lanczos "
            "(--set upscaler=lanczos); the store will say so"
        ) from error
