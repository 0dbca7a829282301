"""What must not be overlooked stands in every form of a table: few slides, leakage, foreign rows, lone rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluate.columns import COLUMNS, Agreement, Metric
from evaluate.metrics.agreement import agreement_cells
from evaluate.metrics.dab import density_stats
from evaluate.protocol import FAKE, ProtocolName
from evaluate.report.html_page import find_pictures, render
from evaluate.report.paper_tables import PaperTable, left_out
from evaluate.report.table_texts import csv_text, latex, markdown, terminal
from evaluate.report.tables import best_cells, table_lines, verdict
from evaluate.scores_file import Scores
from store.reader import Store
from store.schema import Split
from tests.support.predictions import BASELINES, fabricate, of_slides, of_the_paper, scored_run

CORRECTED, PUBLISHED = ProtocolName.CORRECTED, ProtocolName.PUBLISHED
LEAK = "5 of 10 H&E tiles of test are also in another split (leakage): its scores are optimistic"


@pytest.fixture(scope="module")
def run(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "noisy"
    fabricate(folder, small_store)
    return folder


@pytest.fixture(scope="module")
def scores(run: Path, small_store: Store) -> Scores:
    """Of four slides."""
    return of_slides(scored_run(run, small_store))


def forms(runs: list[Scores], run: Path, store: Store, paper: PaperTable = PaperTable.NONE) -> Mapping[str, str]:
    """A table in every form, in one line each."""
    own = replace(runs[0], store="small")
    source = find_pictures([replace(own, run=one.run) for one in runs], [run] * len(runs), store, Split.TEST, "tile")
    texts = {
        "terminal": terminal(runs, paper, end=""),
        "table.md": markdown(runs, paper),
        "table.csv": csv_text(runs, paper),
        "table.tex": latex(runs, paper).replace("\\", ""),
        "page": render(runs, source, [], paper).replace("&amp;", "&"),
    }
    return {name: " ".join(text.split()) for name, text in texts.items()}


def test_leakage_is_said_in_every_form(scores: Scores, run: Path, small_store: Store) -> None:
    for name, text in forms([replace(scores, leakage=(LEAK,))], run, small_store).items():
        assert LEAK in text, name
    for name, text in forms([scores], run, small_store).items():
        assert "leakage" not in text.lower(), name


def test_few_slides_are_said_beside_every_interval_and_p(scores: Scores, run: Path, small_store: Store) -> None:
    """In the sentence on the intervals of each table, not only in the notes."""
    said = "(4 test slides: intervals and p values say little, p cannot be below 0.125; take at least 6 slides)"
    texts = forms([scores, replace(scores, run="other")], run, small_store)
    for name, times in (("terminal", 2), ("table.md", 3), ("page", 3)):
        assert texts[name].count(said) == times, name
    assert f"95 % intervals over slides {said}" in texts["table.md"]
    assert f"95 % interval over slides {said}" in texts["page"]
    for name in ("terminal", "table.md", "page"):
        assert f"corrected for all tests of the table {said}" in texts[name]
        assert f"sixteenths (x4) {said}" in texts[name]
    assert said[1:-1] in texts["table.csv"]
    many = replace(scores, pictures=scores.pictures * 2)
    many = replace(many, pictures=tuple(replace(one, slide=f"s{n}") for n, one in enumerate(many.pictures)))
    assert "say little" not in markdown([many])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"store": "mine"}, "this is mine, stain HER2"),
        ({"store": "optimist-her2"}, "this is optimist-her2"),
        ({"stain": "ER"}, "stain ER"),
        ({"store": "bci"}, "this is bci"),
        ({"synthetic": True}, "these pictures are drawn"),
        ({"view": "x1"}, "x1 pictures of test"),
        ({"split": Split.VAL}, "tile pictures of val"),
    ],
)
def test_the_papers_rows_stand_beside_its_own_data_only(
    scores: Scores, run: Path, small_store: Store, changes: dict[str, object], reason: str
) -> None:
    other = replace(of_the_paper(scores), **changes)  # type: ignore[arg-type] # a test names its changes
    assert reason in left_out(other)
    for table in (PaperTable.ONE, PaperTable.TWO):
        lines = table_lines([other], table)
        assert not any("paper" in line.name for line in lines)
        for text in (markdown([other], table), latex([other], table), terminal([other], table, end="")):
            assert "MIST-HER2: " not in text
            assert "rows are left out" in " ".join(text.split())
        assert "as printed" not in csv_text([other], table)
    assert "left out" not in markdown([other])


def test_the_papers_rows_are_in_every_form_of_its_own_data(scores: Scores, run: Path, small_store: Store) -> None:
    for name in ("mist-her2", "MIST_HER2", "her2.mist"):
        assert not left_out(replace(of_the_paper(scores), store=name, stain="Her2"))
    for name, text in forms([of_the_paper(scores)], run, small_store, PaperTable.ONE).items():
        assert "paper, MIST-HER2: CycleGAN" in text, name
        assert name == "table.csv" or "1,000 test pictures of MIST-HER2" in text, name


def test_a_lone_row_is_bold_in_no_form(scores: Scores, run: Path, small_store: Store) -> None:
    alone = replace(scores, rows={protocol: {FAKE: rows[FAKE]} for protocol, rows in scores.rows.items()})
    assert best_cells(table_lines([alone])) == {}
    texts = forms([alone], run, small_store)
    assert "**" not in texts["table.md"]
    assert "textbf" not in texts["table.tex"]
    assert '"best' not in texts["page"]
    assert "*" not in texts["terminal"].split("Means over pictures")[0]
    assert "textbf" in latex([scores])


def test_baselines_stand_under_both_protocols_and_a_sentence_compares_them(
    scores: Scores, run: Path, small_store: Store
) -> None:
    for protocol in ProtocolName:
        assert [line.name for line in table_lines([scores]) if line.protocol == protocol] == [*BASELINES, "noisy"]
    for name in ("terminal", "table.md", "page"):
        assert "noisy: better than every baseline in all columns" in forms([scores], run, small_store)[name]
    bad = replace(
        scores.row(PUBLISHED),
        cells=scores.row(PUBLISHED).cells
        | {Metric.SSIM: replace(scores.row(PUBLISHED).cells[Metric.SSIM], value=-1.0)},
    )
    one = replace(scores, rows=scores.rows | {PUBLISHED: scores.rows[PUBLISHED] | {FAKE: bad}})
    assert verdict(one) == "better than every baseline in all columns; under `published` it does not in SSIM"
    earlier = replace(scores, rows=scores.rows | {PUBLISHED: {FAKE: scores.row(PUBLISHED)}})
    assert len([line for line in table_lines([earlier]) if line.protocol == PUBLISHED]) == 1


def test_slope_and_bias_see_what_a_correlation_does_not() -> None:
    """Half of the stain, everywhere in proportion: the correlation is 1, the slope 0.5, the bias negative."""
    real = [np.full((8, 8), level) for level in (0.1, 0.2, 0.4, 0.8)]
    fake = [0.5 * picture for picture in real]
    cells = agreement_cells([density_stats(one) for one in fake], [density_stats(one) for one in real], [])
    for zoom in ("x1", "x2", "x4"):
        found = {key: cells[zoom][key].value for key in (Agreement.PEARSON, Agreement.SLOPE, Agreement.BIAS)}
        assert list(found.values()) == pytest.approx([1.0, 0.5, -0.1875])
    swapped = agreement_cells([density_stats(one) for one in real], [density_stats(one) for one in fake], [])
    assert (swapped["x1"][Agreement.SLOPE].value, swapped["x1"][Agreement.BIAS].value) == pytest.approx((2.0, 0.1875))


def test_the_best_slope_is_the_one_nearest_to_1() -> None:
    assert COLUMNS[Agreement.SLOPE].best([0.2, 1.1, 1.3]) == "1.100"
    assert COLUMNS[Agreement.BIAS].best([-0.3, 0.01, -0.00001]) == "0.0000"
    assert COLUMNS[Agreement.BIAS].arrow_head == "DAB bias → 0"


def test_slope_and_bias_stand_beside_correlations_in_every_form(scores: Scores, run: Path, small_store: Store) -> None:
    for name, text in forms([scores], run, small_store).items():
        assert "slope" in text, name
        assert name == "table.csv" or "A high correlation alone does not say that the amount is right" in text, name
    heads = next(csv.reader(io.StringIO(csv_text([scores]))))
    place = heads.index("DAB Pearson")
    assert [head for head in heads[place : place + 9] if not head.endswith((" low", " high"))] == [
        "DAB Pearson",
        "DAB slope",
        "DAB bias",
    ]
