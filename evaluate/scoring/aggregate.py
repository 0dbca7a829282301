"""From numbers of pictures to rows: means, FID, KID and agreement on DAB, each with its interval over slides."""

from __future__ import annotations

from collections.abc import Sequence

from evaluate.columns import MISSING, Cell, Metric
from evaluate.features.extract import Features
from evaluate.inputs.image_set import REAL, SetName
from evaluate.metrics.agreement import agreement_cells
from evaluate.metrics.fid_kid import fid_cell, kid_cell
from evaluate.metrics.statistics import Counts, mean_cell
from evaluate.protocol import PROTOCOLS, ProtocolName
from evaluate.scores_file import Row, Values
from evaluate.scoring.per_image import ImageScores

OF_SETS = (Metric.FID, Metric.KID)  # all other metrics are means over pictures


def compute_rows(
    names: Sequence[SetName], scores: Sequence[ImageScores], features: Features, samples: Sequence[Counts]
) -> dict[ProtocolName, dict[str, Row]]:
    """The rows of these names by protocol, with intervals from bootstrap `samples` of the slides."""
    rows: dict[ProtocolName, dict[str, Row]] = {name: {} for name in PROTOCOLS}
    for protocol, row in names:
        rows[protocol][row] = _row((protocol, row), scores, features, samples)
    return rows


def _row(name: SetName, scores: Sequence[ImageScores], features: Features, samples: Sequence[Counts]) -> Row:
    """The cells and the numbers of one row; a cell whose network has no weights here says so."""
    protocol, real = PROTOCOLS[name[0]], (name[0], REAL)
    values = {metric: tuple(place.metrics[name][metric] for place in scores) for metric in scores[0].metrics[name]}
    cells = {
        metric: mean_cell(values[metric], samples) if metric in values else Cell(note=MISSING)
        for metric in Metric
        if metric not in OF_SETS
    }
    for metric, spec, distance in ((Metric.FID, protocol.fid, fid_cell), (Metric.KID, protocol.kid, kid_cell)):
        cells[metric] = Cell(note=MISSING)
        if spec in features.vectors:
            vectors = features.vectors[spec]
            cells[metric] = distance(vectors[name][-1], vectors[real][-1], protocol, samples)
    dab = [place.dab[name] for place in scores if name in place.dab]
    return Row(
        cells=cells,
        agreement=agreement_cells(dab, [place.dab[real] for place in scores], samples) if dab else {},
        values=Values(
            metrics=values,
            density=tuple(one.density for one in dab),
            integrated=tuple(one.integrated for one in dab),
            positive=tuple(one.positive for one in dab),
        ),
    )
