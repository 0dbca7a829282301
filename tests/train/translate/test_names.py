"""From what is named to pictures and outputs; what cannot be is refused before a picture is decoded."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from store.schema import MagstainError, SettingsError
from store.slides.writing.plan import OutputKind
from train.translate.inputs import about_others
from train.translate.names import Format, Listing, plan_names


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are relative to an empty folder."""
    monkeypatch.chdir(tmp_path)


def lay(*names: str) -> None:
    """Files of these names, and an OME-Zarr for each name that ends so."""
    for name in names:
        file = Path(name, "zarr.json") if name.endswith(".zarr") else Path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        if "pyramid" in name:
            tifffile.imwrite(file, np.zeros((64, 64, 3), np.uint8), tile=(32, 32))


def plan(*inputs: str, out: str = "out", wanted: Format = Format.AUTO) -> Listing:
    return plan_names(inputs, Path(out), wanted)


def outputs(listing: Listing) -> dict[str, str]:
    return {item.source.as_posix(): item.output.as_posix() for item in listing.items}


def test_a_folder_keeps_its_names_and_suffixes_are_mapped() -> None:
    lay(
        "in/a.jpg", "in/b/c.1.JPEG", "in/b/d.bmp", "in/e.tif", "in/pyramid.tiff", "in/f.ome.tif", "in/g.svs", "in/h.png"
    )
    lay("in/notes.txt", "in/.hidden.png", "in/masks/a.png", "in/a_mask.png", "in/i.ome.zarr", "in/deep/j.zarr")
    found = plan("in")
    assert outputs(found) == {
        "in/a.jpg": "out/a.png",
        "in/b/c.1.JPEG": "out/b/c.1.png",
        "in/b/d.bmp": "out/b/d.png",
        "in/e.tif": "out/e.tiff",
        "in/pyramid.tiff": "out/pyramid.ome.tiff",
        "in/f.ome.tif": "out/f.tiff",
        "in/g.svs": "out/g.ome.tiff",
        "in/h.png": "out/h.png",
        "in/i.ome.zarr": "out/i.ome.tiff",
        "in/deep/j.zarr": "out/deep/j.ome.tiff",
    }
    others = [path.as_posix() for path in found.others]  # what is in folders that are no data is not among them
    assert others == ["in/.hidden.png", "in/a_mask.png", "in/notes.txt"]


def test_files_that_are_not_translated_are_named_by_kind() -> None:
    lay(
        "in/a.png",
        *(f"in/{name}" for name in ("anim.gif", "p.WEBP", "x/i.heic", "z.jp2", ".a.gif", "b.txt", "m_mask.png")),
    )
    assert about_others(plan("in").others) == [
        "4 pictures of a kind that is not read (in/anim.gif, in/p.WEBP, in/x/i.heic, …); convert to PNG or TIFF",
        "1 file named as a mask (in/m_mask.png)",
        "2 files of another kind (in/.a.gif, in/b.txt)",
    ]
    assert about_others(plan("in/a.png").others) == []
    Path("in/a.png").unlink()
    refuse(r"none of 7 files ends in .*; there: 4 pictures of a kind that is not read \(in/anim\.gif", "in")


@pytest.mark.parametrize(
    ("wanted", "suffix"),
    [
        (OutputKind.PNG, ".png"),
        (OutputKind.JPEG, ".jpg"),
        (OutputKind.TIFF, ".tiff"),
        (OutputKind.OME_TIFF, ".ome.tiff"),
        (OutputKind.OME_ZARR, ".ome.zarr"),
    ],
)
def test_a_format_that_is_asked_for_gives_the_suffix(wanted: OutputKind, suffix: str) -> None:
    lay("a.b.jpg", "s.svs")
    found = plan("a.b.jpg", "s.svs", wanted=Format(wanted))
    assert list(outputs(found).values()) == [f"out/a.b{suffix}", f"out/s{suffix}"]
    assert {item.kind for item in found.items} == {wanted}


@pytest.mark.parametrize(
    ("out", "kind"),
    [
        ("x/y.png", OutputKind.PNG),
        ("y.JPG", OutputKind.JPEG),
        ("y.tif", OutputKind.TIFF),
        ("y.ome.tif", OutputKind.OME_TIFF),
        ("y.ome.zarr", OutputKind.OME_ZARR),
        ("y.zarr", OutputKind.OME_ZARR),
    ],
)
def test_one_picture_and_a_suffix_are_a_file(out: str, kind: OutputKind) -> None:
    lay("a.svs")
    (item,) = plan("a.svs", out=out).items
    assert (item.output.as_posix(), item.kind) == (out, kind)
    assert item.lock.name == f"{Path(out).name}.lock"


def test_an_output_that_is_an_ome_zarr_is_not_taken_for_a_folder_of_outputs() -> None:
    lay("a.svs", "out.zarr")
    assert outputs(plan("a.svs", out="out.zarr")) == {"a.svs": "out.zarr"}
    Path("v1.2").mkdir()
    assert outputs(plan("a.svs", out="v1.2")) == {"a.svs": "v1.2/a.ome.tiff"}


def test_a_list_names_pictures_and_folders_relative_to_itself() -> None:
    lay("data/a.png", "data/sub/b.png", "more/c.png", "data/folder/d.png")
    absolute = Path("more/c.png").absolute()
    text = f"﻿# slides\n\na.png\r\n  sub/b.png  \n../more/c.png\n{absolute.parent}\nfolder\n"
    Path("data/list.txt").write_text(text.replace(f"{absolute.parent}\n", ""), encoding="utf-8")
    assert list(outputs(plan("@data/list.txt")).values()) == ["out/a.png", "out/sub/b.png", "out/c.png", "out/d.png"]
    Path("data/list.txt").write_text(f"{absolute}\n", encoding="utf-8")
    assert outputs(plan("@data/list.txt")) == {absolute.as_posix(): "out/c.png"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names no picture"),
        (b"# only\n\n", "names no picture"),
        (b"\xff\xfe\x00", "is no list of pictures"),
        (b"a\0b\n", "is no path"),
        (b"@other.txt\n", "no other lists"),
        (b"gone.png\n", r"gone\.png: no such file"),
        (b"a.png\n" * 2_000_000, "is no list of pictures"),
    ],
)
def test_a_bad_list_is_one_line(content: bytes, message: str) -> None:
    lay("a.png")
    Path("list.txt").write_bytes(content)
    with pytest.raises(MagstainError, match=message) as refused:
        plan("@list.txt")
    assert "\n" not in str(refused.value)


def refuse(message: str, *inputs: str, out: str = "out", wanted: Format = Format.AUTO) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(MagstainError, match=message) as refused:
        plan(*inputs, out=out, wanted=wanted)
    assert "\n" not in str(refused.value)
    assert sorted(Path().rglob("*")) == before


def test_two_pictures_that_get_one_name_are_refused_with_both() -> None:
    lay(
        "in/a.jpg",
        "in/a.png",
        "one/x.png",
        "two/x.png",
        "case/B.png",
        "case/b.jpg",
        "pair/p.png.jpg/q.png",
        "pair/p.png.bmp",
    )
    refuse(r"in/a\.jpg and in/a\.png would both become out/a\.png", "in")
    refuse(r"one/x\.png and two/x\.png would both become out/x\.png", "one", "two")
    refuse(r"would both become out/b\.png on disks that do not tell upper from lower case", "case")
    assert len(plan("in/a.jpg", "one").items) == 2
    lay("above/p.bmp", "above/p.png/q.bmp")
    refuse(r"above/p\.bmp would become out/p\.png, which is the folder of out/p\.png/q\.png", "above")


def test_an_output_in_the_place_of_an_input_is_refused() -> None:
    lay("in/a.png", "in/deep/b.png", "z.zarr", "in/c.jpg")
    refuse(r"the translation of in/a\.png would be in/a\.png, an input", "in/a.png", out="in/a.png")
    refuse(r"--out in: lies in in, which is translated", "in", out="in")
    refuse(r"--out in/new: lies in in", "in", out="in/new")
    refuse(r"would be z\.zarr/x\.png, in the input z\.zarr", "z.zarr", out="z.zarr/x.png")
    refuse(r"would be in/a\.png, an input", "in/a.png", "in/c.jpg", out="in")
    Path("link").symlink_to("in")
    refuse(r"--out link/new: lies in in", "in", out="link/new")
    refuse(r"would be link/a\.png, an input", "in/a.png", out="link/a.png")
    assert outputs(plan("in/c.jpg", out="in")) == {"in/c.jpg": "in/c.png"}


def test_what_does_not_go_together_is_refused() -> None:
    lay("a.png", "b.png", "file", "in/notes.txt", "empty/x_mask.png")
    refuse("'.bmp' is no format that is written; use one of .ome.tiff", "a.png", out="x.bmp")
    refuse(
        "--out x.png with --format tiff: give one of them, or an --out in .tiff",
        "a.png",
        out="x.png",
        wanted=Format.TIFF,
    )
    refuse(r"--out x\.png: is named as one png file", "a.png", "b.png", out="x.png")
    refuse("--out file: is a file, and 2 pictures need a folder", "a.png", "b.png", out="file")
    refuse("--out file: is a file", "a.png", out="file")
    refuse("no picture in in, empty: none of 2 files ends in", "in", "empty")
    refuse(r"gone: no such file or folder", "gone")
    refuse("the name .* is too long", "a.png", out="y" * 300)
    lay(f"{'z' * 240}.svs")
    refuse("is too long", f"{'z' * 240}.svs")


def test_links_that_lead_round_are_followed_once(tmp_path: Path) -> None:
    lay("in/a.png")
    Path("in/again").symlink_to(Path("in").absolute())
    Path("in/broken.png").symlink_to("nowhere")
    assert set(outputs(plan("in"))) == {"in/a.png", "in/broken.png"}


@pytest.mark.skipif(os.getuid() == 0, reason="root may look into every folder")
def test_a_folder_that_cannot_be_listed_is_one_line() -> None:
    lay("in/shut/a.png")
    Path("in/shut").chmod(0)
    refuse("cannot be looked into", "in")


def test_a_suffix_alone_is_a_setting_error() -> None:
    lay("a.png")
    with pytest.raises(SettingsError, match="no format"):
        plan("a.png", out="x.webp")
