"""Settings: frozen dataclass < TOML file < `--set a.b=value`, checked once, written back so that they read equal.

A settings class is a frozen dataclass with `__pydantic_config__ = FORBID_UNKNOWN`; its fields are numbers, strings,
booleans, enums, tuples of these and other settings classes.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from store.schema import SettingsError
from store.untrusted.documents import (
    DEPTH,
    TOML_BYTES,
    DocumentError,
    NotParsedError,
    parse_toml,
    read_document,
    shorten,
)

T = TypeVar("T")


def load(kind: type[T], file: Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Validated settings of class `kind` from a TOML file and `key=value` overrides.

    A value is TOML (`3`, `true`, `["x1", "x2"]`); a bare word is a string. Raises SettingsError.
    """
    return validate(kind, layered(() if file is None else (file,), overrides))


def layered(files: Sequence[Path], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """TOML files as plain values; a later file overrides an earlier one, and `key=value` overrides them all."""
    tree: dict[str, Any] = {}
    for file in files:
        _merge(tree, _read(file))
    for override in overrides:
        _assign(tree, override)
    return tree


def resolve_preset(name_or_path: Path, presets: Path) -> Path:
    """The settings file that `--config` names: an existing file, or the bundled preset `<presets>/<name>.toml`.

    Raises SettingsError with the names of all presets if it is neither.
    """
    if name_or_path.exists() and not name_or_path.is_dir():  # a data folder may have the name of a preset
        return name_or_path
    known = {file.stem: file for file in sorted(presets.glob("*.toml"))}
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    raise SettingsError(
        f"no settings file {name_or_path}, and no preset of that name; give the path of a TOML file or the name of a "
        f"preset: {', '.join(known)}"
    )


def validate(kind: type[T], tree: Mapping[str, Any]) -> T:
    """Build `kind` from plain values. Raises SettingsError for wrong types and unknown keys, with the nearest key."""
    try:
        text = json.dumps(tree)
    except TypeError as error:
        raise SettingsError(
            f"a setting has a type that is not supported ({error}); use numbers, strings, booleans, lists"
        ) from error
    try:
        valid: T = _adapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_explain(kind, e["type"], e["loc"], e["input"], e["msg"]) for e in error.errors())
        ) from error
    return valid


def plain(settings: object) -> dict[str, Any]:
    """The settings as plain values, the inverse of `validate`."""
    tree: dict[str, Any] = json.loads(_adapter(type(settings)).dump_json(settings))
    return tree


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return _made_adapter(kind)


@cache
def _made_adapter(kind: Any) -> TypeAdapter[Any]:
    """What checks values of a class: made once, because that takes 6 ms for the settings of training."""
    return TypeAdapter(kind)


def to_toml(settings: object) -> str:
    """The settings as a TOML file that loads back equal."""
    return "\n".join(_toml_lines(plain(settings), "")).strip() + "\n"


def _read(file: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_document(file, TOML_BYTES))
    except FileNotFoundError as error:
        raise SettingsError(f"no settings file {file}; give an existing TOML file, or none for the defaults") from error
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({error.strerror}); give an existing TOML file") from error
    except DocumentError as error:
        raise SettingsError(f"{file} is not TOML: {error}; correct that line, or give another file") from error


def _merge(tree: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        below = tree.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _merge(below, value)
        else:
            tree[key] = value


def _assign(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or len(parts) > DEPTH:
        raise SettingsError(f"--set {shorten(override)!r}: write KEY=VALUE, for example --set seed=3")
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise SettingsError(f"--set {override!r}: {part!r} is a value, not a group of settings")
    tree[parts[-1]] = _value(text.strip(), override)


def _value(text: str, override: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except NotParsedError:
        return text
    except DocumentError as error:
        raise SettingsError(f"--set {shorten(override)!r}: {error}; give a number, a word or a list") from error


def _explain(kind: Any, error: str, location: tuple[int | str, ...], given: object, message: str) -> str:
    key, value = shorten(".".join(str(part) for part in location)), shorten(json.dumps(given, default=str))
    if error == "unexpected_keyword_argument" or error == "extra_forbidden":
        known = [f.name for f in fields(_class_at(kind, location[:-1]))]
        nearest = " or ".join(repr(name) for name in _nearest(kind, key, known))
        return f"unknown setting {key!r}; did you mean {nearest}? Known here: {', '.join(known)}"
    if error == "tuple_type":
        example = f"{key}={_as_list(given)}"
        made = example.replace('"', '\\"')  # make takes one pair of quotes away
        return f"setting {key} = {value}: a list has words in quotes: {example} (make: SET=\"'{made}'\")"
    if error == "string_type":
        *groups, last = location
        word = json.dumps(value)
        example = f"{'.'.join(map(str, groups))}=[{word}, …]" if isinstance(last, int) else f"{key}={word}"
        return f"setting {key} = {value}: must be a word, so put it in quotes: {example}"
    return f"setting {key} = {value}: {message[:1].lower()}{message[1:]}"


def _nearest(kind: Any, key: str, known: Sequence[str]) -> list[str]:
    """The settings that an unknown `key` may mean; `known` are those of its group, which are named without the group.

    A setting of the same name in another group comes first, then one whose name has it as a word, then a similar one.
    """
    group, _, name = key.rpartition(".")
    leaves = {path: path.rpartition(".")[2] for path in _paths(kind)}
    alike = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(name, leaves.values(), n=1)
    for wanted in (
        [path for path, leaf in leaves.items() if leaf == name],
        [path for path, leaf in leaves.items() if name in leaf.split("_")],
        [path for path, leaf in leaves.items() if leaf in alike],
    ):
        here = [leaves[path] for path in wanted if path.rpartition(".")[0] == group]
        if wanted:
            return here or wanted
    return alike or difflib.get_close_matches(name, known, n=1, cutoff=0.0)


def _paths(kind: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of all settings of a class."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from _paths(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def _as_list(given: object) -> str:
    """What was probably meant by a value that is not a list, as TOML.

    >>> _as_list("[x1, x2]"), _as_list("x1"), _as_list(2)
    ('["x1","x2"]', '["x1"]', '[2]')
    """
    words = [word for word in re.split(r"[][\s,'\"]+", given) if word] if isinstance(given, str) else [given]
    return json.dumps(words, separators=(",", ":"))


def _class_at(kind: Any, location: tuple[int | str, ...]) -> Any:
    for part in location:
        hints = get_type_hints(kind)
        if not isinstance(part, str) or part not in hints or not is_dataclass(hints[part]):
            return kind
        kind = hints[part]
    return kind


def _toml_lines(tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
    groups = {key: value for key, value in tree.items() if isinstance(value, dict)}
    for key, value in tree.items():
        if key not in groups:
            text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON allows DEL as it is
            yield f"{key} = {text}"
    for key, value in groups.items():
        yield f"\n[{prefix}{key}]"
        yield from _toml_lines(value, f"{prefix}{key}.")


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The keys in which two trees of plain values differ, as `key: old value -> new value`.

    >>> differences({"a": {"b": 1}}, {"a": {"b": 2}})
    ['a.b: 1 -> 2']
    """
    found: list[str] = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {json.dumps(before)} -> {json.dumps(after)}")
    return found
