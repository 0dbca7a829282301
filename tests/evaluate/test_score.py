"""From predictions to scores: every number, the floors, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from math import inf, isnan
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluate.columns import MISSING, Agreement, Metric
from evaluate.features.weights import require_all
from evaluate.inputs.baselines import fit_floors
from evaluate.inputs.image_set import gather
from evaluate.inputs.predictions import ONE_SIDE
from evaluate.metrics.dab import brown
from evaluate.metrics.paired import psnr, ssim
from evaluate.metrics.statistics import spread_ranks
from evaluate.protocol import FAKE, PROTOCOLS, ProtocolName, resave
from evaluate.report.contact_sheet import contact_sheet
from evaluate.report.tables import markdown
from evaluate.scores_file import WHOLE, Scores, files_of, read_scores, write_scores
from evaluate.scoring.per_image import judge_all, judge_place
from evaluate.scoring.score import score_run
from store.images import read_picture, write_png
from store.reader import Store
from store.run_files import RunFolder, open_store_of
from store.schema import MagstainError, PictureError, RunError, Split, Stain, WeightsError
from store.stain.dab import mean_dab
from tests.support.places import ROOT
from tests.support.predictions import FLOORS, fabricate, shallow
from tests.support.stores import build_small_store

CORRECTED, PUBLISHED = ProtocolName.CORRECTED, ProtocolName.PUBLISHED


def listing(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def scored(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scores]:
    run = tmp_path_factory.mktemp("runs") / "noisy"
    fabricate(run, small_store)
    return run, scored_run(run, small_store)


def scored_run(run: Path, store: Store, view: str = "tile") -> Scores:
    return score_run(run, None, store, Split.TEST, view, shallow(run.parent))


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
    floors, row = fit_floors(small_store), scores.row(CORRECTED)
    folder = RunFolder(run).predictions(Split.TEST, "tile").path
    assert list(scores.rows[CORRECTED]) == [*FLOORS, FAKE]
    assert list(scores.rows[PUBLISHED]) == [FAKE]
    for place, pair in enumerate(small_store.pairs(Split.TEST)):
        he, ihc = (small_store.picture(Split.TEST, "tile", stain, place) for stain in (Stain.HE, Stain.IHC))
        fake, cut = (read_picture(folder / name / f"{pair.id}.png") for name in ("fake", "fake_truncated"))
        assert not np.array_equal(fake, cut)
        for measure, metric in ((ssim, Metric.SSIM), (psnr, Metric.PSNR)):
            assert row.values.metrics[metric][place] == measure(fake, ihc)
            assert scores.row(PUBLISHED).values.metrics[metric][place] == measure(cut, resave(ihc))
        for picture, found in ((fake, row.values), (he, scores.row(CORRECTED, "copy H&E").values)):
            assert found.density[place] == brown(picture).density
            assert found.integrated[place] == brown(picture).integrated
            assert found.positive[place] == brown(picture).positive
        assert (scores.pictures[place].density, scores.pictures[place].slide) == (mean_dab(ihc), pair.slide)
        for floor in floors:
            assert scores.row(CORRECTED, floor.name).values.metrics[Metric.PSNR][place] == psnr(floor.apply(he), ihc)
    assert row.cells[Metric.PSNR].value == pytest.approx(sum(row.values.metrics[Metric.PSNR]) / 4)
    real = [picture.density for picture in scores.pictures]
    whole = row.agreement[WHOLE]
    assert whole[Agreement.SPEARMAN].value == 1
    assert whole[Agreement.PEARSON].value == pytest.approx(np.corrcoef(real, row.values.density)[0, 1])
    differences = np.abs(np.subtract(row.values.density, real))
    assert whole[Agreement.ERROR].value == pytest.approx(differences.mean())
    assert whole[Agreement.RELATIVE].value == pytest.approx((differences / real).mean())
    assert row.cells[Metric.SSIM].value > scores.row(CORRECTED, "affine colour map").cells[Metric.SSIM].value
    assert (scores.slides, scores.draws, scores.upscaler, scores.synthetic) == (1, 6000, "lanczos", True)
    assert scores.protocols == PROTOCOLS


def test_without_weights_the_rest_is_computed_and_the_cells_say_so(scored: tuple[Path, Scores]) -> None:
    _, scores = scored
    for rows in scores.rows.values():
        for row in rows.values():
            assert {metric for metric, cell in row.cells.items() if cell.note == MISSING} == set(Metric) - {
                Metric.SSIM, Metric.PSNR
            }  # fmt: skip
    assert markdown([scores]).count("n/a: weights missing, run make weights") == 9 * 5
    assert set(scores.networks.values()) == {""}


def test_one_slide_has_no_interval_and_says_why(scored: tuple[Path, Scores]) -> None:
    cell = scored[1].row(CORRECTED).cells[Metric.SSIM]
    assert isnan(cell.low)
    assert cell.note == "no interval: one slide only: an interval needs at least 2 slides to draw from"
    assert cell.note in markdown([scored[1]])


def test_the_number_of_threads_changes_nothing(small_store: Store, scored: tuple[Path, Scores]) -> None:
    ground = gather(scored[0], None, small_store, Split.TEST, "tile")
    alone = [judge_place(ground, place) for place in range(4)]
    for threads in (1, 3):
        assert [one.rows for one in judge_all(ground, threads)] == [one.rows for one in alone]


def test_a_constant_has_no_rank_correlation(scored: tuple[Path, Scores]) -> None:
    constant = scored[1].row(CORRECTED, "constant colour").agreement[WHOLE]
    assert isnan(constant[Agreement.SPEARMAN].value)
    assert isnan(constant[Agreement.PEARSON].value)


def test_scores_are_strict_json_and_read_back_equal(small_store: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "perfect", small_store, noise=0)
    scores = scored_run(tmp_path / "perfect", small_store)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    tree = json.loads(write_scores(scores, folder).read_text(encoding="utf-8"), parse_constant=refuse)
    assert tree["format"] == 2
    assert tree["protocols"]["published"]["kid_subset"] == 100
    assert tree["rows"]["corrected"]["constant colour"]["agreement"]["x1"]["dab_spearman"]["value"] is None
    assert tree["rows"]["corrected"][FAKE]["values"]["metrics"]["psnr"] == ["inf"] * 4
    again = read_scores(tmp_path / "perfect", Split.TEST, "tile")
    assert repr(again) == repr(scores)  # NaN is not equal to itself, its repr is
    assert again.row(CORRECTED).cells[Metric.PSNR].value == inf
    assert "**inf**" in markdown([again])


def test_a_view_of_several_pictures_is_judged_picture_by_picture(crowded: Store, tmp_path: Path) -> None:
    fabricate(tmp_path / "run", crowded, "x4")
    scores = scored_run(tmp_path / "run", crowded, "x4")
    assert [picture.name for picture in scores.pictures][5:7] == ["s3_0_0.5.png", "s3_1_0.0.png"]
    assert len(scores.pictures) == 4 * 6
    assert min(scores.row(CORRECTED).values.metrics[Metric.PSNR]) > 25


def test_shuffling_which_he_goes_with_which_ihc_destroys_the_correlation(crowded: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "run", crowded, "x4")
    names = json.loads((folder / "predictions.json").read_text())["pictures"]
    fakes = [(folder / FAKE / name).read_bytes() for name in names]
    paired = scored_run(tmp_path / "run", crowded, "x4").row(CORRECTED)
    kinds = (Agreement.SPEARMAN, Agreement.PEARSON)
    assert all(paired.agreement[zoom][kind].value > 0.95 for zoom in ("x1", "x2", "x4") for kind in kinds)
    shuffled = []
    for seed in range(4):
        for name, place in zip(names, np.random.default_rng(seed).permutation(24), strict=True):
            (folder / FAKE / name).write_bytes(fakes[place])
        shuffled.append(scored_run(tmp_path / "run", crowded, "x4").row(CORRECTED))
    for kind in kinds:
        values = [row.agreement[WHOLE][kind].value for row in shuffled]
        assert max(np.abs(values)) < 0.6  # standard error 1/sqrt(23) = 0.21
        assert abs(np.mean(values)) < 0.3
    assert max(row.cells[Metric.PSNR].value for row in shuffled) < paired.cells[Metric.PSNR].value - 5


def test_the_contact_sheet_shows_equally_spaced_ranks_of_the_real_dab(
    small_store: Store, scored: tuple[Path, Scores]
) -> None:
    run, scores = scored
    dab = np.random.default_rng(0).permutation(50).tolist()
    assert [dab[place] for place in spread_ranks(dab, 8)] == [0, 7, 14, 21, 28, 35, 42, 49]
    assert spread_ranks([0.2, 0.1], 8) == [1, 0]
    folder = files_of(scores, run)
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
    (folder / "predictions.json").write_text('{"method": "attention_gan", "pairs_seen": "many"}')


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
        (_spoil_record, RunError, r"predictions\.json is not what it should be .*pairs_seen.*python -m train predict"),
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
        scored_run(tmp_path / "run", small_store)
    assert listing(tmp_path) == before


def test_runs_and_scores_that_are_not_there_say_how_to_make_them(small_store: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "run", small_store)
    with pytest.raises(RunError, match=r"no run at .*nowhere"):
        scored_run(tmp_path / "nowhere", small_store)
    with pytest.raises(RunError, match=r"no run\.json"):
        open_store_of(RunFolder(tmp_path / "nowhere"))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts | {"store": "data/moved.zarr"}))
    with pytest.raises(RunError, match=r"trained on data/moved\.zarr, which does not exist; .* with --store"):
        open_store_of(RunFolder(tmp_path / "run"))
    with pytest.raises(RunError, match=r"has no val pairs; it has train \(8\), test \(4\): choose one with --split"):
        score_run(tmp_path / "run", None, small_store, Split.VAL, "tile", shallow(tmp_path))
    with pytest.raises(RunError, match=r"has no view 'x16' of test; it has x1, x2, x4"):
        scored_run(tmp_path / "run", small_store, "x16")
    with pytest.raises(RunError, match="make them with: python -m evaluate score --run"):
        read_scores(tmp_path / "run", Split.TEST, "tile")
    written = write_scores(scored_run(tmp_path / "run", small_store), folder)
    tree = json.loads(written.read_text())
    del tree["rows"]["corrected"]["copy H&E"]["values"]["density"]
    written.write_text(json.dumps(tree))
    with pytest.raises(RunError, match=r"scores\.json is not what it should be \(rows: KeyError\('density'\)\); make"):
        read_scores(tmp_path / "run", Split.TEST, "tile")
    (folder / "scores.json").write_text('{"format": 1}')
    with pytest.raises(RunError, match="has format 1, this version reads 2"):
        read_scores(tmp_path / "run", Split.TEST, "tile")
    (folder / "scores.json").write_text('{"format"')
    with pytest.raises(RunError, match=r"scores\.json cannot be read as JSON"):
        read_scores(tmp_path / "run", Split.TEST, "tile")


def evaluate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "evaluate", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(os.environ, "MAGSTAIN_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setitem(os.environ, "MAGSTAIN_FEATURES", str(tmp_path / "features"))


def test_the_command_line_scores_a_run_and_makes_a_table(small_store: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "a run", small_store)
    done = evaluate("score", "--run", tmp_path / "a run")
    assert done.returncode == 0, done.stderr
    assert {file.name for file in folder.iterdir() if file.is_file()} == {
        "predictions.json",
        "scores.json",
        "contact.png",
    }
    assert all(str(folder / name) in done.stderr for name in ("scores.json", "contact.png"))
    table = evaluate("table", "--run", tmp_path / "a run", "--out", tmp_path / "tables")
    assert table.returncode == 0, table.stderr
    text = (tmp_path / "tables" / "table.md").read_text(encoding="utf-8")
    assert done.stdout.strip() == table.stdout.strip() == text.strip()
    assert {file.name for file in (tmp_path / "tables").iterdir()} == {"table.md", "table.csv", "table.tex"}
    report = evaluate("report", "--run", tmp_path / "a run", "--paper", "II")
    assert report.returncode == 0, report.stderr
    assert "paper: attention" in (folder / "report.html").read_text(encoding="utf-8")


def test_required_weights_that_are_missing_are_an_error(tmp_path: Path) -> None:
    told = r"missing: alexnet-owt-7be5be79\.pth, vgg16-397923af\.pth.*make weights NAMES=evaluate"
    with pytest.raises(WeightsError, match=told):
        require_all(shallow(tmp_path).networks)


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


def foreign(folder: Path, store: Store) -> Path:
    """Pictures of another system: half of them JPEG, half TIFF, names in the store's way."""
    for row, pair in enumerate(store.pairs(Split.TEST)):
        ihc = store.picture(Split.TEST, "tile", Stain.IHC, row)
        file = folder / f"{pair.id}{'.JPG' if row % 2 else '.tif'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ihc).save(file, format="JPEG" if row % 2 else "TIFF")
    return folder


def test_foreign_pictures_of_any_extension_are_matched_by_name(small_store: Store, tmp_path: Path) -> None:
    pictures = foreign(tmp_path / "theirs", small_store)
    (pictures / "notes.txt").write_text("not a picture")
    scores = score_run(tmp_path / "other", pictures, small_store, Split.TEST, "tile", shallow(tmp_path))
    values = scores.row(CORRECTED).values.metrics[Metric.PSNR]
    assert values[0] == values[2] == inf
    assert 25 < values[1] < 60
    assert (scores.run, scores.method, scores.draws, scores.source) == ("other", "foreign pictures", 0, str(pictures))
    assert scores.round_trip == ONE_SIDE
    fakes = {name: scores.sets[f"{name}: fake"] for name in ProtocolName}
    assert fakes[CORRECTED] == fakes[PUBLISHED]
    assert scores.sets["corrected: real"] != scores.sets["published: real"]
    assert "the real side only" in markdown([scores])
    assert [file.suffix for file in files_of(scores, tmp_path / "other")] == [".tif", ".JPG"] * 2


def test_foreign_pictures_that_do_not_fit_are_named(small_store: Store, tmp_path: Path) -> None:
    def judged(spoil: Callable[[Path], object]) -> None:
        pictures = foreign(tmp_path / "theirs", small_store)
        try:
            spoil(pictures)
            score_run(tmp_path / "other", pictures, small_store, Split.TEST, "tile", shallow(tmp_path))
        finally:
            shutil.rmtree(pictures)

    with pytest.raises(RunError, match=r"several files for one picture: s3_0_0\.png and s3_0_0\.tif"):
        judged(lambda folder: shutil.copy(folder / "s3_0_0.tif", folder / "s3_0_0.png"))
    with pytest.raises(RunError, match=r"missing: s3_1_0.*read are \.bmp, \.jpeg"):
        judged(lambda folder: (folder / "s3_1_0.JPG").unlink())
    with pytest.raises(RunError, match=r"not of this split: sub/s3_1_0\.png"):
        judged(lambda folder: write_png(folder / "sub" / "s3_1_0.png", np.zeros((128, 128, 3), np.uint8)))
    with pytest.raises(PictureError, match=r"1 of 4.*s3_0_0\.tif: is no plain 8-bit RGB \(grey"):
        judged(lambda folder: Image.fromarray(np.zeros((128, 128), np.uint8)).save(folder / "s3_0_0.tif"))
    with pytest.raises(RunError, match=r"no folder .*nowhere"):
        score_run(tmp_path / "other", tmp_path / "nowhere", small_store, Split.TEST, "tile", shallow(tmp_path))


def test_the_views_of_a_run_are_those_of_its_settings(small_store: Store, tmp_path: Path) -> None:
    fabricate(tmp_path / "run", small_store)
    assert scored_run(tmp_path / "run", small_store).views == ()
    (tmp_path / "run" / "settings.toml").write_text('[data]\nviews = ["x1", "x2"]\n')
    assert scored_run(tmp_path / "run", small_store).views == ("x1", "x2")
    (tmp_path / "run" / "settings.toml").write_text("[data]\n")
    with pytest.raises(RunError, match=r"settings\.toml names no views"):
        scored_run(tmp_path / "run", small_store)
