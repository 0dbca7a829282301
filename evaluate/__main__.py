"""`python -m evaluate`: numbers of one run, a table of many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.cli import run_app
from store.schema import Split

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Judge what a run left on disk.")

SplitOption = Annotated[Split, typer.Option(help="the part of the store that is judged")]
ViewOption = Annotated[str, typer.Option(metavar="VIEW", help="tile, x1, x2, x4")]


@app.command()
def score(
    run: Annotated[Path, typer.Option(metavar="DIR", help="the run's folder")],
    store: Annotated[str | None, typer.Option(metavar="STORE", help="the run's store, if it was moved")] = None,
    split: SplitOption = Split.TEST,
    view: ViewOption = "tile",
) -> None:
    """Judge the predictions of one run: scores.json, table.md, table.csv and contact.png beside them."""
    from evaluate.report import markdown, write_contact, write_table
    from evaluate.results import predictions_folder, store_of, write_scores
    from evaluate.score import score_run
    from store.reader import Store

    opened = Store.open(store or store_of(run))
    folder = predictions_folder(run, split, view)
    typer.echo(f"scoring {folder} against {opened.address}", err=True)
    scores = score_run(run, opened, split, view)
    written = [write_scores(scores, folder), *write_table([scores], folder), write_contact(scores, opened, folder)]
    typer.echo(markdown([scores]))
    typer.echo("\n".join(f"wrote {file}" for file in written), err=True)


@app.command()
def table(
    runs: Annotated[list[Path], typer.Option("--run", metavar="DIR", help="a scored run; once for each")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where table.md and table.csv go")],
    split: SplitOption = Split.TEST,
    view: ViewOption = "tile",
) -> None:
    """Put many scored runs into one table, the floors first."""
    from evaluate.report import markdown, write_table
    from evaluate.results import read_scores

    scores = [read_scores(run, split, view) for run in runs]
    written = write_table(scores, out)
    typer.echo(markdown(scores))
    typer.echo("\n".join(f"wrote {file}" for file in written), err=True)


if __name__ == "__main__":
    run_app(app)
