"""One flipped byte, a lost file, zeros: verification names it, and a reader never returns what was not written."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from store.files import files_of
from store.reader import TILE, Store
from store.schema import Split, Stain, StoreError
from store.verify import Findings, verify
from tests.support.command_line import CommandLine
from tests.support.stores import IDS

ROOT = "zarr.json"


@pytest.fixture(scope="module")
def damaged(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that every test restores."""
    path = tmp_path_factory.mktemp("damaged") / "s.zarr"
    shutil.copytree(small_store.path, path)
    for name in files_of(path):
        (path / name).chmod(0o644)
    return path


def flipped(path: Path, name: str, place: int, bit: int) -> Findings | StoreError:
    """What verification says when one bit of a file is another; the file is restored afterwards."""
    whole = (path / name).read_bytes()
    data = bytearray(whole)
    data[place] ^= 1 << bit
    (path / name).write_bytes(data)
    try:
        return verify(path)
    except StoreError as error:
        return error
    finally:
        (path / name).write_bytes(whole)


def found(path: Path, name: str, outcome: Findings | StoreError) -> bool:
    """Whether this very file is named, and no other; a root may be unreadable, or name other files."""
    if isinstance(outcome, StoreError):
        return name == ROOT and ROOT in str(outcome) and "--repair" in str(outcome)
    named = {*outcome.altered, *outcome.missing, *outcome.extra}
    return name in outcome.altered and (name == ROOT or named == {name})


def test_a_hundred_flipped_bytes_are_found_wherever_they_are(damaged: Path) -> None:
    """Drawn over all bytes of all files, as a bad disk would."""
    names = [*files_of(damaged)]
    ends = np.cumsum([(damaged / name).stat().st_size for name in names])
    generator, hit = np.random.default_rng(0), set()
    for place in generator.integers(0, ends[-1], 100):
        file = int(np.searchsorted(ends, place, side="right"))
        within = int(place - (ends[file - 1] if file else 0))
        outcome = flipped(damaged, names[file], within, int(generator.integers(8)))
        assert found(damaged, names[file], outcome), (names[file], within, outcome)
        hit.add(names[file])
    assert len(hit) > 30
    assert verify(damaged).intact


def test_a_flipped_byte_of_every_file_without_pictures_is_found(damaged: Path) -> None:
    names = [name for name in files_of(damaged) if name.endswith(ROOT) or not {"he", "ihc"} & {*name.split("/")}]
    names += ["train/pair/he/c/0", "test/pair/ihc/c/0", "skipped/he/zarr.json"]
    kinds = ("/pair/", "/unit/digest/", "/box/c/", "skipped/", "x1/he/zarr.json", "tile/zarr.json")
    assert all(any(kind in name for name in names) for kind in kinds)
    generator = np.random.default_rng(1)
    for name in set(names) - {ROOT}:
        place = int(generator.integers((damaged / name).stat().st_size))
        outcome = flipped(damaged, name, place, int(generator.integers(8)))
        assert found(damaged, name, outcome), (name, place, outcome)


@pytest.mark.parametrize(
    "part", ["format", "name", "views", "unit", "counts", "software", "sealed", "seal", "files", "train/pair/id/c/0"]
)
def test_a_flipped_byte_of_the_root_is_found(damaged: Path, part: str) -> None:
    """In the name of a fact, in its value, in the white space before and after it."""
    document = (damaged / ROOT).read_bytes()
    begin = document.rindex(f'"{part}": '.encode())
    for place, bit in itertools.product([-1, 1, len(part) + 2, len(part) + 3, len(part) + 4, len(part) + 5], [0, 4]):
        outcome = flipped(damaged, ROOT, begin + place, bit)
        assert found(damaged, ROOT, outcome), (begin + place, outcome)


@pytest.mark.parametrize(
    ("name", "place"),
    [("train/x2/ihc/c/0/0/0/0/0", 100), ("test/pair/id/c/0", 5), ("test/unit/digest/zarr.json", 9), (ROOT, 0)],
)
def test_the_command_names_the_file_and_how_to_repair_it(
    damaged: Path, name: str, place: int, line: CommandLine
) -> None:
    whole = (damaged / name).read_bytes()
    (damaged / name).write_bytes(whole[:place] + b"#" + whole[place + 1 :])
    outcome = line("verify", damaged)
    (damaged / name).write_bytes(whole)
    assert (outcome.code, outcome.out) == (2, "")
    assert "error: " in outcome.err
    assert name in outcome.err
    assert "prep build" in outcome.err
    assert "--repair" in outcome.err


@pytest.mark.parametrize("view", ["x1", "x2", "x4", TILE])
@pytest.mark.parametrize(
    "hurt",
    [
        Path.unlink,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(bytes(file.stat().st_size)),
        lambda file: file.write_bytes(file.read_bytes()[:-30]),
        lambda file: file.write_bytes(bytes([255]) * file.stat().st_size),
        lambda file: (file.unlink(), file.mkdir()),
    ],
    ids=["lost", "emptied", "zeros", "cut", "ones", "folder"],
)
def test_what_is_lost_is_an_error_and_never_a_black_picture(
    copied: Path, small_store: Store, view: str, hurt: Callable[[Path], object]
) -> None:
    tail = "/".join("0" * (3 if view == TILE else 4))
    files = [copied / f"test/{view}/{stain}/c/0/{tail}" for stain in Stain]
    if view != TILE:
        files.append(copied / f"test/{view}/box/c/0/0/0")
    for file in files:
        file.chmod(0o644)
        hurt(file)
    store = Store.open(copied)
    for pair in range(3):
        for stain in Stain:
            with pytest.raises(StoreError, match=rf"picture 0 of pair {pair} in test/{view}/{stain} of .* cannot be"):
                store.picture(Split.TEST, view, stain, pair)
        if view != TILE:
            with pytest.raises(StoreError, match=rf"table test/{view}/box of .* cannot be read \("):
                store.box(Split.TEST, view, pair)
    assert np.array_equal(
        store.picture(Split.TEST, view, Stain.HE, 3), small_store.picture(Split.TEST, view, Stain.HE, 3)
    )
    assert store.box(Split.TEST, view, 3) == small_store.box(Split.TEST, view, 3)


def test_metadata_that_say_something_else_are_noticed(damaged: Path) -> None:
    """Zarr believes them: a table that says it is shorter would be read as shorter."""
    reads: tuple[tuple[str, int, int, Callable[[Store], object]], ...] = (
        ("test/pair/id", 0, 3, lambda store: store.pairs(Split.TEST)),
        ("test/pair/he_digest", 1, 30, lambda store: store.pairs(Split.TEST)),
        ("test/x2/box", 1, 0, lambda store: store.box(Split.TEST, "x2", 0)),
        ("test/x2/box", 2, 7, lambda store: store.box(Split.TEST, "x2", 0)),
        ("skipped/id", 0, 2, lambda store: store.skipped()),
    )
    for name, place, value, read in reads:
        file = damaged / name / ROOT
        whole = file.read_bytes()
        document = json.loads(whole)
        document["shape"][place] = value
        file.write_bytes(json.dumps(document).encode())
        with pytest.raises(StoreError, match=r"table (test|skipped)\S* of .* cannot be read"):
            read(Store.open(damaged))
        file.write_bytes(whole)
    assert len(Store.open(damaged).pairs(Split.TEST)) == len(IDS[Split.TEST])
