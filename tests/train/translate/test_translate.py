"""`translate`: any picture through the generator, whole or in tiles, killed and resumed, kept or refused."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor

from store.disk.locks import locked
from store.files import digest_file
from store.images import PictureU8, read_picture, write_jpeg, write_png
from store.reader import TILE, Store
from store.records.translation import read_translation
from store.run_files import RunFolder
from store.schema import Split, Stain
from store.slides.geometry import Grid
from store.slides.reading.open import open_source
from store.slides.seams import Place
from store.slides.writing.plan import OutputKind, Unit, plan_spool
from store.slides.writing.spool import Spool
from tests.support.command_line import Outcome
from tests.support.disks import fill, full, mounted
from tests.support.stores import draw_tile
from tests.support.untrained_run import make_generator, make_run
from train.predict import predict
from train.run.generator_file import load_generator
from train.run.inference import Pass, translate_batch
from train.runtime.device import resolve
from train.settings import AtTest, GeneratorSettings, Norm, Precision, TrainSettings
from train.translate import job, passes, statistics
from train.translate.engine import ready
from train.translate.model import Model
from train.translate.moments.collect import collect, layout_of
from train.translate.moments.field import Field
from train.translate.passes import Drawing, run_units
from train.translate.picture import Request, opened
from train.translate.plan import Sides
from train.translate.settings import NormStatistics, TranslateSettings
from train.translate.statistics import Measuring

Translate: TypeAlias = Callable[..., Outcome]
MEMORY = 1 << 30
MODES = list(NormStatistics)


def lay(name: str, height: int, width: int, *key: int) -> PictureU8:
    """A drawn picture as a file."""
    pixels = draw_tile(max(height, width), height, *key)[:height, :width]
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix in (".tif", ".tiff"):
        tifffile.imwrite(file, pixels, tile=(64, 64))
    elif file.suffix == ".jpg":
        write_jpeg(file, pixels)
    else:
        write_png(file, pixels)
    return pixels


def pixels_of(file: str | Path) -> PictureU8:
    """All of an output."""
    source = open_source(Path(file), MEMORY)
    everything = source.read(Grid(height=source.height, width=source.width, side=10**6).tile(0, 0)).copy()
    source.close()
    return everything


def tree(folder: Path = Path()) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def check(done: Outcome, code: int = 0) -> Outcome:
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    return done


def test_a_picture_of_one_tile_has_the_pixels_of_a_prediction(
    small_store: Store, translate: Translate, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", small_store)
    folder = predict(run, small_store, Split.TEST, TILE, "cpu").folder
    for row in range(2):
        write_png(Path(f"in/{row}.png"), small_store.picture(Split.TEST, TILE, Stain.HE, row))
    check(translate("in", "--out", "out", "--set", "tile=128", checkpoint=run.generator))
    for row in range(2):
        predicted = read_picture(folder / "fake" / f"s3_{row}_0.png")
        np.testing.assert_array_equal(read_picture(Path(f"out/{row}.png")), predicted)


def test_a_batch_does_not_cross_units(translate: Translate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is resumed goes through in the same batches."""
    lay("a.png", 128, 128)
    sizes = list[int]()

    def count(generator: Pass, hes: Sequence[PictureU8], device: torch.device) -> list[Tensor]:
        sizes.append(len(hes))
        return translate_batch(generator, hes, device)

    monkeypatch.setattr(passes, "translate_batch", count)
    check(translate("a.png", "--set", "overlap=0", "--set", "batch=3", "--out", "b.png"))
    assert sizes == [2, 2]


@pytest.mark.parametrize("mode", [NormStatistics.KERNEL, NormStatistics.LOCAL])
def test_what_is_skipped_changes_no_statistics(translate: Translate, mode: NormStatistics) -> None:
    pixels = lay("a.png", 128, 192)
    mask = np.zeros_like(pixels)
    mask[:, :64] = mask[64:, 128:] = 255
    write_png(Path("m.png"), mask)
    words = ("--norm-statistics", mode, "--mask", "m.png", "--set", "overlap=0", "--out")
    check(translate("a.png", *words, "b.png"))
    write_png(Path("a.png"), np.where(mask > 0, pixels, 0).astype(np.uint8))
    check(translate("a.png", *words, "c.png"))
    assert Path("c.png").read_bytes() == Path("b.png").read_bytes()


NOISY = TrainSettings(
    method="pix2pix",
    generator=GeneratorSettings(base=4, blocks=5, norm=Norm.BATCH, dropout=True, at_test=AtTest.TRAINING),
)


def test_each_tile_has_noise_of_its_own_by_its_place(translate: Translate, tmp_path: Path) -> None:
    """Nine equal tiles come out as nine pictures, whatever the batch; batch norm has the statistics of a tile alone."""
    write_png(Path("a.png"), np.tile(draw_tile(64, 1), (3, 3, 1)))
    noisy = make_generator(RunFolder(tmp_path / "run"), NOISY).generator
    words = ("a.png", "--norm-statistics", "tile", "--set", "overlap=0", "--set")
    for name, setting in (("b.png", "batch=1"), ("c.png", "batch=4"), ("d.png", "seed=1")):
        check(translate(*words, setting, "--out", name, checkpoint=noisy))
    made, batched, other = (read_picture(Path(f"{name}.png")) for name in "bcd")
    tiles = made.reshape(3, 64, 3, 64, 3).swapaxes(1, 2).reshape(9, -1)
    assert len(np.unique(tiles, axis=0)) == 9
    np.testing.assert_array_equal(batched, made)
    assert (other != made).any()


@pytest.mark.parametrize(
    "settings",
    [TrainSettings(generator=GeneratorSettings(base=4, blocks=5)), NOISY],
    ids=["instance", "batch in training mode"],
)
def test_tiles_with_given_statistics_are_the_whole_picture(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the tile, every pixel within a grey level of the picture that goes through at once."""
    monkeypatch.chdir(tmp_path)
    lay("a.png", 203, 266)
    trained = load_generator(make_generator(RunFolder(tmp_path / "run"), settings).generator)
    made = []
    with ready(trained, "cpu", Precision.FP32) as network:
        for module in network.generator.modules():  # dropout draws by place, which differs between tiles
            if isinstance(module, torch.nn.Dropout):
                module.eval()
        layout = layout_of(network.generator)  # type: ignore[arg-type]  # a ResNet
        he = torch.from_numpy(read_picture(Path("a.png"))[:200, :264].copy()).permute(2, 0, 1)[None] / 127.5 - 1
        field = Field.everywhere(collect(network.generator, he)[0], layout)
        for side in (1024, 96, 64):
            with opened(Path("a.png"), Request(), {}, side, MEMORY) as picture:
                model = Model.of(trained, network, TranslateSettings())
                grid = picture.grid
                spool = Spool.open(tmp_path / "s", plan_spool(OutputKind.PNG, grid.height, grid.width, side, ""))
                drawing = Drawing(
                    picture=picture,
                    network=network,
                    sides=Sides(multiple=4, least=8),
                    overlap=model.settings.overlap,
                    field_of=lambda *_: field,
                    batch=2,
                    seed=0,
                )
                run_units(picture, spool.pending(), drawing.stream(), "t", 0, partial(put, spool))
                made.append(spool.read(Grid(height=203, width=266, side=1024).tile(0, 0)).astype(np.int16))
    for tiled in made[1:]:
        assert np.abs(tiled - made[0]).max() <= 1
    assert made[0].std() > 0


def put(spool: Spool, unit: Unit, made: Mapping[Place, Tensor]) -> None:
    spool.put(unit, [made[place].numpy() for place in unit.places()])


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_another_picture_and_repeats(translate: Translate, mode: NormStatistics) -> None:
    lay("a.png", 150, 200)
    words = ("a.png", "--norm-statistics", mode, "--set", "sample=4")
    check(translate(*words, "--out", "one.png"))
    check(translate(*words, "--out", "two.png"))
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    assert read_picture(Path("one.png")).shape == (150, 200, 3)
    record = read_translation(Path("one.png"))
    assert (record.norm_statistics, record.tiles, record.side) == (mode, ("####",) * 3, 64)
    assert record.seams is not None
    assert record.output == digest_file(Path("one.png"))
    other = MODES[MODES.index(mode) - 1]
    check(translate("a.png", "--norm-statistics", other, "--set", "sample=4", "--out", "other.png"))
    assert Path("other.png").read_bytes() != Path("one.png").read_bytes()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (64, 65), (7, 130), (129, 63)])
def test_pictures_of_any_size_come_back_in_their_size(translate: Translate, height: int, width: int) -> None:
    lay("a.png", height, width)
    check(translate("a.png", "--out", "b.png"))
    assert read_picture(Path("b.png")).shape == (height, width, 3)


@pytest.mark.parametrize("name", ["o.png", "o.tiff", "o.ome.tiff", "o.jpg"])
def test_every_kind_of_file_has_the_same_picture(translate: Translate, name: str) -> None:
    lay("a.tif", 130, 150)
    check(translate("a.tif", "--out", "plain.png", "--mask", "none"))
    check(translate("a.tif", "--out", name, "--mask", "none", "--source-mpp", "0.5"))
    made, plain = pixels_of(name), read_picture(Path("plain.png"))
    if name.endswith("jpg"):
        assert np.corrcoef(made.ravel(), plain.ravel())[0, 1] > 0.8
    else:
        np.testing.assert_array_equal(made, plain)
    assert read_translation(Path(name)).mpp == 0.5


class Stopped(BaseException):
    """A kill: nothing catches it."""


@pytest.mark.parametrize("mode", [NormStatistics.GLOBAL, NormStatistics.LOCAL])
def test_a_translation_killed_at_any_write_resumes_to_the_same_bytes(
    translate: Translate, mode: NormStatistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay("a.tif", 70, 300)
    words = ("a.tif", "--norm-statistics", mode, "--set", "sample=2", "--mask", "none", "--out", "out/a.ome.tiff")
    check(translate(*words))
    whole = tree(Path("out"))
    assert sorted(whole) == ["out/a.ome.tiff", "out/a.ome.tiff.json"]
    real, writes = Path.replace, [0]

    def counted(self: Path, target: Path) -> Path:
        writes[0] -= 1
        if writes[0] == 0:
            raise Stopped
        return real(self, target)

    monkeypatch.setattr(Path, "replace", counted)
    for dies_at in range(1, 60, 3 if mode is NormStatistics.LOCAL else 2):
        for file in Path("out").iterdir():
            file.unlink()
        writes[0] = dies_at
        try:
            done = translate(*words)
        except Stopped:
            assert not Path("out/a.ome.tiff").exists() or tree()["out/a.ome.tiff"] == whole["out/a.ome.tiff"]
            writes[0] = 0
            check(translate(*words))
            assert tree(Path("out")) == whole
        else:
            check(done)
            assert dies_at > 10
            return
    raise AssertionError("it writes without end")


@pytest.mark.parametrize(
    ("mode", "before", "damaged"),
    [
        (NormStatistics.GLOBAL, "000000-000000.unit", "everywhere.npy"),
        (NormStatistics.LOCAL, "table.npy", "000001-000000.unit.npy"),
    ],
)
@pytest.mark.parametrize("change", ["flipped", "cut", "of another"])
def test_damaged_statistics_are_measured_again(
    translate: Translate, mode: NormStatistics, before: str, damaged: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay("a.png", 150, 70)
    words = ("a.png", "--norm-statistics", mode, "--set", "sample=2", "--out")
    check(translate(*words, "whole.png"))
    real = Path.replace

    def stopping(self: Path, target: Path) -> Path:
        if Path(target).name == before:
            raise Stopped
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopping)
        with pytest.raises(Stopped):
            translate(*words, "b.png")
    file = Path("b.png.partial/moments") / damaged
    data = file.read_bytes()
    if change == "flipped":
        file.write_bytes(data[:200] + bytes([data[200] ^ 64]) + data[201:])
    elif change == "cut":
        file.write_bytes(data[:-4])
    else:
        other = file.with_name("000000-000000.unit.npy")
        file.write_bytes(other.read_bytes() if other.exists() else b"")
    check(translate(*words, "b.png"))
    assert Path("b.png").read_bytes() == Path("whole.png").read_bytes()


def test_a_unit_without_statistics_is_not_taken_for_one_without_tissue(
    translate: Translate, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay("a.png", 150, 150)
    monkeypatch.setattr(statistics, "measure_units", lambda work, units: None)
    done = check(translate("a.png", "--norm-statistics", "local", "--out", "c.png"), 2)
    assert "000000-000000.unit.npy was damaged or removed; the same command makes it again" in done.err
    assert not Path("c.png").exists()


def test_an_output_that_has_its_name_and_no_record_yet_is_finished(
    translate: Translate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two: the spool still says that it made the output, which is no other translation."""
    lay("a.png", 70, 150)
    check(translate("a.png", "--out", "whole.png"))

    def stop(file: Path, record: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(job, "write_json", stop)
        with pytest.raises(Stopped):
            translate("a.png", "--out", "b.png")
    assert Path("b.png").exists()
    assert not Path("b.png.json").exists()
    check(translate("a.png", "--out", "b.png"))
    assert Path("b.png").read_bytes() == Path("whole.png").read_bytes()
    assert Path("b.png.json").read_bytes() == Path("whole.png.json").read_bytes()
    assert not Path("b.png.partial").exists()


def test_a_disk_that_is_full_between_the_passes_is_one_line(
    translate: Translate, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that is mapped while it is written would end the process without a word."""
    lay("a.png", 150, 150)
    words = ("a.png", "--norm-statistics", "local", "--out")
    check(translate(*words, "whole.png"))
    measured = statistics.measure_units

    def then_full(work: Measuring, units: list[Unit]) -> None:
        measured(work, units)
        fill(small_disk / "filler")
        os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - 3 * 4096)  # for its two ends

    with monkeypatch.context() as patch:
        patch.setattr(statistics, "measure_units", then_full)
        done = check(translate(*words, small_disk / "b.png"), 2)
    assert re.search(r"cannot write .*table\.npy.*: .*; the disk is full", done.err)
    (small_disk / "filler").unlink()
    check(translate(*words, small_disk / "b.png"))
    assert (small_disk / "b.png").read_bytes() == Path("whole.png").read_bytes()


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_resumes(
    translate: Translate, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay("a.png", 150, 330)
    check(translate("a.png", "--out", "whole.png"))
    put_all, drawn = job._put, list[Unit]()

    def stopping(spool: Spool, unit: Unit, made: Mapping[Place, Tensor]) -> None:
        put_all(spool, unit, made)
        drawn.append(unit)
        if len(drawn) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(job, "_put", stopping)
    done = check(translate("a.png", "--out", "b.png"), 3)
    assert "what is finished of it is kept; run the same command to resume" in done.err.splitlines()[-1]
    assert not Path("b.png").exists()
    first = len(drawn)
    check(translate("a.png", "--out", "b.png"))
    assert Path("b.png").read_bytes() == Path("whole.png").read_bytes()
    assert 0 < first < len(drawn) == len(set(drawn)), "no unit is made twice"


def test_what_exists_is_kept_or_refused_and_replaced_on_demand(translate: Translate) -> None:
    lay("a.png", 100, 70)
    check(translate("a.png", "--out", "b.png"))
    before = tree()
    assert "b.png already exists: the same translation, kept" in check(translate("a.png", "--out", "b.png")).err
    assert tree() == before
    other = ("a.png", "--out", "b.png", "--set", "seed=1")
    assert "b.png already exists and is another translation (other settings)" in check(translate(*other), 2).err
    assert tree() == before
    check(translate(*other, "--overwrite"))
    assert read_translation(Path("b.png")).settings["seed"] == 1
    Path("b.png").write_bytes(b"edited")
    assert "already exists and was changed since it was made" in check(translate(*other), 2).err
    check(translate(*other, "--overwrite"))
    Path("b.png.json").unlink()
    assert "1 of 1 outputs already exist and have no record" in check(translate(*other), 2).err
    check(translate(*other, "--overwrite"))


def test_of_two_commands_on_one_output_the_second_is_refused(translate: Translate) -> None:
    lay("a.png", 30, 30)
    with locked(Path("b.png.lock"), "the translation b.png"):
        assert "the translation b.png is being written" in check(translate("a.png", "--out", "b.png"), 2).err
    assert not Path("b.png").exists()


def test_bad_pictures_of_a_folder_are_told_after_the_others_are_translated(translate: Translate) -> None:
    lay("in/a.png", 40, 40)
    lay("in/z.jpg", 70, 40)
    Path("in/empty.png").touch()
    Path("in/cut.png").write_bytes(Path("in/a.png").read_bytes()[:100])
    tifffile.imwrite("in/deep.tif", np.zeros((20, 20, 3), np.uint16))
    tifffile.imwrite("in/cmyk.tif", np.zeros((20, 20, 4), np.uint8), photometric="separated")
    Path("in/notes.txt").touch()
    done = check(translate("in", "--out", "out"), 2)
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "a.png.json", "z.png", "z.png.json"]
    assert "2 of 6 pictures are translated in out" in done.err
    assert "note: not translated: 1 file of another kind (in/notes.txt)" in done.err
    *_, head, one, two, three, four = done.err.splitlines()
    assert head == "error: 4 of 6 pictures are not translated:"
    for line, name in zip((one, two, three, four), ("cmyk.tif", "cut.png", "deep.tif", "empty.png"), strict=True):
        assert line.startswith(f"  in/{name}: ")


def test_a_region_is_the_picture_cut_out(translate: Translate) -> None:
    pixels = lay("a.png", 150, 200)
    write_png(Path("cut.png"), pixels[10:110, 33:183])
    check(translate("a.png", "--region", "10,33,100,150", "--out", "b.png"))
    check(translate("cut.png", "--out", "c.png"))
    np.testing.assert_array_equal(read_picture(Path("b.png")), read_picture(Path("c.png")))
    assert read_translation(Path("b.png")).region == (10, 33, 100, 150)
    done = check(translate("a.png", "--region", "60,0,100,150", "--out", "d.png"), 2)
    assert "ends at row 160, column 150, outside a.png, which is translated at 150 x 200 px" in done.err
    done = check(translate("a.png", "--region", "0,0,1000,2000", "--out", "d.png"), 2)
    assert "--region 0,0,1000,2000 ends at row 1000, column 2000, outside a.png" in done.err
    for text in ("1,2,3", "a,0,5,5", "0,0,0,9", "-1,0,5,5"):
        assert "give TOP,LEFT,HEIGHT,WIDTH" in check(translate("a.png", f"--region={text}", "--out", "d.png"), 2).err


def test_a_mask_is_of_the_whole_picture_also_for_a_region(translate: Translate) -> None:
    pixels = lay("a.png", 200, 230)
    mask = np.zeros_like(pixels)
    mask[100:, 150:] = mask[10:60, 40:50] = 255
    write_png(Path("m.png"), mask)
    check(translate("a.png", "--region", "30,40,150,170", "--mask", "m.png", "--out", "b.png"))
    write_png(Path("cut.png"), pixels[30:180, 40:210])
    write_png(Path("m.png"), mask[30:180, 40:210])
    check(translate("cut.png", "--mask", "m.png", "--out", "c.png"))
    assert read_translation(Path("b.png")).tiles == read_translation(Path("c.png")).tiles == ("#..", ".##", ".##")
    np.testing.assert_array_equal(read_picture(Path("b.png")), read_picture(Path("c.png")))


def test_the_record_says_what_auto_stands_for(translate: Translate) -> None:
    lay("a.png", 64, 64)
    check(translate("a.png", "--set", "precision=auto", "--set", "overlap=-1", "--out", "b.png"))
    settings = read_translation(Path("b.png")).settings
    assert settings["precision"] == resolve("cpu", Precision.AUTO).precision
    assert settings["overlap"] == 92  # the reach of 89 px, as a multiple of 4
    assert settings["memory"] == 0  # which changes no pixel


def test_what_shows_no_tissue_is_white_and_counted(translate: Translate) -> None:
    pixels = lay("a.png", 150, 200)
    mask = np.zeros((150, 200, 3), np.uint8)
    mask[:64, :64] = 255
    mask[128:, 192:] = 1
    write_png(Path("m.png"), mask)
    done = check(translate("a.png", "--mask", "m.png", "--out", "b.png"))
    assert "2 tiles translated, 10 without tissue skipped and white" in done.err
    made = read_picture(Path("b.png"))
    skipped = np.ones((150, 200), bool)
    skipped[:64, :64] = skipped[128:, 192:] = False
    assert (made[skipped] == 255).all()
    assert (made[~skipped] != 255).any()
    record = read_translation(Path("b.png"))
    assert (record.tiles, record.mask) == (("#...", "....", "...#"), digest_file(Path("m.png")))
    mask[0, 0] = 0  # the same tiles, but the sample of `global` may be another one
    write_png(Path("m.png"), mask)
    assert "another translation (other mask)" in check(translate("a.png", "--mask", "m.png", "--out", "b.png"), 2).err
    write_png(Path("m.png"), mask[:100])
    assert "the mask has 100 x 200 px" in check(translate("a.png", "--mask", "m.png", "--out", "c.png"), 2).err
    assert "no such file" in check(translate("a.png", "--mask", "gone.png", "--out", "c.png"), 2).err
    tifffile.imwrite("glass.tif", np.full_like(pixels, 240), tile=(64, 64))
    assert "shows no tissue" in check(translate("glass.tif", "--out", "c.png"), 2).err
    assert not Path("c.png").exists()


def test_the_scale_of_picture_and_generator_decide(translate: Translate, tmp_path: Path) -> None:
    trained = make_generator(RunFolder(tmp_path / "run"), mpp={"x1": 1.0, "x2": 0.5}).generator
    pixels = draw_tile(200, 1)[:130]
    tifffile.imwrite("a.tif", pixels, tile=(64, 64), resolution=(40_000, 40_000), resolutionunit="CENTIMETER")
    done = check(translate("a.tif", "--out", "b.ome.tiff", checkpoint=trained), 2)
    assert "a.tif: has 0.25 µm/px (resolution tags), and the generator was trained at 1 or 0.5 µm/px" in done.err
    assert not Path("b.ome.tiff").exists()
    check(translate("a.tif", "--mpp", "model", "--out", "b.ome.tiff", "--mask", "none", checkpoint=trained))
    record = read_translation(Path("b.ome.tiff"))
    assert (record.source_mpp, record.mpp, record.height, record.width) == (0.25, 0.5, 65, 100)
    source = open_source(Path("b.ome.tiff"), MEMORY)
    assert source.mpp == pytest.approx(0.5)
    source.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a.png", "--out", "b.png", "--set", "tile=100"), "tile = 100: a multiple of 16"),
        (("a.png", "--out", "b.png", "--norm-statistics", "locl"), "norm_statistics"),
        (("a.png", "--out", "b.png", "--format", "bmp"), "--format bmp: is none of auto, png"),
        (("a.png", "--out", "b.png", "--mpp", "x"), "--mpp x: give micrometres per pixel"),
        (("gone.png", "--out", "b.png"), "gone.png: no such file"),
        (("a.png", "--out", "b.png", "--device", "tpu"), "no such device"),
    ],
)
def test_what_is_wrong_is_one_line(translate: Translate, words: tuple[str, ...], message: str) -> None:
    lay("a.png", 20, 20)
    before = tree()
    done = check(translate(*words), 2)
    assert message in done.err.splitlines()[-1]
    assert tree() == before


def test_a_file_that_is_no_generator_is_told(translate: Translate, tmp_path: Path) -> None:
    lay("a.png", 20, 20)
    Path("latest.pt").write_bytes(b"PK")
    done = check(translate("a.png", "--out", "b.png", checkpoint=Path("latest.pt")), 2)
    assert "latest.pt is a checkpoint, from which a run resumes, not a generator" in done.err
    done = check(translate("a.png", "--out", "b.png", checkpoint=Path("a.png")), 2)
    assert "a.png is a PNG picture, not weights" in done.err


def test_a_disk_that_is_full_is_one_line_and_the_same_command_goes_on_when_there_is_space(
    translate: Translate, tmp_path: Path
) -> None:
    lay("a.png", 150, 200)
    check(translate("a.png", "--out", "whole.png"))
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=2m", "tmpfs") as disk:
        with full(disk):
            done = check(translate("a.png", "--out", disk / "b.png"), 2)
            assert "the disk is full: free some space and run the same command again" in done.err.splitlines()[-1]
            assert not (disk / "b.png").exists()
        check(translate("a.png", "--out", disk / "b.png"))
        assert (disk / "b.png").read_bytes() == Path("whole.png").read_bytes()
        assert sorted(path.name for path in disk.iterdir()) == ["b.png", "b.png.json"]
