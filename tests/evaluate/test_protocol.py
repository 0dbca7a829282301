"""The two protocols: frozen sets of choices, and the round trip of 8 bits."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, fields

import numpy as np
import pytest

from evaluate.columns import PHV_LAYERS, Metric
from evaluate.protocol import CORRECTED, PUBLISHED, Fakes, FeatureSpec, Protocol, resave
from evaluate.report.paper_tables import TABLE_ONE, TABLE_TWO, PaperTable, paper_row, paper_rows, remarks


def test_saving_again_lowers_grey_1_to_63_and_no_other() -> None:
    levels = np.arange(256, dtype=np.uint8)
    change = resave(levels).astype(int) - levels
    assert np.flatnonzero(change).tolist() == list(range(1, 64))
    assert set(change[1:64]) == {-1}
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resave(picture), np.where((picture > 0) & (picture < 64), picture - 1, picture))


def test_published_is_the_published_evaluation() -> None:
    """Section 6 of the published evaluation, choice by choice."""
    assert (PUBLISHED.fakes, PUBLISHED.reference) == (Fakes.TRUNCATED, "resaved")
    assert (PUBLISHED.phv, PUBLISHED.phv_threshold) == (FeatureSpec.PHV_HALF_RANGE, 0.01)
    assert (PUBLISHED.kid, PUBLISHED.kid_subsets, PUBLISHED.kid_subset) == (FeatureSpec.KID_TORCHVISION, 100, 100)
    assert (PUBLISHED.kid_seed, PUBLISHED.kid_scale, PUBLISHED.fid) == (0, 1000, FeatureSpec.FID)
    assert (PUBLISHED.kid_batch, PUBLISHED.kid_first) == (50, "real pictures")
    with pytest.raises(FrozenInstanceError):
        PUBLISHED.kid_subset = 50  # type: ignore[misc]


def test_corrected_differs_where_the_fixes_say() -> None:
    one, two = asdict(PUBLISHED), asdict(CORRECTED)
    same = {field.name for field in fields(Protocol) if one[field.name] == two[field.name]}
    assert same == {"phv_threshold", "kid_seed", "kid_scale", "lpips", "ssim", "psnr"}


def test_the_papers_averages_follow_from_its_layers_but_for_two() -> None:
    rows = {row.name: row for row in (*TABLE_ONE.values(), *TABLE_TWO.values())}
    off = {}
    for name, row in rows.items():
        mean = np.mean([row.values[layer] for layer in PHV_LAYERS])
        if abs(mean - row.values[Metric.PHV]) > 0.6e-4:
            off[name] = round(float(mean), 4)
    assert off == {"PyramidP2P": 0.5262, "attention": 0.4931}
    assert {name for name, row in rows.items() if row.remark} == off.keys()
    assert list(remarks(PaperTable.ONE)) == list(remarks(PaperTable.TWO)) == ["a"]
    assert "0.5262" in remarks(PaperTable.ONE)["a"]
    assert "0.4931" in remarks(PaperTable.TWO)["a"]


def test_the_ablation_starts_at_asp_and_ends_at_both() -> None:
    first, *_, last = paper_rows(PaperTable.TWO)
    assert (first, last) == (TABLE_ONE["asp"], TABLE_ONE["attention_gan"])
    found = [
        paper_row(PaperTable.TWO, method, views)
        for method in ("asp", "attention_gan")
        for views in (["tile"], ["x1", "x2", "x4"])
    ]
    assert found == paper_rows(PaperTable.TWO)
    assert paper_row(PaperTable.TWO, "asp", []) is None
    assert paper_row(PaperTable.NONE, "asp", ["tile"]) is None
