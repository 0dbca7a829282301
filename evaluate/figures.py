"""What the page shows as pictures: plots, and pictures themselves, each as the address of its own bytes.

Nothing is written: an address is `data:image/png;base64,…`, which a browser shows without asking anyone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluate.metrics import COLUMNS, Agreement, Metric
from evaluate.protocol import ProtocolName
from evaluate.results import WHOLE, Scores

PictureU8 = NDArray[np.uint8]
SIDE = 256  # px, of a picture on the page
INK, RUNS = "#1c2530", ("#0f6fb7", "#c2541b", "#2a8a57", "#8a4fb0", "#b08a1e", "#c03a63", "#4a6572", "#6b8e23")
PLOT = (3.1, 2.9)  # inches, of one panel
DPI = 110


def picture_address(picture_u8: PictureU8) -> str:
    """A picture as it is, u8 [H,W,3]."""
    data = io.BytesIO()
    image.imsave(data, np.ascontiguousarray(picture_u8), format="png")
    return png_address(data.getvalue())


def png_address(data: bytes) -> str:
    """The bytes of a PNG file."""
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
    """Paired metrics against the shift of the real picture, one panel a metric: the real picture itself, every run."""
    metrics = list(runs[0].misregistration.perfect)
    figure, panels = _panels(len(metrics))
    for metric, panel in zip(metrics, panels, strict=True):
        first = runs[0].misregistration
        _draw_curve(panel, first.shifts, first.perfect[metric], "the real picture itself", INK, "--")
        for place, scores in enumerate(runs):
            found: Mapping[Metric, Sequence[float]] = scores.misregistration.fake
            if metric in found:
                _draw_curve(panel, first.shifts, found[metric], scores.run, RUNS[place % len(RUNS)], "-")
        panel.set_title(COLUMNS[metric].head, fontsize=9)
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
