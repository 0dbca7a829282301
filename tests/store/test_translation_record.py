"""The record of a translated picture: written, read back, and refused where it does not fit itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from store.files import write_json
from store.records.translation import Translation, read_translation, record_of, tiles_of
from store.schema import RunError, SchemaError
from store.slides.geometry import Grid
from tests.support.translations import RECORD


@pytest.mark.parametrize("record", [RECORD, replace(RECORD, seams=None, region=None)])
def test_a_record_is_read_back_equal(tmp_path: Path, record: Translation) -> None:
    output = tmp_path / "slide.ome.tiff"
    write_json(record_of(output), record)
    assert read_translation(output) == record
    assert record.skipped == {(0, 1)}
    assert tiles_of(record.grid, record.skipped) == record.tiles


@pytest.mark.parametrize("tiles", [("###",), ("##", "##"), ("###", "##x"), ()])
def test_tiles_that_are_not_those_of_the_grid_are_refused(tiles: tuple[str, ...]) -> None:
    with pytest.raises(SchemaError, match="`tiles` are not 2 texts of 3 signs"):
        replace(RECORD, tiles=tiles)


def test_a_missing_or_edited_record_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    with pytest.raises(RunError, match=r"a\.png: no such file"):
        read_translation(output)
    output.touch()
    with pytest.raises(RunError, match=r"a\.png has no record, a\.png\.json, beside it; name an output of"):
        read_translation(output)
    write_json(record_of(output), RECORD)
    record_of(output).write_text(record_of(output).read_text().replace("1.25", "1.00"))
    with pytest.raises(RunError, match=r"damaged or was edited.*translate the picture again to another --out"):
        read_translation(output)


def test_all_tiles_of_a_grid_can_be_skipped() -> None:
    grid = Grid(height=5, width=9, side=4)
    assert tiles_of(grid, frozenset(grid.places())) == ("...", "...")
