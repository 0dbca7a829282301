"""Build a store: settle the settings, find and check the pairs, plan, then read, enlarge and write unit by unit.

The same command resumes a build that was stopped.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prep.build.bad_pairs import describe_bad
from prep.build.describe import describe_plan, fact_line
from prep.build.plan import BuildPlan, look_ahead, make_plan, plan_build
from prep.build.preflight import (
    check_free_space,
    check_idle,
    check_weights,
    check_writable,
    is_finished,
    settings_to_repair,
)
from prep.build.runner import Processes
from prep.build.settle import find_networks, settle
from prep.build.units import build_unit
from prep.build.write import write_units
from prep.refusals import Refusals
from prep.settings import PrepSettings
from prep.tiles.decoded import Decoded
from prep.tiles.discovery import Data, find_pairs
from store.cli import say, track
from store.format.layout import Unit
from store.format.manifest import all_units, read_root
from store.location.base import Location
from store.location.open import locate
from store.machine.memory import spare_memory
from store.writing.repair import Repair, start_repair
from store.writing.writer import StoreWriter, finish_sealing

SHARE = 4  # one part in so many of the memory that is free keeps decoded pictures
LISTED = 10  # units or files in a line


def build(
    settings: PrepSettings, data: Data, address: Location | Path | str, *, skip_bad: bool, processes: Processes
) -> None:
    """Build the store at `address`, or resume its build. A bad pair stops it before anything is written, or is skipped.

    Raises MagstainError for an error that a user can correct, Interrupted when a signal stopped it between two units.
    """
    location = locate(address)
    networks = find_networks(settings, location)
    settings = settle(settings, location, name=data.name, scheduler=processes.workers.scheduler, networks=networks)
    if is_finished(location, settings):
        finish_sealing(location)
        say(f"{location} already exists, finished and with these settings; the data folder was not read")
        return
    check_writable(location)
    check_idle(location)
    refusals = Refusals()
    discovery = find_pairs(settings, data, refusals)
    look_ahead(settings, discovery, refusals, networks)
    if not processes.workers:
        check_weights(settings.upscaler)
    decoded = Decoded(0 if processes.workers else spare_memory() // SHARE)
    plan = plan_build(
        settings,
        data,
        discovery,
        threads=processes.threads,
        decoded=decoded,
        skip_bad=skip_bad,
        networks=networks,
    )
    say(describe_plan(plan, skip_bad=skip_bad))
    plan.refuse(skip_bad=skip_bad)
    check_free_space(location, plan)
    write_units(plan, location, processes, decoded)
    for bad in plan.table.skipped:
        say(f"skipped: {describe_bad(bad)}")
    say(f"finished: the store is {location}")


def preview(
    settings: PrepSettings, data: Data, address: Location | Path | str, *, skip_bad: bool, threads: int
) -> tuple[BuildPlan, str]:
    """The plan of a build, and in words what it and how many units are not written yet.

    Reads every picture and writes nothing. What the plan refuses is not raised: the caller says the words first.
    """
    location = locate(address)
    networks = find_networks(settings, location)
    settings = settle(settings, location, name=data.name, networks=networks)
    finished = is_finished(location, settings)
    plan = make_plan(settings, data, threads=threads, skip_bad=skip_bad, networks=networks)
    check_writable(location)
    check_free_space(location, plan)
    missing = [] if finished else StoreWriter(location, plan.manifest).pending()
    left = f"{len(missing)} of {len(all_units(plan.manifest))} units; nothing was written"
    return plan, f"{describe_plan(plan, skip_bad=skip_bad)}\n{fact_line('left', left)}"


def repair(
    settings: PrepSettings | None,
    data: Data,
    address: Location | Path | str,
    *,
    processes: Processes,
    trust_settings: bool = False,
) -> None:
    """Build again what is damaged in the store at `address`; without settings with those that the store records.

    Where the store does not record them any more, `trust_settings` says that those given are its own, as far as nothing
    that is left can tell. Raises MagstainError for an error that a user can correct, Interrupted when a signal stopped
    it between two units.
    """
    location = locate(address)
    settings = settings_to_repair(settings, location)
    networks = find_networks(settings, location)
    settings = settle(settings, location, name=data.name, repair=True, networks=networks)
    check_idle(location)
    plan = make_plan(settings, data, threads=processes.threads, networks=networks)

    def prove(unit: Unit) -> dict[str, bytes]:
        return build_unit(plan.work, unit, plan.table.pairs[unit.split][unit.first : unit.stop], processes.threads)

    found = start_repair(
        location,
        plan.manifest,
        plan.table,
        lambda units: track(units, what="verifying", unit="unit"),
        measured=plan.measured,
        prove=prove,
        trusted=trust_settings,
    )
    if found.manifest.sealed:
        finish_sealing(location)
        say(f"{location} is intact, there is nothing to repair")
        return
    say(_describe_repair(location, found))
    write_units(replace(plan, manifest=found.manifest), location, processes, Decoded())
    say(f"repaired: {location} has the seal {read_root(location).manifest.seal}")


def _describe_repair(location: Location, found: Repair) -> str:
    units = ", ".join(unit.name for unit in found.units[:LISTED]) + (", …" if len(found.units) > LISTED else "")
    text = f"{location}: {len(found.units)} unit(s) to build again{f': {units}' if units else ''}"
    if found.documents:
        text += f"; {len(found.documents)} file(s) to write again: {', '.join(found.documents[:LISTED])}"
    return text
