"""The place of a store before a build: what stands there, whether it may be written to, and what was decided there.

Nothing here leaves anything behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path

from prep.build.plan import BuildPlan, raw_bytes
from prep.settings import Device, Precision, PrepSettings
from prep.upscaling.upscale import is_settled, settle
from store.files import disk_errors
from store.format.manifest import JOURNAL, ROOT, read_root
from store.location.base import Location
from store.location.open import locate
from store.schema import StoreError
from store.settings import differences, plain, validate
from store.writing.repair_checks import intact_root
from store.writing.writer import finish_sealing

Say = Callable[[str], None]
COMPRESSED = 0.5  # of the raw bytes: histology never gets smaller than this without loss


def settle_for(settings: PrepSettings, location: Location, scheduler: str = "", say: Say = print) -> PrepSettings:
    """The settings with device and precision decided: as the store has them if it was begun, else as they are best.

    Best is what this machine has, or a worker of the scheduler.
    """
    settings = _as_begun(settings, location)
    if is_settled(settings):
        return settings
    if scheduler:
        from prep.build.cluster import settle_there

        return settle_there(settings, scheduler, say)
    return settle(settings)


def settle_again(settings: PrepSettings, location: Location) -> PrepSettings:
    """The same for a store that is there; what this machine has says nothing of how it was made.

    Raises StoreError if its root is damaged and cannot tell.
    """
    settings = _as_begun(settings, location)
    if not is_settled(settings):
        raise StoreError(
            f"{location}: its {ROOT} is missing or damaged, so it does not say on which device and in which precision "
            "its views were enlarged; give device= and precision= as they were, with --set"
        )
    return settings


def _as_begun(settings: PrepSettings, location: Location) -> PrepSettings:
    """The settings with the store's device and precision in place of `auto`, if it has been begun."""
    if is_settled(settings):
        return settings
    root = intact_root(location)
    begun = root.manifest.settings if root else {}
    if begun.get("upscaler") == settings.upscaler:
        if settings.device is Device.AUTO:
            settings = replace(settings, device=Device(str(begun.get("device", Device.AUTO))))
        if settings.precision is Precision.AUTO:
            settings = replace(settings, precision=Precision(str(begun.get("precision", Precision.AUTO))))
    return settings


def stored_settings(location: Location) -> PrepSettings:
    """The settings that a store was made with. Raises StoreError if its root is damaged and cannot tell."""
    root = intact_root(location)
    if root is None:
        raise StoreError(
            f"{location}: its {ROOT} is missing or damaged, so it does not say what it was made with; give the same "
            "settings as then, with --config or --set (for the defaults: --set seed=0)"
        )
    return validate(PrepSettings, root.manifest.settings)


def is_finished(address: Location | Path | str, settings: PrepSettings) -> bool:
    """Whether the store stands sealed, made with these settings; StoreError if it was made with others."""
    location = locate(address)
    with disk_errors(location):
        if not location.occupied(ROOT):
            return False
    manifest = read_root(location).manifest
    if not manifest.sealed:
        return False
    if changed := differences(manifest.settings, plain(settings)):
        raise StoreError(
            f"{location} is finished and was made with other settings ({'; '.join(changed[:3])}); "
            "choose another STORE=, or remove this one first"
        )
    finish_sealing(location)
    return True


def check_place(location: Location) -> None:
    """Refuse a place that cannot be written to, before any work is done; leaves nothing behind."""
    with disk_errors(location):
        location.check_writable()


def check_room(location: Location, plan: BuildPlan) -> None:
    """Refuse a disk that cannot hold the store even if every picture compresses well."""
    free = location.free_bytes()
    if free == inf:
        return
    present = sum(sum(part.sizes().values()) for part in (location, location.beside(JOURNAL)))
    needed = int(COMPRESSED * raw_bytes(plan.manifest)) - present
    if free < needed:
        raise StoreError(
            f"cannot write {location}: the disk has {free / 1e9:,.3f} GB free, and the store needs at least another "
            f"{needed / 1e9:,.3f} GB; free some space or choose another STORE="
        )
