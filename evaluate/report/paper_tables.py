"""The paper's own numbers, as printed: Table I (methods) and Table II (ablation) on 1,000 pictures of MIST-HER2.

KID is printed times 1000. Two averages do not follow from their layers; they are kept as printed and marked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from evaluate.columns import Metric
from evaluate.scores_file import Scores
from store.schema import RunError, Split

ORDER = (
    Metric.SSIM,
    Metric.PHV1,
    Metric.PHV2,
    Metric.PHV3,
    Metric.PHV4,
    Metric.PHV,
    Metric.FID,
    Metric.KID,
    Metric.LPIPS_ALEX,
    Metric.PSNR,
)


class PaperTable(StrEnum):
    """Which of the paper's tables is shown beside ours."""

    NONE = "none"
    ONE = "I"
    TWO = "II"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """A row of the paper; `remark` says what is wrong with its arithmetic."""

    name: str
    values: dict[Metric, float]
    remark: str = ""


def _row(name: str, *numbers: float, remark: str = "") -> PaperRow:
    return PaperRow(name=name, values=dict(zip(ORDER, numbers, strict=True)), remark=remark)


PYRAMID_REMARK = "the paper prints PHV avg 0.5362 for PyramidP2P, but its four layers average 0.5262"
ATTENTION_REMARK = (
    "the paper prints PHV avg 0.4918 for attention alone, but its four layers average 0.4931; 0.2815 as the third "
    "would fit"
)
BASELINE = _row("ASP (our baseline)", 0.2004, 0.4534, 0.4150, 0.2665, 0.8174, 0.4881, 51.4, 12.4, 0.4546, 14.1371)
BOTH = _row("ours (both)", 0.2153, 0.4482, 0.4094, 0.2639, 0.8157, 0.4843, 51.4, 8.6, 0.4432, 14.3711)
CUT = _row("CUT", 0.1810, 0.5321, 0.4826, 0.3060, 0.8323, 0.5383, 66.8, 19.0, 0.4542, 14.3022)

TABLE_ONE: dict[str, PaperRow] = {  # by the method of a run
    "pix2pix": _row("Pix2pix", 0.1559, 0.5516, 0.5070, 0.3253, 0.8511, 0.5588, 137.3, 82.9, 0.4722, 14.2550),
    "cyclegan": _row("CycleGAN", 0.1914, 0.5633, 0.6346, 0.4695, 0.8871, 0.6386, 240.3, 311.1, 0.4598, 13.5389),
    "cut_paired": CUT,  # reported to be CUT on paired crops with the Gaussian-pyramid loss
    "pyramid_p2p": _row(
        "PyramidP2P",
        0.2078,
        0.4787,
        0.4524,
        0.3313,
        0.8423,
        0.5362,
        104.0,
        61.8,
        0.4493,
        14.2033,
        remark=PYRAMID_REMARK,
    ),
    "asp": BASELINE,
    "attention_gan": BOTH,
}
MULTI = _row("multi-magnification", 0.1980, 0.4494, 0.4119, 0.2654, 0.8165, 0.4858, 60.6, 29.7, 0.4465, 14.3046)
ATTENTION = _row(
    "attention", 0.2187, 0.4527, 0.4148, 0.2867, 0.8183, 0.4918, 61.6, 23.0, 0.4478, 14.2963, remark=ATTENTION_REMARK
)
TABLE_TWO: dict[tuple[str, bool], PaperRow] = {  # by the method of a run, and whether it saw several magnifications
    ("asp", False): BASELINE,
    ("asp", True): MULTI,
    ("attention_gan", False): ATTENTION,
    ("attention_gan", True): BOTH,
}


DATA_SET = re.compile(r"(?<![a-z])mist(?![a-z])")  # in the name of a store: mist-her2, MIST_HER2
STAIN = re.compile(r"her-?2(/?neu)?")
PICTURES = 1000  # of the paper's test set


def left_out(scores: Scores) -> str:
    """Why the paper's rows do not stand beside these scores; empty if they are of its data: MIST-HER2, test tiles."""
    if scores.synthetic:
        return "these pictures are drawn"
    if not DATA_SET.search(scores.store.casefold()) or not STAIN.fullmatch(scores.stain.casefold()):
        return (
            f"this is {scores.store}, stain {scores.stain} (a store of MIST-HER2 is made with name=mist-her2 and "
            "stain=HER2)"
        )
    if (scores.split, scores.view) != (Split.TEST, "tile"):
        return f"these are the {scores.view} pictures of {scores.split}, not the test tiles"
    return ""


def beside(table: PaperTable, scores: Scores) -> PaperTable:
    """The table whose rows may stand beside these scores: none unless they are of the paper's data set."""
    return PaperTable.NONE if left_out(scores) else table


def paper_rows(table: PaperTable) -> list[PaperRow]:
    """The rows of a table in the paper's order."""
    known: dict[PaperTable, Sequence[PaperRow]] = {
        PaperTable.NONE: (),
        PaperTable.ONE: tuple(TABLE_ONE.values()),
        PaperTable.TWO: tuple(TABLE_TWO.values()),
    }
    return list(known[table])


def choose_table(name: str) -> PaperTable:
    """A table by name; RunError for one that the paper does not have."""
    if name not in set(PaperTable):
        raise RunError(f"the paper has no table {name!r}; choose one of {', '.join(PaperTable)} with --paper")
    return PaperTable(name)


def remarks(table: PaperTable) -> dict[str, str]:
    """What is wrong with a table's arithmetic, by the letter that marks the cells."""
    found = [row.remark for row in paper_rows(table) if row.remark]
    return dict(zip("ab", found, strict=False))


def paper_row(table: PaperTable, method: str, views: Sequence[str] | None) -> PaperRow | None:
    """The row to compare with a run of this method, trained on these views; None if the paper has no such row.

    >>> paper_row(PaperTable.TWO, "asp", ["tile"]).name, paper_row(PaperTable.ONE, "fastcut", [])
    ('ASP (our baseline)', None)
    """
    if table is PaperTable.ONE:
        return TABLE_ONE.get(method)
    if table is PaperTable.TWO and views:
        return TABLE_TWO.get((method, len({view for view in views if view != "tile"}) > 1))
    return None
