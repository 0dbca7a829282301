"""The comparison of upscalers: `upscalers.md`, `upscalers.json`, and `upscalers.png`, views side by side."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path
from typing import Any

from prep.fidelity.as_json import COLUMNS, SOFTWARE, numbers
from prep.fidelity.cells import show_colour, show_dab, show_detail, show_drift, show_psnr, show_truth, table_line
from prep.fidelity.comparison import Comparison, compare_upscalers
from prep.fidelity.comparison_sheet import draw_comparison
from prep.fidelity.measures import Change, pool
from prep.fidelity.sources import Sample
from prep.settings import PrepSettings
from prep.tiles.discovery import Data
from store.cli import wrapped
from store.files import disk_errors, to_json, write_whole
from store.images import write_png
from store.overview import describe_upscaler
from store.process import installed_versions
from store.schema import Stain
from store.settings import plain
from store.untrusted.text import markdown_word

FORMAT = 1
INVENTED = "invented"
MEANING = {
    **COLUMNS,
    INVENTED: "root mean square, in grey levels, of the finer detail that has no counterpart in the tile, in the band "
    "that both hold. An upscaler that adds little detail invents little, and restores little.",
}


def report_comparison(
    settings: PrepSettings, data: Data, names: str, folder: Path, limit: int, seed: int, *, threads: int
) -> str:
    """Compare upscalers on at most `limit` pairs and write the report; returns the summary for a terminal."""
    sample = Sample(limit=limit, seed=seed)
    return write_comparison(compare_upscalers(settings, data, names, sample, threads=threads), sample, folder)


def write_comparison(found: Comparison, sample: Sample, folder: Path) -> str:
    """Write the three files into `folder`; returns the summary for a terminal."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_png(folder / "upscalers.png", draw_comparison(found))
    document = json.dumps(comparison_tree(found, sample), indent=1, ensure_ascii=False, allow_nan=False)
    with disk_errors(folder):
        write_whole(folder / "upscalers.json", (document + "\n").encode())
        write_whole(folder / "upscalers.md", comparison_markdown(found, sample).encode())
    return "\n".join([*_summary(found), *(wrapped(sentence) for sentence in found.sentences)])


def comparison_markdown(found: Comparison, sample: Sample) -> str:
    """The table, what each upscaler is, the sentences, the meaning of the columns."""
    heads = ["view", "stain", "upscaler", "pictures", *MEANING]
    chosen = f"at most {sample.limit} pairs, chosen with seed {sample.seed}" if sample.limit else "all pairs"
    lines = [f"# Upscalers on {markdown_word(found.name)}", ""]
    lines += ["**SYNTHETIC, drawn and not tissue.**", ""] * found.synthetic
    lines += [f"- {markdown_word(entrant.title)}: {describe_upscaler(entrant.record)}" for entrant in found.entrants]
    lines += [f"- pictures: {chosen}; the same windows for all"]
    lines += [f"- **left out**: {markdown_word(text)}" for text in found.left_out]
    lines += [
        "",
        *(f"{sentence}\n" for sentence in found.sentences),
        table_line(heads),
        table_line(["---"] * len(heads)),
    ]
    for view, stain, title, changes in found.groups():
        change = pool(changes)
        dab = show_dab(change) if stain is Stain.IHC else "-"
        values = [show_psnr(change), show_drift(change), show_colour(change), dab, show_detail(change)]
        cells = [view, stain, title, f"{len(changes):,}", *values, show_truth(change), show_invented(change)]
        lines.append(table_line(cells))
    lines += ["", *(f"- **{name}**: {meaning}" for name, meaning in MEANING.items())]
    return "\n".join(lines) + "\n"


def show_invented(change: Change) -> str:
    """Grey levels of detail without a counterpart."""
    return "-" if isnan(change.invented) else f"{change.invented:.2f}"


def comparison_tree(found: Comparison, sample: Sample) -> dict[str, Any]:
    """Everything as plain values for JSON."""
    return {
        "format": FORMAT,
        "name": found.name,
        "stain": found.stain,
        "synthetic": found.synthetic,
        "sample": {"limit": sample.limit, "seed": sample.seed},
        "software": installed_versions(SOFTWARE),
        "columns": MEANING,
        "upscalers": {entrant.title: plain(entrant.record) for entrant in found.entrants},
        "left_out": found.left_out,
        "sentences": found.sentences,
        "groups": [
            {"view": view, "stain": stain, "upscaler": title, "pictures": len(changes)} | _numbers(pool(changes))
            for view, stain, title, changes in found.groups()
        ],
        "pictures": [
            {
                "split": one.split,
                "pair": one.pair,
                "slide": one.slide,
                "stain": one.stain,
                "view": one.view,
                "box": {"top": one.box.top, "left": one.box.left, "side": one.box.side},
                "apart": to_json(one.apart**0.5),
                "upscalers": {title: _numbers(change) for title, change in one.changes.items()},
            }
            for one in found.compared
        ],
    }


def _numbers(change: Change) -> dict[str, Any]:
    return numbers(change) | {INVENTED: to_json(change.invented)}


def _summary(found: Comparison) -> list[str]:
    """The table for a terminal, in at most 100 columns."""
    form = "{:<5}{:<6}{:<34}{:>9}{:>10}{:>8}{:>8}{:>9}"
    lines = [form.format("view", "stain", "upscaler", "PSNR, dB", "CIEDE2000", "detail", "truth", INVENTED)]
    for view, stain, title, changes in found.groups():
        change = pool(changes)
        values = (show_psnr(change), show_colour(change), f"{change.detail_view**0.5:.2f}")
        truth = "-" if isnan(change.truth) else f"{change.truth:.2f}"
        short = title if len(title) < 34 else f"{title[:32]}…"
        lines.append(form.format(view, stain, short, *values, truth, show_invented(change)))
    return lines
