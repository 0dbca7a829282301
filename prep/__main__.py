"""`python -m prep`: draw the synthetic set, say what would be built, build a store or go on with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from store.cli import run_app
from store.schema import SettingsError

if TYPE_CHECKING:
    from prep.plan import Data

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Make a store from pairs of tiles.")

DataOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="data folder: MIST, BCI, HE and IHC, or side-by-side pictures")
]
HeOption = Annotated[Path | None, typer.Option(metavar="DIR", help="H&E tiles; with --ihc instead of --data")]
IhcOption = Annotated[Path | None, typer.Option(metavar="DIR", help="IHC tiles of the same names")]
ConfigOption = Annotated[Path | None, typer.Option(metavar="TOML", help="settings; the defaults are the paper's")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one setting; repeatable")]
ThreadsOption = Annotated[int, typer.Option(metavar="N", min=1, help="threads that read pictures")]
THREADS = os.cpu_count() or 1


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="where the set goes; left alone if it is there")],
    config: Annotated[Path | None, typer.Option(metavar="TOML", help="how much is drawn")] = None,
    overrides: SetOption = None,
) -> None:
    """Draw the synthetic set: H&E and IHC pairs in MIST layout, made of numbers, not of patients."""
    from prep.demo import DemoSettings, draw_demo
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
    from prep.build import make_plan
    from prep.plan import describe_plan
    from prep.settings import PrepSettings
    from store.settings import load

    settings = load(PrepSettings, config, overrides or [])
    typer.echo(describe_plan(make_plan(settings, _data(data, he, ihc), threads=threads)))


@app.command()
def build(
    store: Annotated[Path, typer.Option(metavar="STORE", help="the store to make, for example data/mist-her2.zarr")],
    data: DataOption = None,
    he: HeOption = None,
    ihc: IhcOption = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad/--strict", help="leave bad pairs out, and say so")] = False,
    threads: ThreadsOption = THREADS,
) -> None:
    """Build a store; the same command again goes on where it was cut off."""
    from prep.build import build as build_store
    from prep.settings import PrepSettings
    from store.settings import load

    settings = load(PrepSettings, config, overrides or [])
    build_store(settings, _data(data, he, ihc), store, skip_bad=skip_bad, threads=threads)


def _data(data: Path | None, he: Path | None, ihc: Path | None) -> Data:
    """The data folders as given: --data alone, or --he with --ihc."""
    from prep.plan import Data

    if data and not he and not ihc:
        return Data(he=data, ihc=data)
    if he and ihc and not data:
        return Data(he=he, ihc=ihc)
    raise SettingsError("name the tiles: either --data DIR, or --he DIR and --ihc DIR")


if __name__ == "__main__":
    run_app(app)
