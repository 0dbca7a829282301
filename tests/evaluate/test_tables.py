"""Tables from scores: Markdown, CSV and LaTeX, the paper's rows, and paired tests."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from math import nan

import pytest

from evaluate.columns import COLUMNS, NOTHING, PHV_LAYERS, Agreement, Cell, Metric
from evaluate.protocol import FAKE, ProtocolName
from evaluate.report.captions import PUBLISHED_PAIRS_SEEN
from evaluate.report.paired_tests import compare
from evaluate.report.paper_tables import PaperTable, choose_table
from evaluate.report.table_texts import csv_text, latex, markdown
from evaluate.report.tables import HEADS, table_lines, verdict
from evaluate.scores_file import Scores
from store.reader import Store
from store.schema import RunError
from tests.support.predictions import BASELINES, fabricate, of_slides, of_the_paper, scored_run

CORRECTED, PUBLISHED = ProtocolName.CORRECTED, ProtocolName.PUBLISHED
OF_NETWORKS = {*PHV_LAYERS, Metric.PHV, Metric.LPIPS_ALEX, Metric.LPIPS_VGG, Metric.FID, Metric.KID}
SHOWN = [key for key in COLUMNS if key not in OF_NETWORKS]  # the others need weights


@pytest.fixture(scope="module")
def scores(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Scores:
    run = tmp_path_factory.mktemp("runs") / "noisy"
    fabricate(run, small_store)
    return scored_run(run, small_store)


@pytest.fixture(scope="module")
def worse(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Scores:
    """Another run, noisier; its pictures said to be of four slides."""
    run = tmp_path_factory.mktemp("runs") / "noisier"
    fabricate(run, small_store, noise=20.0, seed=1)
    return scored_run(run, small_store)


def cells(text: str) -> list[list[str]]:
    """The table of metrics of a Markdown text."""
    lines = text.split("\n\n")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in (lines[0], *lines[2:])]


def test_the_table_has_the_baselines_first_then_both_protocols(scores: Scores) -> None:
    text = markdown([scores])
    heads, *rows = cells(text)
    assert heads == [*HEADS, *(COLUMNS[key].arrow_head for key in SHOWN)]
    assert heads[6:8] == ["SSIM ↑", "PSNR dB ↑"]
    assert heads[-7:-3] == ["DAB Spearman ↑", "DAB Pearson ↑", "DAB slope → 1", "DAB bias → 0"]
    assert heads[-3:] == ["DAB error ↓", "DAB rel. error ↓", "positive-area error ↓"]
    assert [row[:2] for row in rows] == [
        [name, protocol] for name in (*BASELINES, "noisy") for protocol in ("published", "corrected")
    ]
    assert rows[1][2:6] == [NOTHING, NOTHING, NOTHING, "4"]
    assert rows[7][2:6] == ["attention_gan", "6,000", "lanczos", "4"]
    assert rows[7][6] == f"**{scores.row(CORRECTED).cells[Metric.SSIM].value:.4f}**"
    assert rows[6][6] == f"**{scores.row(PUBLISHED).cells[Metric.SSIM].value:.4f}**"
    assert rows[3][heads.index("DAB Spearman ↑")] == NOTHING
    caption = text.split("\n")[0]
    assert caption.startswith("SYNTHETIC DATA. small: H&E to test, test split, tile view: 4 pictures of 1 slide(s).")
    assert "lanczos (instead of BSRGAN)" in caption
    assert f"noisy: attention_gan, 6,000 pairs seen; the published run: {PUBLISHED_PAIRS_SEEN:,} pairs seen" in caption
    assert "paper" not in caption
    for block in text.split("\n\n")[1:5:3]:
        assert block.startswith("| row")
        assert len({len(line) for line in block.splitlines()}) == 1


def test_the_notes_name_every_fix_and_what_was_applied(scores: Scores) -> None:
    notes = markdown([scores]).split("\n\n")[-1].splitlines()
    assert sum(note.startswith("- corrected, ") for note in notes) == 5
    assert any("8-bit round trip on both sides" in note for note in notes)
    assert any("colour deconvolution of an H&E picture finds eosin and nuclei" in note for note in notes)
    assert "make weights NAMES=evaluate" in markdown([scores]).split("\n\n")[2]


def test_an_imported_run_says_that_its_length_is_not_known(scores: Scores) -> None:
    text = markdown([replace(scores, pairs_seen=None)])
    assert "noisy: attention_gan, number of pairs seen unknown (imported)" in text
    assert cells(text)[-1][3] == NOTHING


def test_numbers_that_print_alike_are_bold_alike(scores: Scores) -> None:
    rows = cells(markdown([scores, replace(scores, run="twin")]))[1:]
    bold = {tuple(row[:2]): sum(cell.startswith("**") for cell in row) for row in rows}
    assert bold["noisy", "corrected"] == bold["twin", "corrected"] == len(SHOWN) >= 7
    assert bold["noisy", "published"] == len(SHOWN) - len(Agreement) >= 2
    assert "SYNTHETIC" not in markdown([replace(scores, synthetic=False)])


def test_a_run_is_told_whether_it_beats_the_baselines(scores: Scores) -> None:
    row = scores.row(CORRECTED)
    assert verdict(scores) == "better than every baseline in all columns"
    bad = replace(row, cells=row.cells | {Metric.PSNR: Cell(value=3.0)})
    beaten = replace(scores, rows=scores.rows | {CORRECTED: scores.rows[CORRECTED] | {FAKE: bad}})
    assert verdict(beaten).startswith("does not beat the baselines in PSNR; it does in SSIM, DAB ")
    assert f"- noisy: {verdict(beaten)}" in markdown([beaten])
    copied = scores.rows[CORRECTED]["copy H&E"]
    agreement = {zoom: cells | {Agreement.ERROR: Cell(value=0.0)} for zoom, cells in copied.agreement.items()}
    better = scores.rows[CORRECTED] | {"copy H&E": replace(copied, agreement=agreement)}
    assert verdict(replace(scores, rows=scores.rows | {CORRECTED: better})) == verdict(scores)  # its DAB means little
    assert "1 test slide: intervals and p values say little, there is no p; take at least 6 slides" in markdown(
        [scores]
    )


def test_an_undefined_number_is_a_dash_and_never_the_best(scores: Scores) -> None:
    row = scores.row(CORRECTED)
    undefined = replace(row, cells=row.cells | {Metric.SSIM: Cell(value=nan)})
    lines = cells(markdown([replace(scores, rows=scores.rows | {CORRECTED: {FAKE: undefined}})]))
    assert lines[-1][6] == NOTHING


def test_the_papers_rows_are_labelled_and_its_averages_marked(scores: Scores) -> None:
    scores = of_the_paper(scores)
    rows = cells(markdown([scores], PaperTable.ONE))[1:]
    names = [row[0] for row in rows]
    assert names[6:9] == ["noisy", "noisy", "paper, MIST-HER2: ours (both)"]
    assert len(names) == len(set(names)) + 4 == 6 + 2 + 6
    pyramid = rows[names.index("paper, MIST-HER2: PyramidP2P")]
    assert pyramid[1] == "as printed"
    heads = cells(markdown([scores], PaperTable.ONE))[0]
    assert pyramid[heads.index("PHV avg ↓")] == "0.5362 (a)"
    assert "from its 1,000 test pictures of MIST-HER2, not from this store" in markdown([scores], PaperTable.ONE)
    assert "LPIPS vgg ↓" not in heads  # the paper does not have it
    assert "(a) the paper prints PHV avg 0.5362" in markdown([scores], PaperTable.ONE)
    views = replace(scores, views=("tile",))
    assert [line.name for line in table_lines([views], PaperTable.TWO)][8] == "paper, MIST-HER2: attention"
    assert not any("**" in cell for row in rows if row[1] == "as printed" for cell in row)
    with pytest.raises(RunError, match="the paper has no table 'III'; choose one of none, I, II"):
        choose_table("III")


def test_the_csv_holds_full_precision_and_empty_cells_for_the_undefined(scores: Scores, worse: Scores) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text([of_the_paper(scores)], PaperTable.ONE))))
    assert float(rows[7]["PSNR dB"]) == scores.row(CORRECTED).cells[Metric.PSNR].value
    assert (rows[3]["DAB Spearman"], rows[3]["pairs seen"], rows[7]["pairs seen"], rows[7]["FID"]) == (
        "",
        "",
        "6000",
        "",
    )
    assert {(row["store"], row["split"], row["view"], row["synthetic"]) for row in rows} == {
        ("mist-her2", "test", "tile", "false")
    }
    assert rows[8]["KID x1000"] == "8.6"
    assert [*rows[0]][: len(HEADS)] == [*HEADS]
    assert {column.head for column in COLUMNS.values()} < rows[0].keys()  # those without numbers too


def test_latex_has_one_number_a_cell_and_escapes_names(scores: Scores) -> None:
    text = latex([replace(scores, run="50%_run")], PaperTable.NONE)
    lines = text.splitlines()
    assert lines[0] == r"\begin{table}"
    assert r"50\%\_run & corrected & \textbf{" in text
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert {line.count(" & ") for line in body} == {1 + len(SHOWN)}
    paper = latex([of_the_paper(scores)], PaperTable.ONE)
    assert paper.splitlines()[4].count(" & ") == 1 + len(COLUMNS) - 1  # no LPIPS on VGG
    assert "No PHV, LPIPS, FID, KID: weights missing" in lines[1]
    assert not any(arrow in text for arrow in "↑↓")
    assert len(body) == 8


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


def test_names_stay_names_in_every_format(scores: Scores) -> None:
    """A run is named by its folder, a store by whoever made it."""
    name, store = "=<img src=x>|**x**`[y](z)", "_s_ \\input{x} & <b>"
    odd = replace(scores, run=name, store=store)
    text = markdown([odd])
    assert "<img" not in text.replace("\\<img", "")
    assert "=\\<img src=x\\>\\|\\*\\*x\\*\\*\\`\\[y\\](z)" in text
    assert "\\_s\\_ \\\\input{x} & \\<b\\>: H&E to" in text
    assert {len(row) for row in cells(text.replace("\\|", ""))} == {len(row) for row in cells(markdown([scores]))}
    assert r"\_s\_ \textbackslash{}input\{x\} \& <b>" in latex([odd])
    rows = list(csv.DictReader(io.StringIO(csv_text([odd]))))
    assert {row["row"] for row in rows} == {*BASELINES, f"'{name}"}
