"""`python -m prep`: draw the synthetic set, plan a store, build it or go on with it, say what super-resolution did."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from store.cli import run_app
from store.schema import SettingsError, Split

if TYPE_CHECKING:
    from prep.build.plan import Data

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make a store from pairs of tiles.")

DataOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="data folder: MIST, BCI, HE and IHC, or side-by-side pictures")
]
HeOption = Annotated[Path | None, typer.Option(metavar="DIR", help="H&E tiles; with --ihc instead of --data")]
IhcOption = Annotated[Path | None, typer.Option(metavar="DIR", help="IHC tiles of the same names")]
ConfigOption = Annotated[Path | None, typer.Option(metavar="TOML", help="settings; the defaults are the paper's")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one setting; repeatable")]
WeightsOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="cache folder of weight files; else $MAGSTAIN_WEIGHTS or ~/.cache")
]
ThreadsOption = Annotated[int, typer.Option(metavar="N", min=1, help="threads that read pictures")]
THREADS = os.cpu_count() or 1


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the set goes; left alone if it is there")],
    config: Annotated[Path | None, typer.Option(metavar="TOML", help="how much is drawn")] = None,
    overrides: SetOption = None,
) -> None:
    """Draw the synthetic set: H&E and IHC pairs in MIST layout, made of numbers, not of patients."""
    from prep.demo.draw import DemoSettings, draw_demo
    from store.settings import load

    pairs = draw_demo(out, load(DemoSettings, config, overrides or []))
    typer.echo(f"{pairs} synthetic pairs lie in {out}", err=True)


@app.command()
def plan(
    data: DataOption = None,
    he: HeOption = None,
    ihc: IhcOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    threads: ThreadsOption = THREADS,
) -> None:
    """Say what would be built, and write nothing."""
    from prep.build.plan import describe_plan
    from prep.build.run import make_plan
    from prep.settings import PrepSettings
    from store.settings import load

    settings = load(PrepSettings, config, overrides or [])
    typer.echo(describe_plan(make_plan(settings, _data(data, he, ihc), threads=threads)))


@app.command()
def build(
    store: Annotated[
        str,
        typer.Option(metavar="STORE", help="the store to make, such as data/mist-her2.zarr or s3://bucket/her2.zarr"),
    ],
    data: DataOption = None,
    he: HeOption = None,
    ihc: IhcOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad/--strict", help="leave bad pairs out, and say so")] = False,
    threads: ThreadsOption = THREADS,
    workers: Annotated[int, typer.Option(metavar="N", min=0, help="processes on this machine, one for each GPU")] = 0,
    scheduler: Annotated[str, typer.Option(metavar="ADDRESS", help="a Dask scheduler, such as tcp://node:8786")] = "",
    mend: Annotated[bool, typer.Option("--repair", help="build again what `store verify` finds damaged")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check and plan, say what is left, write nothing")] = False,
    weights: WeightsOption = None,
) -> None:
    """Build a store; the same command again goes on where it was cut off."""
    from prep.build.run import Hands, rehearse, repair
    from prep.build.run import build as build_store
    from prep.settings import PrepSettings
    from store.process import keep_freed_memory
    from store.settings import load
    from store.weights import use_weights_folder

    if workers and scheduler:
        raise SettingsError("--workers starts processes here, --scheduler uses those of a cluster; give one of them")
    if mend and dry_run:
        raise SettingsError("--repair cannot be rehearsed; `python -m store verify` says what is damaged")
    settings, tiles = load(PrepSettings, config, overrides or []), _data(data, he, ihc)
    hands = Hands(threads=threads, workers=workers, scheduler=scheduler)
    keep_freed_memory()
    if weights:
        use_weights_folder(weights)
    if mend:
        repair(settings if config or overrides else None, tiles, store, hands=hands)
    elif dry_run:
        typer.echo(rehearse(settings, tiles, store, threads=threads))
    else:
        build_store(settings, tiles, store, skip_bad=skip_bad, hands=hands)


@app.command()
def fidelity(
    store: Annotated[str, typer.Argument(metavar="STORE", help="such as data/demo.zarr or s3://bucket/demo.zarr")],
    split: Annotated[Split | None, typer.Option(help="the part of the store; else every part")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="pictures of each view and split; 0 is all")] = 200,
    seed: Annotated[int, typer.Option(help="of the draw of pictures")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="where it goes; else <store>-fidelity here")] = None,
) -> None:
    """Say what super-resolution changed: every enlarged view against the patch that it was made of."""
    from prep.fidelity.report import report_fidelity
    from prep.fidelity.sources import Sample
    from store.reader import Store

    opened = Store.open(store)
    folder = out or Path(f"{Path(opened.location.name).stem}-fidelity")
    splits = (split,) if split else tuple(opened.manifest.counts)
    typer.echo(report_fidelity(opened, splits, Sample(limit=limit, seed=seed), folder))
    typer.echo(f"fidelity.md, fidelity.json and worst.png lie in {folder}", err=True)


def _data(data: Path | None, he: Path | None, ihc: Path | None) -> Data:
    """The data folders as given: --data alone, or --he with --ihc."""
    from prep.build.plan import Data

    if data and not he and not ihc:
        return Data(he=data, ihc=data)
    if he and ihc and not data:
        return Data(he=he, ihc=ihc)
    raise SettingsError("name the tiles: either --data DIR, or --he DIR and --ihc DIR")


if __name__ == "__main__":
    run_app(app)
