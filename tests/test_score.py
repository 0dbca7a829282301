"""From predictions to scores and a table: every number, the floors, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from math import inf, isnan, nan
from pathlib import Path

import numpy as np
import pytest

from evaluate.floors import fit_floors
from evaluate.paired import psnr, ssim
from evaluate.report import PUBLISHED_DRAWS, contact_sheet, csv_text, markdown, shown_pictures, table_lines
from evaluate.results import FAKE, Scores, Values, predictions_folder, read_scores, store_of, write_scores
from evaluate.score import score_run, summarise
from evaluate.stain import mean_dab
from store.images import read_picture, write_png
from store.reader import Store
from store.schema import MagstainError, PictureError, RunError, Split, Stain, StoreError, picture_name
from tests.conftest import build_small_store

ROOT = Path(__file__).parents[1]
FLOORS = ["copy H&E", "constant colour", "affine colour map"]


def fabricate(run: Path, store: Store, view: str = "tile", noise: float = 8.0) -> Path:
    """A run whose predictions are the real IHC pictures with noise; returns their folder."""
    folder, rng, count = predictions_folder(run, Split.TEST, view), np.random.default_rng(0), store.count(view)
    names = []
    for row, pair in enumerate(store.pairs(Split.TEST)):
        for index in range(count):
            ihc = store.picture(Split.TEST, view, Stain.IHC, row, index)
            fake = np.clip(ihc + rng.normal(0, noise, ihc.shape), 0, 255).astype(np.uint8) if noise else ihc
            names.append(picture_name(pair.id, index, count))
            write_png(folder / FAKE / names[-1], fake)
    record = {"method": "attention_gan", "seal": store.manifest.seal, "split": "test", "view": view, "draws": 6000}
    record |= {"step": 6000, "upscaler": "lanczos", "synthetic": True, "generator": "ab" * 32, "pictures": names}
    (folder / "predictions.json").write_text(json.dumps(record))
    (run / "run.json").write_text(json.dumps({"store": str(store.path)}))
    return folder


def listing(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def scored(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scores]:
    run = tmp_path_factory.mktemp("runs") / "noisy"
    fabricate(run, small_store)
    return run, score_run(run, small_store, Split.TEST, "tile")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with six boxes per pair and zoom: 24 test pictures a view."""
    return build_small_store(tmp_path_factory.mktemp("store") / "crowded.zarr", boxes=6)


def train_pixels(store: Store) -> tuple[np.ndarray, np.ndarray]:
    pairs = range(len(store.pairs(Split.TRAIN)))
    he, ihc = (
        np.concatenate([store.picture(Split.TRAIN, "tile", stain, pair).reshape(-1, 3) for pair in pairs]).astype(float)
        for stain in (Stain.HE, Stain.IHC)
    )
    return he, ihc


def test_floors_are_the_least_squares_fits_over_all_train_pixels(small_store: Store) -> None:
    floors, (he, ihc) = fit_floors(small_store), train_pixels(small_store)
    known = np.column_stack([he, np.ones(len(he))])
    direct = np.linalg.lstsq(known, ihc)[0]
    np.testing.assert_allclose([*floors.affine.matrix, floors.affine.offset], direct, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(floors.constant.colour, ihc.mean(axis=0), rtol=1e-12)
    assert (floors.view, floors.pictures) == ("tile", 8)
    affine_error = ((known @ direct - ihc) ** 2).mean()
    assert affine_error < ((ihc - ihc.mean(axis=0)) ** 2).mean() < ((he - ihc) ** 2).mean()


def test_floors_apply_clipped_and_rounded(small_store: Store) -> None:
    floors = fit_floors(small_store)
    he = small_store.picture(Split.TEST, "tile", Stain.HE, 0)
    steep = replace(floors.affine, matrix=((2.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 0.25)), offset=(0.0, 9.0, 0.3))
    wide = he.astype(int)
    assert np.array_equal(floors.copy.apply(he), he)
    assert np.array_equal(floors.constant.apply(he)[5, 7], np.rint(floors.constant.colour))
    assert np.array_equal(steep.apply(he)[..., 0], np.minimum(2 * wide[..., 0], 255))
    assert np.array_equal(steep.apply(he)[..., 1], np.maximum(9 - wide[..., 1], 0))
    assert np.array_equal(steep.apply(he)[..., 2], np.rint(wide[..., 2] * 0.25 + 0.3))
    assert all(floor.apply(he).shape == he.shape and floor.apply(he).dtype == np.uint8 for floor in floors)


def test_every_number_is_that_of_the_plain_functions(small_store: Store, scored: tuple[Path, Scores]) -> None:
    run, scores = scored
    floors, values = fit_floors(small_store), scores.rows[FAKE].values
    assert list(scores.rows) == [*FLOORS, FAKE]
    for row, pair in enumerate(small_store.pairs(Split.TEST)):
        he, ihc = (small_store.picture(Split.TEST, "tile", stain, row) for stain in (Stain.HE, Stain.IHC))
        fake = read_picture(predictions_folder(run, Split.TEST, "tile") / FAKE / f"{pair.id}.png")
        assert (values.ssim[row], values.psnr[row], values.dab[row]) == (
            ssim(fake, ihc),
            psnr(fake, ihc),
            mean_dab(fake),
        )
        assert (scores.pictures[row].dab, scores.pictures[row].slide) == (mean_dab(ihc), pair.slide)
        for floor in floors:
            assert scores.rows[floor.name].values.psnr[row] == psnr(floor.apply(he), ihc)
    assert scores.rows[FAKE].summary.psnr == pytest.approx(sum(values.psnr) / 4)
    assert scores.rows[FAKE].summary.dab_spearman == 1
    real = [picture.dab for picture in scores.pictures]
    assert scores.rows[FAKE].summary.dab_pearson == pytest.approx(np.corrcoef(real, values.dab)[0, 1])
    assert scores.rows[FAKE].summary.ssim > scores.rows["affine colour map"].summary.ssim
    assert (scores.slides, scores.draws, scores.upscaler, scores.synthetic) == (1, 6000, "lanczos", True)


def test_summaries_are_means_and_a_constant_has_no_rank_correlation() -> None:
    values = Values(ssim=(0.2, 0.4), psnr=(10.0, 20.0), dab=(0.3, 0.3), positive=(0.0, 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = summarise(values, [0.1, 0.4])
    assert (row.ssim, row.psnr, row.dab_error) == pytest.approx((0.3, 15.0, 0.15))
    assert isnan(row.dab_spearman)
    assert isnan(row.dab_pearson)


def test_scores_are_strict_json_and_read_back_equal(small_store: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "perfect", small_store, noise=0)
    scores = score_run(tmp_path / "perfect", small_store, Split.TEST, "tile")

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    tree = json.loads(write_scores(scores, folder).read_text(encoding="utf-8"), parse_constant=refuse)
    assert tree["format"] == 1
    assert tree["rows"]["constant colour"]["summary"]["dab_spearman"] is None
    assert tree["rows"][FAKE]["values"]["psnr"] == ["inf"] * 4
    again = read_scores(tmp_path / "perfect", Split.TEST, "tile")
    assert repr(again) == repr(scores)  # NaN is not equal to itself, its repr is
    assert again.rows[FAKE].summary.psnr == inf
    assert "**inf**" in markdown([again])


def test_a_view_of_several_pictures_is_judged_picture_by_picture(crowded: Store, tmp_path: Path) -> None:
    fabricate(tmp_path / "run", crowded, "x4")
    scores = score_run(tmp_path / "run", crowded, Split.TEST, "x4")
    assert [picture.name for picture in scores.pictures][5:7] == ["s3_0_0.5.png", "s3_1_0.0.png"]
    assert len(scores.pictures) == 4 * 6
    assert min(scores.rows[FAKE].values.psnr) > 25


def test_shuffling_which_he_goes_with_which_ihc_destroys_the_correlation(crowded: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "run", crowded, "x4")
    names = json.loads((folder / "predictions.json").read_text())["pictures"]
    fakes = [(folder / FAKE / name).read_bytes() for name in names]
    paired = score_run(tmp_path / "run", crowded, Split.TEST, "x4").rows[FAKE].summary
    assert paired.dab_spearman > 0.99
    assert paired.dab_pearson > 0.99
    shuffled = []
    for seed in range(4):
        for name, place in zip(names, np.random.default_rng(seed).permutation(24), strict=True):
            (folder / FAKE / name).write_bytes(fakes[place])
        shuffled.append(score_run(tmp_path / "run", crowded, Split.TEST, "x4").rows[FAKE].summary)
    for values in ([row.dab_spearman for row in shuffled], [row.dab_pearson for row in shuffled]):
        assert max(np.abs(values)) < 0.6  # standard error 1/sqrt(23) = 0.21
        assert abs(np.mean(values)) < 0.3
    assert max(row.psnr for row in shuffled) < paired.psnr - 5


def test_the_table_has_the_floors_first_and_says_what_it_stands_on(scored: tuple[Path, Scores]) -> None:
    _, scores = scored
    lines = markdown([scores]).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert [row[0] for row in rows] == [*FLOORS, "noisy"]
    assert rows[1][1:5] == ["–", "–", "–", "4"]
    assert rows[1][7:9] == ["–", "–"]
    assert rows[3][1:5] == ["attention_gan", "6,000", "lanczos", "4"]
    assert rows[3][5] == f"**{scores.rows[FAKE].summary.ssim:.4f}**"
    assert sum("**" in cell for row in rows for cell in row) == 5
    assert lines[0].startswith("SYNTHETIC DATA. small (test), test split, view tile: 4 pictures, 1 slide(s).")
    assert "lanczos (stand-in, not BSRGAN)" in lines[0]
    assert f"noisy: 6,000 draws of a pair; the published run took {PUBLISHED_DRAWS:,}" in lines[0]
    assert len({len(line) for line in lines[2:]}) == 1


def test_an_imported_run_says_that_its_length_is_not_known(scored: tuple[Path, Scores]) -> None:
    _, scores = scored
    lines = markdown([replace(scores, draws=0)]).splitlines()
    assert "noisy: an unknown number of draws (imported)" in lines[0]
    assert lines[-1].split("|")[3].strip() == "–"


def test_what_looks_equally_good_is_bold_alike(scored: tuple[Path, Scores]) -> None:
    _, scores = scored
    text = markdown([scores, replace(scores, run="twin")])
    assert sum(line.count("**") for line in text.splitlines() if "noisy " in line or "twin" in line) >= 20
    assert "SYNTHETIC" not in markdown([replace(scores, synthetic=False)])


def test_the_csv_holds_full_precision_and_empty_cells_for_the_undefined(scored: tuple[Path, Scores]) -> None:
    _, scores = scored
    rows = list(csv.DictReader(io.StringIO(csv_text([scores]))))
    assert float(rows[3]["PSNR dB"]) == scores.rows[FAKE].summary.psnr
    assert (rows[1]["DAB Spearman"], rows[1]["draws"], rows[3]["draws"]) == ("", "", "6000")
    assert {(row["store"], row["split"], row["view"], row["synthetic"]) for row in rows} == {
        ("small", "test", "tile", "true")
    }


def test_one_table_holds_only_runs_judged_on_the_same_pictures(scored: tuple[Path, Scores]) -> None:
    _, scores = scored
    with pytest.raises(RunError, match=r"'noisy' and 'other' were not judged on the same pictures .*seal ffff"):
        table_lines([scores, replace(scores, run="other", seal="f" * 64)])
    with pytest.raises(RunError, match="noisy, noisy cannot be told apart"):
        table_lines([scores, scores])


def test_the_contact_sheet_shows_equally_spaced_ranks_of_the_real_dab(
    small_store: Store, scored: tuple[Path, Scores]
) -> None:
    run, scores = scored
    dab = np.random.default_rng(0).permutation(50).tolist()
    assert [dab[place] for place in shown_pictures(dab)] == [0, 7, 14, 21, 28, 35, 42, 49]
    assert shown_pictures([0.2, 0.1]) == [1, 0]
    folder = predictions_folder(run, Split.TEST, "tile")
    sheet = contact_sheet(scores, small_store, folder)
    assert sheet.shape[1] == 840
    assert sheet.shape[0] > 4 * 256
    assert np.array_equal(sheet, contact_sheet(scores, small_store, folder))
    for other in (replace(scores, synthetic=False), replace(scores, upscaler="bsrgan")):  # the title says both
        changed = (contact_sheet(other, small_store, folder)[-sheet.shape[0] :] != sheet).any(axis=(1, 2))
        assert changed[:100].any()
        assert not changed[-200:].any()


def _spoil_missing(folder: Path) -> None:
    (folder / FAKE / "s3_0_0.png").unlink()
    (folder / FAKE / "s3_2_0.png").unlink()


def _spoil_extra(folder: Path) -> None:
    shutil.copy(folder / FAKE / "s3_0_0.png", folder / FAKE / "s9 é.png")


def _spoil_size(folder: Path) -> None:
    for name in ("s3_0_0.png", "s3_1_0.png"):
        write_png(folder / FAKE / name, np.zeros((64, 96, 3), np.uint8))


def _spoil_bytes(folder: Path) -> None:
    file = folder / FAKE / "s3_1_0.png"
    file.write_bytes(file.read_bytes()[:-40])
    (folder / FAKE / "s3_3_0.png").write_bytes(b"")


def _spoil_all(folder: Path) -> None:
    shutil.rmtree(folder)


def _spoil_record(folder: Path) -> None:
    (folder / "predictions.json").write_text('{"method": "attention_gan", "draws": "many"}')


def _spoil_seal(folder: Path) -> None:
    record = json.loads((folder / "predictions.json").read_text())
    (folder / "predictions.json").write_text(json.dumps(record | {"seal": "0" * 64}))


def _spoil_place(folder: Path) -> None:
    record = json.loads((folder / "predictions.json").read_text())
    (folder / "predictions.json").write_text(json.dumps(record | {"view": "x1"}))


@pytest.mark.parametrize(
    ("spoil", "error", "told"),
    [
        (_spoil_missing, RunError, r"missing: s3_0_0\.png; s3_2_0\.png"),
        (_spoil_extra, RunError, r"not of this split: s9 é\.png"),
        (_spoil_size, PictureError, r"2 of 4.*s3_0_0\.png: is 96 x 64 px, the real picture 128 x 128 px; s3_1_0\.png"),
        (_spoil_bytes, PictureError, r"2 of 4 .*s3_1_0\.png: truncated PNG.*s3_3_0\.png: the file is empty"),
        (_spoil_all, RunError, r"no predictions in .*make them with: python -m train predict --run"),
        (_spoil_record, RunError, r"predictions\.json is not what it should be .*draws.*python -m train predict"),
        (_spoil_seal, RunError, r"seal 000000000000, but .*small\.zarr has seal"),
        (_spoil_place, RunError, r"holds predictions of test/x1, not of test/tile"),
    ],
)
def test_no_picture_is_left_out_of_an_average(
    small_store: Store, tmp_path: Path, spoil: Callable[[Path], None], error: type[MagstainError], told: str
) -> None:
    spoil(fabricate(tmp_path / "run", small_store))
    before = listing(tmp_path)
    with pytest.raises(error, match=told):
        score_run(tmp_path / "run", small_store, Split.TEST, "tile")
    assert listing(tmp_path) == before


def test_runs_and_scores_that_are_not_there_say_how_to_make_them(small_store: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "run", small_store)
    with pytest.raises(RunError, match=r"no run at .*nowhere"):
        score_run(tmp_path / "nowhere", small_store, Split.TEST, "tile")
    with pytest.raises(RunError, match=r"no run\.json"):
        store_of(tmp_path / "nowhere")
    (tmp_path / "run" / "run.json").write_text('{"store": "data/moved.zarr"}')
    with pytest.raises(RunError, match=r"trained from data/moved\.zarr, and nothing is there; .* with --store"):
        store_of(tmp_path / "run")
    with pytest.raises(RunError, match=r"has no pairs in val; it has train, test: choose one with --split"):
        score_run(tmp_path / "run", small_store, Split.VAL, "tile")
    with pytest.raises(StoreError, match=r"no view 'x16' in this store; it has x1, x2, x4"):
        score_run(tmp_path / "run", small_store, Split.TEST, "x16")
    with pytest.raises(RunError, match="make them with: python -m evaluate score --run"):
        read_scores(tmp_path / "run", Split.TEST, "tile")
    written = write_scores(score_run(tmp_path / "run", small_store, Split.TEST, "tile"), folder)
    tree = json.loads(written.read_text())
    del tree["rows"]["copy H&E"]["summary"]["dab_pearson"]
    written.write_text(json.dumps(tree))
    with pytest.raises(
        RunError, match=r"scores\.json is not what it should be \(rows: KeyError\('dab_pearson'\)\); make"
    ):
        read_scores(tmp_path / "run", Split.TEST, "tile")
    (folder / "scores.json").write_text('{"format": 2}')
    with pytest.raises(RunError, match="has format 2, this version reads 1"):
        read_scores(tmp_path / "run", Split.TEST, "tile")
    (folder / "scores.json").write_text('{"format"')
    with pytest.raises(RunError, match=r"scores\.json is not JSON"):
        read_scores(tmp_path / "run", Split.TEST, "tile")


def evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evaluate", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_line_scores_a_run_and_makes_a_table(small_store: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "a run", small_store)
    done = evaluate("score", "--run", tmp_path / "a run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (folder / "table.md").read_text(encoding="utf-8").strip()
    assert {file.name for file in folder.iterdir() if file.is_file()} == {
        "predictions.json", "scores.json", "table.md", "table.csv", "contact.png"
    }  # fmt: skip
    assert all(str(folder / name) in done.stderr for name in ("scores.json", "contact.png"))
    table = evaluate("table", "--run", tmp_path / "a run", "--out", tmp_path / "tables")
    assert table.returncode == 0, table.stderr
    assert (tmp_path / "tables" / "table.md").read_bytes() == (folder / "table.md").read_bytes()


def test_the_command_line_ends_with_code_2_and_one_line_on_bad_input(small_store: Store, tmp_path: Path) -> None:
    _spoil_missing(fabricate(tmp_path / "run", small_store))
    before = listing(tmp_path)
    refused = evaluate("score", "--run", tmp_path / "run")
    last = refused.stderr.splitlines()[-1]
    assert (refused.returncode, refused.stdout) == (2, "")
    assert last.startswith("error: ")
    assert "s3_0_0.png; s3_2_0.png" in last
    assert "Traceback" not in refused.stderr
    assert listing(tmp_path) == before


def test_an_undefined_number_is_a_dash_and_never_the_best(scored: tuple[Path, Scores]) -> None:
    _, scores = scored
    rows = {name: replace(row, summary=replace(row.summary, dab_spearman=nan)) for name, row in scores.rows.items()}
    lines = markdown([replace(scores, rows=rows)]).splitlines()[4:]
    assert all(line.split("|")[8].strip() == "–" != line.split("|")[10].strip() for line in lines)
