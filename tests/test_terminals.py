"""Every command in terminals that cannot show every sign, and words that are no text."""

from __future__ import annotations

import io
import sys

import pytest
import typer

import evaluate.__main__ as evaluate_main
import prep.__main__ as prep_main
import store.__main__ as store_main
import train.__main__ as train_main
from store.cli import progress, run_app, say
from store.schema import StoreError

APPS = {"prep": prep_main.app, "store": store_main.app, "train": train_main.app, "evaluate": evaluate_main.app}
VERBS = [(name, command.name or command.callback.__name__.replace("_", "-"))
         for name, app in APPS.items() for command in app.registered_commands if command.callback]  # fmt: skip
SIGNS = "… – × ± µ ≥ ü € 組織 \U0001f52c \udcff"

SHOWN = {
    "ascii": r"... - x +- u >= \xfc \u20ac \u7d44\u7e54 \U0001f52c \udcff",
    "latin-1": r"... - × ± µ >= ü \u20ac \u7d44\u7e54 \U0001f52c \udcff",
    "utf-8": r"… – × ± µ ≥ ü € 組織 🔬 \udcff",
}


class Terminal:
    """Streams of an encoding in the place of stdout and stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
        self._bytes = {name: io.BytesIO() for name in ("stdout", "stderr")}
        for name, written in self._bytes.items():
            stream = io.TextIOWrapper(written, encoding=encoding, errors="strict", write_through=True)
            monkeypatch.setattr(sys, name, stream)
        self._encoding, self._patch = encoding, monkeypatch

    def run(self, app: typer.Typer, *words: str) -> tuple[int, str]:
        """The exit code of a command, and all that it wrote."""
        self._patch.setattr(sys, "argv", ["python", *words])
        with pytest.raises(SystemExit) as leaving:
            run_app(app)
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, "".join(
            one.getvalue().decode(self._encoding, "replace") for one in self._bytes.values()
        )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(("name", "verb"), VERBS)
def test_help_is_shown_in_every_terminal(monkeypatch: pytest.MonkeyPatch, encoding: str, name: str, verb: str) -> None:
    code, written = Terminal(monkeypatch, encoding).run(APPS[name], verb, "--help")
    assert code == 0
    assert "Usage" in written


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("refused", [True, False])
def test_signs_that_a_terminal_lacks_are_spelled(monkeypatch: pytest.MonkeyPatch, encoding: str, refused: bool) -> None:
    app = typer.Typer()

    @app.command()
    def show() -> None:
        typer.echo(f"out {SIGNS}")
        print(f"print {SIGNS}")
        say(f"say {SIGNS}")
        with progress(total=2, what=f"bar {SIGNS}", unit="ä") as bar:
            bar.update()
        if refused:
            raise StoreError(f"refused {SIGNS}")

    code, written = Terminal(monkeypatch, encoding).run(app)
    assert code == (2 if refused else 0)
    out = [] if encoding == "ascii" else ["out"]  # there click writes UTF-8 by itself
    for start in (*out, "print", "say", "bar", *(["error: refused"] if refused else [])):
        line = next(line for line in written.splitlines() if line.startswith(start))
        assert f" {SHOWN[encoding]}" in line


def test_a_trace_is_shown_in_every_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise ZeroDivisionError(SIGNS)

    terminal = Terminal(monkeypatch, "ascii")
    monkeypatch.setattr(sys, "argv", ["python"])
    with pytest.raises(ZeroDivisionError) as error:
        run_app(app)
    sys.excepthook(error.type, error.value, error.tb)
    assert "ZeroDivisionError: ... - x " in terminal.run(store_main.app, "--help")[1]


@pytest.mark.parametrize("name", APPS)
def test_a_word_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Bytes that are no UTF-8, or UTF-8 where the locale is ASCII: Python marks them, and no record can hold them."""
    code, written = Terminal(monkeypatch, "ascii").run(APPS[name], "any", "--store", "b\udcff.zarr")
    assert code == 2
    assert written.startswith("error: 'b\\udcff.zarr' is no text in the encoding of this terminal")
