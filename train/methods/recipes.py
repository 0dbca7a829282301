"""From a method's name to its settings: its published recipe, then what a user asks for.

`presets/<method>.toml` is the recipe of a method as published. Everything else overrides it, so that a method is the
published one except for what the user changes. A method without such a file starts from the defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from store.schema import SettingsError
from store.settings import layered, plain, resolve_preset, validate
from train.methods.registry import METHODS, find_method
from train.settings import TrainSettings

PRESETS = Path(__file__).parents[1] / "presets"


def load_recipe(configs: Sequence[Path], overrides: Sequence[str], *, resumed: bool = False) -> TrainSettings:
    """Settings from default < the method's published recipe < TOML files in their order < `key=value`.

    A file is a path, or the name of a bundled preset. Raises SettingsError, also where a user's file or `key=value`
    sets something that the method does not read. `resumed` omits this check: it came after some runs were started, and
    the settings of a started run must not change anyway.
    """
    files = [resolve_preset(config, PRESETS) for config in configs]
    method = str(layered(files, overrides).get("method", TrainSettings.method))
    find_method(method)
    if not resumed:
        for file in files:
            _check_read(method, str(file), _own_settings(file))
        for override in overrides:
            _check_read(method, "--set", layered((), (override,)))
    recipe = [published(method)] if published(method).is_file() else []
    return validate(TrainSettings, layered([*recipe, *files], overrides))


def published(method: str) -> Path:
    """The file with a method's published recipe."""
    return PRESETS / f"{method}.toml"


def _own_settings(file: Path) -> Mapping[str, Any]:
    """What a user's file sets: nothing in a bundled preset, which serves several methods.

    Nothing either in a run's `settings.toml`, which has every setting, also those that its method does not read.
    """
    tree = layered((file,))
    complete = {field.name for field in fields(TrainSettings)} <= tree.keys()
    return {} if complete or file.resolve().parent == PRESETS.resolve() else tree


def _check_read(method: str, source: str, tree: Mapping[str, Any]) -> None:
    """Refuse the first setting in `tree` that exists but that the method does not read."""
    existing = set(_keys(plain(TrainSettings())))
    for key in _keys(tree):
        if key in existing and not METHODS[method].reads_setting(key):
            readers = [name for name, entry in METHODS.items() if entry.reads_setting(key)]
            use = f", or use a method that reads it ({', '.join(readers)})" if readers else ""
            raise SettingsError(
                f"{key} ({source}): method = {method} does not read it; it reads {', '.join(METHODS[method].reads)}. "
                f"Remove it{use}"
            )


def _keys(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted keys of a tree of settings."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
