"""Names that become files: which are refused, wherever they come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from store.pairs.table import Pair, Table
from store.reader import Store, plan_targets
from store.records.predictions import load_predictions
from store.run_files import RunFolder
from store.schema import RunError, SchemaError, Split, StoreError
from store.untrusted.names import PICTURE, clash, name_fault, text_fault
from tests.support.command_line import CommandLine
from tests.support.forgery import forge
from tests.support.stores import IDS, small_table

HARMFUL = [
    "../../x", "..", ".", "a/../b", "a/..", "./a", "/etc/x", "//host/share", "C:x", "c:/x", "a\\b", "..\\x",
    "\\\\host\\x",
    "", "a//b", "a/", "a\0b", "a\nb", "\x1b[2Jx", "a\x7f", "a\x85b", "a\u2028b", "a\u202eb", "a\u2066b", "\ufeffa",
    "CON", "nul", "NUL.txt", "aux/x", "x/COM1", "lpt9.a", "COM\u00b9", "CONIN$", "prn ",
    " a", "a ", "a.", ".a", "x/.a", "x./a", "a" * 252, "\u00e9" * 126, "a/" * 600 + "a",
]  # fmt: skip
HARMLESS = [
    "a", "1M03_0_0", "slide 7/7_0_1", "Größe µm 漢字", "up..down", "a.b.c", "-dash", "100%", "[x]*?", 'quo\'te "x"',
    "CONTROL", "com", "com10", "nullarbor", "a" * 251, "a/" * 100 + "a", "~a", "$HOME",
]  # fmt: skip


@pytest.mark.parametrize("name", HARMFUL, ids=ascii)
def test_a_name_that_is_no_file_of_its_own_is_no_name_of_a_pair(name: str) -> None:
    assert name_fault(name, PICTURE)
    with pytest.raises(SchemaError, match=r"^pair .*; give it another name$"):
        Pair(id=name, slide="s", he="a.png", ihc="b.png", he_digest="", ihc_digest="")


@pytest.mark.parametrize("name", HARMLESS, ids=ascii)
def test_other_names_are_names(name: str, tmp_path: Path) -> None:
    assert name_fault(name, PICTURE) == ""
    file = tmp_path / f"{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert tmp_path in file.resolve().parents


@pytest.mark.parametrize("source", ["../a.png", "/a.png", "a/../../b.png", "x\ny.png", "C:\\a.png"])
def test_names_of_sources_are_checked_by_the_same_rule(source: str) -> None:
    for he, ihc in ((source, "b.png"), ("a.png", source)):
        with pytest.raises(SchemaError, match="tile"):
            Pair(id="a", slide="s", he=he, ihc=ihc, he_digest="", ihc_digest="")


def test_a_slide_is_a_printable_word() -> None:
    assert text_fault("train/7 é") == ""
    for slide in ("", "  ", "a\nb", "\x1b[2J", "a" * 3000):
        assert text_fault(slide)
        with pytest.raises(SchemaError, match=r"^slide .* of pair 'a' "):
            Pair(id="a", slide=slide, he="a.png", ihc="b.png", he_digest="", ihc_digest="")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["x", "y", "x"], "'x' occurs twice"),
        (["A_1", "b", "a_1"], "'A_1' and 'a_1' are one name"),
        (["M\u00fc", "Mu\u0308"], "are one name"),
        (["\u00c5/1", "a\u030a/1"], "are one name"),
        (["a", "a.png/b"], "the picture of 'a' would have the name of the folder of 'a.png/b'"),
        (["a", "A.0.PNG/b"], "the picture of 'a' would have the name of the folder of 'A.0.PNG/b'"),
        (["a", "a.1", "b/a", "a/b", "a.tif/b"], ""),
    ],
)
def test_two_names_of_one_file_are_found(names: list[str], said: str) -> None:
    assert said in clash(names)
    assert bool(clash(names)) == bool(said)
    if said:
        with pytest.raises(SchemaError, match=r"^pairs of test: .*; give each another name$"):
            small_table({Split.TRAIN: ["s"], Split.TEST: names})
    else:
        assert isinstance(small_table({Split.TEST: names}), Table)


@pytest.mark.parametrize(
    ("column", "value"),
    [*(("id", name) for name in ("../../x", "/tmp/x", "a\\b", "CON", "a\nb", "x" * 300, "", "s3_1_0", "S3_1_0")),
     ("slide", "\x1b[2J"), ("he", "../../x.png"), ("ihc", "/x.png")],
)  # fmt: skip
def test_a_store_with_such_a_name_is_read_by_nobody(
    small_store: Store, tmp_path: Path, line: CommandLine, column: str, value: str
) -> None:
    """Its digests and its seal are right: it was made like this."""
    values = [value, *(f"s3_{row}_0" if column == "id" else "s.png" for row in range(1, len(IDS[Split.TEST])))]
    path = forge(small_store, tmp_path / "s.zarr", columns={f"test/pair/{column}": values})
    store = Store.open(path)
    with pytest.raises(StoreError, match=r"s\.zarr has a name that no file may have: "):
        plan_targets(store, Split.TEST, "x1")
    said = line("info", path)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "\x1b" not in said.err


@pytest.mark.parametrize("pictures", [["../x.png"], ["/x.png"], ["a.png", "A.png"], ["a.png", "a.png"], ["a\x1b.png"]])
def test_predictions_with_such_names_are_refused(tmp_path: Path, pictures: list[str]) -> None:
    folder = RunFolder(tmp_path).predictions("test", "tile")
    folder.path.mkdir(parents=True)
    record = {"method": "asp", "seal": "ab", "split": "test", "view": "tile", "pairs_seen": 1, "step": 1}
    record |= {"upscaler": "lanczos", "synthetic": True, "generator": "ab", "pictures": pictures}
    folder.record.write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"predictions\.json is not what it should be .*; do this"):
        load_predictions(folder, "do this")
