"""`python -m store`: what it prints, its exit codes, and that it writes only what was requested."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from store import weights
from store.__main__ import app
from store.cli import run_app
from store.contact_sheet import COLOURS, draw_pair, find_row
from store.files import digest_file
from store.images import read_picture
from store.overview import describe, describe_upscaler, describe_view
from store.pairs.table import Skipped
from store.reader import Store
from store.schema import Interrupted, Manifest, Source, Split, Upscaler, View
from store.settings import validate
from store.weights import FOLDER_VARIABLE, WeightFile
from store.writing.writer import open_writer
from tests.support.command_line import CommandLine
from tests.support.disks import contents, read_only
from tests.support.places import ROOT
from tests.support.stores import build_small_store, small_blocks, small_manifest, small_table


def test_info_says_what_is_in_a_store(line: CommandLine, small_store: Store) -> None:
    outcome = line("info", small_store.path)
    size = sum(file.stat().st_size for file in small_store.path.rglob("*") if file.is_file())
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        f"{small_store.path}: small: SYNTHETIC, drawn and not tissue",
        "  stain     H&E to test",
        "  sides     tiles of 128 px, views of 64 px",
        "  mpp       unknown",
        "  recipe    paper, margin 4 px",
        "  view x1   1 picture per pair, the whole tile downsampled to 64 px",
        "  view x2   1 picture per pair, 32 px of the tile downsampled to 64 px, enlarged 2x by lanczos",
        "  view x4   1 picture per pair, 16 px of the tile downsampled to 64 px, enlarged 4x by lanczos",
        "  tiles     stored as delivered in train and test",
        "  upscaler  lanczos: a plain filter, not super-resolution",
        "  split     published, seed 0",
        "  train     8 pairs of 2 slides: s1 (4), s2 (4)",
        "  test      4 pairs of 1 slide: s3 (4)",
        "  skipped   none",
        "  card      glass, copies, colours and densities are not measured: `prep build --repair` with the",
        "            tiles adds them",
        "  shifts    not measured (build with registration=true)",
        "  terms     drawn by `python -m prep demo`: no data of patients",
        f"  disk      {size:,} bytes in 127 files, codec portable",
        "  software  test 1",
        f"  seal      {small_store.manifest.seal}",
    ]


def test_info_as_json_is_the_manifest_with_the_card(line: CommandLine, small_store: Store) -> None:
    outcome = line("info", small_store.path, "--json")
    tree = json.loads(outcome.out)
    card = tree.pop("card")
    assert validate(Manifest, tree) == small_store.manifest
    assert (card["schema"], card["seal"], card["measured"]) == (1, small_store.manifest.seal, None)
    assert (outcome.code, outcome.err) == (0, "")


def test_info_warns_of_leakage_and_lists_skipped_pairs(tmp_path: Path) -> None:
    bad = tuple(Skipped(id=f"b{n}", split=Split.TRAIN, he="x", ihc="y", reason=f"reason {n}") for n in range(12))
    table = small_table()
    test = tuple(replace(pair, slide="s1") for pair in table.pairs[Split.TEST])
    manifest = replace(small_manifest(), skipped=12, synthetic=False, mpp={"tile": 0.4661, "x4": 0.233})
    with open_writer(
        tmp_path / "s.zarr", manifest, replace(table, skipped=bad, pairs={**table.pairs, Split.TEST: test})
    ) as writer:
        for unit in writer.pending():
            writer.write(unit, small_blocks(manifest, unit))
        writer.seal()
    lines = describe(Store.open(tmp_path / "s.zarr")).splitlines()
    assert lines[0] == f"{tmp_path}/s.zarr: small"
    assert "  mpp       tile 0.4661 um/px, x4 0.233 um/px" in lines
    assert "  warning   1 of 1 slide of test are also in another split (leakage): its scores are optimistic" in lines
    begin = lines.index("  skipped   12 pairs")
    assert lines[begin + 1] == "            train 'b0': reason 0"
    assert lines[begin + 10 : begin + 12] == ["            train 'b9': reason 9", "            and 2 more"]


def test_views_and_upscalers_in_words() -> None:
    manifest = replace(small_manifest(), upscaler=Upscaler(name="bsrgan", digests={}, precision="bf16", batch=4))
    native = [View(zoom=zoom, source=Source.NATIVE) for zoom in (1, 2, 4)]
    assert [describe_view(view, manifest) for view in native] == [
        "1 picture per pair, the whole tile downsampled to 64 px",
        "1 picture per pair, 64 px of the tile",
        "1 picture per pair, 32 px of the tile, enlarged 2x by bsrgan",
    ]
    assert describe_view(View(zoom=2, source=Source.NATIVE, count=3), replace(manifest, tile_side=512)) == (
        "3 pictures per pair, 256 px of the tile, downsampled to 64 px"
    )
    whole = View(zoom=1, source=Source.FIELD)
    assert describe_view(whole, replace(manifest, view_side=128)) == "1 picture per pair, the whole tile"
    bsrgan = replace(manifest.upscaler, digests={"x4": "ab" * 32, "x2": "cd" * 32})
    assert describe_upscaler(bsrgan) == f"bsrgan, bf16, batches of 4; x4 sha256 {'ab' * 32}, x2 sha256 {'cd' * 32}"
    assert describe_upscaler(replace(bsrgan, kernels="compiled")).startswith("bsrgan, bf16, kernels compiled, batches")


def test_verify_says_that_a_store_is_intact(line: CommandLine, small_store: Store) -> None:
    outcome = line("verify", small_store.path)
    assert outcome.code == 0
    assert outcome.out == f"{small_store.path} is intact: 127 files match their digests\n"
    assert "verifying: 125 of 125 files, 100 %" in outcome.err


def test_verify_lists_the_damage_and_exits_with_2(line: CommandLine, copied: Path) -> None:
    (copied / "test/x1/he/c/0/0/0/0/0").unlink()
    (copied / "train/notes.txt").write_text("mine")
    before = contents(copied)
    outcome = line("verify", copied)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.splitlines()[-3:] == [
        f"error: {copied} is damaged (1 missing, 1 extra; 126 files checked): remove the extra files, then "
        f"repair it with `python -m prep build --repair --store '{copied}' --data DIR` (DIR: the folder of its tiles)",
        "  missing: test/x1/he/c/0/0/0/0/0",
        "  extra: train/notes.txt",
    ]
    assert contents(copied) == before


@pytest.mark.parametrize("verb", ["info", "verify", "show"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "none.zarr",
            "none.zarr is no store: it does not exist; stores in {folder}: newer.zarr, begun.zarr; correct",
        ),
        ("data", "data is no store: a folder without zarr.json; correct the path"),
        ("begun.zarr", "begun.zarr is not finished: its journal is begun.zarr.journal; run the `prep build`"),
        ("newer.zarr", "newer.zarr has store format 7, this program reads format 1; use the version of magstain"),
    ],
)
def test_a_path_without_a_store_ends_with_one_line_and_2(
    line: CommandLine, tmp_path: Path, verb: str, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "newer.zarr").mkdir()
    attributes = {"manifest": {"format": 7}, "files": {}}
    (tmp_path / "newer.zarr" / "zarr.json").write_text(json.dumps({"attributes": attributes}))
    with open_writer(tmp_path / "begun.zarr", small_manifest(), small_table()):
        pass
    before = contents(tmp_path)
    outcome = line(verb, tmp_path / name)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert outcome.err.startswith(f"error: {tmp_path}/{message.format(folder=tmp_path)}")
    assert contents(tmp_path) == before


def test_show_draws_the_pair_and_says_where(
    line: CommandLine, small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert line("show", small_store.path).out == "contact sheet of s3_0_0: small-test-0.png\n"
    outcome = line("show", small_store.path, "--split", "train", "--pair", "s2_1_0", "--out", "deep/sheet.PNG")
    assert (outcome.code, outcome.out, outcome.err) == (0, "contact sheet of s2_1_0: deep/sheet.PNG\n", "")
    assert sorted(contents(tmp_path)) == ["deep/", "deep/sheet.PNG", "small-test-0.png"]
    assert np.array_equal(read_picture(tmp_path / "deep/sheet.PNG"), draw_pair(small_store, Split.TRAIN, 5))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--split", "val"), "no pairs in val of {store}; it has train, test"),
        (("--pair", "4"), "no pair '4' in test of {store}; give 0 to 3 or an id, such as s3_"),
        (("--pair", "s3_1"), "no pair 's3_1' in test of {store}; give 0 to 3 or an id, such as s3_1_0, s3_"),
        (("--out", "sheet.jpg"), "--out sheet.jpg: the sheet is a PNG file; use sheet.png"),
    ],
)
def test_show_refuses_what_does_not_exist(
    line: CommandLine,
    small_store: Store,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = line("show", small_store.path, *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {message.format(store=small_store.path)}")
    assert contents(tmp_path) == {}


def test_show_into_a_read_only_folder(line: CommandLine, small_store: Store, tmp_path: Path) -> None:
    with read_only(tmp_path):
        outcome = line("show", small_store.path, "--out", tmp_path / "sheet.png")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {tmp_path}/sheet.png: cannot be written (Read-only file system)")
    assert contents(tmp_path) == {}


def test_a_sheet_shows_every_picture_and_the_boxes(tmp_path: Path) -> None:
    """Tiles of 160 px are shown at 320 px, so that a box's line of 1 px is 2 px of its very colour."""
    sheets = {
        boxes: draw_pair(build_small_store(tmp_path / f"{boxes}.zarr", tile_side=160, boxes=boxes), Split.TEST, 1)
        for boxes in (1, 2)
    }
    assert sheets[2].shape[0] > sheets[1].shape[0]
    assert sheets[2].shape[1] == sheets[1].shape[1]
    for boxes, sheet in sheets.items():
        found = [int((sheet == np.array(colour)).all(axis=2).sum()) for colour in COLOURS]
        outlines = [boxes * 2 * 4 * (4 * 160 // zoom - 4) for zoom in (2, 4)]  # in both stains, 4 px for each
        assert 0.6 * outlines[0] < found[0] <= outlines[0]  # a box of x4 may hide a part
        assert 0.6 * outlines[1] < found[1] <= outlines[1]
        assert found[2] == 0


def test_a_pair_is_found_by_its_id_before_its_number(small_store: Store) -> None:
    assert find_row(small_store, Split.TRAIN, "s2_1_0") == 5
    assert find_row(small_store, Split.TRAIN, "5") == 5


def test_weights_from_a_folder(line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usb, cache = tmp_path / "usb", tmp_path / "cache"
    usb.mkdir()
    table = {}
    for name in ("one.pth", "two.pth"):
        (usb / name).write_bytes(name.encode() * 1000)
        table[name] = WeightFile(
            name=name, size=7000, sha256=digest_file(usb / name), address=f"http://127.0.0.1:9/{name}", what="a net"
        )
    monkeypatch.setattr(weights, "WEIGHT_FILES", table)
    monkeypatch.setenv(FOLDER_VARIABLE, str(cache))
    outcome = line("weights", "--list")
    assert outcome.code == 0
    assert [text for text in outcome.out.splitlines() if str(cache) in text] == [f"  not in {cache}"] * 2
    assert not cache.exists()
    assert line("weights", "--from", usb / "two.pth").out == f"{cache}/two.pth\n"
    assert line("weights", "--from", usb).out == f"{cache}/one.pth\n{cache}/two.pth\n"
    assert contents(cache) == contents(usb)
    assert (
        line("weights", "three.pth").err
        == "error: there is no weight file 'three.pth'; give one of one.pth, two.pth, prep, evaluate\n"
    )
    assert line("weights", "one.pth", "--from", usb, "--folder", tmp_path / "b").out == f"{tmp_path}/b/one.pth\n"
    shutil.rmtree(cache)
    outcome = line("weights", "one.pth")
    assert outcome.code == 2
    assert "error: cannot fetch http://127.0.0.1:9/one.pth" in outcome.err
    assert contents(cache) == {}


@pytest.mark.parametrize(
    "words", [("inf",), ("info",), ("show", "x", "--splt", "test"), ("show", "x", "--split", "tst")]
)
def test_wrong_commands_end_with_2(line: CommandLine, words: tuple[str, ...]) -> None:
    assert line(*words).code == 2


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (Interrupted("3 units are left"), 3, "stopped: 3 units are left\n"),
        (
            MemoryError("a.png cannot be decoded"),
            2,
            "error: this machine has not enough memory: a.png cannot be decoded; "
            "what is already written is kept: end other programs, or use fewer workers and threads or smaller batches, "
            "and run the same command again\n",
        ),
        (
            KeyboardInterrupt(),
            3,
            "stopped by Ctrl-C: what is already written is kept; run the same command to resume\n",
        ),
    ],
)
def test_a_stop_asks_to_be_run_again(
    line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, message: str
) -> None:
    def stop(_: Path) -> None:
        raise raised

    monkeypatch.setattr(Store, "open", stop)
    outcome = line("info", tmp_path)
    assert (outcome.code, outcome.err) == (code, message)


def test_a_bug_shows_its_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_: Path) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Store, "open", fail)
    monkeypatch.setattr(sys, "argv", ["store", "info", str(tmp_path)])
    with pytest.raises(ZeroDivisionError):
        run_app(app)


@pytest.mark.parametrize(("words", "never"), [(["--help"], {"torch", "zarr", "cv2"}), (["info"], {"torch", "cv2"})])
def test_nothing_heavy_is_loaded(small_store: Store, words: list[str], never: set[str]) -> None:
    script = "import atexit, runpy, sys; atexit.register(lambda: print(*sys.modules)); runpy.run_module('store')"
    script = script.replace("'store'", "'store', run_name='__main__'")
    arguments = words if words == ["--help"] else [*words, str(small_store.path)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert not never & set(done.stdout.splitlines()[-1].split())
