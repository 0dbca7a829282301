"""Scores and pictures to one page that needs nothing else: tables that sort, pictures, plots, the origin of numbers.

The page asks nobody for anything: pictures and plots are in it, and its content policy forbids every request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2

from evaluate.columns import COLUMNS
from evaluate.report import html_images as page_pictures
from evaluate.report import html_tables as page_tables
from evaluate.report.captions import caption, notes
from evaluate.report.html_images import Album, curve, png_address, scatter
from evaluate.report.paper_tables import PaperTable
from evaluate.scores_file import Scores, files_of, read_scores
from store.files import disk_errors, write_whole
from store.images import PictureU8, read_picture
from store.reader import Store, plan_targets
from store.run_files import RunFolder, read_gates
from store.schema import RunError, Split, Stain

TEMPLATE = "page.html"
SECTIONS = (
    ("numbers", "Numbers"),
    ("pictures", "Pictures"),
    ("cases", "Best and worst"),
    ("scatter", "Picture by picture"),
    ("misregistration", "Misregistration"),
    ("notes", "Notes"),
    ("provenance", "Provenance"),
)


def write_report(
    folders: Sequence[Path], store: Store, split: Split, view: str, file: Path, paper: PaperTable = PaperTable.NONE
) -> Path:
    """Write the page of scored runs, whole or not at all; RunError if the scores are of another store."""
    runs = [read_scores(folder, split, view) for folder in folders]
    for scores in runs:
        if scores.seal != store.manifest.seal:
            raise RunError(
                f"the scores of {scores.run} are of a store with seal {scores.seal[:12]}, but {store.address} has seal "
                f"{store.manifest.seal[:12]}; name the right one with --store"
            )
    text = render(runs, make_album(runs, folders, store, split, view), find_gates(runs, folders, split, view), paper)
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())
    return file


def make_album(runs: Sequence[Scores], folders: Sequence[Path], store: Store, split: Split, view: str) -> Album:
    """How to get the pictures that the page shows."""
    targets = plan_targets(store, split, view)
    files = {scores.run: files_of(scores, folder) for scores, folder in zip(runs, folders, strict=True)}
    return Album(
        he=lambda place: store.picture(split, view, Stain.HE, targets[place].pair, targets[place].index),
        ihc=lambda place: store.picture(split, view, Stain.IHC, targets[place].pair, targets[place].index),
        fakes={run: _opened(own) for run, own in files.items()},
    )


def _opened(files: Sequence[Path]) -> Callable[[int], PictureU8]:
    """How to get the picture of a place from its file."""
    return lambda place: read_picture(files[place])


def find_gates(runs: Sequence[Scores], folders: Sequence[Path], split: Split, view: str) -> list[tuple[str, str, str]]:
    """Of each run that has gate maps: its name, their sheet's address, a warning if they are of another generator."""
    found = []
    for scores, folder in zip(runs, folders, strict=True):
        predictions = RunFolder(folder).predictions(split, view)
        if not predictions.gates_sheet.is_file():
            continue
        same = read_gates(predictions).generator == scores.generator
        warning = "" if same else "These maps are of another generator than the scores."
        found.append((scores.run, png_address(predictions.gates_sheet.read_bytes()), warning))
    return found


def render(runs: Sequence[Scores], album: Album, gates: Sequence[tuple[str, str, str]], paper: PaperTable) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    first = runs[0]
    sections = [*SECTIONS[:5], ("gates", "Attention gates"), *SECTIONS[5:]] if gates else [*SECTIONS]
    return environment.get_template(TEMPLATE).render(
        title=f"{', '.join(scores.run for scores in runs)} on {first.store}, {first.split} {first.view}",
        synthetic=first.synthetic,
        caption=caption(runs),
        sections=sections,
        metrics=page_tables.metric_table(runs, paper),
        agreement=page_tables.agreement_table(runs),
        tests=page_tables.tested_table(runs) if len(runs) > 1 else None,
        overview=page_pictures.overview(runs, album),
        details=page_pictures.details(runs, album),
        ranked_by=COLUMNS[page_pictures.ranking(first)].head,
        cases=[(scores.run, page_pictures.cases(scores, album)) for scores in runs],
        scatter=scatter(runs),
        moved=first.misregistration.pictures,
        curve=curve(runs),
        moves=page_tables.shift_table(runs),
        gates=gates,
        notes=notes(runs, paper),
        protocols=page_tables.protocol_table(),
        provenance=page_tables.provenance_table(runs),
    )
