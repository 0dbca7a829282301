"""Scores to what a person reads: a table in Markdown and CSV, and a contact sheet.

The floors come first, then the runs; every table says on what data and after how much training it was made.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluate.results import FAKE, Scores, Summary
from store.files import disk_errors, write_whole
from store.images import read_picture, write_png
from store.reader import Store
from store.schema import RunError, Stain
from store.sheet import Row, draw_sheet

PUBLISHED_DRAWS = 185_680  # 4642 pairs x 40 epochs at batch 1: ASP's run, which the paper's numbers stand beside
SHOWN = 8  # pictures on a contact sheet
NOTHING = "–"
SYNTHETIC = "SYNTHETIC DATA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A column: its head, where its number stands, how many digits are shown, whether more is better."""

    head: str
    read: Callable[[Summary], float]
    digits: int
    higher: bool

    def show(self, summary: Summary) -> str:
        """The number as it is printed; a dash where it is undefined."""
        value = self.read(summary)
        return NOTHING if isnan(value) else f"{value:.{self.digits}f}"

    def best(self, summaries: Sequence[Summary]) -> str:
        """The best number of a column as it is printed: what looks the same is equally good."""
        values = [value for summary in summaries if not isnan(value := self.read(summary))]
        if not values:
            return NOTHING
        return f"{max(values) if self.higher else min(values):.{self.digits}f}"


METRICS = (
    Metric(head="SSIM", read=lambda row: row.ssim, digits=4, higher=True),
    Metric(head="PSNR dB", read=lambda row: row.psnr, digits=2, higher=True),
    Metric(head="DAB Spearman", read=lambda row: row.dab_spearman, digits=3, higher=True),
    Metric(head="DAB Pearson", read=lambda row: row.dab_pearson, digits=3, higher=True),
    Metric(head="DAB error", read=lambda row: row.dab_error, digits=4, higher=False),
)
HEADS = ("row", "method", "draws", "upscaler", "N")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the table before it is laid out; the floors have no method, draws and upscaler."""

    name: str
    method: str = ""
    draws: int | None = None
    upscaler: str = ""
    count: int
    summary: Summary


def table_lines(runs: Sequence[Scores]) -> list[Line]:
    """The floors, then the runs; RunError unless all runs were judged on the same pictures in the same way."""
    first = runs[0]
    for scores in runs:
        if _ground(scores) != _ground(first):
            raise RunError(
                f"runs {first.run!r} and {scores.run!r} were not judged on the same pictures "
                f"({', '.join(_ground(first))} and {', '.join(_ground(scores))}); make a table for each"
            )
    names = [scores.run for scores in runs]
    if len(set(names)) < len(names):
        raise RunError(
            f"the runs {', '.join(names)} cannot be told apart in a table; give each run once, under its own name"
        )
    count = len(first.pictures)
    floors = [Line(name=name, count=count, summary=row.summary) for name, row in first.rows.items() if name != FAKE]
    return floors + [
        Line(
            name=scores.run,
            method=scores.method,
            draws=scores.draws,
            upscaler=scores.upscaler,
            count=count,
            summary=scores.rows[FAKE].summary,
        )
        for scores in runs
    ]


def caption(runs: Sequence[Scores]) -> str:
    """What the numbers were made from, in one paragraph."""
    first = runs[0]
    draws = "; ".join(f"{scores.run}: {_length(scores)}" for scores in runs)
    return (
        f"{_label(first)}{first.store} ({first.stain}), {first.split} split, view {first.view}: "
        f"{len(first.pictures)} pictures, {first.slides} slide(s). Upscaler: {upscaler_label(first.upscaler)}. "
        f"Training: {draws}; the published run took {PUBLISHED_DRAWS:,}. "
        f"Floors fitted on {first.floors_pictures} train pictures (view {first.floors_view}). "
        "Means over pictures, 8-bit predictions rounded. DAB: mean optical density of a picture; Spearman and Pearson: "
        "its rank and linear correlation between real and translated; error: mean absolute difference. Best in bold."
    )


def markdown(runs: Sequence[Scores]) -> str:
    """The table in Markdown, columns aligned for the eye, under its caption."""
    lines = table_lines(runs)
    best = [metric.best([line.summary for line in lines]) for metric in METRICS]
    cells = [[*HEADS, *(metric.head for metric in METRICS)]]
    for line in lines:
        numbers = [metric.show(line.summary) for metric in METRICS]
        bold = [
            f"**{number}**" if number == top != NOTHING else number for number, top in zip(numbers, best, strict=True)
        ]
        draws = f"{line.draws:,}" if line.draws else NOTHING
        cells.append([line.name, line.method or NOTHING, draws, line.upscaler or NOTHING, str(line.count), *bold])
    cells = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    laid = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    ruler = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([caption(runs), "", laid[0], ruler, *laid[1:]]) + "\n"


def csv_text(runs: Sequence[Scores]) -> str:
    """The table for programs: full precision, undefined numbers empty, the data's name and label on every line."""
    first, text = runs[0], io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [*HEADS, *(metric.head for metric in METRICS), "slides", "store", "stain", "split", "view", "synthetic"]
    )
    ground = [first.slides, first.store, first.stain, first.split, first.view, str(first.synthetic).lower()]
    for line in table_lines(runs):
        values = [metric.read(line.summary) for metric in METRICS]
        numbers = ["" if isnan(value) else repr(value) for value in values]
        draws = line.draws or ""
        writer.writerow([line.name, line.method, draws, line.upscaler, line.count, *numbers, *ground])
    return text.getvalue()


def write_table(runs: Sequence[Scores], folder: Path) -> list[Path]:
    """Write `table.md` and `table.csv`, each whole or not at all."""
    texts = {"table.md": markdown(runs), "table.csv": csv_text(runs)}
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(folder / name, text.encode())
    return [folder / name for name in texts]


def shown_pictures(real_dab: Sequence[float], shown: int = SHOWN) -> list[int]:
    """Which pictures a contact sheet shows: equally spaced ranks of the real mean DAB, least first.

    The rule looks at the real pictures only, so nobody can choose the prettiest translations.

    >>> shown_pictures([0.5, 0.1, 0.4, 0.2, 0.3], 3)
    [1, 4, 0]
    """
    order = sorted(range(len(real_dab)), key=lambda place: (real_dab[place], place))
    ranks = np.linspace(0, len(order) - 1, min(shown, len(order))).round().astype(int)
    return [order[rank] for rank in ranks]


def contact_sheet(scores: Scores, store: Store, folder: Path) -> NDArray[np.uint8]:
    """H&E, real and translated IHC of a few pictures, u8 [H,W,3]; `folder` is that of the predictions."""
    values, rows = scores.rows[FAKE].values, []
    count = store.count(scores.view)
    for place in shown_pictures([picture.dab for picture in scores.pictures]):
        picture, (pair, index) = scores.pictures[place], divmod(place, count)
        he, ihc = (store.picture(scores.split, scores.view, stain, pair, index) for stain in (Stain.HE, Stain.IHC))
        translated = f"DAB {values.dab[place]:.3f}, PSNR {values.psnr[place]:.2f} dB"
        rows.append(
            Row(
                label=f"{picture.name.removesuffix('.png')}, slide {picture.slide}",
                pictures=(he, ihc, read_picture(folder / FAKE / picture.name)),
                captions=("", f"DAB {picture.dab:.3f}", translated),
            )
        )
    return draw_sheet(
        title=(
            f"{_label(scores)}{scores.store} ({scores.stain}), {scores.split} {scores.view}: {scores.run}, "
            f"{scores.method}, upscaler {upscaler_label(scores.upscaler)}"
        ),
        columns=("H&E", "real IHC", "translated IHC"),
        rows=rows,
        footer=(
            f"Shown: {len(rows)} of {len(scores.pictures)} pictures, at equally spaced ranks of the real mean DAB. "
            f"Trained for {_length(scores)} (published: {PUBLISHED_DRAWS:,}). DAB: mean optical density."
        ),
    )


def write_contact(scores: Scores, store: Store, folder: Path) -> Path:
    """Write `contact.png` beside the scores."""
    file = folder / "contact.png"
    write_png(file, contact_sheet(scores, store, folder))
    return file


def upscaler_label(name: str) -> str:
    """The upscaler by name, a stand-in called one.

    >>> upscaler_label("lanczos"), upscaler_label("bsrgan")
    ('lanczos (stand-in, not BSRGAN)', 'bsrgan')
    """
    return name if name == "bsrgan" else f"{name} (stand-in, not BSRGAN)"


def _length(scores: Scores) -> str:
    """How long a run was trained; of an imported generator that may not be known."""
    return f"{scores.draws:,} draws of a pair" if scores.draws else "an unknown number of draws (imported)"


def _label(scores: Scores) -> str:
    return f"{SYNTHETIC}. " if scores.synthetic else ""


def _ground(scores: Scores) -> tuple[str, ...]:
    return scores.store, f"seal {scores.seal[:12]}", f"{scores.split}/{scores.view}", f"{scores.protocol} pictures"
