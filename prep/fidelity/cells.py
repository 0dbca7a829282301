"""The numbers of a picture or a group in the cells of a table: text for a person; `-` is undefined."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf, isnan, sqrt

from prep.fidelity.measures import Change


def table_line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def show_psnr(change: Change) -> str:
    """Decibels, or "exact"."""
    return "exact" if isinf(change.psnr) else f"{change.psnr:.1f}"


def show_drift(change: Change) -> str:
    """Colour drift in CIELAB."""
    return f"{change.drift_l:+.2f}, {change.drift_a:+.2f}, {change.drift_b:+.2f}"


def show_colour(change: Change) -> str:
    """Mean CIEDE2000."""
    return f"{change.colour_error:.2f}"


def show_dab(change: Change) -> str:
    """DAB gained or lost, a share."""
    return "-" if isnan(change.dab_share) else f"{change.dab_share:+.1%}"


def show_detail(change: Change) -> str:
    """Detail of the view and of Lanczos interpolation, grey levels."""
    return f"{sqrt(change.detail_view):.2f}, Lanczos {sqrt(change.detail_lanczos):.2f}"


def show_truth(change: Change) -> str:
    """Correlation of the finer detail with that of the tile, and in brackets how much there is of both."""
    if isnan(change.truth):
        return "-"
    known = f"{change.truth:.2f}, Lanczos {change.truth_lanczos:.2f}"
    return f"{known} ({sqrt(change.shared_view):.2f}, {sqrt(change.shared_tile):.2f})"
