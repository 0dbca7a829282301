"""What a terminal shows: at most 100 columns, every number without its interval, and why a column is not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluate.columns import COLUMNS, Agreement, Cell, Key, Metric, list_heads
from evaluate.features.extract import FeatureSource
from evaluate.protocol import FAKE, ProtocolName
from evaluate.report.captions import no_numbers
from evaluate.report.paper_tables import PaperTable
from evaluate.report.table_texts import terminal
from evaluate.report.text_formats import plain_blocks
from evaluate.scores_file import Scores
from evaluate.scoring.score import score_run
from store.reader import Store
from store.schema import Split
from tests.support.predictions import BASELINES, Seeded, fabricate, of_slides, without_weights

CORRECTED, PUBLISHED = ProtocolName.CORRECTED, ProtocolName.PUBLISHED
REASON = "weights missing; run `make weights NAMES=evaluate`, then score again"
LONG = "a run whose name is much longer than any terminal would show in one line, with_all_its_settings_and_dates"


@pytest.fixture(scope="module")
def with_networks(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Scores:
    folder = tmp_path_factory.mktemp("runs")
    fabricate(folder / "noisy", small_store)
    source = FeatureSource(networks=Seeded(), cache=folder / "features")
    return of_slides(score_run(folder / "noisy", None, small_store, Split.TEST, "tile", source))


@pytest.fixture(scope="module")
def without_networks(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Scores:
    folder = tmp_path_factory.mktemp("runs")
    fabricate(folder / "plain", small_store)
    return of_slides(score_run(folder / "plain", None, small_store, Split.TEST, "tile", without_weights(folder)))


def blocks(text: str) -> list[list[str]]:
    """The blocks of tables: paragraphs with a rule."""
    return [part.splitlines() for part in text.split("\n\n") if any(set(line) == {"-"} for line in part.splitlines())]


NETWORK = "RealESRGAN Compact 4x_a_long_name.pth (sha256 6bf08d0ddbea, licence BSD-3-Clause)"  # as of upscaler = file


@pytest.mark.parametrize("paper", PaperTable)
@pytest.mark.parametrize("names", [["noisy"], ["noisy", "other", LONG], [LONG, f"{LONG}!"]])
def test_no_line_is_longer_than_100_columns(with_networks: Scores, paper: PaperTable, names: list[str]) -> None:
    runs = [replace(with_networks, run=name, method="a" * 40, upscaler=NETWORK) for name in names]
    text = terminal(runs, paper, end="With intervals: table.md")
    assert max(len(line.encode()) for line in text.splitlines()) <= 100  # some tools count bytes
    assert text.splitlines()[-1] == "With intervals: table.md"
    for name in names:
        assert name[:20] in text


def test_every_number_is_shown_once_without_its_interval(with_networks: Scores) -> None:
    text = terminal([with_networks], end="")
    assert "[" not in text.split("\n\n- ")[0]
    row = with_networks.row(CORRECTED)
    pairs: list[tuple[Key, Cell]] = [*row.cells.items(), *row.agreement["x1"].items()]
    cells = dict(pairs)
    lines = [
        line.split() for block in blocks(text) for line in block if line.startswith("noisy") and "corrected" in line
    ]
    shown = [word for words in lines for word in words[2:]]
    assert {word.strip("*") for word in shown} == {column.show(cells[key].value) for key, column in COLUMNS.items()}
    assert [word for word in shown if word.endswith("*")]
    assert len(shown) == len(Metric) + len(Agreement)


def test_blocks_repeat_row_and_protocol(with_networks: Scores) -> None:
    text = terminal([with_networks], end="")
    found = [block for block in blocks(text) if "protocol" in " ".join(block)]
    assert len(found) == 3
    for block in found:
        rows = block[[set(line) == {"-"} for line in block].index(True) + 1 :]
        assert [line[:17].strip() for line in rows] == [name for name in (*BASELINES, "noisy") for _ in range(2)]
        assert [line.split(",")[0][19:28] for line in rows] == ["published", "corrected"] * 4
    higher = "SSIM, PSNR, DAB Spearman, DAB Pearson"
    ideal = "DAB slope is best at 1; DAB bias is best at 0"
    assert f"Higher is better: {higher}; {ideal}; lower is better: all others." in " ".join(text.split())
    assert higher == list_heads([key for key, column in COLUMNS.items() if column.higher])


def test_columns_without_numbers_are_not_there_and_one_line_says_why(without_networks: Scores) -> None:
    text = terminal([without_networks], end="")
    assert len([block for block in blocks(text) if "protocol" in " ".join(block)]) == 2
    assert text.count("weights missing") == 1
    assert f"No PHV, LPIPS, FID, KID: {REASON}" in text.splitlines()
    assert "n/a" not in text


def test_each_reason_names_its_columns_and_runs(with_networks: Scores, without_networks: Scores) -> None:
    """Missing everywhere, missing for one run, and undefined everywhere are three reasons."""
    assert no_numbers([with_networks], []) == []
    assert no_numbers([with_networks, without_networks], []) == [
        f"No PHV, LPIPS, FID, KID for plain (published), plain (corrected): {REASON}"
    ]
    assert no_numbers([without_networks], [*Metric][2:]) == [f"No PHV, LPIPS, FID, KID: {REASON}"]
    assert no_numbers([with_networks], [Agreement.SPEARMAN, Metric.PHV1]) == [
        "No PHV1, DAB Spearman: undefined in every row"
    ]
    row = with_networks.row(CORRECTED)
    partly = replace(row, cells=row.cells | {Metric.LPIPS_VGG: Cell(note="weights missing")})
    rows = with_networks.rows | {CORRECTED: with_networks.rows[CORRECTED] | {FAKE: partly}}
    assert no_numbers([replace(with_networks, rows=rows)], []) == [f"No LPIPS vgg for noisy (corrected): {REASON}"]


def test_a_table_that_fits_is_one_block_and_others_are_as_few_as_possible() -> None:
    heads, rows = ["row", *"abcdefgh"], [["name", *(str(n) for n in np.arange(8) + 0.5)]]
    assert plain_blocks(heads, rows, words=1, width=100).splitlines() == [
        "row     a    b    c    d    e    f    g    h",
        "-" * 45,
        "name  0.5  1.5  2.5  3.5  4.5  5.5  6.5  7.5",
    ]
    halves = plain_blocks(heads, rows, words=1, width=29).split("\n\n")
    assert [block.splitlines()[0].split()[1:] for block in halves] == [[*"abcd"], [*"efgh"]]
