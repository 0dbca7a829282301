"""`python -m train export`: the file and what it says of itself, what is refused, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from store.files import digest_file
from store.images import read_picture, write_png
from store.reader import Store
from store.run_files import RunFolder
from store.schema import RunError, StoreError
from tests.support.command_line import CommandLine
from tests.support.disks import fill
from tests.support.exporting import run as run_file
from tests.support.exporting import save, settings_of, signed
from tests.support.places import ROOT
from tests.support.records import rewrite
from tests.support.stores import draw_tile
from tests.support.untrained_run import make_run
from train.__main__ import app
from train.export import layers
from train.export.export import export
from train.export.networks import known
from train.networks.reach import reach_of
from train.run.generator_file import load_generator

pytestmark = pytest.mark.usefixtures("one_thread")
CUT = settings_of("cut", "generator.blocks=5")


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A generator file without a run."""
    file = save(tmp_path_factory.mktemp("generator") / "cut.safetensors", CUT)
    return RunFolder(file.with_suffix(""), file)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine("train", app, monkeypatch, capsys)


def facts_in(file: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(file).metadata_props}


def test_the_command_writes_a_file_and_says_how_it_compares(
    run: CommandLine, generator: RunFolder, tmp_path: Path
) -> None:
    words = ("export", "--checkpoint", generator.generator, "--out", tmp_path / "new" / "g.onnx")
    first = run(*words)
    assert (first.code, first.out) == (0, "")
    found = re.search(
        r"g\.onnx written, 0\.\d MB; in onnxruntime [\d.]+ .* differ .* by at most (\S+)$", first.err.strip()
    )
    assert found, first.err
    assert 0 < float(found[1]) <= 1e-4
    again = run(*words)
    assert again.code == 0
    assert "already exists, and is the same" in again.err
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["g.onnx"]


def test_the_file_says_what_a_stranger_needs(generator: RunFolder, tmp_path: Path) -> None:
    export(generator, tmp_path / "g.onnx")
    facts = facts_in(tmp_path / "g.onnx")
    assert facts["method"] == "cut"
    assert json.loads(facts["mpp"]) == {CUT.data.views[0]: 0.46}
    assert (facts["view_side"], facts["multiple"], facts["synthetic"], facts["dropout"]) == (
        "64",
        "4",
        "not known",
        "none",
    )
    assert facts["range"].startswith("-1 to 1, float32")
    assert facts["layout"] == "batch, 3 (red, green, blue), height, width"
    assert "Not for clinical use" in facts["use"]
    assert "terms of use" in facts["licence"]
    assert facts["statistics"].startswith("of each whole picture")
    assert facts["generator_sha256"] == digest_file(generator.generator)
    assert facts["program"].startswith("magstain ")
    model = onnx.load(tmp_path / "g.onnx")
    assert (model.producer_name, model.doc_string) == ("magstain", "")
    assert str(tmp_path).encode() not in (tmp_path / "g.onnx").read_bytes()


def test_what_a_run_knows_is_in_the_file(small_store: Store, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", small_store)
    export(folder, tmp_path / "g.onnx")
    assert facts_in(tmp_path / "g.onnx")["synthetic"] == "true"
    assert facts_in(tmp_path / "g.onnx")["mpp"] == "not known"
    rewrite(folder.facts, {"synthetic": False})
    export(folder, tmp_path / "real.onnx")
    assert facts_in(tmp_path / "real.onnx")["synthetic"] == "false"
    rewrite(folder.facts, {"seal": "cd" * 32})  # another run's
    export(folder, tmp_path / "other.onnx")
    assert facts_in(tmp_path / "other.onnx")["synthetic"] == "not known"


@pytest.mark.parametrize(
    ("method", "overrides", "statistics"),
    [
        ("cyclegan", ("generator.norm=batch", "generator.blocks=5"), "frozen"),
        ("cyclegan", ("generator.norm=batch", "generator.blocks=5", "generator.at_test=training"), "of each whole"),
        ("attention_gan", ("generator.norm=none",), "of each whole"),  # of its channel attention
    ],
)
def test_the_file_says_whether_tiles_fit_together(
    method: str, overrides: tuple[str, ...], statistics: str, tmp_path: Path
) -> None:
    file = save(tmp_path / "x.safetensors", settings_of(method, *overrides))
    export(RunFolder(tmp_path / "x", file), tmp_path / "g.onnx")
    assert facts_in(tmp_path / "g.onnx")["statistics"].startswith(statistics)


def test_a_picture_translates_with_its_own_statistics_as_it_does_without(generator: RunFolder, tmp_path: Path) -> None:
    picture, other = draw_tile(90, 1)[:60], draw_tile(90, 2)
    write_png(tmp_path / "he.png", picture)
    export(generator, tmp_path / "frozen.onnx", statistics_from=tmp_path / "he.png")
    export(generator, tmp_path / "own.onnx")
    frozen, own = ((tmp_path / name).read_bytes() for name in ("frozen.onnx", "own.onnx"))
    he, another = (signed(pixels) for pixels in (picture, other))
    assert np.abs(run_file(frozen, he)[0] - run_file(own, he)[0]).max() <= 1e-4
    assert np.abs(run_file(frozen, another)[0] - run_file(own, another)[0]).max() > 0.01
    facts = facts_in(tmp_path / "frozen.onnx")
    assert facts["statistics"].startswith(
        f"frozen, of the picture with sha256 {digest_file(tmp_path / 'he.png')}: tiles fit"
    )
    reach = reach_of(known(load_generator(generator.generator).generator))
    assert reach <= int(facts["reach"]) < reach + 4


def test_a_larger_picture_translates_as_translate_does_with_the_statistics_of_its_sample(
    run: CommandLine, generator: RunFolder, tmp_path: Path
) -> None:
    picture = np.concatenate([draw_tile(64, key) for key in range(18)], axis=1)  # 1152 px: two tiles
    picture[:, 512:1024] = 243  # glass, of which neither learns
    write_png(tmp_path / "he.png", picture)
    words = ("--checkpoint", generator.generator, "--out")
    assert run("translate", tmp_path / "he.png", *words, tmp_path / "ihc.png").code == 0
    made = run("export", *words, tmp_path / "g.onnx", "--statistics-from", tmp_path / "he.png")
    assert made.code == 0, made.err
    (fake,) = run_file((tmp_path / "g.onnx").read_bytes(), signed(picture))
    levels = (fake[0].transpose(1, 2, 0) + 1) * 127.5
    assert np.abs(levels - read_picture(tmp_path / "ihc.png")).max() < 0.51


def test_statistics_that_cannot_be_had_are_one_line(run: CommandLine, tmp_path: Path) -> None:
    file = save(tmp_path / "x.safetensors", settings_of("cyclegan", "generator.norm=batch", "generator.blocks=5"))
    write_png(tmp_path / "he.png", draw_tile(64, 1))
    words = ("export", "--checkpoint", file, "--out", tmp_path / "g.onnx", "--statistics-from")
    for picture, said in (("he.png", "takes no statistics from pictures"), ("none.png", "none.png")):
        done = run(*words, tmp_path / picture)
        assert done.code == 2
        assert said in done.err
    assert not (tmp_path / "g.onnx").exists()


def test_active_dropout_is_left_out_where_that_is_asked_for(run: CommandLine, tmp_path: Path) -> None:
    file = save(tmp_path / "p.safetensors", settings_of("pix2pix", "generator.depth=6"))
    words = ("export", "--checkpoint", file, "--out", tmp_path / "p.onnx")
    refused = run(*words)
    assert refused.code == 2
    assert "--without-dropout exports it with dropout off" in refused.err
    assert not (tmp_path / "p.onnx").exists()
    assert run(*words, "--without-dropout").code == 0
    facts = facts_in(tmp_path / "p.onnx")
    assert (facts["dropout"], facts["multiple"]) == ("off, unlike in `predict`", "64")


def test_dropout_that_is_off_anyway_is_none(generator: RunFolder, tmp_path: Path) -> None:
    export(generator, tmp_path / "g.onnx", without_dropout=True)
    assert facts_in(tmp_path / "g.onnx")["dropout"] == "none"


def test_another_file_in_its_place_is_kept_unless_it_may_be_replaced(generator: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "g.onnx"
    out.write_bytes(b"mine")
    with pytest.raises(RunError, match=r"g\.onnx already exists and is another file; .* --overwrite"):
        export(generator, out)
    assert out.read_bytes() == b"mine"
    assert not export(generator, out, overwrite=True).already_existed
    first = out.read_bytes()
    assert export(generator, out).already_existed
    out.unlink()
    export(generator, out)
    assert out.read_bytes() == first
    out.rename(tmp_path / "elsewhere")
    out.symlink_to(tmp_path / "nowhere")  # and a pipe is not waited for
    os.mkfifo(tmp_path / "pipe.onnx")
    for place in (out, tmp_path / "pipe.onnx"):
        with pytest.raises(RunError, match="already exists and is another file"):
            export(generator, place)
        assert not export(generator, place, overwrite=True).already_existed
        assert not place.is_symlink()
        assert place.read_bytes() == first
        place.unlink()
    (tmp_path / "elsewhere").rename(out)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["g.onnx"]


def test_places_that_are_no_file_are_refused(generator: RunFolder, tmp_path: Path) -> None:
    weights = Path(shutil.copy(generator.generator, tmp_path / "g.safetensors"))
    before = weights.read_bytes()
    with pytest.raises(RunError, match=r"does not end in \.onnx"):
        export(generator, weights, overwrite=True)
    assert weights.read_bytes() == before
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(RunError, match=r"is a folder; name a file, such as .*generator\.onnx"):
        export(generator, tmp_path / "folder.onnx")
    with pytest.raises(StoreError, match="a file is in the place of a folder"):
        export(generator, weights / "g.onnx")
    with pytest.raises(StoreError, match="the name is too long"):
        export(generator, tmp_path / f"{'x' * 300}.onnx")


def test_a_full_disk_leaves_nothing(generator: RunFolder, small_disk: Path) -> None:
    fill(small_disk / "filler")
    with pytest.raises(StoreError, match="the disk is full"):
        export(generator, small_disk / "g.onnx")
    assert [file.name for file in small_disk.iterdir()] == ["filler"]


def test_a_file_that_would_translate_otherwise_is_not_written(
    generator: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "ROUNDING", 1.0)  # maps that vary are taken for flat ones
    with pytest.raises(RunError, match=r"is not written: in onnxruntime .* it would differ from PyTorch by"):
        export(generator, tmp_path / "g.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named_with_its_extra(
    run: CommandLine, generator: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("export", "--checkpoint", generator.generator, "--out", tmp_path / "g.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    unchecked = run(*words)
    assert unchecked.code == 0
    assert unchecked.err.strip().endswith("not compared with PyTorch: onnxruntime is not installed")
    monkeypatch.setitem(sys.modules, "onnx", None)
    without = run(*words[:-1], tmp_path / "h.onnx")
    assert without.code == 2
    assert "needs the library onnx, of the extra `export`" in without.err
    assert not (tmp_path / "h.onnx").exists()


def test_what_is_no_generator_is_refused(run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "g.safetensors").write_text("<html>")
    for words, said in (
        (("--checkpoint", tmp_path / "g.safetensors"), "web page"),
        (("--checkpoint", tmp_path / "none.safetensors"), "no generator"),
        (("--run", tmp_path), "no generator"),
        ((), "which generator?"),
    ):
        done = run("export", *words, "--out", tmp_path / "g.onnx")
        assert done.code == 2
        assert said in done.err
    assert not (tmp_path / "g.onnx").exists()


def test_help_waits_for_no_heavy_import() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "train", "export", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert not imported & {"torch", "onnx", "onnxruntime"}
