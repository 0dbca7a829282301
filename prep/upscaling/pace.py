"""How fast this machine enlarges: a small picture through the network of a build, timed.

BSRGAN needs no weights for that: numbers of any value take as long.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from prep.settings import Enlarger
from prep.upscaling.batches import NetworkUpscaler
from prep.upscaling.bsrgan import RrdbEnlarger
from prep.upscaling.files.given import by_factor
from prep.upscaling.upscale import Enlarges, UpscalerChoice, make_upscaler
from prep.views import MAC_PER_PIXEL

SIDE = 64  # px of the picture: about a third of a second on two CPU cores
TIMES = 2  # the first includes what is set up once


def measure_pace(choice: UpscalerChoice) -> float:
    """Floating point operations of super-resolution in a second, by the largest of the factors.

    Raises SettingsError if this machine lacks the device, WeightsError if a network that was given is not there.
    """
    factor = max(choice.factors)
    upscaler = _without_weights(replace(choice, factors=frozenset({factor})), factor)
    picture = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    seconds = min(_time(upscaler, picture, factor) for _ in range(TIMES))
    macs = by_factor(choice.networks, [factor])[factor].macs if choice.networks else MAC_PER_PIXEL[factor]
    return 2 * macs * SIDE**2 / seconds


def _time(upscaler: Enlarges, picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], factor: int) -> float:
    start = time.perf_counter()
    upscaler.enlarge(picture, factor)  # returns when the device is done
    return time.perf_counter() - start


def _without_weights(choice: UpscalerChoice, factor: int) -> Enlarges:
    """The upscaler of a build; in place of BSRGAN the same network as it is before training."""
    if choice.enlarger is not Enlarger.BSRGAN:
        return make_upscaler(choice)
    from prep.upscaling.devices import start_device

    start_device(choice.device)
    device = torch.device(choice.device)
    return NetworkUpscaler({factor: RrdbEnlarger(factor)}, choice.precision, 1, device, choice.kernels)
