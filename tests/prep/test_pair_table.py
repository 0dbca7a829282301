"""Pairs from a table: what it may look like, what is refused with its row, and stores that are built from it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from prep.build.run import build, repair
from prep.build.runner import Processes
from prep.settings import PrepSettings
from prep.tiles.discovery import Data, find_pairs
from prep.tiles.pairs import Discovery
from store.images import write_png
from store.reader import Store
from store.schema import MagstainError, PairingError, SettingsError, Split
from store.settings import load
from tests.support.tile_folders import ids, tile, touch
from tests.support.tiles import digest

FILES = ("a/he 1.png", "a/ihc 1.tif", "b/he2.png", "b/ihc2.png", "c/he,3.png", "c/ihc+3.png")
ROWS = "a/he 1.png,a/ihc 1.tif,S 1,train\nb/he2.png,b/ihc2.png,S2,test\n"
SMALL = ("upscaler=lanczos", "view_side=16", "margin=2", "unit=2")


def read(folder: Path, text: str | bytes, *changes: str, name: str = "pairs.csv") -> Discovery:
    """The candidates of a table that lies beside the files."""
    touch(folder, *FILES)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return find_pairs(load(PrepSettings, None, [*changes]), Data(he=folder, ihc=folder, table=folder / name))


def refusal(folder: Path, text: str | bytes, *changes: str) -> str:
    with pytest.raises(MagstainError) as caught:
        read(folder, text, *changes)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(str(folder / "pairs.csv"))


def test_a_table_names_pairs_slides_and_splits(tmp_path: Path) -> None:
    found = read(tmp_path, f"he,ihc,slide,split\n{ROWS}")
    assert [(c.id, c.split, c.slide, c.he, c.ihc) for c in found.candidates] == [
        ("a/he 1", "train", "S 1", "a/he 1.png", "a/ihc 1.tif"),
        ("b/he2", "test", "S2", "b/he2.png", "b/ihc2.png"),
    ]
    assert (found.read_as, found.published, found.unpaired) == ("table pairs.csv, 1 train + 1 test pairs", True, ())


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeffHE, IHC ,Slide,SPLIT\r\n{ROWS}".encode(),
        f"he\tihc\tslide\tsplit\n{ROWS.replace(',', chr(9))}".encode("utf-16"),
        f"he;ihc;slide;split\n\n{ROWS.replace(',', ';')}\n;;;\n".encode(),
        b'split|slide|ihc|he\nTraining|S 1|a/ihc 1.tif|"a/he 1.png"\ntest|S2|b/ihc2.png|b/he2.png\n',
        b"he,ihc,slide,split\n./a/he 1.png,a\\ihc 1.tif,S 1,train\na/../b/he2.png,b/ihc2.png,S2,TEST",
    ],
)
def test_the_same_table_in_other_clothes_is_the_same(tmp_path: Path, text: bytes) -> None:
    assert read(tmp_path, text) == read(tmp_path, f"he,ihc,slide,split\n{ROWS}")


def test_absolute_names_are_recorded_below_the_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    rows = f"{data}/b/he2.png,{data}/b/ihc2.png,train\n{data}/a/he 1.png,a/ihc 1.tif,test\n"
    for folder in (data, tmp_path / "link"):
        found = read(folder, f"he,ihc,split\n{rows}")
        assert [(c.he, c.ihc) for c in found.candidates] == [
            ("b/he2.png", "b/ihc2.png"), ("a/he 1.png", "a/ihc 1.tif")
        ]  # fmt: skip


def test_ids_are_given_by_a_column_and_other_columns_are_named(tmp_path: Path) -> None:
    text = 'he,ihc,id,shift_x,split,note\nb/he2.png,b/ihc2.png,one,3,train,x\nb/he2.png,a/ihc 1.tif,two,4,test,""\n'
    found = read(tmp_path, text)
    assert (ids(found), ids(found, Split.TEST)) == (["one"], ["two"])
    assert found.notes[0] == "pairs.csv: the column(s) 'shift_x', 'note' are not read"


def test_names_that_hold_signs_are_quoted(tmp_path: Path) -> None:
    found = read(tmp_path, 'he,ihc,split\n"c/he,3.png",c/ihc+3.png,train\nb/he2.png,b/ihc2.png,test\n')
    assert ids(found) == ["c/he,3"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "he,slide\n",
            ", row 1: is 'he,slide' and must name the columns he and ihc, and may name slide, split, id, sep",
        ),
        ("", ", row 1: is '' and must name the columns he and ihc"),
        ("he,ihc,he\n", ", row 1: has two columns 'he'; keep one of them"),
        ("he,ihc\n", ": has a header and no row; write one row for each pair"),
        ("he,ihc\na/he 1.png\n", ", row 2: has 1 cells, and the header has 2; write names that hold the separator ','"),
        ("he,ihc\nc/he,3.png,c/ihc+3.png\n", ", row 2: has 3 cells, and the header has 2; write names that hold the"),
        ('he,ihc\nb/he2.png,"b/ihc2.png\n', ", row 2: cannot be read (unexpected end of data); correct its quotes"),
        ("he,ihc\nb/he2.png,\n", ", row 2: ihc is empty; every row needs one, or leave the column away"),
        (f"he,ihc,slide,split\n{ROWS}b/he2.png,a/ihc 1.tif,,test\n", ", row 4: slide is empty; every row needs one"),
        (f"he,ihc,slide,split\n{ROWS}b/he2.png,a/ihc 1.tif,S,\n", ", row 4: split is empty; every row needs one"),
        ("he,ihc,split\nb/he2.png,b/ihc2.png,hold\n", ", row 2: split is 'hold', and must be train, val, test"),
        ("he,ihc\nb/he2.png,../b/ihc2.png\n", ", row 2: '../b/ihc2.png' lies outside of "),
        ("he,ihc\n/else/he2.png,b/ihc2.png\n", ", row 2: '/else/he2.png' lies outside of "),
        ("he,ihc\nb/he2.png,b/notes.txt\n", ", row 2: 'b/notes.txt' is no picture (.bmp, "),
        ("he,ihc\nb/he2.png,b/nul.png\n", ", row 2: the file name 'b/nul.png' has the part 'nul.png', which is a dev"),
        (
            "he,ihc\nb/he2.png,b/he2.png\n",
            ", row 2: he is 'b/he2.png' and ihc is 'b/he2.png', and two files are needed:",
        ),
        (f"he,ihc,slide,split\n{ROWS}b/he2.png,b/ihc2.png,S2,train\n", ", rows 3 and 4: are the same pair; keep one"),
        (f"he,ihc,slide,split\n{ROWS}b/he2.png,a/ihc 1.tif,S2,test\n", ", rows 3 and 4: both have the id 'b/he2', wh"),
        ("he,ihc,id\nb/he2.png,b/ihc2.png,a/../b\n", ", row 2: the id 'a/../b' has the part '..', which leads out"),
        (
            f"he,ihc,slide,split\n{ROWS}c/ihc+3.png,a/he 1.png,S,train\n",
            ", rows 2 and 4: 'a/he 1.png' is H&E in one and I",
        ),
        (
            f"he,ihc,slide,split\n{ROWS}b/ihc2.png,c/ihc+3.png,S,train\n",
            ", rows 4 and 3: 'b/ihc2.png' is H&E in one and",
        ),
        ("he,ihc,split\nb/he2.png,b/ihc2.png,test\n", ": no row is of train; add such rows"),
        (
            "he,ihc,split\nb/x.png,b/ihc2.png,train\nb/y.png,b/ihc2.png,train\nb/he2.png,b/ihc2.png,test\n",
            ": of none of its 2 pairs of train both files exist: row 2 of pairs.csv names 'b/x.png', and there is no ",
        ),
        ("he,ihc,split\nb/he2.png,b/ihc2.png,train\n", ": layout table has no test set of its own, and split = publ"),
        (b"he,ihc\nb/h\xe92.png,b/ihc2.png\n", ": is not text in UTF-8 (byte 10); save it as CSV in UTF-8"),
    ],
)
def test_what_is_refused_names_the_row(tmp_path: Path, text: str | bytes, told: str) -> None:
    assert refusal(tmp_path, text).startswith(told)


def test_a_column_of_slides_and_a_pattern_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"slide_pattern = '\.\+', and .*pairs\.csv has a column slide"):
        read(tmp_path, f"he,ihc,slide,split\n{ROWS}", "slide_pattern=.+")


@pytest.mark.parametrize(
    "setting", ["layout=mist", "layout=folders", "he_name={}_HE", "ihc_name=B_{}", "ignore_case=true"]
)
def test_settings_that_only_names_of_folders_and_files_obey_are_refused(tmp_path: Path, setting: str) -> None:
    key, _, value = setting.partition("=")
    told = refusal(tmp_path, f"he,ihc,slide,split\n{ROWS}", setting)
    assert told.startswith(f"{key} = {value}: ".replace("true", "True"))
    assert "pairs.csv names the pairs; leave it away" in told


def test_a_table_that_cannot_be_read_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(PairingError, match=r"gone\.csv: cannot be read \(No such file or directory\); .*make: PAIRS="):
        find_pairs(PrepSettings(), Data(he=tmp_path, ihc=tmp_path, table=tmp_path / "gone.csv"))
    with pytest.raises(PairingError, match=r"p\.xlsx: is a workbook; save its sheet as CSV in UTF-8"):
        read(tmp_path, b"PK", name="p.xlsx")


def test_names_are_found_in_the_form_of_unicode_that_the_disk_has(tmp_path: Path) -> None:
    composed, parted = (unicodedata.normalize(form, "Größe.png") for form in ("NFC", "NFD"))
    touch(tmp_path, f"he/{parted}", f"ihc/{composed}")
    found = read(tmp_path, f"he,ihc,split\nhe/{composed},ihc/{parted},train\na/he 1.png,a/ihc 1.tif,test\n")
    assert (found.candidates[0].he, found.candidates[0].ihc) == (f"he/{parted}", f"ihc/{composed}")
    assert found.unpaired == ()


def test_rows_of_side_by_side_pictures_name_one_file_twice(tmp_path: Path) -> None:
    rows = "he,ihc,split\nb/he2.png,b/he2.png,train\nb/ihc2.png,b/ihc2.png,test\n"
    found = read(tmp_path, rows, "layout=side-by-side")
    assert (found.sources.joined, ids(found)) == (True, ["b/he2"])
    told = refusal(tmp_path, f"{rows}a/he 1.png,a/ihc 1.tif,test\n", "layout=side-by-side")
    assert told.startswith(
        ", row 4: he is 'a/he 1.png' and ihc is 'a/ihc 1.tif', and each row must name one file twice"
    )


def test_a_table_names_pairs_and_not_unpaired_tiles(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"paired = false, and .*pairs\.csv names pairs; give one of both"):
        read(tmp_path, f"he,ihc,slide,split\n{ROWS}", "paired=false")


def test_a_missing_file_is_a_bad_pair_that_names_its_row(tmp_path: Path) -> None:
    found = read(tmp_path, f"he,ihc,slide,split\n{ROWS}b/gone.png,b/ihc2.png,S2,test\n")
    (bad,) = found.unpaired
    assert (bad.id, bad.reason) == ("b/gone", "row 4 of pairs.csv names 'b/gone.png', and there is no such file")


def test_slides_of_the_table_are_split(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{stain}/{n}.png" for stain in ("x", "y") for n in range(6)))
    rows = "".join(f"x/{n}.png,y/{n}.png,slide {n // 2}\n" for n in range(6))
    found = read(tmp_path, f"he,ihc,slide\n{rows}", "split=by-slide", "test_fraction=0.4")
    held_out = [c.slide for c in found.candidates if c.split is Split.TEST]
    assert len(held_out) == 2
    assert held_out[0] == held_out[1] in {f"slide {n}" for n in range(3)}


def test_a_store_is_built_resumed_and_repaired_from_a_table(tmp_path: Path) -> None:
    """With the H&E and the IHC in folders of their own, to which the names are relative."""
    rows = ["he,ihc,slide,split"]
    for n in range(5):
        write_png(tmp_path / "one" / "x" / f"{n}.png", tile(n))
        write_png(tmp_path / "two" / f"IHC-{9 - n}.png", tile(50 + n))
        rows.append(f"x/{n}.png,IHC-{9 - n}.png,S{n},{'test' if n == 4 else 'train'}")
    table = tmp_path / "pairs.csv"
    table.write_text("\n".join(rows))
    data = Data(he=tmp_path / "one", ihc=tmp_path / "two", table=table)
    settings, store = load(PrepSettings, None, [*SMALL]), tmp_path / "s.zarr"
    build(settings, data, store, skip_bad=False, processes=Processes(threads=1))
    first = Store.open(store).pairs(Split.TRAIN)[0]
    assert (first.id, first.he, first.ihc, first.slide) == ("x/0", "x/0.png", "IHC-9.png", "S0")
    before = digest(store)
    victim = max(file for file in (store / "train" / "x2" / "he").rglob("*") if file.is_file() and "c" in file.parts)
    victim.chmod(0o644)
    victim.write_bytes(b"")
    repair(None, data, store, processes=Processes(threads=1))
    assert digest(store) == before


def test_a_table_of_squares_is_no_table_of_pairs(tmp_path: Path) -> None:
    told = refusal(tmp_path, "he,ihc,top,left,side\nHE/a.png,IHC/a.png,0,0,64\nHE/a.png,IHC/a.png,0,64,64\n")
    assert "is a table of squares (columns top, left, side)" in told
    assert "--set tile_side=512" in told
