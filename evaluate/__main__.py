"""`python -m evaluate`: numbers of one run, a table of many, the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.cli import run_app
from store.schema import Split

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Judge what a run left on disk.")

RunOption = Annotated[Path, typer.Option(metavar="DIR", help="the run's folder")]
RunsOption = Annotated[list[Path], typer.Option("--run", metavar="DIR", help="a scored run; once for each")]
SplitOption = Annotated[Split, typer.Option(help="the part of the store that is judged")]
ViewOption = Annotated[str, typer.Option(metavar="VIEW", help="tile, x1, x2, x4")]
StoreOption = Annotated[str | None, typer.Option(metavar="STORE", help="the run's store, if it was moved")]
PaperOption = Annotated[str, typer.Option(metavar="TABLE", help="the paper's table to stand beside: I, II or none")]


@app.command()
def score(
    run: RunOption,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="judge these pictures of another system, under the run's name")
    ] = None,
    store: StoreOption = None,
    split: SplitOption = Split.TEST,
    view: ViewOption = "tile",
    require: Annotated[bool, typer.Option("--require", help="missing weights of a network are an error")] = False,
    weights: Annotated[Path | None, typer.Option(metavar="DIR", help="where the weight files are")] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu or cuda")] = "auto",
) -> None:
    """Judge the predictions of one run: scores.json and contact.png beside them."""
    from evaluate.cache import features_folder
    from evaluate.contact import write_contact
    from evaluate.networks import WeightsFolder, choose_device, require_all
    from evaluate.predictions import predictions_folder, store_of
    from evaluate.results import files_of, write_scores
    from evaluate.rows import Depth
    from evaluate.score import score_run
    from evaluate.table import markdown
    from store.reader import Store
    from store.weights import weights_folder

    networks = WeightsFolder(weights or weights_folder(), choose_device(device))
    if require:
        require_all(networks)
    opened = Store.open(store or store_of(run))
    folder = predictions_folder(run, split, view)
    typer.echo(f"scoring {pictures or folder} against {opened.address}", err=True)
    scores = score_run(run, pictures, opened, split, view, Depth(networks=networks, cache=features_folder()))
    written = [write_scores(scores, folder), write_contact(scores, opened, files_of(scores, run), folder)]
    typer.echo(markdown([scores]))
    typer.echo("\n".join(f"wrote {file}" for file in written), err=True)


@app.command()
def table(
    runs: RunsOption,
    out: Annotated[Path, typer.Option(metavar="DIR", help="where table.md, table.csv and table.tex go")],
    split: SplitOption = Split.TEST,
    view: ViewOption = "tile",
    paper: PaperOption = "none",
) -> None:
    """Put many scored runs into one table, the floors first, the paper's rows beside."""
    from evaluate.paper import choose_table
    from evaluate.results import read_scores
    from evaluate.table import markdown, write_table

    chosen = choose_table(paper)
    scores = [read_scores(run, split, view) for run in runs]
    written = write_table(scores, out, chosen)
    typer.echo(markdown(scores, chosen))
    typer.echo("\n".join(f"wrote {file}" for file in written), err=True)


@app.command()
def report(
    runs: RunsOption,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="default: report.html beside the first scores")
    ] = None,
    store: StoreOption = None,
    split: SplitOption = Split.TEST,
    view: ViewOption = "tile",
    paper: PaperOption = "none",
) -> None:
    """Put scored runs on one page that needs no network: tables, pictures, plots, the origin of every number."""
    from evaluate.paper import choose_table
    from evaluate.predictions import predictions_folder, store_of
    from evaluate.report import write_report
    from store.reader import Store

    opened = Store.open(store or store_of(runs[0]))
    file = out or predictions_folder(runs[0], split, view) / "report.html"
    typer.echo(f"wrote {write_report(runs, opened, split, view, file, choose_table(paper))}", err=True)


if __name__ == "__main__":
    run_app(app)
