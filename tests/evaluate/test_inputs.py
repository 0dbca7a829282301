"""Which pictures are compared: baselines, a run's predictions, foreign pictures, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evaluate.columns import Metric
from evaluate.inputs.baselines import fit_baselines
from evaluate.inputs.predictions import ONE_SIDE, match_files
from evaluate.protocol import FAKE, Fakes, ProtocolName, resave, to_u8
from evaluate.report.table_texts import markdown
from evaluate.scored_set import files_of
from evaluate.scoring.score import score_run
from store.images import write_png
from store.reader import Store
from store.schema import MagstainError, PictureError, RunError, Split, Stain
from tests.support.predictions import contents, fabricate, scored_run, without_weights

CORRECTED, PUBLISHED = ProtocolName.CORRECTED, ProtocolName.PUBLISHED


def train_pixels(store: Store) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pairs = range(len(store.pairs(Split.TRAIN)))
    he, ihc = (
        np.concatenate([store.picture(Split.TRAIN, "tile", stain, pair).reshape(-1, 3) for pair in pairs]).astype(float)
        for stain in (Stain.HE, Stain.IHC)
    )
    return he, ihc


def test_baselines_are_the_least_squares_fits_over_all_train_pixels(small_store: Store) -> None:
    baselines, (he, ihc) = fit_baselines(small_store), train_pixels(small_store)
    known = np.column_stack([he, np.ones(len(he))])
    direct = np.linalg.lstsq(known, ihc)[0]
    np.testing.assert_allclose([*baselines.affine.matrix, baselines.affine.offset], direct, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(baselines.constant.colour, ihc.mean(axis=0), rtol=1e-12)
    assert (baselines.view, baselines.pictures) == ("tile", 8)
    affine_error = ((known @ direct - ihc) ** 2).mean()
    assert affine_error < ((ihc - ihc.mean(axis=0)) ** 2).mean() < ((he - ihc) ** 2).mean()


def test_baselines_apply_clipped_and_rounded(small_store: Store) -> None:
    baselines = fit_baselines(small_store)
    he = small_store.picture(Split.TEST, "tile", Stain.HE, 0)
    steep = replace(
        baselines.affine, matrix=((2.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 0.25)), offset=(0.0, 9.0, 0.3)
    )
    wide = he.astype(int)
    rounded = to_u8(steep.levels(he), Fakes.ROUNDED)
    assert np.array_equal(to_u8(baselines.copy.levels(he), Fakes.ROUNDED), he)
    assert np.array_equal(to_u8(baselines.constant.levels(he), Fakes.ROUNDED)[5, 7], np.rint(baselines.constant.colour))
    assert np.array_equal(rounded[..., 0], np.minimum(2 * wide[..., 0], 255))
    assert np.array_equal(rounded[..., 1], np.maximum(9 - wide[..., 1], 0))
    assert np.array_equal(rounded[..., 2], np.rint(wide[..., 2] * 0.25 + 0.3))
    assert all(baseline.levels(he).shape == he.shape for baseline in baselines)


def test_published_baselines_are_truncated_as_translations_are(small_store: Store) -> None:
    """The H&E picture saved again; all others lose what is behind the point."""
    baselines, he = fit_baselines(small_store), small_store.picture(Split.TEST, "tile", Stain.HE, 0)
    assert np.array_equal(to_u8(baselines.copy.levels(he), Fakes.TRUNCATED), resave(he))
    assert (resave(he) != he).any()
    for baseline in (baselines.constant, baselines.affine):
        levels = baseline.levels(he)
        cut = to_u8(levels, Fakes.TRUNCATED)
        assert np.abs(cut - np.floor(np.clip(levels, 0, 255))).max() <= 1  # where float32 is a rounding below a level
        assert (cut == np.floor(np.clip(levels, 0, 255))).mean() > 0.99


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
    ("spoil", "error", "message"),
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
def test_no_picture_is_missing_from_an_average(
    small_store: Store, tmp_path: Path, spoil: Callable[[Path], None], error: type[MagstainError], message: str
) -> None:
    spoil(fabricate(tmp_path / "run", small_store))
    before = contents(tmp_path)
    with pytest.raises(error, match=message):
        scored_run(tmp_path / "run", small_store)
    assert contents(tmp_path) == before


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
    scores = score_run(tmp_path / "other", pictures, small_store, Split.TEST, "tile", without_weights(tmp_path))
    values = scores.row(CORRECTED).values.metrics[Metric.PSNR]
    assert values[0] == values[2] == inf
    assert 25 < values[1] < 60
    assert (scores.run, scores.method, scores.pairs_seen) == ("other", "foreign pictures", None)
    assert (scores.generator, scores.source, scores.views) == (None, str(pictures), None)
    assert scores.round_trip == ONE_SIDE
    fakes = {name: scores.sets[f"{name}: fake"] for name in ProtocolName}
    assert fakes[CORRECTED] == fakes[PUBLISHED]
    assert scores.sets["corrected: real"] != scores.sets["published: real"]
    assert "the real side only" in markdown([scores])
    assert [file.suffix for file in files_of(scores, tmp_path / "other")] == [".tif", ".JPG"] * 2


@pytest.mark.parametrize(
    "name",
    [
        "._s3_0_0.png",
        ".nfs0000000000123.png",
        ".ipynb_checkpoints/s3_0_0.png",
        "__MACOSX/s3_0_0.png",
        "@eaDir/s3_0_0.png",
        "s3_0_0_mask.png",
        "Thumbs.db",
        "thumbnails/s3_0_0.jpg",
    ],
)
@pytest.mark.parametrize("linked", [True, False])
def test_what_systems_leave_beside_foreign_pictures_is_no_picture(
    small_store: Store, tmp_path: Path, name: str, linked: bool
) -> None:
    """Nor is a link something else than what it shows."""
    pictures = foreign(tmp_path / "theirs", small_store)
    left = pictures / name
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"no picture")
    names = [f"{pair.id}.png" for pair in small_store.pairs(Split.TEST)]
    if linked:
        (tmp_path / "there").mkdir()
        (tmp_path / "there/sub").symlink_to(pictures)
        (pictures / "above").symlink_to(tmp_path / "there")
        pictures, names = tmp_path / "there", [f"sub/{one}" for one in names]
    found = match_files(pictures, names, any_suffix=True)
    assert [file.suffix for file in found] == [".tif", ".JPG"] * 2


def test_names_of_foreign_pictures_may_be_decomposed(tmp_path: Path) -> None:
    (tmp_path / "Mu\u0308ller_1.tif").write_bytes(b"")
    assert len(match_files(tmp_path, ["M\u00fcller_1.png"], any_suffix=True)) == 1


def test_foreign_pictures_that_do_not_fit_are_named(small_store: Store, tmp_path: Path) -> None:
    def refused(spoil: Callable[[Path], object]) -> None:
        pictures = foreign(tmp_path / "theirs", small_store)
        try:
            spoil(pictures)
            score_run(tmp_path / "other", pictures, small_store, Split.TEST, "tile", without_weights(tmp_path))
        finally:
            shutil.rmtree(pictures)

    with pytest.raises(RunError, match=r"several files for one picture: s3_0_0\.png and s3_0_0\.tif"):
        refused(lambda folder: shutil.copy(folder / "s3_0_0.tif", folder / "s3_0_0.png"))
    with pytest.raises(RunError, match=r"missing: s3_1_0.*files that are read: \.bmp, \.jpeg"):
        refused(lambda folder: (folder / "s3_1_0.JPG").unlink())
    with pytest.raises(RunError, match=r"not of this split: sub/s3_1_0\.png"):
        refused(lambda folder: write_png(folder / "sub" / "s3_1_0.png", np.zeros((128, 128, 3), np.uint8)))
    with pytest.raises(PictureError, match=r"1 of 4.*s3_0_0\.tif: is not plain 8-bit RGB \(grey"):
        refused(lambda folder: Image.fromarray(np.zeros((128, 128), np.uint8)).save(folder / "s3_0_0.tif"))
    with pytest.raises(RunError, match=r"no folder .*nowhere"):
        score_run(tmp_path / "other", tmp_path / "nowhere", small_store, Split.TEST, "tile", without_weights(tmp_path))
