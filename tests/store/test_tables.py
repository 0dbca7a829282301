"""The pair tables: columns that are there only if the pairs have them come back as they were written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from store.format.shards import lay_out
from store.format.tables import read_pairs
from store.location.open import locate
from store.pairs.table import Registration, Table
from store.schema import Box, Split, StoreError
from tests.support.stores import small_manifest, small_table

CUT = Box(top=8, left=16, side=64)
MOVED = Registration(down=-3, right=5, percent=87)


def write(folder: Path, table: Table) -> list[str]:
    """The files of the tables, written as a store has them; returns their names."""
    files = lay_out(small_manifest(), table)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return sorted(files)


def with_facts(table: Table, **facts: Any) -> Table:
    return Table(pairs={split: tuple(replace(pair, **facts) for pair in pairs) for split, pairs in table.pairs.items()})


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"he_box": CUT, "ihc_box": replace(CUT, top=11)},
        {"registration": MOVED},
        {"he_box": CUT, "ihc_box": CUT, "registration": MOVED},
    ],
)
def test_pairs_come_back_with_boxes_and_registration(tmp_path: Path, facts: dict[str, Any]) -> None:
    table = with_facts(small_table(), **facts)
    write(tmp_path, table)
    for split, pairs in table.pairs.items():
        assert read_pairs(locate(tmp_path), split) == pairs


def test_a_table_without_such_facts_has_the_files_that_it_always_had(tmp_path: Path) -> None:
    plain, full = write(tmp_path / "a", small_table()), write(tmp_path / "b", with_facts(small_table(), he_box=CUT))
    extra = {name.split("/")[2] for name in set(full) - set(plain)}
    assert extra == {"he_box"}


def test_columns_that_do_not_belong_together_are_damage(tmp_path: Path) -> None:
    write(tmp_path, with_facts(small_table(), registration=MOVED))
    for split in small_table().pairs:
        (tmp_path / split / "pair/confidence/zarr.json").unlink()
    with pytest.raises(StoreError, match="differ in length"):
        read_pairs(locate(tmp_path), next(iter(Split)))


def test_the_distance_of_a_shift_is_its_length() -> None:
    assert Registration(down=3, right=-4, percent=50).distance == 5
    assert Registration(down=3, right=-4, percent=50).confidence == 0.5
