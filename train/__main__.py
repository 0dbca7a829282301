"""`python -m train`: train or continue a run, translate a split, say what the networks look like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.cli import run_app
from store.schema import Split

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Learn to translate from a store, and translate.")

RunOption = Annotated[Path, typer.Option(metavar="DIR", help="the run's folder")]
ConfigOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="TOML", help="settings over the method's published ones; repeatable, later files win"),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one setting; repeatable")]


@app.command()
def fit(
    store: Annotated[str, typer.Option(metavar="STORE", help="the sealed store to learn from, a folder or s3://…")],
    run: RunOption,
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Train a run, or go on with it: the same command again continues from the last checkpoint."""
    from store.reader import Store
    from train.folder import RunFolder
    from train.loop import fit as train
    from train.recipe import load_recipe

    train(RunFolder(run), Store.open(store), load_recipe(config or [], overrides or []))


@app.command()
def predict(
    run: RunOption,
    store: Annotated[
        str | None, typer.Option(metavar="STORE", help="where the run's store is now, or another one")
    ] = None,
    split: Annotated[Split, typer.Option(help="the part of the store to translate")] = Split.TEST,
    view: Annotated[str, typer.Option(metavar="VIEW", help="tile, x1, x2, x4")] = "tile",
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1")] = "auto",
) -> None:
    """Translate every picture of a split, whole; a complete set is left alone.

    Without --store it is the store that the run was trained on, and refused if that is another one by now; a store that
    is named is taken, and said to be another one if it is.
    """
    from store.reader import Store
    from train.folder import RunFolder, read_facts
    from train.predict import open_own_store
    from train.predict import predict as translate

    folder = RunFolder(run)
    opened = open_own_store(folder) if store is None else Store.open(store)
    if opened.manifest.seal != read_facts(folder).seal:
        typer.echo(f"note: {opened.address} is not the store that {run} was trained on", err=True)
    predicted = translate(folder, opened, split, view, device)
    how = "lie here since before" if predicted.complete_before else "lie"
    typer.echo(f"{predicted.pictures} pictures {how} in {predicted.folder}", err=True)


@app.command()
def describe(
    config: ConfigOption = None,
    overrides: SetOption = None,
    side: Annotated[int, typer.Option(metavar="PX", help="side of the picture that goes in")] = 512,
) -> None:
    """Say what the networks look like: settings, tensor shapes, parameter counts."""
    from train.describe import describe_method
    from train.recipe import load_recipe

    typer.echo(describe_method(load_recipe(config or [], overrides or []), side))


if __name__ == "__main__":
    run_app(app)
