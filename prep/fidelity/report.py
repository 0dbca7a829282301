"""The fidelity of a store for people and programs: `fidelity.json`, `fidelity.md` and `worst.png` in one folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from math import isinf, isnan, sqrt
from pathlib import Path

from prep.fidelity.as_json import COLUMNS, tree
from prep.fidelity.measures import Change
from prep.fidelity.run import Group, Measure, find_worst, judge, tail
from prep.fidelity.sheet import WORDS, draw_worst, picture_label
from prep.fidelity.sources import Sample, Unjudged, plan_series
from store.files import disk_errors, write_whole
from store.format.manifest import ROOT
from store.images import write_png
from store.overview import describe_upscaler
from store.reader import Store
from store.schema import Split, Stain, StoreError

TAIL = (
    "Of three numbers the first is of all pictures, the second one that a picture in 20 is no better than, the third \
the worst picture's. `-` is undefined."
)


def report_fidelity(store: Store, splits: Sequence[Split], sample: Sample, folder: Path) -> str:
    """Judge a store and write the three files into `folder`; returns the Markdown.

    Raises StoreError if nothing can be judged, or if the folder lies in a store or cannot be written.
    """
    series, unjudged = plan_series(store, splits)
    for place in (folder.absolute(), *folder.absolute().parents):
        if (place / ROOT).exists():
            raise StoreError(f"--out {folder} is or lies in a store, {place}; give a folder elsewhere")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    groups = judge(store, series, sample)
    text = markdown(store, groups, unjudged, sample)
    document = json.dumps(tree(store, groups, unjudged, sample), indent=1, ensure_ascii=False, allow_nan=False)
    write_png(folder / "worst.png", draw_worst(store, groups))
    with disk_errors(folder):
        write_whole(folder / "fidelity.json", (document + "\n").encode())
        write_whole(folder / "fidelity.md", text.encode())
    return text


def markdown(store: Store, groups: Sequence[Group], unjudged: Sequence[Unjudged], sample: Sample) -> str:
    """The table for a person, with what every column means."""
    manifest = store.manifest
    lines = [f"# Fidelity of {manifest.name}", ""]
    lines += ["**SYNTHETIC, drawn and not tissue.**", ""] * manifest.synthetic
    lines += [f"- store: {store.address}, H&E to {manifest.stain}, recipe {manifest.recipe}, seal {manifest.seal}"]
    lines += [f"- enlarged by {describe_upscaler(manifest.upscaler)}"]
    lines += ["- **no super-resolution**: these numbers are the floor of a plain filter"] * (
        not manifest.upscaler.digests
    )
    drawn = f"at most {sample.limit:,} of each view and split, drawn with seed {sample.seed}" if sample.limit else "all"
    lines += [f"- pictures: {drawn}; each counts once, so a slide counts by its pictures"]
    lines += [f"- **not judged**: {what.reason}" for what in unjudged]
    lines += [
        "",
        _line(["split", "view", "stain", "pictures", "source", *COLUMNS]),
        _line(["---"] * (5 + len(COLUMNS))),
    ]
    lines += [_line(_cells(group)) for group in groups]
    lines += ["", TAIL, "", *(f"- **{name}**: {meaning}" for name, meaning in COLUMNS.items())]
    lines += ["", "## Worst pictures, shown in worst.png", "", *_worst(groups)]
    lines += ["", "## Worst slides, pictures of a slide taken together", "", *_slides(groups)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cells(group: Group) -> list[str]:
    series, whole = group.series, group.whole()
    shares = len(group.ranked(Measure.DAB))
    return [
        series.split,
        series.view,
        group.stain,
        f"{len(group.pictures):,} of {group.available:,}",
        f"{series.geometry.patch_side} px of {series.origin}, x{series.geometry.factor}",
        _three(group, Measure.PSNR, _psnr),
        _drift(whole),
        _three(group, Measure.COLOUR, _colour),
        f"{_three(group, Measure.DAB, _dab)} ({shares:,})" if group.stain is Stain.IHC else "-",
        _detail(whole),
        _truth(whole),
    ]


def _three(group: Group, by: Measure, show: Callable[[Change], str]) -> str:
    """All pictures together, the tail, the worst."""
    order = group.ranked(by)
    return ", ".join(map(show, [group.whole(), *(one.change for one in (order and [tail(order), order[0]]))]))


def _psnr(change: Change) -> str:
    return "exact" if isinf(change.psnr) else f"{change.psnr:.1f}"


def _drift(change: Change) -> str:
    return f"{change.drift_l:+.2f}, {change.drift_a:+.2f}, {change.drift_b:+.2f}"


def _colour(change: Change) -> str:
    return f"{change.colour_error:.2f}"


def _dab(change: Change) -> str:
    return "-" if isnan(change.dab_share) else f"{change.dab_share:+.1%}"


def _detail(change: Change) -> str:
    return f"{sqrt(change.detail_view):.2f}, Lanczos {sqrt(change.detail_lanczos):.2f}"


def _truth(change: Change) -> str:
    if isnan(change.truth):
        return "-"
    known = f"{change.truth:.2f}, Lanczos {change.truth_lanczos:.2f}"
    return f"{known} ({sqrt(change.shared_view):.2f}, {sqrt(change.shared_tile):.2f})"


def _worst(groups: Sequence[Group]) -> list[str]:
    lines = [_line(["view", "stain", "split", "pair", "slide", "why", *COLUMNS]), _line(["---"] * (6 + len(COLUMNS)))]
    for one in find_worst(groups):
        series, change = one.group.series, one.picture.change
        why = ", ".join(WORDS[by] for by in one.measures)
        where = [series.view, one.group.stain, series.split, picture_label(one.picture), one.picture.slide, why]
        told = [show(change) for show in (_psnr, _drift, _colour, _dab, _detail, _truth)]
        lines.append(_line([*where, *told]))
    return lines


def _slides(groups: Sequence[Group]) -> list[str]:
    """For each group the slide that agrees least and the one whose DAB changed most."""
    lines = [
        _line(["split", "view", "stain", "slides", "lowest PSNR, dB", "most DAB gained or lost"]),
        _line(["---"] * 6),
    ]
    for group in groups:
        slides = group.slides()
        error = max(slides, key=lambda slide: slides[slide][1].error)
        told = f"{error}: {_psnr(slides[error][1])} ({slides[error][0]:,} judged)"
        stained = [slide for slide in slides if not isnan(slides[slide][1].dab_share)]
        most = max(stained, key=lambda slide: abs(slides[slide][1].dab_share), default="-")
        dab = f"{most}: {_dab(slides[most][1])} ({slides[most][0]:,} judged)" if stained else "-"
        lines.append(_line([group.series.split, group.series.view, group.stain, f"{len(slides):,}", told, dab]))
    return lines
