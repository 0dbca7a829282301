"""A command line in the process of the test."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest
import typer

from store.cli import run_app


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it wrote on stdout and stderr."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class CommandLine:
    """`python -m <name>` without a new process; called with the words after the name."""

    name: str
    app: typer.Typer
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: object) -> Outcome:
        self.monkeypatch.setattr(sys, "argv", [self.name, *map(str, words)])
        with pytest.raises(SystemExit) as leaving:
            run_app(self.app)
        code = leaving.value.code
        assert isinstance(code, int)
        out, err = self.capsys.readouterr()
        return Outcome(code, out, err)
