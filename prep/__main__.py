"""`python -m prep`: draw the synthetic set, plan a store, build or resume it, measure what super-resolution changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prep.options import (
    ConfigOption,
    DataOption,
    HeOption,
    IhcOption,
    PairsOption,
    SetOption,
    SkipBadOption,
    ThreadsOption,
    check_options,
    name_data,
    read_settings,
)
from store.cli import run_app
from store.machine.cores import count_cores
from store.schema import SettingsError, Split

THREADS = count_cores()
PICTURES, PAIRS = 200, 16  # that `fidelity` measures: of each view of a store; of tiles, by every upscaler

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make a store from pairs of tiles.")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder of the set; a complete set is kept")],
    config: Annotated[Path | None, typer.Option("--config", metavar="TOML", help="how much is drawn")] = None,
    overrides: SetOption = None,
) -> None:
    """Draw the synthetic set: H&E and IHC pairs in MIST layout, without any data of patients."""
    from prep.demo.draw import DemoSettings, draw_demo
    from store.settings import load

    pairs = draw_demo(out, load(DemoSettings, config, overrides or []))
    typer.echo(f"{pairs} synthetic pairs are in {out}", err=True)


@app.command()
def plan(
    data: DataOption = "",
    he: HeOption = "",
    ihc: IhcOption = "",
    pairs_from: PairsOption = "",
    config: ConfigOption = None,
    overrides: SetOption = None,
    skip_bad: SkipBadOption = False,
    threads: ThreadsOption = THREADS,
    registration: Annotated[
        bool, typer.Option("--registration", help="measure how far the two pictures of each pair are apart")
    ] = False,
) -> None:
    """Say what would be built, and write nothing.

    Every picture is read completely, so the plan lists all bad pairs, and what a build does with them.
    Settings that do not fit the tiles and pictures in two splits are errors, said all at once.

    A view is one stored picture: a square box of the tile, brought to view_side px.
    Recipe `paper` cuts boxes from the tile downsampled to view_side (source `field`),
    recipes `native` and `wide` from the tile as delivered (source `native`).
    """
    from prep.build.describe import describe_plan
    from prep.build.plan import make_plan
    from prep.build.settle import find_pace

    given = [*(overrides or []), *(["registration=true"] if registration else [])]
    planned = make_plan(
        read_settings(config, given), name_data(data, he, ihc, pairs_from), threads=threads, skip_bad=skip_bad
    )
    pace = find_pace(planned.settings, planned.factors, planned.networks)
    typer.echo(describe_plan(planned, skip_bad=skip_bad, pace=pace))
    planned.refuse(skip_bad=True)  # bad pairs are in the text


@app.command()
def register(
    data: DataOption = "",
    he: HeOption = "",
    ihc: IhcOption = "",
    pairs_from: PairsOption = "",
    config: ConfigOption = None,
    overrides: SetOption = None,
    threads: ThreadsOption = THREADS,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="folder of the report; else ./<name>-registration")
    ] = None,
) -> None:
    """Measure how far the two pictures of every pair are apart: tables, a report, the worst pairs drawn."""
    from prep.alignment.run import register_data

    settings, tiles = read_settings(config, overrides), name_data(data, he, ihc, pairs_from)
    folder = out or Path(f"{settings.name or tiles.name}-registration")
    typer.echo(register_data(settings, tiles, folder, threads=threads))
    typer.echo(
        f"all numbers and the worst pairs: registration.md, registration.json and worst.png in {folder}", err=True
    )


@app.command()
def cut(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="folder of the tiles; those that are there stay")],
    data: DataOption = "",
    he: HeOption = "",
    ihc: IhcOption = "",
    pairs_from: PairsOption = "",
    config: ConfigOption = None,
    overrides: SetOption = None,
    skip_bad: SkipBadOption = False,
    threads: ThreadsOption = THREADS,
) -> None:
    """Cut pictures into PNG files of square tiles, those that build cuts; run again, it goes on where it stopped."""
    from prep.cutting.files import cut_files

    tiles = name_data(data, he, ihc, pairs_from)
    done = cut_files(read_settings(config, overrides), tiles, out, threads=threads, skip_bad=skip_bad)
    typer.echo(f"{done.new} new tiles are in {out}, and {done.kept} that were there\n{done.text}", err=True)


@app.command()
def build(
    store: Annotated[
        str,
        typer.Option("--store", metavar="STORE", help="the store, such as data/her2.zarr or s3://bucket/her2.zarr"),
    ],
    data: DataOption = "",
    he: HeOption = "",
    ihc: IhcOption = "",
    pairs_from: PairsOption = "",
    config: ConfigOption = None,
    overrides: SetOption = None,
    skip_bad: SkipBadOption = False,
    threads: ThreadsOption = THREADS,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=0, help="processes on this machine, one for each GPU")
    ] = 0,
    scheduler: Annotated[
        str, typer.Option("--scheduler", metavar="ADDRESS", help="a Dask scheduler, such as tcp://node:8786")
    ] = "",
    repair: Annotated[bool, typer.Option("--repair", help="build again what `store verify` finds damaged")] = False,
    trust_settings: Annotated[
        bool,
        typer.Option(
            "--trust-settings", help="with --repair: the settings given are those that the store had, if it lost them"
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check and plan, say how many units are left, write nothing")
    ] = False,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", metavar="DIR", help="cache folder of weight files; else $MAGSTAIN_WEIGHTS or ~/.cache"
        ),
    ] = None,
) -> None:
    """Build a store; the same command resumes a build that was stopped."""
    from prep.build.run import build as build_store
    from prep.build.run import preview
    from prep.build.run import repair as repair_store
    from prep.build.runner import Processes
    from store.cluster.workers import Workers
    from store.process import keep_freed_memory
    from store.weights import use_weights_folder

    check_options(repair=repair, dry_run=dry_run, trust_settings=trust_settings)
    processes = Processes(threads=threads, workers=Workers(count=workers, scheduler=scheduler))
    settings, tiles = read_settings(config, overrides), name_data(data, he, ihc, pairs_from)
    keep_freed_memory()
    if weights:
        use_weights_folder(weights)
    if repair:
        given = settings if config or overrides else None
        repair_store(given, tiles, store, processes=processes, trust_settings=trust_settings)
    elif dry_run:
        planned, text = preview(settings, tiles, store, skip_bad=skip_bad, threads=threads)
        typer.echo(text)
        planned.refuse(skip_bad=True)  # they are in the text
    else:
        build_store(settings, tiles, store, skip_bad=skip_bad, processes=processes)


@app.command()
def fidelity(
    store: Annotated[
        str, typer.Argument(metavar="[STORE]", help="such as data/demo.zarr or s3://bucket/demo.zarr")
    ] = "",
    split: Annotated[Split | None, typer.Option("--split", help="one part of the store; else all")] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=0,
            help="pictures of each view and split (200), with --upscalers pairs (16); 0 is all",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="of the choice of pictures")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="folder of the report; else ./<store>-fidelity")
    ] = None,
    upscalers: Annotated[
        str,
        typer.Option(
            "--upscalers", metavar="NAME,…", help="with --data: compare lanczos, bsrgan and files of networks, no store"
        ),
    ] = "",
    data: DataOption = "",
    he: HeOption = "",
    ihc: IhcOption = "",
    config: ConfigOption = None,
    overrides: SetOption = None,
    threads: ThreadsOption = THREADS,
) -> None:
    """Measure what super-resolution changed: every enlarged view against the patch that it was made from.

    With --data and --upscalers several upscalers are compared on the same tiles, before a store is built.
    """
    if upscalers or data or he or ihc:
        if store or split or not upscalers:
            raise SettingsError(
                "give a STORE, or tiles (--data, or --he and --ihc) with --upscalers lanczos,bsrgan,FILE; --split goes "
                "with a STORE"
            )
        from prep.fidelity.comparison_report import report_comparison

        tiles, count = name_data(data, he, ihc), PAIRS if limit is None else limit
        folder, settings = out or Path(f"{tiles.name}-upscalers"), read_settings(config, overrides)
        typer.echo(report_comparison(settings, tiles, upscalers, folder, count, seed, threads=threads))
        typer.echo(f"all numbers and pictures: upscalers.md, upscalers.json and upscalers.png in {folder}", err=True)
        return
    if not store:
        raise SettingsError("give a STORE, such as data/demo.zarr, or tiles (--data) with --upscalers")
    from prep.fidelity.report import report_fidelity
    from prep.fidelity.sources import Sample
    from store.reader import Store

    opened = Store.open(store)
    folder = out or Path(f"{Path(opened.location.name).stem}-fidelity")
    splits = (split,) if split else tuple(opened.manifest.counts)
    sample = Sample(limit=PICTURES if limit is None else limit, seed=seed)
    typer.echo(report_fidelity(opened, splits, sample, folder).summary)
    typer.echo(f"all numbers and the worst pictures: fidelity.md, fidelity.json and worst.png in {folder}", err=True)


if __name__ == "__main__":
    run_app(app)
