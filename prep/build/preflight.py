"""Checks before a build: what exists at the place of the store, whether it can be written, room, weight files.

No check leaves anything behind.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf

from prep.build.plan import BuildPlan
from prep.settings import Enlarger, PrepSettings, recorded
from prep.upscaling.upscale import lanczos_hint
from store.files import disk_errors
from store.format.manifest import JOURNAL, ROOT, read_root
from store.location.base import Location
from store.schema import StoreError
from store.settings import differences, validate
from store.weights import BSRGAN_FILES, locate, weights_folder
from store.writing.journal import LOCK
from store.writing.repair_checks import intact_root
from store.writing.resume import has_lost_root

COMPRESSED = 0.5  # of the raw bytes: histology never gets smaller than this without loss


def is_finished(location: Location, settings: PrepSettings) -> bool:
    """Whether the store is sealed. Raises StoreError if it was made, or started, with other settings.

    An unfinished store whose root is damaged is not finished; whether the settings are its own is known when it is laid
    out again.
    """
    with disk_errors(location):
        if not location.occupied(ROOT) or has_lost_root(location):
            return False
    root = read_root(location)
    stored = root.manifest
    if stored.sealed and root.computed_seal() != stored.seal:
        raise StoreError(
            f"{location} is damaged: its {ROOT} does not match its seal; repair it with the same command and --repair"
        )
    asked = recorded(settings)
    if changed := differences(stored.settings, asked):
        state = "is finished and was made" if stored.sealed else "was started"
        raise StoreError(
            f"{location} {state} with other settings ({'; '.join(changed[:3])}); give the same settings, choose "
            "another --store (make: STORE=), or remove this one first"
        )
    return stored.sealed


def check_writable(location: Location) -> None:
    """Refuse a place that cannot be written to before any work is done."""
    with disk_errors(location):
        location.check_writable()


def check_idle(location: Location) -> None:
    """Refuse a store that another process builds or repairs, before pictures are read."""
    journal = location.beside(JOURNAL)
    if location.can_lock and journal.exists(LOCK):
        with journal.lock(LOCK, str(location)):
            pass


def check_free_space(location: Location, plan: BuildPlan) -> None:
    """Refuse a disk that cannot hold the store even if every picture compresses well."""
    free = location.free_bytes()
    if free == inf:
        return
    present = sum(sum(part.sizes().values()) for part in (location, location.beside(JOURNAL)))
    needed = int(COMPRESSED * plan.raw_bytes) - present
    if free < needed:
        raise StoreError(
            f"cannot write {location}: the disk has {free / 1e9:,.3f} GB free, and the store needs at least another "
            f"{needed / 1e9:,.3f} GB; free some space or choose another --store (make: STORE=)"
        )


def check_weights(enlarger: Enlarger) -> None:
    """Raise WeightsError if no weight file of the upscaler exists, before hours are spent on reading pictures."""
    folder = weights_folder()
    present = [weight for weight in BSRGAN_FILES.values() if (folder / weight.name).is_file()]
    if enlarger is Enlarger.BSRGAN and not present:
        with lanczos_hint():
            locate(BSRGAN_FILES[4], folder)


def settings_to_repair(given: PrepSettings | None, location: Location) -> PrepSettings:
    """The settings that were given, else those of the store; of them the file of a network alone is never stored.

    So `upscaler=file upscaler_file=PATH` alone means the settings of the store.
    """
    if given is None:
        return stored_settings(location)
    alone = given.upscaler_file and given == PrepSettings(upscaler=Enlarger.FILE, upscaler_file=given.upscaler_file)
    return replace(stored_settings(location), upscaler_file=given.upscaler_file) if alone else given


def stored_settings(location: Location) -> PrepSettings:
    """The settings that a store was made with. Raises StoreError if its root is damaged and does not say."""
    root = intact_root(location)
    if root is None:
        raise StoreError(
            f"{location}: its {ROOT} and the copy of it are missing or damaged, so it does not say what it was made "
            "with; give the same settings as then, with --config or --set (for the defaults: --set seed=0)"
        )
    return validate(PrepSettings, root.manifest.settings)
