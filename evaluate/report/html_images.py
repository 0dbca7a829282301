"""Pictures and plots of the page with their captions: overview, details, best and worst, scatter, curves."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluate.columns import COLUMNS, Agreement, Metric
from evaluate.metrics.ranks import spread_ranks
from evaluate.protocol import ProtocolName
from evaluate.scores_file import WHOLE, Scores
from store.images import PictureU8

SHOWN = 6  # pictures of the overview
CASES = 3  # best, and as many worst


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePicture:
    """A picture as a data address, what it is for those who cannot see it, and its caption."""

    address: str
    what: str
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureGrid:
    """Pictures in rows under heads; `pixels` shows them pixel by pixel."""

    heads: list[str]
    rows: list[list[PagePicture]]
    pixels: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSource:
    """How to read the pictures of a place: H&E, real IHC, and the translations of each run."""

    he: Callable[[int], PictureU8]
    ihc: Callable[[int], PictureU8]
    fakes: dict[str, Callable[[int], PictureU8]]


def overview(runs: Sequence[Scores], source: PictureSource) -> PictureGrid:
    """Whole pictures at equally spaced ranks of the real DAB."""
    return _grid(runs, source, shrunk, pixels=False)


def details(runs: Sequence[Scores], source: PictureSource) -> PictureGrid:
    """The middle of the same pictures."""
    return _grid(runs, source, detail, pixels=True)


def ranking(scores: Scores) -> Metric:
    """What the best and worst pictures are chosen by: LPIPS where its weights were here, else SSIM."""
    known = scores.row(ProtocolName.CORRECTED).values.metrics
    return Metric.LPIPS_ALEX if Metric.LPIPS_ALEX in known else Metric.SSIM


def cases(scores: Scores, source: PictureSource) -> PictureGrid:
    """The best pictures of a run, and beside them the worst, each with its number."""
    metric = ranking(scores)
    values = scores.row(ProtocolName.CORRECTED).values.metrics[metric]
    order = sorted(range(len(values)), key=lambda place: values[place], reverse=COLUMNS[metric].higher)
    count = min(CASES, len(order) // 2) or 1

    def shown(place: int, rank: str) -> list[PagePicture]:
        name = scores.pictures[place].name.removesuffix(".png")
        pictures = (source.he(place), source.fakes[scores.run](place), source.ihc(place))
        number = f"{rank}: {COLUMNS[metric].head} {COLUMNS[metric].show(values[place])}"
        said = ((f"H&E of {name}", name), (f"{name} translated", number), (f"real IHC of {name}", ""))
        return [
            PagePicture(address=picture_address(shrunk(picture)), what=what, caption=words)
            for picture, (what, words) in zip(pictures, said, strict=True)
        ]

    rows = [shown(order[n], f"best {n + 1}") + shown(order[-1 - n], f"worst {n + 1}") for n in range(count)]
    return PictureGrid(heads=["H&E", f"translated by {scores.run}", "real IHC"] * 2, rows=rows)


def _grid(
    runs: Sequence[Scores], source: PictureSource, cut: Callable[[PictureU8], PictureU8], *, pixels: bool
) -> PictureGrid:
    rows = []
    for place in spread_ranks([picture.density for picture in runs[0].pictures], SHOWN):
        picture = runs[0].pictures[place]
        name = picture.name.removesuffix(".png")
        row = [PagePicture(address=picture_address(cut(source.he(place))), what=f"H&E of {name}", caption=name)]
        for scores in runs:
            density = scores.row(ProtocolName.CORRECTED).values.density[place]
            fake = cut(source.fakes[scores.run](place))
            what = f"{name}, translated by {scores.run}"
            row.append(
                PagePicture(address=picture_address(fake), what=what, caption="" if pixels else f"DAB {density:.3f}")
            )
        real = picture_address(cut(source.ihc(place)))
        words = "" if pixels else f"DAB {picture.density:.3f}"
        rows.append([*row, PagePicture(address=real, what=f"real IHC of {name}", caption=words)])
    return PictureGrid(heads=["H&E", *(scores.run for scores in runs), "real IHC"], rows=rows, pixels=pixels)


SIDE = 256  # px, of a picture on the page
INK, RUNS = "#1c2530", ("#0f6fb7", "#c2541b", "#2a8a57", "#8a4fb0", "#b08a1e", "#c03a63", "#4a6572", "#6b8e23")
PLOT = (3.1, 2.9)  # inches, of one panel
DPI = 110


def picture_address(picture_u8: PictureU8) -> str:
    """A picture u8 [H,W,3] as a data address, without loss."""
    data = io.BytesIO()
    image.imsave(data, np.ascontiguousarray(picture_u8), format="png")
    return png_address(data.getvalue())


def png_address(data: bytes) -> str:
    """The bytes of a PNG file as a data address."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def shrunk(picture_u8: PictureU8, side: int = SIDE) -> PictureU8:
    """A picture at no more than about `side` px: means over whole blocks, so that no pixel is skipped."""
    factor = max(1, round(max(picture_u8.shape[:2]) / side))
    high, wide = (length // factor for length in picture_u8.shape[:2])
    blocks = picture_u8[: high * factor, : wide * factor].reshape(high, factor, wide, factor, 3)
    return np.asarray(blocks.mean(axis=(1, 3)).round(), dtype=np.uint8)


def detail(picture_u8: PictureU8) -> PictureU8:
    """The middle sixteenth of a picture, pixel by pixel."""
    high, wide = picture_u8.shape[0] // 4, picture_u8.shape[1] // 4
    top, left = (picture_u8.shape[0] - high) // 2, (picture_u8.shape[1] - wide) // 2
    return picture_u8[top : top + high, left : left + wide]


def scatter(runs: Sequence[Scores]) -> str:
    """Mean DAB of every picture, real against translated, one panel a run."""
    figure, panels = _panels(len(runs))
    most = 1.05 * max(max(_densities(scores)[side]) for scores in runs for side in (0, 1))
    for place, (scores, panel) in enumerate(zip(runs, panels, strict=True)):
        real, fake = _densities(scores)
        panel.plot([0, most], [0, most], color="#b8c0c8", linewidth=1)
        panel.scatter(real, fake, s=14, color=RUNS[place % len(RUNS)], alpha=0.7, linewidths=0)
        value = scores.row(ProtocolName.CORRECTED).agreement[WHOLE][Agreement.PEARSON].value
        panel.set_title(f"{scores.run}: Pearson {value:.2f}", fontsize=9)
        panel.set(xlabel="real, mean OD", ylabel="translated, mean OD", xlim=(0, most), ylim=(0, most))
    return _address(figure)


def curve(runs: Sequence[Scores]) -> str:
    """Paired metrics by the shift of the real picture, one panel a metric: of the real picture and of each run."""
    metrics = list(runs[0].misregistration.perfect)
    figure, panels = _panels(len(metrics))
    for metric, panel in zip(metrics, panels, strict=True):
        first = runs[0].misregistration
        _draw_curve(panel, first.shifts, first.perfect[metric], "the real picture itself", INK, "--")
        for place, scores in enumerate(runs):
            found: Mapping[Metric, Sequence[float]] = scores.misregistration.fake
            if metric in found:
                _draw_curve(panel, first.shifts, found[metric], scores.run, RUNS[place % len(RUNS)], "-")
        panel.set_title(COLUMNS[metric].arrow_head, fontsize=9)
        panel.set(xlabel="shift, px")
    panels[0].legend(fontsize=7, frameon=False)
    return _address(figure)


def _draw_curve(panel: Axes, shifts: Sequence[int], values: Sequence[float], name: str, colour: str, line: str) -> None:
    known = [(shift, value) for shift, value in zip(shifts, values, strict=True) if np.isfinite(value)]
    panel.plot([shift for shift, _ in known], [value for _, value in known], line, color=colour, label=name, marker=".")


def _densities(scores: Scores) -> tuple[list[float], list[float]]:
    return [one.density for one in scores.pictures], list(scores.row(ProtocolName.CORRECTED).values.density)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 4)
    rows = -(-count // columns)
    figure = Figure(figsize=(PLOT[0] * columns, PLOT[1] * rows), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        panel.xaxis.label.set_fontsize(8)
        panel.yaxis.label.set_fontsize(8)
    return figure, panels


def _address(figure: Figure) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return png_address(data.getvalue())
