"""JSON and TOML of any origin: values, or an error at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from store.files import read_json
from store.schema import RunError, SettingsError
from store.settings import layered
from store.untrusted.documents import DocumentError, parse_json, parse_object, parse_toml

JSON = [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 40 + b"]" * 40, b"9" * 10**6, b"9" * 30, b"NaN", b"-Infinity",
        b"1e999", b'{"a": 1, "a": 2}', b"\xff", b"", b"{", b" " * (65 << 20)]  # fmt: skip
TOML = [b"a=" + b"[" * 100_000, b"a=" + b"{a=" * 60_000, b"a." * 100_000 + b"a=1", b"[" + b"a." * 100_000 + b"a]",
        b'"#"' + b".a" * 90_000 + b"=1", b"a=1e999", b"a=nan", b"a=" + b"9" * 5000, b"a=" + b"9" * 30, b"\xff", b"a=\n",
        b"\n".join(b"a%d." % n + b"a." * 14 + b"a=1" for n in range(1500)) + b"\nb", b"#" * (1 << 20)]  # fmt: skip


@pytest.mark.parametrize("data", JSON, ids=lambda data: ascii(data[:12]))
def test_json_that_harms_a_parser_is_refused_at_once(tmp_path: Path, data: bytes) -> None:
    start = time.process_time()
    with pytest.raises(DocumentError) as caught:
        parse_object(data)
    assert len(str(caught.value)) < 300
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(RunError, match=r"a\.json cannot be read as JSON \(.*\); do this"):
        read_json(tmp_path / "a.json", "do this")
    assert time.process_time() - start < 2


@pytest.mark.parametrize("data", TOML, ids=lambda data: ascii(data[:12]))
def test_toml_that_harms_a_parser_is_refused_at_once(tmp_path: Path, data: bytes) -> None:
    start = time.process_time()
    with pytest.raises(DocumentError) as caught:
        parse_toml(data)
    assert len(str(caught.value)) < 300
    (tmp_path / "a.toml").write_bytes(data)
    with pytest.raises(SettingsError, match=r"a\.toml is not TOML: .*; correct that line"):
        layered([tmp_path / "a.toml"])
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "override",
    ["a." * 100_000 + "a=1", "a=" + "[" * 100_000, "a=" + "{a=" * 50_000, "a=" + "9" * 30, "a=1e999", "=" * 200_000],
    ids=lambda text: text[:8],
)
def test_an_override_that_harms_a_parser_is_refused_at_once(override: str) -> None:
    start = time.process_time()
    with pytest.raises(SettingsError, match=r"^--set '") as caught:
        layered([], [override])
    assert len(str(caught.value)) < 300
    assert time.process_time() - start < 1


def test_documents_of_ours_are_read_as_they_are() -> None:
    assert parse_json('{"a": [1, 2.5, null, true, "x"], "b": {"c": -9223372036854775808}}') == {
        "a": [1, 2.5, None, True, "x"],
        "b": {"c": -(2**63)},
    }
    assert parse_toml("# " + "." * 100 + '\na = [1, 2.5]\n[b.c]\nd = "x.y"') == {
        "a": [1, 2.5],
        "b": {"c": {"d": "x.y"}},
    }
