"""What holds for all four command lines."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.places import ROOT

MAINS = sorted(ROOT.glob("*/__main__.py"))
SHARED = sorted(ROOT.glob("*/options.py"))  # options that several commands have


@pytest.mark.parametrize("file", [*MAINS, *SHARED], ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_option_names_its_flag(file: Path) -> None:
    """Typer 0.27.0 to 0.27.2 derive `--STORE` or nothing from a parameter's name."""
    calls = [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Option"
    ]
    assert calls
    for call in calls:
        flags = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        assert flags, f"{file}:{call.lineno}"
        assert all(flag.startswith("--") for flag in flags), f"{file}:{call.lineno}"


@pytest.mark.parametrize("file", MAINS, ids=lambda file: file.parent.name)
def test_every_parameter_of_a_command_is_an_option_or_an_argument(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    commands = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and any("app.command" in ast.unparse(d) for d in node.decorator_list)
    ]
    assert commands
    aliases = {
        target.id
        for shared in [file, *SHARED]
        if shared.parent == file.parent
        for node in ast.parse(shared.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and "typer." in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for command in commands:
        for parameter in command.args.args:
            annotation = ast.unparse(parameter.annotation) if parameter.annotation else ""
            assert "typer." in annotation or annotation in aliases, f"{file}:{parameter.lineno}: {parameter.arg}"
