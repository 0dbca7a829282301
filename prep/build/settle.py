"""`auto` becomes a value here, once, before a store is planned: where, how exactly and by what views are enlarged.

The values that a store records win: it is resumed and repaired as it was started. A new store gets what is best on this
machine, or on a worker if a scheduler is given. Lanczos has none of these: its settings are not changed, and torch is
not imported.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from prep.settings import BATCH, Device, Enlarger, Kernels, Precision, PrepSettings, how_to_set
from prep.upscaling.choosing import choose
from prep.upscaling.files.given import GivenNetwork, as_recorded
from prep.upscaling.upscale import read_networks, upscaler_choice
from store.format.manifest import ROOT
from store.location.base import Location
from store.schema import MagstainError, StoreError
from store.writing.repair_checks import intact_root


def settle(
    settings: PrepSettings,
    location: Location,
    *,
    name: str = "",
    scheduler: str = "",
    repair: bool = False,
    networks: tuple[GivenNetwork, ...] = (),
) -> PrepSettings:
    """The settings as the store records them: values in place of `auto` and of a batch of 0, `name` if they give none.

    Raises SettingsError if the device that is asked for is missing or cannot run the kernels, StoreError if a store to
    be repaired does not say what it was made with.
    """
    settings = _as_recorded(replace(settings, name=settings.name or name), location)
    if not _has_auto(settings):
        return settings
    if repair and settings.device is Device.CPU and settings.precision is not Precision.AUTO:
        return choose(settings, networks)  # a CPU has one way, and one batch unless another was set
    if repair:
        raise StoreError(
            f"{location}: its {ROOT} is missing or damaged, so it does not say on which device and in which precision "
            "its views were enlarged, and of a GPU by which kernels and in which batches; give device= and precision= "
            f"as they were, for example {how_to_set('device=cpu', 'precision=bf16')}, or "
            f"{how_to_set('device=cuda', 'precision=fp16', 'kernels=compiled', 'batch=16')} (older stores: "
            "kernels=plain and batch=4)"
        )
    if scheduler:
        from store.cluster.client import ask_worker

        ask = partial(choose, networks=networks) if networks else choose
        return ask_worker(ask, settings, scheduler, gpu=settings.device is not Device.CPU)
    return choose(settings, networks)


def find_networks(settings: PrepSettings, location: Location) -> tuple[GivenNetwork, ...]:
    """The networks that the settings name as files, under the names and terms that a store records if there is one.

    Raises SettingsError or WeightsError if a file is missing, no such network, or not the one of the store.
    """
    networks, root = read_networks(settings), intact_root(location)
    return as_recorded(networks, root.manifest.upscaler, settings.upscaler_licence) if root else networks


def find_pace(settings: PrepSettings, factors: frozenset[int], networks: tuple[GivenNetwork, ...]) -> float | None:
    """Floating point operations of super-resolution that this machine does in a second, measured in a second or two.

    None if nothing is enlarged by a network, or if this machine could not build the store.
    """
    if settings.upscaler is Enlarger.LANCZOS or not factors:
        return None
    from prep.upscaling.pace import measure_pace

    try:
        decided = choose(replace(settings, kernels=Kernels.PLAIN, batch=1), networks)  # nothing is compiled for this
        return measure_pace(upscaler_choice(decided, factors, networks))
    except MagstainError:
        return None


def _as_recorded(settings: PrepSettings, location: Location) -> PrepSettings:
    """The settings with the values of the store in place of `auto`, if it was started with the same upscaler."""
    if not _has_auto(settings):
        return settings
    root = intact_root(location)
    recorded = root.manifest.settings if root else {}
    if recorded.get("upscaler") != settings.upscaler:
        return settings
    device, precision, kernels, batch = settings.device, settings.precision, settings.kernels, settings.batch
    return replace(
        settings,
        device=Device(str(recorded.get("device", device))) if device is Device.AUTO else device,
        precision=Precision(str(recorded.get("precision", precision))) if precision is Precision.AUTO else precision,
        kernels=Kernels(str(recorded.get("kernels", Kernels.PLAIN))) if kernels is Kernels.AUTO else kernels,
        batch=batch or int(str(recorded.get("batch", BATCH))),
    )


def _has_auto(settings: PrepSettings) -> bool:
    """Whether something that is needed is not decided yet."""
    decided = "auto" not in (settings.device, settings.precision, settings.kernels) and settings.batch
    return settings.upscaler is not Enlarger.LANCZOS and not decided
