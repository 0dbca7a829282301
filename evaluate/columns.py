"""The columns of a table: every number that a row can have, how it is printed, and which way is better."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, isnan, nan

NOTHING = "–"
MISSING = "weights missing"  # why a cell has no number: the weights of its feature network are not here


class Metric(StrEnum):
    """A distance between translated and real pictures."""

    SSIM = "ssim"
    PSNR = "psnr"
    PHV1 = "phv1"
    PHV2 = "phv2"
    PHV3 = "phv3"
    PHV4 = "phv4"
    PHV = "phv"
    LPIPS_ALEX = "lpips_alex"
    LPIPS_VGG = "lpips_vgg"
    FID = "fid"
    KID = "kid"


class Agreement(StrEnum):
    """How well translated and real pictures agree on DAB."""

    SPEARMAN = "dab_spearman"
    PEARSON = "dab_pearson"
    SLOPE = "dab_slope"
    BIAS = "dab_bias"
    ERROR = "dab_error"
    RELATIVE = "dab_relative_error"
    POSITIVE = "positive_error"


PHV_LAYERS = (Metric.PHV1, Metric.PHV2, Metric.PHV3, Metric.PHV4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The head of a column, how many digits are shown, whether higher is better, and the metric that it is part of.

    Where `ideal` is given, neither higher nor lower is better: that value is.
    """

    head: str
    digits: int
    higher: bool
    metric: str
    ideal: float | None = None

    @property
    def arrow_head(self) -> str:
        """The head with an arrow: up where higher is better, down where lower is better, to the ideal value."""
        return f"{self.head} {'↑' if self.higher else '↓' if self.ideal is None else f'→ {self.ideal:g}'}"

    def show(self, value: float) -> str:
        """A number as it is printed; a dash where it is undefined.

        >>> Column(head="SSIM", digits=2, higher=True, metric="SSIM").show(0.256)
        '0.26'
        """
        return NOTHING if isnan(value) else f"{round(value, self.digits) + 0.0:.{self.digits}f}"  # no -0.00

    def best(self, values: list[float]) -> str:
        """The best number as it is printed: numbers that print alike are equally good. A dash if there is none."""
        known = [value for value in values if not isnan(value)]
        return self.show(max(known, key=self._goodness) if known else nan)

    def _goodness(self, value: float) -> float:
        """Higher is better, whatever the column."""
        if self.ideal is not None:
            return -abs(value - self.ideal)
        return value if self.higher else -value


COLUMNS: dict[Metric | Agreement, Column] = {
    Metric.SSIM: Column(head="SSIM", digits=4, higher=True, metric="SSIM"),
    Metric.PSNR: Column(head="PSNR dB", digits=2, higher=True, metric="PSNR"),
    Metric.PHV1: Column(head="PHV1", digits=4, higher=False, metric="PHV"),
    Metric.PHV2: Column(head="PHV2", digits=4, higher=False, metric="PHV"),
    Metric.PHV3: Column(head="PHV3", digits=4, higher=False, metric="PHV"),
    Metric.PHV4: Column(head="PHV4", digits=4, higher=False, metric="PHV"),
    Metric.PHV: Column(head="PHV avg", digits=4, higher=False, metric="PHV"),
    Metric.LPIPS_ALEX: Column(head="LPIPS alex", digits=4, higher=False, metric="LPIPS"),
    Metric.LPIPS_VGG: Column(head="LPIPS vgg", digits=4, higher=False, metric="LPIPS"),
    Metric.FID: Column(head="FID", digits=1, higher=False, metric="FID"),
    Metric.KID: Column(head="KID x1000", digits=1, higher=False, metric="KID"),
    Agreement.SPEARMAN: Column(head="DAB Spearman", digits=3, higher=True, metric="DAB Spearman"),
    Agreement.PEARSON: Column(head="DAB Pearson", digits=3, higher=True, metric="DAB Pearson"),
    Agreement.SLOPE: Column(head="DAB slope", digits=3, higher=False, metric="DAB slope", ideal=1.0),
    Agreement.BIAS: Column(head="DAB bias", digits=4, higher=False, metric="DAB bias", ideal=0.0),
    Agreement.ERROR: Column(head="DAB error", digits=4, higher=False, metric="DAB error"),
    Agreement.RELATIVE: Column(head="DAB rel. error", digits=3, higher=False, metric="DAB rel. error"),
    Agreement.POSITIVE: Column(head="positive-area error", digits=4, higher=False, metric="positive-area error"),
}
Key = Metric | Agreement


def list_heads(keys: Collection[Key]) -> str:
    """Columns in one phrase: a metric by its name where all of its columns are meant, else column by column.

    >>> list_heads([Metric.LPIPS_ALEX, Metric.LPIPS_VGG, Metric.PHV4])
    'PHV4, LPIPS'
    """
    names = []
    for key, column in COLUMNS.items():
        if key in keys:
            complete = all(other in keys for other, its in COLUMNS.items() if its.metric == column.metric)
            names.append(column.metric if complete else column.head)
    return ", ".join(dict.fromkeys(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number of a row with its 95 % interval over slides; `note` says why there is no number or no interval.

    `spread` is the standard deviation over the subsets that a published KID is the mean of.
    """

    value: float = nan
    low: float = nan
    high: float = nan
    spread: float = nan
    note: str = ""

    @property
    def missing(self) -> bool:
        """Whether the weights of this number's feature network are missing."""
        return self.note == MISSING

    def show(self, column: Column) -> str:
        """The number with its spread and its interval, as it is printed."""
        around = f" ± {self.spread:.{column.digits}f}" if isfinite(self.spread) else ""
        within = f" [{column.show(self.low)}, {column.show(self.high)}]" if isfinite(self.low) else ""
        return f"{column.show(self.value)}{around}{within}"
