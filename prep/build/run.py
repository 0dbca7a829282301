"""Build a store: settle the settings, find and check the pairs, plan, then read, enlarge and write unit by unit.

The same command resumes a build that was stopped.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prep.build.bad_pairs import describe_bad, refuse_bad
from prep.build.describe import describe_plan, fact_line
from prep.build.pipeline import Pipeline
from prep.build.plan import BuildPlan, make_plan, plan_build, with_name
from prep.build.preflight import (
    check_free_space,
    check_weights,
    check_writable,
    is_finished,
    missing_units,
    stored_settings,
)
from prep.build.runner import Processes, Runner
from prep.build.settle import settle
from prep.build.units import Work
from prep.settings import PrepSettings
from prep.tiles.pairs import Data, find_pairs
from store.cli import progress, say, track
from store.format.manifest import all_units, read_root
from store.location.base import Location
from store.location.open import locate
from store.process import stop_requests
from store.schema import Interrupted
from store.writing.repair import Repair, start_repair
from store.writing.writer import finish_sealing, open_writer

LISTED = 10  # units or files in a line


def build(
    settings: PrepSettings, data: Data, address: Location | Path | str, *, skip_bad: bool, processes: Processes
) -> None:
    """Build the store at `address`, or resume its build. A bad pair stops it before anything is written, or is skipped.

    Raises MagstainError for an error that a user can correct, Interrupted when a signal stopped it between two units.
    """
    location = locate(address)
    settings = settle(with_name(settings, data), location, scheduler=processes.scheduler)
    if is_finished(location, settings):
        say(f"{location} already exists, finished and with these settings; the data folder was not read")
        return
    check_writable(location)
    discovery = find_pairs(settings, data)
    if not processes.cluster:
        check_weights(settings.upscaler)
    plan = plan_build(settings, data, discovery, threads=processes.threads)
    say(describe_plan(plan, skip_bad=skip_bad))
    if not skip_bad:
        refuse_bad(plan.table.skipped, plan.layout)
    check_free_space(location, plan)
    _write_units(plan, location, processes)
    for bad in plan.table.skipped:
        say(f"skipped: {describe_bad(bad)}")
    say(f"finished: the store is {location}")


def preview(settings: PrepSettings, data: Data, address: Location | Path | str, *, skip_bad: bool, threads: int) -> str:
    """The plan of a build, and how many units are not written yet. Reads every picture and writes nothing."""
    location = locate(address)
    plan = make_plan(settle(with_name(settings, data), location), data, threads=threads)
    check_writable(location)
    check_free_space(location, plan)
    left = f"{len(missing_units(location, plan))} of {len(all_units(plan.manifest))} units; nothing was written"
    return f"{describe_plan(plan, skip_bad=skip_bad)}\n{fact_line('left', left)}"


def repair(settings: PrepSettings | None, data: Data, address: Location | Path | str, *, processes: Processes) -> None:
    """Build again what is damaged in the store at `address`; without settings with those that the store records.

    Raises MagstainError for an error that a user can correct, Interrupted when a signal stopped it between two units.
    """
    location = locate(address)
    settings = settle(with_name(settings or stored_settings(location), data), location, repair=True)
    plan = make_plan(settings, data, threads=processes.threads)
    found = start_repair(location, plan.manifest, plan.table, lambda units: track(units, what="verifying", unit="unit"))
    if found.manifest.sealed:
        finish_sealing(location)
        say(f"{location} is intact, there is nothing to repair")
        return
    say(_describe_repair(location, found))
    _write_units(replace(plan, manifest=found.manifest), location, processes)
    seal = read_root(location).manifest.seal
    if found.old_seal and seal != found.old_seal:
        say(f"note: the seal of {location} was {found.old_seal} and is {seal}: what was lost was built differently")
    say(f"repaired: {location} has the seal {seal}")


def _write_units(plan: BuildPlan, location: Location, processes: Processes) -> None:
    """Write every unit that is missing, then the seal."""
    if not missing_units(location, plan):  # stopped between the last unit and the seal
        with open_writer(location, plan.manifest, plan.table) as writer, stop_requests(say):
            writer.seal()
        return
    runner = _make_runner(plan.work, processes)
    with open_writer(location, plan.manifest, plan.table) as writer, stop_requests(say) as stop:
        units = [(unit, plan.table.pairs[unit.split][unit.first : unit.stop]) for unit in writer.pending()]
        total = sum(plan.manifest.counts.values())
        written = total - sum(len(pairs) for _, pairs in units)
        with progress(total=total, done=written, what="building", unit="pair") as bar:
            for committed in runner.run(units, writer, stop):
                bar.set_postfix_str(f"limited by {committed.limit}", refresh=False)
                bar.update(len(committed.unit.pairs))
        if stop.requested and (left := len(writer.pending())):
            raise Interrupted(
                f"{left} of {len(all_units(plan.manifest))} units of {location} are left, the others are safe; "
                "run the same command to resume"
            )
        writer.seal()


def _make_runner(work: Work, processes: Processes) -> Runner:
    if not processes.cluster:
        return Pipeline(work, processes.threads)
    from prep.build.cluster import Cluster

    return Cluster(work, processes)


def _describe_repair(location: Location, found: Repair) -> str:
    units = ", ".join(unit.name for unit in found.units[:LISTED]) + (", …" if len(found.units) > LISTED else "")
    text = f"{location}: {len(found.units)} unit(s) to build again{f': {units}' if units else ''}"
    if found.documents:
        text += f"; {len(found.documents)} file(s) to write again: {', '.join(found.documents[:LISTED])}"
    return text
