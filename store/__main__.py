"""`python -m store`: what is in a store, whether it is intact, what a pair looks like, and the weight files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.cli import DONE, YOUR_INPUT, run_app
from store.schema import Split, Stain, StoreError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Inspect and verify a store; fetch weight files.")

StoreArgument = Annotated[
    str, typer.Argument(metavar="STORE", help="for example data/demo.zarr or s3://bucket/demo.zarr")
]


@app.command()
def info(
    store: StoreArgument,
    as_json: Annotated[bool, typer.Option("--json", help="print manifest and data card as JSON instead")] = False,
    as_card: Annotated[bool, typer.Option("--card", help="print the data card as Markdown instead")] = False,
) -> None:
    """Print what is in a store."""
    import json

    from store.card.export import card_tree
    from store.card.markdown import card_markdown
    from store.cli import say
    from store.overview import describe, read_card
    from store.reader import Store
    from store.settings import plain

    opened = Store.open(store)
    facts, fault = read_card(opened)
    if fault:
        say(f"note: {fault}")
    if as_json:
        typer.echo(json.dumps(plain(opened.manifest) | {"card": card_tree(facts)}, indent=2))
    else:
        typer.echo(card_markdown(facts) if as_card else describe(opened, facts))


@app.command()
def card(
    store: StoreArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="the folder of card.md and card.json")],
) -> None:
    """Write the data card of a store: what its pictures are, in numbers, for a person and for a program."""
    from store.card.export import write_card
    from store.cli import say
    from store.overview import read_card
    from store.reader import Store

    facts, fault = read_card(Store.open(store))
    if fault:
        say(f"note: {fault}")
    text, record = write_card(out, facts)
    typer.echo(f"data card: {text} and {record}")


@app.command()
def verify(store: StoreArgument) -> None:
    """Read every byte of a store and compare it with its digests; exit code 2 if anything is damaged."""
    from store.cli import track
    from store.verify import describe
    from store.verify import verify as verify_store

    findings = verify_store(store, lambda files: track(files, what="verifying", unit="file"))
    if not findings.intact:
        raise StoreError(describe(store, findings))
    typer.echo(describe(store, findings))


@app.command()
def show(
    store: StoreArgument,
    split: Annotated[Split, typer.Option("--split", help="the split of the pair")] = Split.TEST,
    pair: Annotated[str, typer.Option("--pair", metavar="ID|N", help="the id of the pair, or its number from 0")] = "0",
    stain: Annotated[
        Stain | None, typer.Option("--stain", help="show this stain alone; default: both of a pair, H&E if unpaired")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PNG", help="the file to write; default: <store>-<split>-<number>.png here"),
    ] = None,
) -> None:
    """Draw a contact sheet of one pair: the tile and every zoom, H&E beside IHC; of unpaired tiles one alone."""
    from store.contact_sheet import draw_pair, find_row, stains_shown
    from store.images import write_png
    from store.reader import Store

    if out and out.suffix.lower() != ".png":
        raise StoreError(f"--out {out}: the sheet is a PNG file; use {out.with_suffix('.png')}")
    opened = Store.open(store)
    first = next(iter(stains_shown(opened, split, stain)), Stain.HE)
    row = find_row(opened, split, pair, first)
    file = out or Path(f"{Path(opened.location.name).stem}-{split}-{row}{f'-{stain}' if stain else ''}.png")
    write_png(file, draw_pair(opened, split, row, stain))
    typer.echo(f"contact sheet of {opened.pairs(split)[row].id_of(first)}: {file}")


@app.command()
def weights(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAMES",
            help="names of files, `prep` for the files of BSRGAN (default), `evaluate` for the feature networks",
        ),
    ] = None,
    source: Annotated[
        str, typer.Option("--from", metavar="FROM", help="copy from this file, folder or mirror instead")
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="the cache folder; default: $MAGSTAIN_WEIGHTS, or in ~/.cache"),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="list the files and whether they are present")] = False,
) -> None:
    """Download weight files into the cache folder and check them; an interrupted download resumes."""
    from store.cli import progress, say, wrapped
    from store.weights import PACKAGES, choose, describe, fetch, weights_folder

    cache, chosen = folder or weights_folder(), choose(names or (PACKAGES if listed else []), source)
    if listed:
        typer.echo("\n".join(describe(weight, cache) for weight in chosen))
        return
    for weight in chosen:
        what = f"{weight.name}: {weight.what}, {weight.size:,} bytes, from {source or weight.address}"
        typer.echo(wrapped(what, indent="  "), err=True)
        with progress(total=weight.size, what=weight.name, unit="B", scaled=True) as bar:
            file = fetch(weight, cache, source, bar.update, say)
        typer.echo(file)
    if not names and not source:
        typer.echo("the feature networks of evaluation: make weights NAMES=evaluate", err=True)


@app.command()
def doctor(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="where tiles, stores and runs lie or will lie; default: this folder"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead, for programs")] = False,
) -> None:
    """Look at Python, packages, PyTorch, GPUs, cores, memory, weights and disks; exit code 2 if something is wrong.

    In each folder files are written, read, renamed and locked for some seconds; nothing stays.
    """
    from store.doctor.run import report

    text, problem = report(folders or [], as_json=as_json)
    typer.echo(text)
    raise typer.Exit(YOUR_INPUT if problem else DONE)


if __name__ == "__main__":
    run_app(app)
