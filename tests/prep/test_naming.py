"""Names that differ by a rule: templates, case, forms of Unicode, and the settings that an error names."""

from __future__ import annotations

import re
import shlex
import tracemalloc
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from prep.build.bad_pairs import refuse_bad
from prep.settings import PrepSettings
from prep.tiles.discovery import Data, find_pairs
from prep.tiles.names.naming import Naming, pair_id, suggest
from prep.tiles.names.patterns import example_for, fitting_pattern
from prep.tiles.pairs import Discovery
from store.schema import MagstainError, PairingError, Split
from store.settings import load
from tests.support.tile_folders import ids, touch

SLIDES = range(4)
BY_SLIDE = "split=by-slide"
RULES = [  # names of H&E and IHC with the slide at {}, and the settings that pair them
    ("s{}_1_1_HE", "s{}_1_1_IHC", "he_name={}_HE ihc_name={}_IHC"),
    ("s{}_1_1", "s{}_1_1_IHC", "ihc_name={}_IHC"),
    ("s{}_1_1.ome", "s{}_1_1", "he_name={}.ome"),
    ("HE_s{}_1_1", "HER2_s{}_1_1", "he_name=HE_{} ihc_name=HER2_{}"),
    ("HE s{} 1 1", "IHC s{} 1 1", "he_name=HE {} ihc_name=IHC {}"),
    ("s{}_HE_1_1", "s{}_IHC_1_1", "he_name={}_HE_{} ihc_name={}_IHC_{}"),
    ("s{}-1-1-HE", "s{}-1-1-IHC", "he_name={}-HE ihc_name={}-IHC"),
    ("he{}_1_1", "ihc{}_1_1", "he_name=he{} ihc_name=ihc{}"),
    ("[{},7]+_1_1_HE", "[{},7]+_1_1_CD3", "he_name={}_HE ihc_name={}_CD3"),
    ("it's 100%, {}_1_1 (HE)", "it's 100%, {}_1_1 (IHC)", "he_name={} (HE) ihc_name={} (IHC)"),
    ("s{}_1_1_HE_20x", "s{}_1_1_IHC_40x", "he_name={}_HE_20x ihc_name={}_IHC_40x"),
    ("S{}_1_1", "s{}_1_1", "ignore_case=true"),
    ("S{}_1_1_HE", "s{}_1_1_ihc", "he_name={}_HE ihc_name={}_ihc ignore_case=true"),
]


def settings_in(message: str) -> list[str]:
    """The settings that a message tells a person to type."""
    typed = re.search(r"((?:--set \S+ |--set '[^']+' |--set '.+?' )+)\(make: SET=", message)
    assert typed, message
    return [word for word in shlex.split(typed[1]) if word != "--set"]


def pairs_of(data: Path, *sets: str, he: str = "", ihc: str = "") -> Discovery:
    where = Data(he=data / he, ihc=data / ihc) if he else Data(he=data, ihc=data)
    return find_pairs(load(PrepSettings, None, list(sets)), where)


def lay(data: Path, he: Sequence[str], ihc: Sequence[str]) -> None:
    touch(data, *(f"HE/{name}.png" for name in he), *(f"IHC/{name}.jpg" for name in ihc))


@pytest.mark.parametrize(("he", "ihc", "told"), RULES)
@pytest.mark.parametrize("folders", [{}, {"he": "HE", "ihc": "IHC"}], ids=["data", "he and ihc"])
def test_the_error_names_the_settings_that_pair_all_and_they_do(
    tmp_path: Path, he: str, ihc: str, told: str, folders: dict[str, str]
) -> None:
    lay(tmp_path, [he.replace("{}", str(n)) for n in SLIDES], [ihc.replace("{}", str(n)) for n in SLIDES])
    with pytest.raises(PairingError) as caught:
        pairs_of(tmp_path, BY_SLIDE, **folders)
    message = str(caught.value)
    assert "4 H&E tile(s), for example" in message
    assert "gives 4 pair(s)" in message
    assert "slide(s) ()" not in message
    assert " ".join(settings_in(message)) == told
    found = pairs_of(tmp_path, BY_SLIDE, "slide_pattern=.+", *settings_in(message), **folders)
    assert (len(found.candidates), found.unpaired) == (4, ())


def test_ids_are_what_the_template_leaves_and_folders_stay(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{stain}A/d{n}/x_{n}_HE.png" for stain in ("train", "val") for n in (1, 2)))
    touch(tmp_path, *(f"{stain}B/d{n}/x_{n}_IHC.tif" for stain in ("train", "val") for n in (1, 2)))
    found = pairs_of(tmp_path, "he_name={}_HE", "ihc_name={}_IHC")
    assert ids(found) == ids(found, Split.TEST) == ["d1/x_1", "d2/x_2"]
    assert pair_id("a_HE_b_HE_c", "{}_HE_{}") == "a_HE_b_c"


def test_unpaired_tiles_are_told_with_the_settings_that_pair_more(tmp_path: Path) -> None:
    lay(tmp_path, ["s0_1_1", *(f"s{n}_1_1_HE" for n in range(1, 5))], ["s0_1_1", *(f"s{n}_1_1_B" for n in range(1, 5))])
    found = pairs_of(tmp_path, BY_SLIDE, "slide_pattern=.+", "test_fraction=0")
    assert len(found.candidates) == 1
    with pytest.raises(
        PairingError, match=r"8 bad pairs: .*--set 'he_name=\{\}_HE' .* gives 4 pair\(s\); or correct them"
    ):
        refuse_bad(found.unpaired, found.layout, names=found.hint)


def test_looking_for_a_hint_takes_little_memory_where_names_differ_in_one_term_only() -> None:
    he, ihc = ([f"train/{sign}{n}_0_0" for n in range(600)] for sign in "Aa")
    tracemalloc.start()
    hint = suggest(he, ihc, Naming(), 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert hint is not None
    assert (hint.settings, hint.pairs) == (("ignore_case=true",), 600)
    assert peak < 10e6  # bytes; 66 MB where each name's rest is tried with every other name's


def test_no_hint_is_given_where_none_would_help(tmp_path: Path) -> None:
    lay(tmp_path, [f"x{n}_1_1" for n in SLIDES], [f"t{n}_8_8" for n in SLIDES])
    with pytest.raises(PairingError) as caught:
        pairs_of(tmp_path, BY_SLIDE)
    assert "_name=" not in str(caught.value)
    assert str(caught.value).endswith(
        "list the pairs: --pairs-from pairs.csv (make: PAIRS=pairs.csv), or take tiles that are no pairs: --set "
        "paired=false (make: SET=paired=false)"
    )


@pytest.mark.parametrize("templates", [("he_name={}_HE",), ("he_name={}_HE", "ihc_name={}_IHC"), ("ihc_name=x{}",)])
def test_templates_that_no_name_needs_are_told_to_be_left_away(tmp_path: Path, templates: tuple[str, ...]) -> None:
    names = [f"s{n}_1_1" for n in SLIDES]
    lay(tmp_path, names, names)
    with pytest.raises(
        PairingError, match=r"no pair was found: .*; without he_name and ihc_name there are 4 pair\(s\);"
    ):
        pairs_of(tmp_path, BY_SLIDE, *templates)


def test_names_of_two_slides_are_no_rule_and_tiles_of_different_places_may_be_unpaired(tmp_path: Path) -> None:
    grid = [f"{row}_{column}" for row in range(3) for column in range(3)]
    lay(tmp_path, [f"a{n}_{at}" for n in (1, 2) for at in grid], [f"b{n}_{at}" for n in (4, 5) for at in grid])
    with pytest.raises(PairingError, match="no pair was found: ") as caught:
        pairs_of(tmp_path, BY_SLIDE)
    assert "_name=" not in str(caught.value)
    assert "--set paired=false" in str(caught.value)


def test_where_a_rule_is_told_tiles_of_different_places_are_told_their_setting(tmp_path: Path) -> None:
    lay(tmp_path, [f"s{n}_1_1_HE" for n in SLIDES], [f"s{n}_1_1_IHC" for n in SLIDES])
    with pytest.raises(PairingError, match=r"gives 4 pair\(s\); if they are of different places, --set paired=false"):
        pairs_of(tmp_path, BY_SLIDE)


def test_templates_that_no_picture_of_one_folder_fits_are_told_with_the_number(tmp_path: Path) -> None:
    touch(tmp_path, *(f"s{n}_1_1_x.png" for n in SLIDES))
    with pytest.raises(
        PairingError, match=r"0 IHC tile\(s\), and ignored 4 picture\(s\) whose names fit no template; "
    ):
        pairs_of(tmp_path, BY_SLIDE, "he_name={}_HE", "ihc_name={}_IHC")


def test_two_forms_of_unicode_are_one_name_and_twice_in_one_stain_refused(tmp_path: Path) -> None:
    composed, parted = (unicodedata.normalize(form, "Größe_1_1") for form in ("NFC", "NFD"))
    lay(tmp_path, [composed, "b_1_1"], [parted, "b_1_1"])
    found = pairs_of(tmp_path, BY_SLIDE, "test_fraction=0")
    assert [(c.id, c.ihc) for c in found.candidates] == [
        (composed, f"IHC/{parted}.jpg"), ("b_1_1", "IHC/b_1_1.jpg")
    ]  # fmt: skip
    lay(tmp_path, [parted], [])
    with pytest.raises(
        PairingError, match="are one name, but for the form of Unicode or upper and lower case; keep one"
    ):
        pairs_of(tmp_path, BY_SLIDE)


def test_case_is_told_apart_unless_it_is_ignored(tmp_path: Path) -> None:
    lay(tmp_path, ["A_1_1", "b_1_1"], ["a_1_1", "b_1_1"])
    assert ids(pairs_of(tmp_path, BY_SLIDE, "test_fraction=0")) == ["b_1_1"]
    assert ids(pairs_of(tmp_path, BY_SLIDE, "test_fraction=0", "ignore_case=true")) == ["A_1_1", "b_1_1"]


def test_one_folder_of_several_stains_gives_two_of_them(tmp_path: Path) -> None:
    touch(tmp_path, *(f"all/s{n}_1_1_{stain}.png" for n in SLIDES for stain in ("HE", "ER", "PR")), "all/mask_1.png")
    found = pairs_of(tmp_path, BY_SLIDE, "test_fraction=0", "he_name={}_HE", "ihc_name={}_PR")
    assert [c.ihc for c in found.candidates] == [f"all/s{n}_1_1_PR.png" for n in SLIDES]
    assert (found.read_as, found.sources.joined) == ("by-name, 4 pairs, in all", False)
    assert "ignored 4 picture(s) whose names fit no template" in found.notes


@pytest.mark.parametrize("folder", ["", "train/"])
def test_pictures_whose_names_say_a_stain_are_not_taken_for_side_by_side(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, *(f"{folder}s{n}_1_1_{stain}.png" for n in SLIDES for stain in ("HE", "HER2")))
    with pytest.raises(PairingError) as caught:
        pairs_of(tmp_path, BY_SLIDE)
    assert settings_in(str(caught.value)) == ["he_name={}_HE", "ihc_name={}_HER2"]
    assert "if each holds both stains side by side, say so: --set layout=side-by-side" in str(caught.value)
    assert len(pairs_of(tmp_path, BY_SLIDE, *settings_in(str(caught.value))).candidates) == 4
    said = pairs_of(tmp_path, BY_SLIDE, "slide_pattern=.+", "layout=side-by-side")
    assert len(said.candidates) == 8


@pytest.mark.parametrize("template", ["_HE", "{}/HE", "HE", "{}{}", "{}_{}{}"])
def test_a_template_without_a_place_for_the_id_is_refused(tmp_path: Path, template: str) -> None:
    with pytest.raises(MagstainError, match=re.escape(f"he_name = {template!r}: a template has {{}} where")):
        pairs_of(tmp_path, f"he_name={template}")


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["s7_y0_x512", "s7_y512_x0", "s8_y0_x0"], r"^(.+)_y\d+_x\d+"),
        (["A-1-2", "A-2-2", "B-1-2"], r"^(.+)-\d+-\d+"),
        (["x r0 c1", "x r0 c2", "y r1 c1"], r"^(.+)\sr\d+\sc\d+"),
        (["TCGA-AA-1234_3", "TCGA-AA-1234_4", "TCGA-AB-1234_3"], r"^(.+)_\d+"),
        (["p1/a", "p1/b", "p2/a"], r"^([^/]+)/"),
        (["case1.tile_001", "case1.tile_2", "case2.tile_1"], r"^(.+)_\d+"),
        (["00000_train_1+", "00001_train_3+"], ""),
        (["a_1", "a_2"], ""),
        (["00000_train_0", "00001_train_1", "00002_train_1"], ""),  # a slide for each tile is no answer
        (["s_y0_x0", "s_y280_x0", "s_y560_x64"], ""),  # one slide: a pattern of x alone would make it several
        (["d/s [x=0,y=0,w=9,h=9]", "d/s [x=9,y=0,w=9,h=9]"], ""),
        ([], ""),
    ],
)
def test_a_pattern_is_told_that_finds_slides_in_the_names_that_are_there(names: list[str], pattern: str) -> None:
    assert fitting_pattern(names) == pattern
    assert (f"slide_pattern={pattern}" if pattern else "slide_pattern=^(.*)_y") in example_for(names)


def test_names_that_say_no_slide_are_refused_with_the_pattern_that_works(tmp_path: Path) -> None:
    names = [f"case {slide}_y{y}_x0" for slide in SLIDES for y in (0, 256)]
    lay(tmp_path, names, names)
    with pytest.raises(PairingError) as caught:
        pairs_of(tmp_path, BY_SLIDE)
    assert "which finds 4 slides in these names; if each tile is from another slide" in str(caught.value)
    found = pairs_of(tmp_path, BY_SLIDE, *settings_in(str(caught.value)))
    assert {c.slide for c in found.candidates} == {f"case {slide}" for slide in SLIDES}
