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
    from evaluate.features.extract import features_folder
    from evaluate.features.weights import WeightsFolder, choose_device, require_all
    from evaluate.report.contact_sheet import write_contact
    from evaluate.report.tables import markdown
    from evaluate.scores_file import files_of, write_scores
    from evaluate.scoring.rows import Depth
    from evaluate.scoring.score import score_run
    from store.reader import Store
    from store.run_files import RunFolder, open_store_of
    from store.weights import weights_folder

    networks = WeightsFolder(weights or weights_folder(), choose_device(device))
    if require:
        require_all(networks)
    opened = Store.open(store) if store else open_store_of(RunFolder(run))
    folder = RunFolder(run).predictions(split, view).path
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
    from evaluate.report.paper_tables import choose_table
    from evaluate.report.tables import markdown, write_table
    from evaluate.scores_file import read_scores

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
    from evaluate.report.html_page import write_report
    from evaluate.report.paper_tables import choose_table
    from store.reader import Store
    from store.run_files import RunFolder, open_store_of

    opened = Store.open(store) if store else open_store_of(RunFolder(runs[0]))
    file = out or RunFolder(runs[0]).predictions(split, view).path / "report.html"
    typer.echo(f"wrote {write_report(runs, opened, split, view, file, choose_table(paper))}", err=True)


if __name__ == "__main__":
    run_app(app)
