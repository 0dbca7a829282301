"""Whether two runs differ: paired tests on the same pictures, corrected for the number of tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import nan

import numpy as np

from evaluate.columns import COLUMNS, Agreement, Metric
from evaluate.metrics.statistics import Interval, holm, mean_interval, paired_test, resample
from evaluate.protocol import ProtocolName
from evaluate.scores_file import Scores

TESTED = (Metric.SSIM, Metric.PSNR, Metric.PHV, Metric.LPIPS_ALEX, Metric.LPIPS_VGG, Agreement.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A metric of run `first` minus that of `second`: mean over pictures, its interval, p, and p after Holm."""

    first: str
    second: str
    metric: Metric | Agreement
    difference: float
    within: Interval
    probability: float
    corrected: float

    @property
    def head(self) -> str:
        """The column that was compared."""
        return COLUMNS[self.metric].head


def compare(runs: Sequence[Scores]) -> list[Comparison]:
    """Every pair of runs under `corrected`, on every paired metric that both have.

    The differences of all pictures of a slide change sign together; Holm's correction is over all tests of the table.
    """
    slides = [picture.slide for picture in runs[0].pictures] if runs else []
    samples = resample(slides)
    found = []
    for one, two in combinations(runs, 2):
        for metric in TESTED:
            first, second = (_per_picture(scores, metric) for scores in (one, two))
            if first is None or second is None:
                continue
            difference = np.subtract(first, second)
            found.append(
                Comparison(
                    first=one.run,
                    second=two.run,
                    metric=metric,
                    difference=float(difference.mean()),
                    within=mean_interval(difference.tolist(), samples),
                    probability=paired_test(first, second, slides),
                    corrected=nan,
                )
            )
    corrected = holm([comparison.probability for comparison in found])
    return [replace(comparison, corrected=value) for comparison, value in zip(found, corrected, strict=True)]


def _per_picture(scores: Scores, metric: Metric | Agreement) -> Sequence[float] | None:
    """One number per picture; None where the weights of the network were missing."""
    values = scores.row(ProtocolName.CORRECTED).values
    if isinstance(metric, Metric):
        return values.metrics.get(metric)
    return [abs(one - picture.density) for one, picture in zip(values.density, scores.pictures, strict=True)]
