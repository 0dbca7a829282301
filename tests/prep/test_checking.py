"""Every pair is read strictly before anything is built, and read again unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from prep.build.bad_pairs import refuse_bad
from prep.settings import Layout
from prep.tiles.checking import collect_pairs, inspect_pairs
from prep.tiles.inspected import Checked
from prep.tiles.pairs import Discovery
from prep.tiles.reading import read_pair
from prep.tiles.splitting.splits import resplit
from store.images import write_png
from store.schema import PairingError, Split
from tests.support.places import SHARED
from tests.support.tile_folders import discover, tile, touch, write_pair


def check(discovery: Discovery, threads: int = 2) -> Checked:
    return collect_pairs(discovery, inspect_pairs(discovery, threads=threads))


def reasons(data: Path) -> dict[str, str]:
    return {bad.id: bad.reason for bad in check(discover(data)).table.skipped}


def test_sound_pairs_come_with_their_digests_and_conversions_are_counted(tmp_path: Path) -> None:
    for n in range(6):
        write_pair(tmp_path, f"t{n}", n)
    grey = Image.fromarray(tile(7)[..., 0])
    grey.save(tmp_path / "HE" / "t4.png")
    grey.save(tmp_path / "HE" / "t5.png")
    found = discover(tmp_path)
    inspected = list(inspect_pairs(found, threads=3))
    assert len(inspected) == 6
    checked = collect_pairs(found, inspected)
    assert checked.tile_side == 32
    assert [pair.id for pair in checked.table.pairs[Split.TRAIN]] == [f"t{n}" for n in range(6)]
    assert checked.notes == ("2 picture(s) grey to RGB, for example 'HE/t4.png'",)
    assert checked == check(found, threads=1)
    he, ihc = read_pair(found.sources, checked.table.pairs[Split.TRAIN][2])
    np.testing.assert_array_equal(he, tile(2))
    np.testing.assert_array_equal(ihc, tile(1002))


def test_pictures_of_one_colour_are_named(tmp_path: Path) -> None:
    for n in range(26):
        write_pair(tmp_path, f"t{n:02}", n)
    almost = np.full((32, 32, 3), 255, np.uint8)
    almost[7, 9, 1] = 254
    for name, value in (("HE/t03", 255), ("IHC/t03", 0), ("IHC/t05", 128)):
        write_png(tmp_path / f"{name}.png", np.full((32, 32, 3), value, np.uint8))
    write_png(tmp_path / "HE/t06.png", almost)
    said = "picture(s) of train have one colour, like glass without tissue; training learns nothing from them, scores"
    assert check(discover(tmp_path)).notes == (f"3 {said} count them: 'HE/t03.png', 'IHC/t03.png', 'IHC/t05.png'",)
    for n in range(26):
        write_png(tmp_path / f"HE/t{n:02}.png", np.full((32, 32, 3), n, np.uint8))
    (note,) = check(discover(tmp_path)).notes
    assert note.startswith(f"28 {said} count them: 'HE/t00.png', 'HE/t01.png'")
    assert note.endswith(" and 8 more")


def test_a_side_by_side_file_is_named_once_whichever_half_has_one_colour(tmp_path: Path) -> None:
    for n in range(3):
        joined = np.concatenate([tile(n), tile(n + 9)], axis=1)
        joined[:, 32 * (n % 2) : 32 * (n % 2) + 32] = 255 if n else joined[:, :32]
        write_png(tmp_path / "train" / f"t{n}.png", joined)
    (note,) = check(discover(tmp_path, layout=Layout.SIDE_BY_SIDE)).notes
    assert note.endswith("scores count them: 'train/t1.png', 'train/t2.png'")


def test_each_bad_pair_is_named_with_its_reason_and_the_good_ones_stay(tmp_path: Path) -> None:
    for n in range(4):
        write_pair(tmp_path, f"good{n}", n)
    write_pair(tmp_path, "differ", 10)
    write_png(tmp_path / "IHC" / "differ.png", tile(1, 16))
    write_pair(tmp_path, "small", 11, side=16)
    for name in ("oblong", "broken", "empty", "text", "deep", "cmyk", "clear"):
        write_pair(tmp_path, name, 12)
    for stain in ("HE", "IHC"):
        write_png(tmp_path / stain / "oblong.png", tile(1)[:24])
    whole = (tmp_path / "HE" / "broken.png").read_bytes()
    (tmp_path / "HE" / "broken.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "IHC" / "empty.png").write_bytes(b"")
    (tmp_path / "HE" / "text.png").write_text("no picture")
    Image.fromarray(tile(1)[..., 0].astype(np.uint16) * 256).save(tmp_path / "IHC" / "deep.png")
    Image.new("CMYK", (32, 32)).save(tmp_path / "HE" / "cmyk.png", "TIFF")
    Image.new("RGBA", (32, 32), (9, 9, 9, 100)).save(tmp_path / "IHC" / "clear.png")
    found = check(discover(tmp_path))
    listed = {bad.id: bad.reason for bad in found.table.skipped}
    assert listed == {
        "differ": "H&E is 32 x 32 px, IHC is 16 x 16 px; the two must show one field: cut them alike",
        "small": "is 16 px, most tiles are 32 px, and a store holds one size; cut it again",
        "oblong": "is 32 x 24 px, and a tile must be square; cut it again",
        "broken": f"HE/broken.png: truncated PNG, it breaks off after {len(whole) // 2} bytes; fetch or export it "
        "again",
        "empty": "IHC/empty.png: the file is empty (0 bytes); fetch or export it again",
        "text": "HE/text.png: is no picture, whatever its name says: it begins with b'no pictu'; give JPEG, PNG, TIFF "
        "or BMP files, or leave it out",
        "deep": "IHC/deep.png: has 16 bits per channel, more than a store keeps; scale it to 8-bit RGB yourself",
        "cmyk": "HE/cmyk.png: is CMYK, a printer's colours; convert it to RGB yourself, with the colour profile that "
        "is right for it",
        "clear": "IHC/clear.png: has transparent pixels, and what is behind them is unknown; flatten it onto white "
        "yourself",
    }
    assert (found.tile_side, len(found.table.pairs[Split.TRAIN])) == (32, 4)
    with pytest.raises(PairingError, match=r"^9 bad pairs: 9 not usable: 'broken' \(HE/broken.png: trunc.* and 4 more"):
        refuse_bad(found.table.skipped, Layout.FOLDERS)


def test_the_larger_side_is_kept_of_two_that_are_equally_frequent(tmp_path: Path) -> None:
    for n in range(2):
        write_pair(tmp_path, f"small{n}", n, side=16)
        write_pair(tmp_path, f"large{n}", n, side=32)
    assert check(discover(tmp_path)).tile_side == 32
    assert set(reasons(tmp_path)) == {"small0", "small1"}


def test_side_by_side_pictures_are_halved_and_others_refused(tmp_path: Path) -> None:
    for n in range(2):
        write_png(tmp_path / f"t{n}.png", np.hstack([tile(n), tile(n + 1000)]))
    write_png(tmp_path / "square.png", tile(5))
    found = discover(tmp_path)
    checked = check(found)
    assert [bad.reason for bad in checked.table.skipped] == [
        "is 32 x 32 px, and a side-by-side picture must be twice as wide as high; "
        "cut it again, or choose another layout"
    ]
    pair = checked.table.pairs[Split.TRAIN][1]
    assert (pair.he, pair.he_digest) == (pair.ihc, pair.ihc_digest)
    he, ihc = read_pair(found.sources, pair)
    np.testing.assert_array_equal(he, tile(1))
    np.testing.assert_array_equal(ihc, tile(1001))


def test_a_file_that_changed_after_the_check_is_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", 0)
    found = discover(tmp_path)
    pair = check(found).table.pairs[Split.TRAIN][0]
    write_png(tmp_path / "IHC" / "a.png", tile(77))
    with pytest.raises(PairingError, match=r"IHC/a\.png: changed while the store was built: sha256 was .*new store"):
        read_pair(found.sources, pair)


def test_names_do_not_depend_on_where_the_data_are(tmp_path: Path) -> None:
    tables = []
    for place in ("here", "there/deep"):
        write_pair(tmp_path / place, "x/a", 0)
        touch(tmp_path / place, "HE/bad.png", "IHC/bad.png")
        tables.append(check(discover(tmp_path / place)).table)
    assert tables[0] == tables[1]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real picture pairs are not beside the checkout")
def test_the_real_pairs_are_found_completely_and_tissue_blocks_stay_together() -> None:
    found = discover(SHARED / "data" / "derived-pairs256", slide_pattern="^(lesion|ratkidney|restained)")
    checked = check(found)
    assert (len(found.candidates), checked.tile_side, checked.table.skipped, checked.notes) == (40, 256, (), ())
    drawn = resplit(found, seed=0, val_fraction=0, test_fraction=0.2)
    sides = {slide: {c.split for c in drawn.candidates if c.slide == slide} for slide in ("lesion", "ratkidney")}
    assert all(len(splits) == 1 for splits in sides.values())
    assert sides["lesion"] == {Split.TRAIN}  # 28 of 40 are more than a fifth


def test_a_lack_of_memory_stops_and_skips_no_pair(mist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped pairs are sealed with their reason: a machine that was busy would be written down as damage."""

    def load(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(MemoryError, match="cannot be decoded"):
        list(inspect_pairs(discover(mist), threads=2))
