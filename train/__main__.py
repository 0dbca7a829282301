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
    as_json: Annotated[bool, typer.Option("--json", help="a JSON line per event on stdout, for schedulers")] = False,
) -> None:
    """Train a run, or go on with it: the same command again continues from the last checkpoint.

    Started by torchrun, several processes train one run together.
    """
    from store.process import keep_freed_memory
    from store.reader import Store
    from store.run_files import RunFolder
    from train.loop.fit import fit as train
    from train.methods.recipes import load_recipe

    keep_freed_memory()
    train(RunFolder(run), Store.open(store), load_recipe(config or [], overrides or []), as_json=as_json)


@app.command()
def predict(
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="the run's folder")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a generator.safetensors, wherever it came from")
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="STORE", help="where the run's store is now, or another one")
    ] = None,
    split: Annotated[Split, typer.Option(help="the part of the store to translate")] = Split.TEST,
    view: Annotated[str, typer.Option(metavar="VIEW", help="tile, x1, x2, x4")] = "tile",
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1")] = "auto",
    gates: Annotated[bool, typer.Option("--gates", help="also draw the attention gates over the H&E")] = False,
) -> None:
    """Translate every picture of a split, whole, with a run or a generator file; a complete set is left alone.

    Without --store it is the store that the run was trained on, and refused if that is another one by now; a store that
    is named is taken, and said to be another one if it is.
    """
    from store.reader import Store
    from store.run_files import open_store_of
    from train.predict import place_of
    from train.predict import predict as translate
    from train.run.checkpoint import load_header

    folder = place_of(run, checkpoint)
    opened = open_store_of(folder) if store is None else Store.open(store)
    if opened.manifest.seal != load_header(folder.generator).seal:
        typer.echo(f"note: {opened.address} is not the store that {folder.generator} was trained on", err=True)
    predicted = translate(folder, opened, split, view, device)
    how = "lie here since before" if predicted.complete_before else "lie"
    typer.echo(f"{predicted.pictures} pictures {how} in {predicted.folder}", err=True)
    if gates:
        from train.attention_maps import draw_gates

        typer.echo(f"gates are drawn in {draw_gates(folder, opened, split, view, device)}", err=True)


@app.command()
def describe(
    config: ConfigOption = None,
    overrides: SetOption = None,
    side: Annotated[int, typer.Option(metavar="PX", help="side of the picture that goes in")] = 512,
) -> None:
    """Say what the networks look like: settings, tensor shapes, parameter counts."""
    from train.describe import describe_method
    from train.methods.recipes import load_recipe

    typer.echo(describe_method(load_recipe(config or [], overrides or []), side))


@app.command("import-asp")
def import_asp(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a *_net_G.pth of the ASP repository")],
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="the folder to make; runs/<name of the file>")] = None,
    pairs_seen: Annotated[
        int | None,
        typer.Option("--pairs-seen", "--draws", metavar="N", help="pairs seen in training, if that is known"),
    ] = None,
) -> None:
    """Make a published ASP generator a finished run, which `predict --store` translates with."""
    from store.run_files import RunFolder
    from train.import_asp import import_generator

    folder = RunFolder(run or Path("runs") / file.stem)
    header = import_generator(file, folder, pairs_seen)
    generator = header.settings.generator
    typer.echo(
        f"{file.name}: a ResNet of {generator.blocks} blocks and {generator.base} base channels; now {folder.path}\n"
        f"translate with: python -m train predict --run {folder.path} --store STORE",
        err=True,
    )


if __name__ == "__main__":
    run_app(app)
