"""Progress and messages in a terminal and in a log file."""

from __future__ import annotations

import io
import os
import sys

import pytest

from store.cli import WIDTH, _OneLineEach, progress, say, track, wrapped


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_in_a_log_file_progress_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Updates within 30 s are not shown: one line at the start and one at the end, no carriage return."""
    assert list(track(range(1000), what="reading", unit="pair")) == list(range(1000))
    out, err = capsys.readouterr()
    assert (out, "\r" in err) == ("", False)
    first, last = err.splitlines()
    assert first.startswith("reading: 0 of 1000 pairs, 0 %, ")
    assert last.startswith("reading: 1000 of 1000 pairs, 100 %, ")


def test_bytes_are_scaled(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(total=34_000_000, what="net.pth", unit="B", scaled=True) as bar:
        bar.update(34_000_000)
    assert "net.pth: 34.0M of 34.0M B, 100 %" in capsys.readouterr().err


def test_on_a_terminal_progress_is_a_bar_of_at_most_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((300, 50)))
    with progress(total=8, what="reading", unit="pair", done=3) as bar:
        bar.update(5)
        say("in between")
    shown = terminal.getvalue().replace("\n", "\r").split("\r")
    assert max(map(len, shown)) <= WIDTH
    assert any("3/8" in line for line in shown)
    assert any("8/8" in line for line in shown)
    assert "in between" in shown


def test_progress_that_is_hidden_or_abandoned_shows_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(total=2, what="reading", unit="pair", hidden=True) as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""
    items = track([1, 2, 3], what="reading", unit="pair")
    assert next(items) == 1
    items.close()
    assert "100 %" not in capsys.readouterr().err


def test_a_long_text_is_wrapped_at_words() -> None:
    lines = wrapped("  seal      " + "ab " * 60, indent=" " * 12).splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    assert all(line.startswith(" " * 12 + "ab") for line in lines[1:])
    assert wrapped("x" * 150) == "x" * 150  # a path is not broken


def test_a_slow_rate_is_seconds_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    _OneLineEach().write("fit: 2 of 9 steps, 22 %, 1.77s/ steps, 00:12 left")
    _OneLineEach().write("checking: 2 of 9 pairs, 22 %, 41.20 pairs/s, 00:12 left")
    assert capsys.readouterr().err.splitlines() == [
        "fit: 2 of 9 steps, 22 %, 1.77 s/step, 00:12 left",
        "checking: 2 of 9 pairs, 22 %, 41.20 pairs/s, 00:12 left",
    ]
