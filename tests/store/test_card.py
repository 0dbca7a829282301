"""The data card as a page and as facts: what is computed from tables, words from outside, what is not measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from store.card.card import Card, make_card
from store.card.lines import main_lines
from store.card.markdown import card_markdown
from store.card.measured import RULES, Colour, Density, Measured, Named, Scale, TermsFile
from store.card.record import CARD, encode_card, is_whole, read_measured
from store.card.terms import UNKNOWN
from store.card.words import bars
from store.files import DIGEST, digest_tree
from store.location.open import locate
from store.pairs.table import Registration, Skipped, Table
from store.schema import Box, Manifest, Split, Stain, StoreError
from tests.support.stores import small_manifest, small_table

REAL = replace(small_manifest(), synthetic=False)
TILES = {Split.TRAIN: {Stain.HE: 8, Stain.IHC: 8}, Split.TEST: {Stain.HE: 4, Stain.IHC: 1}}
EMPTY = Measured(
    rules=RULES,
    sources={},
    scales=(),
    glass={},
    densities={},
    copies={},
    copies_named=(),
    colours=(),
    read_as="",
    set_aside=(),
    terms=(),
)


def scale(stain: Stain, mpp: float) -> Scale:
    return Scale(stain=stain, mpp=mpp, where="resolution tags", pictures=4)


def card(manifest: Manifest = REAL, table: Table | None = None, measured: Measured | None = EMPTY) -> Card:
    return make_card(manifest, table or small_table(), measured)


def test_registration_comes_from_the_pair_table() -> None:
    table = small_table()
    moves = [(0, 0), (3, 4), (6, 8), (12, 16)]  # 0, 5, 10 and 20 px
    test = tuple(
        replace(pair, registration=Registration(down=down, right=right, percent=percent))
        for pair, (down, right), percent in zip(table.pairs[Split.TEST], moves, (90, 80, 70, 40), strict=True)
    )
    made = card(table=replace(table, pairs={**table.pairs, Split.TEST: test}))
    shifts = made.registration[Split.TEST]
    assert made.registration.keys() == {Split.TEST}
    assert (shifts.median, shifts.doubtful, shifts.within[5]) == (5.0, 1, 2)
    assert made.farthest == {Split.TEST: {test[2].id: 10.0, test[1].id: 5.0, test[0].id: 0.0}}
    assert "| test | 4 | 1 | 5.0 | 10.0 | 10.0 | 33% | 0% |" in card_markdown(made)
    (line,) = [text for name, text in main_lines(made) if name == "shifts"]
    assert line.startswith("test: median 5.0 px, worst 10.0 px")


def test_of_pairs_whose_ihc_was_moved_the_card_says_what_is_left() -> None:
    table = small_table()
    test = tuple(
        replace(
            pair,
            he_box=Box(top=8, left=8, side=16),
            ihc_box=Box(top=13, left=8, side=16),
            registration=Registration(down=5, right=1, percent=90),
        )
        for pair in table.pairs[Split.TEST]
    )
    made = card(table=replace(table, pairs={**table.pairs, Split.TEST: test}))
    assert made.registration[Split.TEST].median == 1.0
    assert set(made.farthest[Split.TEST].values()) == {1.0}


def test_an_unpaired_store_counts_each_stain_and_registers_nothing() -> None:
    table = small_table()
    lone = tuple(replace(pair, ihc="", ihc_digest="0" * 64) for pair in table.pairs[Split.TEST][1:])
    rows = (*table.pairs[Split.TEST][:1], *lone)
    made = card(replace(REAL, paired=False, tiles=TILES), replace(table, pairs={**table.pairs, Split.TEST: rows}))
    assert made.parts[Split.TEST].tiles == {Stain.HE: 4, Stain.IHC: 1}
    page = card_markdown(made)
    assert "| test | IHC | 1 | 1 | s3 1 |" in page
    assert "Unpaired: there is nothing to register." in page
    assert "shifts" not in dict(main_lines(made))


@pytest.mark.parametrize(
    ("mpp", "stated", "where", "contradictions"),
    [
        ({}, (), "unknown", []),
        ({"tile": 0.5}, (), "setting", []),
        ({}, ((Stain.HE, 0.25), (Stain.IHC, 0.25)), "pictures", []),
        ({"tile": 0.25}, ((Stain.HE, 0.2513),), "setting", []),
        ({"tile": 0.5}, ((Stain.HE, 0.25),), "setting", ["mpp = 0.5 is set, H&E pictures state 0.25 um/px"]),
        (
            {},
            ((Stain.HE, 0.25), (Stain.IHC, 0.5)),
            "pictures",
            ["H&E pictures state 0.25 um/px, IHC pictures 0.5 um/px"],
        ),
        ({}, ((Stain.IHC, 0.25), (Stain.IHC, 0.5)), "pictures", ["IHC pictures state scales from 0.25 to 0.5 um/px"]),
    ],
)
def test_the_scale_says_where_it_is_from_and_what_contradicts_it(
    mpp: dict[str, float], stated: tuple[tuple[Stain, float], ...], where: str, contradictions: list[str]
) -> None:
    made = card(replace(REAL, mpp=mpp), measured=replace(EMPTY, scales=tuple(scale(*one) for one in stated)))
    assert (made.mpp_from, list(made.contradictions)) == (where, contradictions)
    assert all(f"**Contradiction:** {text}." in card_markdown(made) for text in contradictions)


def test_terms_come_from_the_surest_source() -> None:
    file = TermsFile(name="LICENSE", line="as is", sha256="ab")
    found = {
        "setting": card(replace(REAL, settings={"terms": "ask us"}), measured=replace(EMPTY, terms=(file,))),
        "file": card(measured=replace(EMPTY, terms=(file,))),
        "authors": card(replace(REAL, counts={Split.TRAIN: 3896, Split.TEST: 977})),
        "unknown": card(),
    }
    assert [made.terms.source for made in found.values()] == list(found)
    assert found["setting"].terms.text == "ask us"
    assert found["file"].terms.text == "LICENSE: as is (sha256 ab)"
    assert "are those of BCI; if it is that: its authors allow non-commercial use" in found["authors"].terms.text
    assert found["unknown"].terms.text == UNKNOWN
    held_out = replace(REAL, counts={Split.TRAIN: 4000, Split.VAL: 642, Split.TEST: 1000})
    assert "MIST HER2" in card(held_out).terms.text


def test_skipped_pairs_are_counted_by_reason_whatever_their_file_is_called() -> None:
    bad = [
        *(Skipped(id=n, split=Split.TRAIN, he=f"{n}.tif", ihc="i.png", reason=f"{n}.tif: is CMYK") for n in "abc"),
        Skipped(id="d", split=Split.TEST, he="d.png", ihc="", reason="no IHC tile of that name in IHC"),
    ]
    made = card(table=replace(small_table(), skipped=tuple(bad)))
    assert made.skipped == {"is CMYK": 3, "no IHC tile of that name in IHC": 1}
    assert "- 3 skipped: is CMYK" in card_markdown(made)


def test_slides_in_two_splits_are_named() -> None:
    table = small_table()
    test = tuple(replace(pair, slide="s1") for pair in table.pairs[Split.TEST])
    made = card(table=replace(table, pairs={**table.pairs, Split.TEST: test}))
    assert made.shared_slides == ("s1",)
    assert "**1 slide(s) are in more than one split" in card_markdown(made)


def test_a_store_that_measured_nothing_has_a_card_of_its_tables() -> None:
    page = card_markdown(card(measured=None))
    assert page.count("Not measured: an earlier version built this store") == 4
    assert "| train | pairs | 8 | 2 | s1 4, s2 4 |" in page
    assert "- Scale: unknown: `mpp` was not set." in page


def test_words_from_outside_cannot_steer_the_page() -> None:
    evil = "<b>|x\x1b[2J`"
    colours = (Colour(he=evil, ihc="", differ=True, pairs=Named(count=1, names=(evil,))),)
    made = card(
        replace(REAL, name=evil, stain=evil, settings={"terms": evil}),
        measured=replace(
            EMPTY,
            colours=colours,
            read_as=evil,
            set_aside=(evil,),
            sources={Stain.HE: {evil: 1}},
            scales=(Scale(stain=Stain.HE, mpp=0.5, where=evil, pictures=1),),
            densities={Split.TRAIN: {Stain.HE: {evil: Density(mean=0.1, tiles=(1,))}}},
        ),
    )
    page = card_markdown(made)
    assert "\x1b" not in page + "".join(text for _, text in main_lines(made))
    assert "<b>" not in page
    assert "| \\<b\\>\\|x?\\[2J\\` | nothing | 1 | **yes** | \\<b\\>" in page


def test_a_record_knows_its_store_and_its_own_bytes() -> None:
    data = encode_card(EMPTY, "f" * 64)
    assert is_whole(data, "f" * 64)
    assert not is_whole(data, "e" * 64)
    for damaged in (b"", b"[]", b"{}", data[:-1], data.replace(b'"rules": 1', b'"rules": 2'), b"\xff"):
        assert not is_whole(damaged, "f" * 64)


@pytest.mark.parametrize("tiles", [[0, -1, 2], [0, 0], []])
def test_numbers_of_tiles_that_cannot_be_are_refused(tiles: list[int], tmp_path: Path) -> None:
    measured = replace(EMPTY, densities={Split.TRAIN: {Stain.HE: {"eosin": Density(mean=0.1, tiles=(7,))}}})
    tree = json.loads(encode_card(measured, "f" * 64))
    tree.pop(DIGEST)
    tree["measured"]["densities"]["train"]["he"]["eosin"]["tiles"] = tiles
    (tmp_path / CARD).parent.mkdir(parents=True)
    (tmp_path / CARD).write_text(json.dumps(tree | {DIGEST: digest_tree(tree)}))
    with pytest.raises(StoreError, match="tiles by their density: numbers are at least 0"):
        read_measured(locate(tmp_path), "f" * 64)


def test_bars_show_the_smallest_number() -> None:
    assert bars((0, 1, 1000)) == "·▁█"
    assert bars(()) == ""
