"""What is best on the machine that runs this, where the settings leave it open: device, precision, kernels, batch."""

from __future__ import annotations

from dataclasses import replace

from prep.settings import Device, Kernels, Precision, PrepSettings
from prep.upscaling.files.given import GivenNetwork


def choose(settings: PrepSettings, networks: tuple[GivenNetwork, ...] = ()) -> PrepSettings:
    """The settings with what is best on the machine that runs this, for BSRGAN or the networks that were given.

    Raises SettingsError if it lacks the device or cannot run the kernels, or a network the precision.
    """
    if networks:
        return _choose_for_files(settings, networks)
    from prep.upscaling.batches import DTYPES
    from prep.upscaling.devices import best_device, best_precision, start_device
    from prep.upscaling.memory import best_batch
    from prep.upscaling.ways import best_kernels, check_kernels

    device = best_device() if settings.device is Device.AUTO else settings.device
    start_device(device)
    precision = best_precision(device) if settings.precision is Precision.AUTO else settings.precision
    dtype = DTYPES[precision]
    kernels = best_kernels(dtype, device) if settings.kernels is Kernels.AUTO else settings.kernels
    check_kernels(kernels, dtype, device)
    batch = settings.batch or best_batch(settings.view_side, settings.margin, dtype, kernels, device)
    return replace(settings, device=device, precision=precision, kernels=kernels, batch=batch)


def _choose_for_files(settings: PrepSettings, networks: tuple[GivenNetwork, ...]) -> PrepSettings:
    from prep.upscaling.devices import best_device, start_device
    from prep.upscaling.files.trials import (
        check_file_kernels,
        check_precision,
        choose_batch,
        choose_kernels,
        choose_precision,
    )

    device = best_device() if settings.device is Device.AUTO else settings.device
    start_device(device)
    precision, kernels = settings.precision, settings.kernels
    precision = choose_precision(networks, device) if precision is Precision.AUTO else precision
    check_precision(networks, precision)
    kernels = choose_kernels(precision, device) if kernels is Kernels.AUTO else kernels
    check_file_kernels(networks, kernels, precision, device)
    batch = settings.batch or choose_batch(networks, settings.view_side, settings.margin, precision, kernels, device)
    return replace(settings, device=device, precision=precision, kernels=kernels, batch=batch)
