"""Nothing is scored on an unpaired store: no translation has a real IHC of its own place."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluate.__main__ import app
from tests.support.command_line import CommandLine
from tests.support.unpaired import build_unpaired_store
from tests.support.untrained_run import make_run


@pytest.mark.parametrize("words", [("score",), ("score", "--pictures", "p"), ("figure", "--out", "f.png")])
def test_what_needs_pairs_is_refused_by_name_and_writes_nothing(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = build_unpaired_store(tmp_path / "u.zarr")
    run = make_run(tmp_path / "run", store)
    before = sorted(run.path.rglob("*"))
    done = CommandLine("evaluate", app, monkeypatch, capsys)(*words, "--run", run.path, "--store", store.path)
    assert done.code == 2
    assert f"{store.path} is unpaired: no H&E has a real IHC of its own place" in done.err
    assert "give it with --store" in done.err
    assert "Traceback" not in done.err
    if words[0] == "score":
        for name in ("SSIM", "PSNR", "LPIPS", "PHV", "agreement of stains", "misregistration"):
            assert name in done.err
    assert [file for file in sorted(run.path.rglob("*")) if file.is_file() and file not in before] == []
