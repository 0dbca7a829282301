"""`python -m evaluate`: the scores of one run, a table of many runs, a page, a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evaluate.parallel import choose_workers
from store.cli import run_app
from store.schema import Split

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Score the predictions of runs.")

RunOption = Annotated[Path, typer.Option("--run", metavar="DIR", help="the run's folder")]
RunsOption = Annotated[list[Path], typer.Option("--run", metavar="DIR", help="a scored run; repeat for each run")]
SplitOption = Annotated[Split, typer.Option("--split", help="the split that is scored")]
ViewOption = Annotated[str, typer.Option("--view", metavar="VIEW", help="tile, x1, x2 or x4")]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="STORE", help="the store of the run, if it was moved")
]
PaperOption = Annotated[
    str, typer.Option("--paper", metavar="TABLE", help="add the rows of the paper's table: I, II or none")
]


@app.command()
def score(
    run: RunOption,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="score the pictures of another system, under the run's name"),
    ] = None,
    store: StoreOption = None,
    split: SplitOption = Split.TEST,
    view: ViewOption = "tile",
    require: Annotated[bool, typer.Option("--require", help="stop if the weights of a network are missing")] = False,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="DIR", help="the folder of the weight files")
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu or cuda")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="NUMBER", help="processes for pictures; by default one for each core"),
    ] = None,
) -> None:
    """Score the predictions of one run: scores.json and contact.png beside them, a table on stdout."""
    processes = choose_workers(workers)
    from evaluate.features.cache import features_folder
    from evaluate.features.extract import FeatureSource
    from evaluate.features.weights import WeightsFolder, choose_device, require_all
    from evaluate.report.contact_sheet import contact_sheet, write_contact
    from evaluate.report.table_texts import terminal
    from evaluate.scored_set import files_of, place_in
    from evaluate.scores_file import write_scores
    from evaluate.scoring.score import score_run
    from store.process import device_memory
    from store.reader import Store
    from store.records.facts import open_store_of
    from store.records.lock import held
    from store.run_files import RunFolder
    from store.weights import weights_folder

    networks = WeightsFolder(weights or weights_folder(), choose_device(device))
    if require:
        require_all(networks)
    opened = Store.open(store) if store else open_store_of(RunFolder(run))
    place = place_in(run, opened, split, view)
    typer.echo(f"scoring {pictures or place.path} against {opened.address}", err=True)
    source = FeatureSource(networks=networks, cache=features_folder())
    remedy = "stop other programs on the device and run the same command again, or add --device cpu"
    with held(place), device_memory("the feature networks", remedy):
        scores = score_run(run, pictures, opened, split, view, source, processes)
        sheet = contact_sheet(scores, opened, files_of(scores, run))
        written = [write_scores(scores, place.path), write_contact(sheet, place)]
    of = "" if (split, view) == (Split.TEST, "tile") else f" --split {split} --view {view}"
    of += "" if place == place_in(run, None, split, view) else f" --store {opened.address}"
    command = f"python -m evaluate table --run {run}{of} --out DIR"
    typer.echo(terminal([scores], end=f"With intervals: table.md of `{command}`"))
    typer.echo("\n".join(f"wrote {file}" for file in written), err=True)


@app.command()
def table(
    runs: RunsOption,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="the folder for table.md, table.csv, table.tex; by default that of the first run's scores",
        ),
    ] = None,
    store: StoreOption = None,
    split: SplitOption = Split.TEST,
    view: ViewOption = "tile",
    paper: PaperOption = "none",
) -> None:
    """Put scored runs into one table: the baselines first, then the runs, with the paper's rows if wanted."""
    from evaluate.report.paper_tables import choose_table
    from evaluate.report.table_texts import terminal, write_table
    from evaluate.scored_set import current_scores, place_in
    from store.reader import Store
    from store.records.lock import all_held

    chosen, opened = choose_table(paper), Store.open(store) if store else None
    places = [place_in(run, opened, split, view) for run in runs]
    folder = out or places[0].path
    with all_held(places):
        scores = [current_scores(run, opened, split, view) for run in runs]
        written = write_table(scores, folder, chosen)
    typer.echo(terminal(scores, chosen, end=f"With intervals: {written[0]}"))
    typer.echo("\n".join(f"wrote {file}" for file in written), err=True)


@app.command()
def report(
    runs: RunsOption,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="the page; by default report.html beside the first run's scores"),
    ] = None,
    store: StoreOption = None,
    split: SplitOption = Split.TEST,
    view: ViewOption = "tile",
    paper: PaperOption = "none",
) -> None:
    """Put scored runs on one page that needs no network: tables, pictures, plots, the origin of every number."""
    from evaluate.report.html_page import write_report
    from evaluate.report.paper_tables import choose_table
    from evaluate.scored_set import place_in
    from store.reader import Store
    from store.records.facts import open_store_of
    from store.records.lock import all_held
    from store.run_files import RunFolder

    opened = Store.open(store) if store else open_store_of(RunFolder(runs[0]))
    places = [place_in(run, opened, split, view) for run in runs]
    with all_held(places):
        file = write_report(runs, opened, split, view, out or places[0].report, choose_table(paper))
    typer.echo(f"wrote {file}", err=True)


@app.command()
def figure(
    run: RunOption,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="the figure, .jpg or .png")],
    pair: Annotated[
        str | None, typer.Option("--pair", metavar="PAIR", help="its id or number; by default that of the median DAB")
    ] = None,
    store: StoreOption = None,
    split: SplitOption = Split.TEST,
) -> None:
    """Draw one pair: H&E, real and translated IHC in every view. Predict every view first."""
    from evaluate.report.figure import draw_figure, median_row, write_figure
    from evaluate.scored_set import require_pairs
    from store.contact_sheet import find_row
    from store.reader import Store
    from store.records.facts import open_store_of
    from store.run_files import RunFolder

    opened = Store.open(store) if store else open_store_of(RunFolder(run))
    require_pairs(opened, "a figure shows a pair")
    row = median_row(opened, split) if pair is None else find_row(opened, split, pair)
    typer.echo(f"wrote {write_figure(out, draw_figure(run, opened, split, row))}", err=True)


@app.command()
def seams(
    outputs: Annotated[
        list[Path], typer.Argument(metavar="OUTPUT", help="pictures that `train translate` made, one for each setting")
    ],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="a page with details, .html")] = None,
) -> None:
    """Say how visible the borders of tiles are in translated pictures, setting by setting."""
    from evaluate.seams.gathering import gather, measure
    from evaluate.seams.table import LEGEND, terminal
    from store.cli import wrapped

    groups = gather(outputs)
    found = [[measure(entry, group.skipped) for entry in group.entries] for group in groups]
    texts = [terminal(*one) for one in zip(groups, found, strict=True)]
    typer.echo("\n\n".join([*texts, *([wrapped(LEGEND)] if any(map(any, found)) else [])]))
    if out:
        from evaluate.seams.page import write_page

        typer.echo(f"wrote {write_page(groups, found, out)}", err=True)


if __name__ == "__main__":
    run_app(app)
