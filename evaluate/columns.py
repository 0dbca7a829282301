"""The columns: every number that a row of a table can have, how it is printed, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, isnan, nan

NOTHING = "–"
MISSING = "n/a: weights missing, run make weights"


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
    ERROR = "dab_error"
    RELATIVE = "dab_relative_error"
    POSITIVE = "positive_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The head of a column, how many digits are shown, and whether more is better."""

    head: str
    digits: int
    higher: bool

    def show(self, value: float) -> str:
        """A number as it is printed; a dash where it is undefined.

        >>> Column(head="SSIM", digits=2, higher=True).show(0.256)
        '0.26'
        """
        return NOTHING if isnan(value) else f"{value:.{self.digits}f}"

    def best(self, values: list[float]) -> str:
        """The best number as it is printed: what looks the same is equally good. A dash if there is none."""
        known = [value for value in values if not isnan(value)]
        return self.show((max(known) if self.higher else min(known)) if known else nan)


COLUMNS: dict[Metric | Agreement, Column] = {
    Metric.SSIM: Column(head="SSIM", digits=4, higher=True),
    Metric.PSNR: Column(head="PSNR dB", digits=2, higher=True),
    Metric.PHV1: Column(head="PHV1", digits=4, higher=False),
    Metric.PHV2: Column(head="PHV2", digits=4, higher=False),
    Metric.PHV3: Column(head="PHV3", digits=4, higher=False),
    Metric.PHV4: Column(head="PHV4", digits=4, higher=False),
    Metric.PHV: Column(head="PHV avg", digits=4, higher=False),
    Metric.LPIPS_ALEX: Column(head="LPIPS alex", digits=4, higher=False),
    Metric.LPIPS_VGG: Column(head="LPIPS vgg", digits=4, higher=False),
    Metric.FID: Column(head="FID", digits=1, higher=False),
    Metric.KID: Column(head="KID x1000", digits=1, higher=False),
    Agreement.SPEARMAN: Column(head="DAB Spearman", digits=3, higher=True),
    Agreement.PEARSON: Column(head="DAB Pearson", digits=3, higher=True),
    Agreement.ERROR: Column(head="DAB error", digits=4, higher=False),
    Agreement.RELATIVE: Column(head="DAB rel. error", digits=3, higher=False),
    Agreement.POSITIVE: Column(head="positive-area error", digits=4, higher=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number of a row with its 95 % interval over slides; `note` says why there is no number or no interval.

    `spread` is the deviation of the subsets that a published KID is the mean of.
    """

    value: float = nan
    low: float = nan
    high: float = nan
    spread: float = nan
    note: str = ""

    @property
    def missing(self) -> bool:
        """Whether the network of this number has no weights here."""
        return self.note == MISSING

    def show(self, column: Column) -> str:
        """The number with what is known of its certainty, as it is printed."""
        if self.missing:
            return MISSING
        around = f" ± {self.spread:.{column.digits}f}" if isfinite(self.spread) else ""
        within = f" [{column.show(self.low)}, {column.show(self.high)}]" if isfinite(self.low) else ""
        return f"{column.show(self.value)}{around}{within}"
