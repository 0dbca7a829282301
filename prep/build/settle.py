"""`auto` becomes a value here, once, before a store is planned: where and in which precision views are enlarged.

The values that a store records win: it is resumed and repaired as it was started. A new store gets what is best on this
machine, or on a worker if a scheduler is given. Lanczos has no device and no precision: its settings are not changed,
and torch is not imported.
"""

from __future__ import annotations

from dataclasses import replace

from prep.settings import Device, Enlarger, Precision, PrepSettings, how_to_set
from store.format.manifest import ROOT
from store.location.base import Location
from store.schema import StoreError
from store.writing.repair_checks import intact_root


def settle(
    settings: PrepSettings, location: Location, *, name: str = "", scheduler: str = "", repair: bool = False
) -> PrepSettings:
    """The settings as the store records them: a device and a precision in place of `auto`, `name` if they give none.

    Raises SettingsError if the device that is asked for is missing, StoreError if a store to be repaired does not say
    what it was made with.
    """
    settings = _as_recorded(replace(settings, name=settings.name or name), location)
    if not _has_auto(settings):
        return settings
    if repair:
        raise StoreError(
            f"{location}: its {ROOT} is missing or damaged, so it does not say on which device and in which precision "
            f"its views were enlarged; give device= and precision= as they were, for example "
            f"{how_to_set('device=cpu', 'precision=bf16')}"
        )
    if scheduler:
        from prep.build.dask_client import ask_worker

        return ask_worker(choose, settings, scheduler)
    return choose(settings)


def choose(settings: PrepSettings) -> PrepSettings:
    """The settings with what is best on the machine that runs this. Raises SettingsError if it lacks the device."""
    from prep.upscaling.devices import best_device, best_precision, check_device

    device = best_device() if settings.device is Device.AUTO else settings.device
    check_device(device)
    precision = best_precision(device) if settings.precision is Precision.AUTO else settings.precision
    return replace(settings, device=device, precision=precision)


def _as_recorded(settings: PrepSettings, location: Location) -> PrepSettings:
    """The settings with the values of the store in place of `auto`, if it was started with the same upscaler."""
    if not _has_auto(settings):
        return settings
    root = intact_root(location)
    recorded = root.manifest.settings if root else {}
    if recorded.get("upscaler") == settings.upscaler:
        if settings.device is Device.AUTO:
            settings = replace(settings, device=Device(str(recorded.get("device", Device.AUTO))))
        if settings.precision is Precision.AUTO:
            settings = replace(settings, precision=Precision(str(recorded.get("precision", Precision.AUTO))))
    return settings


def _has_auto(settings: PrepSettings) -> bool:
    """Whether a device or a precision that is needed is not decided yet."""
    return settings.upscaler is Enlarger.BSRGAN and (
        settings.device is Device.AUTO or settings.precision is Precision.AUTO
    )
