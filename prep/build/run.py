"""Build a store: check, then read, enlarge and write unit by unit. Run again, it goes on where it stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from prep.build.pipeline import run_units
from prep.build.plan import BuildPlan, Data, describe_plan, find_pairs, plan_build, resolve
from prep.build.preflight import check_place, check_room, is_finished, settle_again, settle_for, stored_settings
from prep.build.units import Work
from prep.settings import PrepSettings
from prep.tiles.checking import refuse_bad
from prep.upscaling.upscale import expect_weights, is_settled, make_upscaler
from store.files import disk_errors
from store.format.layout import Unit
from store.format.manifest import ROOT, all_units, read_root
from store.location.base import Location
from store.location.open import locate
from store.process import Stop, stop_requests
from store.schema import Interrupted, Pair, StoreError
from store.settings import differences, plain
from store.writing.repair import Repair, start_repair
from store.writing.writer import StoreWriter, finish_sealing, open_writer

Units = list[tuple[Unit, tuple[Pair, ...]]]
Run = Callable[[Units, StoreWriter, Stop, Callable[[Unit, str], None]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """Who does the work: threads that read pictures, and the processes of a cluster if there is one.

    `workers` processes are started on this machine, or those of the scheduler at an address are used; with neither the
    units run in this process.
    """

    threads: int
    workers: int = 0
    scheduler: str = ""

    @property
    def cluster(self) -> bool:
        """Whether the units run in other processes."""
        return bool(self.workers or self.scheduler)


def say(text: str) -> None:
    """A line for the person, above a progress bar."""
    tqdm.write(text, file=sys.stderr)


def make_plan(settings: PrepSettings, data: Data, *, threads: int) -> BuildPlan:
    """Find and check the pairs of the data folders, with a progress bar, and plan the store. Writes nothing."""
    settings = resolve(settings, data)
    discovery = find_pairs(settings, data)
    with tqdm(total=len(discovery.candidates), desc="checking", unit="pair", file=sys.stderr) as bar:
        return plan_build(settings, data, discovery, threads=threads, tick=bar.update)


def build(settings: PrepSettings, data: Data, address: Location | Path | str, *, skip_bad: bool, hands: Hands) -> None:
    """Build the store at `address` or go on with it; bad pairs stop it before anything is written, or are left out.

    Raises MagstainError for what a user can mend, Interrupted when a signal stopped it between two units.
    """
    location = locate(address)
    settings = settle_for(resolve(settings, data), location, hands.scheduler, say)
    if is_finished(location, settings):
        say(f"{location} is finished and was made with these settings; the data folder was not looked at again")
        return
    check_place(location)
    if not hands.cluster:
        expect_weights(settings)
    plan = make_plan(settings, data, threads=hands.threads)
    say(describe_plan(plan))
    if not skip_bad:
        refuse_bad(plan.table.skipped)
    check_room(location, plan)
    _write_units(plan, settings, location, hands)
    for bad in plan.table.skipped:
        say(f"left out: {bad.split} {bad.id!r}: {bad.reason}")
    say(f"finished: the store is {location}")


def rehearse(settings: PrepSettings, data: Data, address: Location | Path | str, *, threads: int) -> str:
    """What a build would do: the plan, and what is left of it. Reads every picture and writes nothing."""
    location = locate(address)
    settings = settle_for(resolve(settings, data), location)
    plan = make_plan(settings, data, threads=threads)
    check_place(location)
    check_room(location, plan)
    units = all_units(plan.manifest)
    left = units
    with disk_errors(location):
        begun = location.exists(ROOT)
    if begun:
        root = read_root(location)
        if changed := differences(root.manifest.settings, plain(settings)):
            raise StoreError(f"{location} was made or begun with other settings ({'; '.join(changed[:3])})")
        left = [] if root.manifest.sealed else StoreWriter(location, plan.manifest).pending()
    return f"{describe_plan(plan)}\n  left      {len(left)} of {len(units)} units; nothing was written"


def repair(settings: PrepSettings | None, data: Data, address: Location | Path | str, *, hands: Hands) -> None:
    """Build what is damaged of the store at `address` again; without settings they are those that the store holds.

    Raises MagstainError for what a user can mend, Interrupted when a signal stopped it between two units.
    """
    location = locate(address)
    settings = resolve(settings or stored_settings(location), data)
    if not is_settled(settings):
        settings = settle_again(settings, location)
    plan = make_plan(settings, data, threads=hands.threads)
    with tqdm(desc="verifying", unit="unit", file=sys.stderr) as bar:

        def watch(units: Sequence[Unit]) -> Iterator[Unit]:
            bar.reset(len(units))
            for unit in units:
                yield unit
                bar.update()

        mended = start_repair(location, plan.manifest, plan.table, watch)
    if mended.manifest.sealed:
        finish_sealing(location)
        say(f"{location} is whole, there is nothing to repair")
        return
    say(_describe_repair(location, mended))
    _write_units(replace(plan, manifest=mended.manifest), settings, location, hands)
    seal = read_root(location).manifest.seal
    if mended.old_seal and seal != mended.old_seal:
        say(f"note: the seal of {location} was {mended.old_seal} and is {seal}: what was lost was built otherwise")
    say(f"repaired: {location} has the seal {seal}")


def _write_units(plan: BuildPlan, settings: PrepSettings, location: Location, hands: Hands) -> None:
    """Every unit that is not written yet, then the seal."""
    work = Work(manifest=plan.manifest, sources=plan.sources, geometries=plan.geometries)
    with disk_errors(location):
        begun = location.exists(ROOT)
    run: Run = _nobody
    if not begun or StoreWriter(location, plan.manifest).pending():
        run = _on_cluster(work, settings, hands) if hands.cluster else _here(work, settings, hands)
    with open_writer(location, plan.manifest, plan.table) as writer, stop_requests(say) as stop:
        units = [(unit, plan.table.pairs[unit.split][unit.first : unit.stop]) for unit in writer.pending()]
        if units:
            total = sum(plan.manifest.counts.values())
            with _progress(total, total - sum(len(pairs) for _, pairs in units)) as done:
                run(units, writer, stop, done)
        if stop.requested and (left := len(writer.pending())):
            raise Interrupted(f"{location} is safe, {left} units are left; the same command goes on")
        writer.seal()


def _nobody(units: Units, writer: StoreWriter, stop: Stop, done: Callable[[Unit, str], None]) -> None:
    raise AssertionError(f"{len(units)} units of {writer.location} are left, and nobody was made ready for them")


def _here(work: Work, settings: PrepSettings, hands: Hands) -> Run:
    """Run units in this process; the network is loaded before anything is written."""
    upscaler = make_upscaler(settings, work.factors)
    return lambda units, writer, stop, done: run_units(
        work, units, upscaler, writer, threads=hands.threads, stop=stop, done=done
    )


def _on_cluster(work: Work, settings: PrepSettings, hands: Hands) -> Run:
    """Run units in other processes."""
    from prep.build.cluster import run_on_cluster

    work = replace(work, sources=replace(work.sources, he=work.sources.he.resolve(), ihc=work.sources.ihc.resolve()))
    return lambda units, writer, stop, done: run_on_cluster(
        work, settings, units, writer.location, workers=hands.workers, scheduler=hands.scheduler,
        threads=hands.threads, stop=stop, say=say, done=done,
    )  # fmt: skip


@contextmanager
def _progress(total: int, begun: int) -> Iterator[Callable[[Unit, str], None]]:
    """A bar of pairs with their rate, the time that is left and the stage that limits."""
    with tqdm(total=total, initial=begun, desc="building", unit="pair", file=sys.stderr, smoothing=0.1) as bar:

        def done(unit: Unit, limit: str) -> None:
            bar.set_postfix_str(f"limited by {limit}", refresh=False)
            bar.update(len(unit.pairs))

        yield done


def _describe_repair(location: Location, mended: Repair) -> str:
    units = ", ".join(unit.name for unit in mended.units[:10]) + (", …" if len(mended.units) > 10 else "")
    told = f"{len(mended.units)} unit(s) to build again{f': {units}' if units else ''}"
    documents = f"; {len(mended.documents)} file(s) written anew: {', '.join(mended.documents[:10])}"
    return f"{location}: {told}{documents if mended.documents else ''}"
