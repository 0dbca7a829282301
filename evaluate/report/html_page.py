"""Scores and pictures to one page that needs nothing else: tables that sort, pictures, plots, the origin of numbers.

The page needs no network: pictures and plots are in it, and its content policy forbids every request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evaluate.columns import COLUMNS
from evaluate.report import html_images, html_tables
from evaluate.report.captions import (
    ARROWS,
    COPY_NOTE,
    DAB,
    data_facts,
    no_numbers,
    notes,
    of_few_slides,
    test_caption,
    title,
    zoom_caption,
)
from evaluate.report.comparable import require_comparable
from evaluate.report.html_images import PictureSource, png_address
from evaluate.report.paper_tables import PaperTable
from evaluate.report.table_texts import hidden
from evaluate.report.tables import columns_with_numbers, table_lines
from evaluate.report.templates import open_template
from evaluate.scored_set import current_scores, files_of, place_in, read_scored
from evaluate.scores_file import Scores
from store.files import digest_bytes, disk_errors, write_whole
from store.images import PictureU8
from store.reader import Store, plan_targets
from store.records.predictions import read_gates
from store.run_files import PREDICT
from store.schema import RunError, Split, Stain

TEMPLATE = "page.html"
GATES = ("gates", "Attention gates")
SECTIONS = (
    ("numbers", "Numbers"),
    ("pictures", "Pictures"),
    ("cases", "Best and worst"),
    ("scatter", "Picture by picture"),
    ("misregistration", "Misregistration"),
    GATES,
    ("notes", "Notes"),
    ("provenance", "Provenance"),
)


def write_report(
    folders: Sequence[Path], store: Store, split: Split, view: str, file: Path, paper: PaperTable = PaperTable.NONE
) -> Path:
    """Write the page of scored runs, completely or not at all.

    RunError if the scores are of another store, or not comparable with each other.
    """
    runs = [current_scores(folder, store, split, view) for folder in folders]
    require_comparable(runs)
    source, gates = find_pictures(runs, folders, store, split, view), find_gates(runs, folders, store)
    text = render(runs, source, gates, paper)
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())
    return file


def find_pictures(
    runs: Sequence[Scores], folders: Sequence[Path], store: Store, split: Split, view: str
) -> PictureSource:
    """How to read the pictures that the page shows."""
    targets = plan_targets(store, split, view)
    return PictureSource(
        he=lambda place: store.picture(split, view, Stain.HE, targets[place].pair, targets[place].index),
        ihc=lambda place: store.picture(split, view, Stain.IHC, targets[place].pair, targets[place].index),
        fakes={scores.run: _reader(scores, folder) for scores, folder in zip(runs, folders, strict=True)},
    )


def _reader(scores: Scores, run: Path) -> Callable[[int], PictureU8]:
    """How to read the translated picture of a place."""
    files = files_of(scores, run)
    return lambda place: read_scored(scores, files, place)


def find_gates(runs: Sequence[Scores], folders: Sequence[Path], store: Store) -> list[tuple[str, str, str]]:
    """Of each run that has gate maps: its name, their sheet's address, a warning if they are of another generator.

    RunError if a sheet was changed since it was drawn.
    """
    found = []
    for scores, folder in zip(runs, folders, strict=True):
        predictions = place_in(folder, store, scores.split, scores.view)
        sheet = predictions.gates_sheet
        if not sheet.is_file():
            continue
        record, data = read_gates(predictions), sheet.read_bytes()
        if record.files is not None and record.files.get(sheet.name) != digest_bytes(data):
            raise RunError(f"{sheet} is damaged or was exchanged; make it again with: {PREDICT} --run {folder} --gates")
        warning = "" if record.generator == scores.generator else "These maps are of another generator than the scores."
        found.append((scores.run, png_address(data), warning))
    return found


def render(
    runs: Sequence[Scores], source: PictureSource, gates: Sequence[tuple[str, str, str]], paper: PaperTable
) -> str:
    """The page as HTML."""
    first, lines = runs[0], table_lines(runs, paper)
    return open_template(TEMPLATE).render(
        title=title(first),
        runs=[scores.run for scores in runs],
        synthetic=first.synthetic,
        leakage=first.leakage,
        facts=data_facts(runs, paper),
        sections=[section for section in SECTIONS if gates or section != GATES],
        arrows=ARROWS,
        dab=DAB,
        copy_note=COPY_NOTE,
        no_numbers=no_numbers(runs, hidden(columns_with_numbers(lines))),
        metrics=html_tables.metric_table(lines),
        zoom_caption=zoom_caption(runs),
        agreement=html_tables.agreement_table(runs),
        test_caption=test_caption(runs),
        few=of_few_slides(runs),
        tests=html_tables.tested_table(runs) if len(runs) > 1 else None,
        overview=html_images.overview(runs, source),
        details=html_images.details(runs, source),
        ranked_by=" or ".join(dict.fromkeys(COLUMNS[html_images.ranking(scores)].head for scores in runs)),
        cases=[(scores.run, html_images.cases(scores, source)) for scores in runs],
        scatter=html_images.scatter(runs),
        shifted=first.misregistration.pictures,
        curve=html_images.curve(runs),
        shifts=html_tables.shift_table(runs),
        gates=gates,
        notes=[note for note in notes(runs, paper) if note != COPY_NOTE],
        protocols=html_tables.protocol_table(runs),
        provenance=html_tables.provenance_table(runs),
    )
