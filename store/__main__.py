"""`python -m store`: what is in a store, whether it is intact, what a pair looks like, and the weight files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.cli import run_app
from store.schema import Split, StoreError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Inspect and verify a store; fetch weight files.")

StoreArgument = Annotated[
    str, typer.Argument(metavar="STORE", help="for example data/demo.zarr or s3://bucket/demo.zarr")
]


@app.command()
def info(
    store: StoreArgument,
    as_json: Annotated[bool, typer.Option("--json", help="print the manifest as JSON instead")] = False,
) -> None:
    """Print what is in a store."""
    import json

    from store.overview import describe
    from store.reader import Store
    from store.settings import plain

    opened = Store.open(store)
    typer.echo(json.dumps(plain(opened.manifest), indent=2) if as_json else describe(opened))


@app.command()
def verify(store: StoreArgument) -> None:
    """Read every byte of a store and compare it with its digests."""
    from store.cli import track
    from store.verify import describe
    from store.verify import verify as verify_store

    findings = verify_store(store, lambda files: track(files, what="verifying", unit="file"))
    if not findings.whole:
        raise StoreError(describe(store, findings))
    typer.echo(describe(store, findings))


@app.command()
def show(
    store: StoreArgument,
    split: Annotated[Split, typer.Option("--split", help="the part of the store")] = Split.TEST,
    pair: Annotated[str, typer.Option("--pair", metavar="ID|N", help="the pair's id, or its number from 0")] = "0",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PNG", help="the file to write; else <store>-<split>-<number>.png here"),
    ] = None,
) -> None:
    """Draw a contact sheet of one pair: the tile and every zoom, H&E beside IHC."""
    from store.contact_sheet import draw_pair, find_row
    from store.images import write_png
    from store.reader import Store

    if out and out.suffix.lower() != ".png":
        raise StoreError(f"--out {out}: the sheet is a PNG; name it {out.with_suffix('.png')}")
    opened = Store.open(store)
    row = find_row(opened, split, pair)
    place = out or Path(f"{Path(opened.location.name).stem}-{split}-{row}.png")
    write_png(place, draw_pair(opened, split, row))
    typer.echo(f"contact sheet of {opened.pairs(split)[row].id}: {place}")


@app.command()
def weights(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAMES", help="names of files, or `prep` or `evaluate` for all of theirs; else `prep`"),
    ] = None,
    source: Annotated[
        str, typer.Option("--from", metavar="FROM", help="copy them from a file, a folder or a mirror")
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="the cache folder; else $MAGSTAIN_WEIGHTS or ~/.cache"),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="list the files and where they belong")] = False,
) -> None:
    """Fetch weight files into the cache folder and check them; a broken download resumes."""
    from store.cli import progress
    from store.weights import PACKAGES, choose, describe, fetch, weights_folder

    place, chosen = folder or weights_folder(), choose(names or (PACKAGES if listed else []), source)
    if listed:
        typer.echo("\n".join(describe(weight, place) for weight in chosen))
        return
    for weight in chosen:
        typer.echo(f"{weight.name}, {weight.what}, {weight.size:,} bytes, from {source or weight.address}", err=True)
        with progress(total=weight.size, what=weight.name, unit="B", scaled=True) as bar:
            file = fetch(weight, place, source, bar.update)
        typer.echo(file)
    if not names and not source:
        typer.echo("the feature networks of evaluation are fetched with: make weights NAMES=evaluate", err=True)


if __name__ == "__main__":
    run_app(app)
