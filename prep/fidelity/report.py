"""The fidelity report of a store: `fidelity.md`, `fidelity.json` and `worst.png` in one folder, a summary in short."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from prep.fidelity.as_json import COLUMNS, tree
from prep.fidelity.cells import show_colour, show_dab, show_detail, show_drift, show_psnr, show_truth, table_line
from prep.fidelity.measures import Change
from prep.fidelity.run import Group, Measure, find_worst, measure_pictures, tail
from prep.fidelity.sheet import WORDS, draw_worst, picture_label
from prep.fidelity.sources import Sample, Unmeasured, plan_series
from store.cli import wrapped
from store.files import disk_errors, write_whole
from store.format.manifest import ROOT
from store.images import write_png
from store.overview import describe_upscaler
from store.reader import Store
from store.schema import Split, Stain, StoreError
from store.untrusted.text import markdown_word

THREE_NUMBERS = (
    "Of three numbers the first is of all pictures together, the second of the picture at the worst 5 %, the third of "
    "the worst picture. `-` is undefined."
)
SUMMARY = "{:<6}{:<5}{:<6}{:>17}{:>10}{:>11}{:>12}{:>24}"  # 91 columns


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityReport:
    """The report as Markdown, and a summary for a terminal."""

    markdown: str
    summary: str


def report_fidelity(store: Store, splits: Sequence[Split], sample: Sample, folder: Path) -> FidelityReport:
    """Measure a store and write the three files into `folder`.

    Raises StoreError if nothing can be measured, or if the folder is inside a store or cannot be written.
    """
    series, unmeasured = plan_series(store, splits)
    for place in (folder.absolute(), *folder.absolute().parents):
        if (place / ROOT).exists():
            raise StoreError(f"--out {folder} is a store or inside one, {place}; give a folder elsewhere")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    groups = measure_pictures(store, series, sample)
    text = markdown(store, groups, unmeasured, sample)
    document = json.dumps(tree(store, groups, unmeasured, sample), indent=1, ensure_ascii=False, allow_nan=False)
    write_png(folder / "worst.png", draw_worst(store, groups))
    with disk_errors(folder):
        write_whole(folder / "fidelity.json", (document + "\n").encode())
        write_whole(folder / "fidelity.md", text.encode())
    return FidelityReport(markdown=text, summary=summarise(groups, unmeasured))


def summarise(groups: Sequence[Group], unmeasured: Sequence[Unmeasured]) -> str:
    """The numbers of all pictures together, in at most 100 columns."""
    lines = [SUMMARY.format("split", "view", "stain", "pictures", "PSNR, dB", "CIEDE2000", "DAB change", "detail")]
    for group in groups:
        pooled, pictures = group.pooled(), f"{len(group.pictures):,} of {group.available:,}"
        values = (show_psnr(pooled), show_colour(pooled), show_dab(pooled), show_detail(pooled))
        lines.append(SUMMARY.format(group.series.split, group.series.view, group.stain, pictures, *values))
    return "\n".join([*lines, *(wrapped(f"not measured: {one.reason}", indent="  ") for one in unmeasured)])


def markdown(store: Store, groups: Sequence[Group], unmeasured: Sequence[Unmeasured], sample: Sample) -> str:
    """The report with the meaning of every column."""
    manifest, stain = store.manifest, markdown_word(store.manifest.stain)
    lines = [f"# Fidelity of {markdown_word(manifest.name)}", ""]
    lines += ["**SYNTHETIC, drawn and not tissue.**", ""] * manifest.synthetic
    lines += [f"- store: {store.address}, H&E to {stain}, recipe {manifest.recipe}, seal {manifest.seal}"]
    lines += [f"- enlarged by {describe_upscaler(manifest.upscaler)}"]
    lines += ["- **no super-resolution**: these are the numbers of plain interpolation"] * (
        not manifest.upscaler.digests
    )
    chosen = (
        f"at most {sample.limit:,} of each view and split, chosen with seed {sample.seed}" if sample.limit else "all"
    )
    lines += [f"- pictures: {chosen}; each counts once, so a slide with more pictures counts more"]
    lines += [f"- **not measured**: {one.reason}" for one in unmeasured]
    lines += [
        "",
        table_line(["split", "view", "stain", "pictures", "source", *COLUMNS]),
        table_line(["---"] * (5 + len(COLUMNS))),
    ]
    lines += [table_line(_cells(group)) for group in groups]
    lines += ["", THREE_NUMBERS, "", *(f"- **{name}**: {meaning}" for name, meaning in COLUMNS.items())]
    lines += ["", "## Worst pictures, shown in worst.png", "", *_worst(groups)]
    lines += ["", "## Worst slides, all pictures of a slide together", "", *_slides(groups)]
    return "\n".join(lines) + "\n"


def _cells(group: Group) -> list[str]:
    series, pooled = group.series, group.pooled()
    shares = len(group.ranked(Measure.DAB))
    return [
        series.split,
        series.view,
        group.stain,
        f"{len(group.pictures):,} of {group.available:,}",
        f"{series.geometry.patch_side} px of {series.origin}, x{series.geometry.factor}",
        _three(group, Measure.PSNR, show_psnr),
        show_drift(pooled),
        _three(group, Measure.COLOUR, show_colour),
        f"{_three(group, Measure.DAB, show_dab)} ({shares:,})" if group.stain is Stain.IHC else "-",
        show_detail(pooled),
        show_truth(pooled),
    ]


def _three(group: Group, by: Measure, show: Callable[[Change], str]) -> str:
    """All pictures together, the one at the worst 5 %, the worst."""
    order = group.ranked(by)
    return ", ".join(map(show, [group.pooled(), *(one.change for one in (order and [tail(order), order[0]]))]))


def _worst(groups: Sequence[Group]) -> list[str]:
    lines = [
        table_line(["view", "stain", "split", "pair", "slide", "why", *COLUMNS]),
        table_line(["---"] * (6 + len(COLUMNS))),
    ]
    for one in find_worst(groups):
        series, change = one.group.series, one.picture.change
        why = ", ".join(WORDS[by] for by in one.measures)
        where = [series.view, one.group.stain, series.split, picture_label(one.picture), one.picture.slide, why]
        values = [show(change) for show in (show_psnr, show_drift, show_colour, show_dab, show_detail, show_truth)]
        lines.append(table_line([*where, *values]))
    return lines


def _slides(groups: Sequence[Group]) -> list[str]:
    """For each group the slide with the lowest PSNR and the slide whose DAB changed most."""
    lines = [
        table_line(["split", "view", "stain", "slides", "lowest PSNR, dB", "most DAB gained or lost"]),
        table_line(["---"] * 6),
    ]
    for group in groups:
        slides = group.slides()
        error = max(slides, key=lambda slide: slides[slide][1].error)
        lowest = f"{error}: {show_psnr(slides[error][1])} ({slides[error][0]:,} measured)"
        stained = [slide for slide in slides if not isnan(slides[slide][1].dab_share)]
        most = max(stained, key=lambda slide: abs(slides[slide][1].dab_share), default="-")
        dab = f"{most}: {show_dab(slides[most][1])} ({slides[most][0]:,} measured)" if stained else "-"
        lines.append(table_line([group.series.split, group.series.view, group.stain, f"{len(slides):,}", lowest, dab]))
    return lines
