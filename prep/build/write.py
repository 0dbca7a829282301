"""Write the units of a planned store that are missing, in this process or in others, then seal it."""

from __future__ import annotations

from prep.build.pipeline import Pipeline
from prep.build.plan import BuildPlan
from prep.build.runner import Processes, Runner
from store.cli import progress, say
from store.format.manifest import all_units
from store.location.base import Location
from store.process import stop_requests
from store.schema import Interrupted
from store.writing.writer import StoreWriter, open_writer


def write_units(plan: BuildPlan, location: Location, processes: Processes) -> None:
    """Write every unit that is missing, then the seal; Interrupted when a signal stopped it between two units.

    The upscaler is loaded before anything is written, and not at all if only the seal is missing.
    """
    runner: Runner | None = None
    if StoreWriter(location, plan.manifest).pending():
        if processes.cluster:
            from prep.build.cluster import Cluster

            runner = Cluster(plan.work, processes)
        else:
            runner = Pipeline(plan.work, processes.threads)
    with open_writer(location, plan.manifest, plan.table) as writer, stop_requests(say) as stop:
        units = [(unit, plan.table.pairs[unit.split][unit.first : unit.stop]) for unit in writer.pending()]
        total = sum(plan.manifest.counts.values())
        written = total - sum(len(pairs) for _, pairs in units)
        if runner:
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
