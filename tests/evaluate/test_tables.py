"""Tables from scores: Markdown, CSV and LaTeX, the paper beside, and what runs can stand in one table."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from math import nan

import pytest

from evaluate.columns import COLUMNS, NOTHING, Agreement, Cell, Metric
from evaluate.protocol import FAKE, ProtocolName
from evaluate.report.captions import PUBLISHED_DRAWS
from evaluate.report.paired_tests import compare
from evaluate.report.paper_tables import PaperTable, choose_table
from evaluate.report.tables import HEADS, csv_text, latex, markdown, table_lines
from evaluate.scores_file import Scores
from evaluate.scoring.score import score_run
from store.reader import Store
from store.schema import RunError, Split
from tests.support.predictions import FLOORS, fabricate, shallow

CORRECTED, PUBLISHED = ProtocolName.CORRECTED, ProtocolName.PUBLISHED


@pytest.fixture(scope="module")
def scores(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Scores:
    run = tmp_path_factory.mktemp("runs") / "noisy"
    fabricate(run, small_store)
    return score_run(run, None, small_store, Split.TEST, "tile", shallow(run.parent))


@pytest.fixture(scope="module")
def worse(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Scores:
    """Another run, noisier; its pictures said to be of four slides."""
    run = tmp_path_factory.mktemp("runs") / "noisier"
    fabricate(run, small_store, noise=20.0, seed=1)
    return score_run(run, None, small_store, Split.TEST, "tile", shallow(run.parent))


def of_slides(scores: Scores) -> Scores:
    pictures = tuple(replace(picture, slide=f"slide {n}") for n, picture in enumerate(scores.pictures))
    return replace(scores, pictures=pictures)


def cells(text: str) -> list[list[str]]:
    """The first table of a Markdown text."""
    lines = text.split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in (lines[0], *lines[2:])]


def test_the_table_has_the_floors_first_then_both_protocols(scores: Scores) -> None:
    text = markdown([scores])
    heads, *rows = cells(text)
    assert heads == [*HEADS, *(column.head for column in COLUMNS.values())]
    assert [row[:2] for row in rows] == [*([name, "corrected"] for name in FLOORS), ["noisy", "published"],
                                         ["noisy", "corrected"]]  # fmt: skip
    assert rows[1][2:6] == [NOTHING, NOTHING, NOTHING, "4"]
    assert rows[4][2:6] == ["attention_gan", "6,000", "lanczos", "4"]
    assert rows[4][6] == f"**{scores.row(CORRECTED).cells[Metric.SSIM].value:.4f}**"
    assert rows[3][6] == f"**{scores.row(PUBLISHED).cells[Metric.SSIM].value:.4f}**"
    assert rows[1][heads.index("DAB Spearman")] == NOTHING
    caption = text.split("\n")[0]
    assert caption.startswith("SYNTHETIC DATA. small (test), test split, view tile: 4 pictures, 1 slide(s).")
    assert "lanczos (stand-in, not BSRGAN)" in caption
    assert f"noisy: 6,000 draws of a pair; the published run took {PUBLISHED_DRAWS:,}" in caption
    for block in text.split("\n\n")[1:4:2]:
        assert len({len(line) for line in block.splitlines()}) == 1


def test_the_notes_name_every_fix_and_what_was_applied(scores: Scores) -> None:
    notes = markdown([scores]).split("\n\n")[-1].splitlines()
    assert sum(note.startswith("- corrected, ") for note in notes) == 5
    assert any("round trip of 8 bits was applied on both sides" in note for note in notes)
    assert any("make weights NAMES=evaluate" in note for note in notes)


def test_an_imported_run_says_that_its_length_is_not_known(scores: Scores) -> None:
    text = markdown([replace(scores, draws=0)])
    assert "noisy: an unknown number of draws (imported)" in text
    assert cells(text)[-1][3] == NOTHING


def test_what_looks_equally_good_is_bold_alike(scores: Scores) -> None:
    rows = cells(markdown([scores, replace(scores, run="twin")]))[1:]
    bold = {tuple(row[:2]): sum(cell.startswith("**") for cell in row) for row in rows}
    assert bold["noisy", "corrected"] == bold["twin", "corrected"] == 7
    assert bold["noisy", "published"] == 2
    assert "SYNTHETIC" not in markdown([replace(scores, synthetic=False)])


def test_an_undefined_number_is_a_dash_and_never_the_best(scores: Scores) -> None:
    row = scores.row(CORRECTED)
    undefined = replace(row, cells=row.cells | {Metric.SSIM: Cell(value=nan)})
    lines = cells(markdown([replace(scores, rows=scores.rows | {CORRECTED: {FAKE: undefined}})]))
    assert lines[-1][6] == NOTHING


def test_the_paper_stands_beside_and_its_slips_are_marked(scores: Scores) -> None:
    rows = cells(markdown([scores], PaperTable.ONE))[1:]
    names = [row[0] for row in rows]
    assert names[3:6] == ["noisy", "noisy", "paper: ours (both)"]
    assert len(names) == len(set(names)) + 1 == 3 + 2 + 6
    pyramid = rows[names.index("paper: PyramidP2P")]
    assert pyramid[1] == "as printed"
    assert pyramid[6 + list(COLUMNS).index(Metric.PHV)] == "0.5362 (a)"
    assert "(a) the paper prints PHV avg 0.5362" in markdown([scores], PaperTable.ONE)
    views = replace(scores, views=("tile",))
    assert [line.name for line in table_lines([views], PaperTable.TWO)][5] == "paper: attention"
    assert not any("**" in cell for row in rows if row[1] == "as printed" for cell in row)
    with pytest.raises(RunError, match="no table 'III' in the paper; choose one of none, I, II"):
        choose_table("III")


def test_the_csv_holds_full_precision_and_empty_cells_for_the_undefined(scores: Scores, worse: Scores) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text([scores], PaperTable.ONE))))
    assert float(rows[4]["PSNR dB"]) == scores.row(CORRECTED).cells[Metric.PSNR].value
    assert (rows[1]["DAB Spearman"], rows[1]["draws"], rows[4]["draws"], rows[4]["FID"]) == ("", "", "6000", "")
    assert {(row["store"], row["split"], row["view"], row["synthetic"]) for row in rows} == {
        ("small", "test", "tile", "true")
    }
    assert rows[5]["KID x1000"] == "8.6"


def test_latex_has_one_number_a_cell_and_escapes_names(scores: Scores) -> None:
    text = latex([replace(scores, run="50%_run")], PaperTable.NONE)
    lines = text.splitlines()
    assert lines[0] == r"\begin{table}"
    assert r"50\%\_run & corrected & \textbf{" in text
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert {line.count(" & ") for line in body} == {1 + len(COLUMNS)}
    assert len(body) == 5


def test_one_table_holds_only_runs_judged_on_the_same_pictures(scores: Scores) -> None:
    with pytest.raises(RunError, match=r"'noisy' and 'other' were not judged on the same pictures .*seal ffff"):
        table_lines([scores, replace(scores, run="other", seal="f" * 64)])
    with pytest.raises(RunError, match="noisy, noisy cannot be told apart"):
        table_lines([scores, scores])


def test_runs_are_compared_picture_by_picture(scores: Scores, worse: Scores) -> None:
    found = {one.metric: one for one in compare([of_slides(scores), of_slides(worse)])}
    assert set(found) == {Metric.SSIM, Metric.PSNR, Agreement.ERROR}
    ssim = found[Metric.SSIM]
    means = [one.row(CORRECTED).cells[Metric.SSIM].value for one in (scores, worse)]
    assert ssim.difference == pytest.approx(means[0] - means[1])
    assert 0 < ssim.within.low < ssim.difference < ssim.within.high
    assert ssim.probability == pytest.approx(2 / 16)  # four slides: two of 16 sign patterns
    assert ssim.corrected == pytest.approx(3 / 8)
    assert "| noisy | noisier |" in markdown([of_slides(scores), of_slides(worse)])
    assert compare([scores]) == []
