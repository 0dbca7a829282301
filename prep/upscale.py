"""What enlarges a patch: a small protocol, Lanczos, and the way to BSRGAN."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.settings import Enlarger, PrepSettings
from store.schema import Upscaler, WeightsError
from store.weights import BSRGAN_FILES


class Enlarges(Protocol):
    """Anything that enlarges pictures of one size."""

    def enlarge(self, pictures: NDArray[np.uint8], factor: int, names: Sequence[str]) -> NDArray[np.uint8]:
        """u8 [B,h,w,3] RGB to u8 [B,h x factor,w x factor,3]; factor is 2 or 4, `names` are for errors."""


class Lanczos:
    """Lanczos interpolation over 8 x 8 pixels: the stand-in where no super-resolution is wanted. Adds no detail."""

    def enlarge(self, pictures: NDArray[np.uint8], factor: int, names: Sequence[str]) -> NDArray[np.uint8]:
        """u8 [B,h,w,3] to u8 [B,h x factor,w x factor,3]."""
        side = (pictures.shape[2] * factor, pictures.shape[1] * factor)
        return np.stack([cv2.resize(picture, side, interpolation=cv2.INTER_LANCZOS4) for picture in pictures])


def describe_upscaler(settings: PrepSettings) -> Upscaler:
    """What the store will say of its upscaler; needs no weights, for these have known digests."""
    if settings.upscaler is Enlarger.LANCZOS:
        return Upscaler(name=settings.upscaler, digests={}, precision="u8", batch=settings.batch)
    digests = {f"x{factor}": weight.sha256 for factor, weight in BSRGAN_FILES.items()}
    return Upscaler(name=settings.upscaler, digests=digests, precision=settings.precision, batch=settings.batch)


def count_gpus(settings: PrepSettings) -> int:
    """How many GPUs of this machine would be used: none for a plain filter."""
    if settings.upscaler is Enlarger.LANCZOS:
        return 0
    from prep.superres import count_gpus as count

    return count()


def make_upscaler(settings: PrepSettings, factors: Collection[int]) -> Enlarges:
    """The upscaler that the settings ask for; WeightsError if its weights are missing or not the right ones."""
    if settings.upscaler is Enlarger.LANCZOS:
        return Lanczos()
    from prep.superres import Bsrgan

    try:
        return Bsrgan.from_weights(settings.precision, settings.batch)
    except WeightsError as error:
        raise WeightsError(
            f"{error}. To go on without super-resolution ask for the stand-in with SET=upscaler=lanczos "
            "(--set upscaler=lanczos); the store will say so"
        ) from error
