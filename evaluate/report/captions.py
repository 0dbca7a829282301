"""What a table says about itself: on what it stands, and what a reader of the numbers has to know."""

from __future__ import annotations

from collections.abc import Sequence

from evaluate.inputs.predictions import FOREIGN
from evaluate.protocol import FAKE, FIXES
from evaluate.report.paper_tables import PaperTable, slips
from evaluate.scores_file import Scores

PUBLISHED_DRAWS = 185_680  # 4642 pairs x 40 epochs at batch 1: ASP's run, which the paper's numbers stand beside
SYNTHETIC = "SYNTHETIC DATA"


def caption(runs: Sequence[Scores]) -> str:
    """What the numbers were made from, in one paragraph."""
    first = runs[0]
    draws = "; ".join(f"{scores.run}: {length(scores)}" for scores in runs)
    return (
        f"{label(first)}{first.store} ({first.stain}), {first.split} split, view {first.view}: "
        f"{len(first.pictures)} pictures, {first.slides} slide(s). Upscaler: {upscaler_label(first.upscaler)}. "
        f"Training: {draws}; the published run took {PUBLISHED_DRAWS:,}. "
        f"Floors fitted on {first.floors_pictures} train pictures (view {first.floors_view}). "
        "Means over pictures; in brackets 95 % intervals over slides; ± the deviation of KID's 100 subsets. DAB: mean "
        "optical density of a picture; Spearman and Pearson: its rank and linear correlation between real and "
        "translated; error: mean absolute difference, rel. error: the same over the real density. Best in bold, "
        "within a protocol."
    )


def notes(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> list[str]:
    """What a reader of the numbers has to know: protocols, warnings, the paper's slips."""
    found = [f"corrected, {fix}" for fix in FIXES]
    found += [
        f"published, {scores.run}: the round trip of 8 bits was applied on {scores.round_trip}" for scores in runs
    ]
    for scores in runs:
        for protocol, rows in scores.rows.items():
            cells = rows[FAKE].cells
            said = {cell.note for cell in cells.values() if cell.note and not cell.missing}
            found += [f"{scores.run}, {protocol}: {note}" for note in sorted(said)]
            if any(cell.missing for cell in cells.values()):
                found.append(
                    f"{scores.run}: fetch what is missing with `make weights NAMES=evaluate`, then score again"
                )
    found += [f"({mark}) {slip}" for mark, slip in slips(paper).items()]
    return list(dict.fromkeys(found))


def upscaler_label(name: str) -> str:
    """The upscaler by name, a stand-in called one.

    >>> upscaler_label("lanczos"), upscaler_label("bsrgan")
    ('lanczos (stand-in, not BSRGAN)', 'bsrgan')
    """
    return name if name == "bsrgan" else f"{name} (stand-in, not BSRGAN)"


def length(scores: Scores) -> str:
    """How long a run was trained; of an imported generator or foreign pictures that may not be known."""
    if scores.draws:
        return f"{scores.draws:,} draws of a pair"
    return f"an unknown number of draws ({'foreign' if scores.method == FOREIGN else 'imported'})"


def label(scores: Scores) -> str:
    """A warning where the tissue was drawn."""
    return f"{SYNTHETIC}. " if scores.synthetic else ""
