"""The pictures of the page with their captions: an overview, details, the best and the worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluate.figures import detail, picture_address, shrunk
from evaluate.metrics import COLUMNS, Metric
from evaluate.protocol import ProtocolName
from evaluate.results import Scores
from evaluate.statistics import spread_ranks

PictureU8 = NDArray[np.uint8]
SHOWN = 6  # pictures of the overview
CASES = 3  # best, and as many worst


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture by its address, what it is, and its caption."""

    address: str
    what: str
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Pictures in rows under heads; `pixels` shows them pixel by pixel."""

    heads: list[str]
    rows: list[list[Shown]]
    pixels: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Album:
    """How to get the pictures of a place: H&E, real IHC, and those of each run."""

    he: Callable[[int], PictureU8]
    ihc: Callable[[int], PictureU8]
    fakes: dict[str, Callable[[int], PictureU8]]


def overview(runs: Sequence[Scores], album: Album) -> Sheet:
    """Whole pictures at equally spaced ranks of the real DAB."""
    return _sheet(runs, album, shrunk, pixels=False)


def details(runs: Sequence[Scores], album: Album) -> Sheet:
    """The middle of the same pictures."""
    return _sheet(runs, album, detail, pixels=True)


def ranking(scores: Scores) -> Metric:
    """What the best and worst pictures are chosen by: LPIPS where its network was there, else SSIM."""
    there = scores.row(ProtocolName.CORRECTED).values.metrics
    return Metric.LPIPS_ALEX if Metric.LPIPS_ALEX in there else Metric.SSIM


def cases(scores: Scores, album: Album) -> Sheet:
    """The best pictures of a run, and beside them the worst, each with its number."""
    metric = ranking(scores)
    values = scores.row(ProtocolName.CORRECTED).values.metrics[metric]
    order = sorted(range(len(values)), key=lambda place: values[place], reverse=COLUMNS[metric].higher)
    count = min(CASES, len(order) // 2) or 1

    def shown(place: int, rank: str) -> list[Shown]:
        name = scores.pictures[place].name.removesuffix(".png")
        pictures = (album.he(place), album.fakes[scores.run](place), album.ihc(place))
        number = f"{rank}: {COLUMNS[metric].head} {COLUMNS[metric].show(values[place])}"
        said = ((f"H&E of {name}", name), (f"{name} translated", number), (f"real IHC of {name}", ""))
        return [
            Shown(address=picture_address(shrunk(picture)), what=what, words=words)
            for picture, (what, words) in zip(pictures, said, strict=True)
        ]

    rows = [shown(order[n], f"best {n + 1}") + shown(order[-1 - n], f"worst {n + 1}") for n in range(count)]
    return Sheet(heads=["H&E", f"translated by {scores.run}", "real IHC"] * 2, rows=rows)


def _sheet(runs: Sequence[Scores], album: Album, cut: Callable[[PictureU8], PictureU8], *, pixels: bool) -> Sheet:
    rows = []
    for place in spread_ranks([picture.density for picture in runs[0].pictures], SHOWN):
        picture = runs[0].pictures[place]
        name = picture.name.removesuffix(".png")
        row = [Shown(address=picture_address(cut(album.he(place))), what=f"H&E of {name}", words=name)]
        for scores in runs:
            density = scores.row(ProtocolName.CORRECTED).values.density[place]
            fake = cut(album.fakes[scores.run](place))
            what = f"{name}, translated by {scores.run}"
            row.append(Shown(address=picture_address(fake), what=what, words="" if pixels else f"DAB {density:.3f}"))
        real = picture_address(cut(album.ihc(place)))
        words = "" if pixels else f"DAB {picture.density:.3f}"
        rows.append([*row, Shown(address=real, what=f"real IHC of {name}", words=words)])
    return Sheet(heads=["H&E", *(scores.run for scores in runs), "real IHC"], rows=rows, pixels=pixels)
