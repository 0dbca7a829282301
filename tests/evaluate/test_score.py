"""From predictions to scores: every number is that of the plain functions, and the page of pictures shows them."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from evaluate.columns import COLUMNS, MISSING, Agreement, Metric
from evaluate.inputs.baselines import fit_baselines
from evaluate.inputs.image_set import REAL
from evaluate.inputs.reading import digest_pixels, digest_set
from evaluate.metrics.dab import dab_stats
from evaluate.metrics.fid_kid import kid, kid_cell
from evaluate.metrics.paired import psnr, ssim
from evaluate.metrics.ranks import spread_ranks
from evaluate.protocol import FAKE, PROTOCOLS, Fakes, ProtocolName, resave, to_u8
from evaluate.report.contact_sheet import contact_sheet
from evaluate.report.table_texts import markdown
from evaluate.scored_set import files_of
from evaluate.scores_file import WHOLE, Scores
from evaluate.scoring.gathering import gather
from store.images import read_picture
from store.reader import Store
from store.run_files import RunFolder
from store.schema import Split, Stain
from store.stain.dab import mean_dab
from tests.support.predictions import BASELINES, fabricate, scored_run
from tests.support.stores import build_small_store

CORRECTED, PUBLISHED = ProtocolName.CORRECTED, ProtocolName.PUBLISHED


@pytest.fixture(scope="module")
def scored(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scores]:
    run = tmp_path_factory.mktemp("runs") / "noisy"
    fabricate(run, small_store)
    return run, scored_run(run, small_store)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with six boxes per pair and zoom: 24 test pictures a view."""
    return build_small_store(tmp_path_factory.mktemp("store") / "crowded.zarr", boxes=6)


def test_every_number_is_that_of_the_plain_functions(small_store: Store, scored: tuple[Path, Scores]) -> None:
    run, scores = scored
    baselines, row = fit_baselines(small_store), scores.row(CORRECTED)
    folder = RunFolder(run).predictions(Split.TEST, "tile").path
    assert list(scores.rows[CORRECTED]) == [*BASELINES, FAKE]
    assert list(scores.rows[PUBLISHED]) == [*BASELINES, FAKE]
    for place, pair in enumerate(small_store.pairs(Split.TEST)):
        he, ihc = (small_store.picture(Split.TEST, "tile", stain, place) for stain in (Stain.HE, Stain.IHC))
        fake, cut = (read_picture(folder / name / f"{pair.id}.png") for name in ("fake", "fake_truncated"))
        assert not np.array_equal(fake, cut)
        for measure, metric in ((ssim, Metric.SSIM), (psnr, Metric.PSNR)):
            assert row.values.metrics[metric][place] == measure(fake, ihc)
            assert scores.row(PUBLISHED).values.metrics[metric][place] == measure(cut, resave(ihc))
        for picture, found in ((fake, row.values), (he, scores.row(CORRECTED, "copy H&E").values)):
            assert found.density[place] == dab_stats(picture).density
            assert found.integrated[place] == dab_stats(picture).integrated
            assert found.positive[place] == dab_stats(picture).positive
        assert (scores.pictures[place].density, scores.pictures[place].slide) == (mean_dab(ihc), pair.slide)
        for baseline in baselines:
            for protocol, fakes, own in ((CORRECTED, Fakes.ROUNDED, ihc), (PUBLISHED, Fakes.TRUNCATED, resave(ihc))):
                found_psnr = scores.row(protocol, baseline.name).values.metrics[Metric.PSNR][place]
                assert found_psnr == psnr(to_u8(baseline.levels(he), fakes), own)
    assert row.cells[Metric.PSNR].value == pytest.approx(sum(row.values.metrics[Metric.PSNR]) / 4)
    real = [picture.density for picture in scores.pictures]
    whole = row.agreement[WHOLE]
    assert whole[Agreement.SPEARMAN].value == 1
    assert whole[Agreement.PEARSON].value == pytest.approx(np.corrcoef(real, row.values.density)[0, 1])
    assert whole[Agreement.SLOPE].value == pytest.approx(np.polyfit(real, row.values.density, 1)[0])
    assert whole[Agreement.BIAS].value == pytest.approx(np.mean(row.values.density) - np.mean(real))
    differences = np.abs(np.subtract(row.values.density, real))
    assert whole[Agreement.ERROR].value == pytest.approx(differences.mean())
    assert whole[Agreement.RELATIVE].value == pytest.approx((differences / real).mean())
    assert row.cells[Metric.SSIM].value > scores.row(CORRECTED, "affine colour map").cells[Metric.SSIM].value
    assert (scores.slides, scores.pairs_seen, scores.upscaler, scores.synthetic) == (1, 6000, "lanczos", True)
    assert scores.protocols == PROTOCOLS


def test_without_weights_the_rest_is_computed_and_the_cells_say_so(scored: tuple[Path, Scores]) -> None:
    _, scores = scored
    for rows in scores.rows.values():
        for row in rows.values():
            assert {metric for metric, cell in row.cells.items() if cell.note == MISSING} == set(Metric) - {
                Metric.SSIM, Metric.PSNR
            }  # fmt: skip
    text = markdown([scores])
    heads = text.split("\n\n")[1].splitlines()[0]
    reason = "No PHV, LPIPS, FID, KID: weights missing; run `make weights NAMES=evaluate`, then score again"
    assert text.count(reason) == text.count("weights missing") == 1
    assert not any(COLUMNS[metric].head in heads for metric in set(Metric) - {Metric.SSIM, Metric.PSNR})
    assert set(scores.networks.values()) == {None}


def test_one_slide_has_no_interval_and_says_why(scored: tuple[Path, Scores]) -> None:
    cell = scored[1].row(CORRECTED).cells[Metric.SSIM]
    assert isnan(cell.low)
    assert cell.note == "no interval: there is one slide, and an interval needs at least 2"
    assert cell.note in markdown([scored[1]])


def test_a_constant_has_no_rank_correlation(scored: tuple[Path, Scores]) -> None:
    constant = scored[1].row(CORRECTED, "constant colour").agreement[WHOLE]
    assert isnan(constant[Agreement.SPEARMAN].value)
    assert isnan(constant[Agreement.PEARSON].value)


def test_a_view_of_several_pictures_is_scored_picture_by_picture(crowded: Store, tmp_path: Path) -> None:
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


def test_every_picture_of_a_set_has_the_digest_of_its_own_pixels(
    small_store: Store, scored: tuple[Path, Scores]
) -> None:
    images, _ = gather(scored[0], None, small_store, Split.TEST, "tile", scored[0].parent / "features")
    assert list(images.reads) == [
        (protocol, row) for protocol in (PUBLISHED, CORRECTED) for row in (REAL, *BASELINES, FAKE)
    ]
    for name, read in images.reads.items():
        assert images.digests[name] == tuple(digest_pixels(read(place)) for place in range(4))
        assert scored[1].sets[": ".join(name)] == digest_set(images.digests[name])
    he, ihc = (small_store.picture(Split.TEST, "tile", stain, 2) for stain in (Stain.HE, Stain.IHC))
    assert np.array_equal(images.reads[CORRECTED, "copy H&E"](2), he)
    assert np.array_equal(images.reads[CORRECTED, REAL](2), ihc)
    assert np.array_equal(images.reads[PUBLISHED, REAL](2), resave(ihc))


def test_kid_is_the_mean_of_as_many_subsets_as_the_protocol_says() -> None:
    """A protocol with other subsets has another number and another deviation; with one subset there is none."""
    rng = np.random.default_rng(0)
    fake, real = rng.normal(size=(2, 40, 8))
    protocol = replace(PROTOCOLS[PUBLISHED], kid_subset=10)
    cells = {count: kid_cell(fake, real, replace(protocol, kid_subsets=count), []) for count in (1, 50, 100)}
    assert len({cell.value for cell in cells.values()}) == 3
    assert cells[1].spread == 0
    assert cells[50].spread > 0
    drawn = 1000 * kid(fake, real, np.random.RandomState(0), subsets=50, subset=10)
    assert len(drawn) == 50
    assert (cells[50].value, cells[50].spread) == pytest.approx((drawn.mean(), drawn.std()))
