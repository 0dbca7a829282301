"""Write the units of a planned store that are missing, in this process or in others, then seal it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prep.build.pipeline import Pipeline
from prep.build.plan import BuildPlan
from prep.build.runner import Processes, Runner
from prep.tiles.decoded import Decoded
from store.cli import progress, say, track
from store.format.layout import Unit
from store.format.manifest import all_units
from store.location.base import Location
from store.process import Stop, stop_requests
from store.schema import Interrupted
from store.writing.writer import StoreWriter, UnitsLostError, open_writer

LISTED = 10  # units in a line
ROUNDS = 3  # how often damaged units are written; more often, a disk does not return what was written


def write_units(plan: BuildPlan, location: Location, processes: Processes, decoded: Decoded) -> None:
    """Write every unit that is missing, then the seal; Interrupted when a signal stopped it between two units.

    The upscaler is loaded before anything is written, and not at all if only the seal is missing. A unit that is
    damaged when it is read back is written again; StoreError if that does not help. `decoded` has the pictures that the
    check of the sources kept.
    """
    runner = _start(plan, processes, decoded) if StoreWriter(location, plan.manifest).pending() else None
    with open_writer(location, plan.manifest, plan.table, plan.measured) as writer, stop_requests(say) as stop:

        def watched(units: list[Unit]) -> Iterator[Unit]:
            for unit in track(units, what="reading back", unit="unit"):
                _heed(stop, writer)
                yield unit

        for left in reversed(range(ROUNDS)):
            if pending := writer.pending():
                runner = runner or _start(plan, processes, decoded)
                _run(runner, plan, pending, writer, stop)
                _heed(stop, writer)
            try:
                writer.seal(watched)
            except UnitsLostError as error:
                if not left:
                    raise
                names = ", ".join(unit.name for unit in error.units[:LISTED])
                say(f"{location}: {len(error.units)} damaged unit(s) are built again: {names}")
            else:
                break


def _heed(stop: Stop, writer: StoreWriter) -> None:
    """Raise Interrupted if a stop was requested; what is written is kept."""
    if stop.requested:
        left, total = len(writer.pending()), len(all_units(writer.manifest))
        raise Interrupted(
            f"{left} of {total} units of {writer.location} are left, the others are safe; run the same command to "
            f"{'resume' if left else 'finish the store'}"
        )


def _start(plan: BuildPlan, processes: Processes, decoded: Decoded) -> Runner:
    """What runs the units; it loads the upscaler."""
    if processes.workers:
        from prep.build.cluster import Cluster

        return Cluster(plan.work, processes)
    return Pipeline(plan.work, processes.threads, decoded)


def _run(runner: Runner, plan: BuildPlan, pending: list[Unit], writer: StoreWriter, stop: Stop) -> None:
    """Write these units, with progress."""
    units = [(unit, plan.table.pairs[unit.split][unit.first : unit.stop]) for unit in pending]
    total = sum(plan.manifest.counts.values())
    written, start = total - sum(len(pairs) for _, pairs in units), time.perf_counter()
    with progress(total=total, done=written, what="building", unit="pair") as bar:
        for committed in runner.run(units, writer, stop):
            bar.set_postfix_str(f"limited by {committed.limit}", refresh=False)
            bar.update(len(committed.unit.pairs))
        pace = (bar.n - written) / (time.perf_counter() - start)
    say(f"{runner.describe_limit()}; {pace:.1f} pairs/s")
