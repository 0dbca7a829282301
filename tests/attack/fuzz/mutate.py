"""Changes of valid documents and bytes, drawn from a generator: what a hostile or broken writer would leave."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEEP = 20_000  # brackets: more than a recursive reader survives
MARK_DEEP, MARK_TWICE = "@deep@", "@twice@"  # stand for what a tree cannot hold until it is text
NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 255, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**9, 10**12, 10**30, 10**400, -(2**63),
    0.5, -0.0, 1e-300, 1e308, float("inf"), float("nan"),
)  # fmt: skip
PLACES = ("/", ".", "..", "", " ", "a ", "a.")
SIGNS = ("a\0b", "a\nb", "a\rb", "a\x1b[31mb", "\u202egnp.x", "a\u0301", "\u00e1", "\ufffd")
DEVICES = ("CON", "nul", "aux.png", "com1", "LPT9.txt")
TRICKS = (
    "<script>alert(1)</script>",
    "a|b",
    "`x`",
    "$(touch escaped)",
    "%s%n",
    "{0}",
    "{{7*7}}",
    "\\input{x}",
    "=1+1",
    "-rf",
)
PLAIN: tuple[Any, ...] = (None, True, False, "", [], {}, [[]], {"": None}, [None] * 3, "0", "null", "true")


def hostile_names(outside: Path) -> list[str]:
    """Names of pairs, splits and files that must never become paths; `outside` is a folder that must stay as it is."""
    up = [f"{'../' * depth}escaped" for depth in range(1, 9)]
    places = [str(outside / "escaped"), "~/escaped", "C:\\x", "\\\\host\\x", "file:///x", "a//b", "a/./b", *PLACES]
    long = ["x" * 300, "é" * 200, "a" * 100_000, "/".join("a" * 300)]
    return [*up, *places, *SIGNS, *DEVICES, *TRICKS, *long]


def mutate_tree(tree: Any, chance: random.Random, names: list[str]) -> Any:
    """A copy of a tree of plain values with one to three changes."""
    changed = copy.deepcopy(tree)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        spots = _spots(changed)
        if not spots:
            return chance.choice(PLAIN)
        holder, key = chance.choice(spots)
        chance.choice(CHANGES)(holder, key, chance, names)
    return changed


def text_of(tree: Any, indent: int | None = None) -> str:
    """A tree as JSON text; marks become what no tree holds: deep nesting, a key twice."""
    text = json.dumps(tree, indent=indent, ensure_ascii=False)
    text = text.replace(f'"{MARK_DEEP}"', "[" * DEEP + "]" * DEEP)
    return text.replace(MARK_TWICE, "")


def mutate_bytes(data: bytes, chance: random.Random, head: int = 64) -> bytes:
    """Bytes with one to four changes, half of them among the first `head` bytes, where lengths are."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        end = len(changed) if chance.random() < 0.5 else min(head, len(changed))
        place = chance.randrange(end) if end else 0
        chance.choice(BYTE_CHANGES)(changed, place, chance)
    return bytes(changed)


def _spots(tree: Any) -> list[tuple[Any, Any]]:
    """Every place in a tree: what holds it, and its key there."""
    spots: list[tuple[Any, Any]] = []
    level = [tree]
    while level:
        one = level.pop()
        keys: list[Any] = list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        spots += [(one, key) for key in keys]
        level += [one[key] for key in keys]
    return spots


def _number(holder: Any, key: Any, chance: random.Random, names: list[str]) -> None:
    holder[key] = chance.choice(NUMBERS)


def _plain(holder: Any, key: Any, chance: random.Random, names: list[str]) -> None:
    holder[key] = copy.deepcopy(chance.choice(PLAIN))


def _name(holder: Any, key: Any, chance: random.Random, names: list[str]) -> None:
    holder[key] = chance.choice(names)


def _scale(holder: Any, key: Any, chance: random.Random, names: list[str]) -> None:
    value = holder[key]
    if isinstance(value, int | float):
        holder[key] = value * chance.choice((-1, 0, 2, 10, 1000, 10**6, 10**9)) + chance.choice((0, 1, -1))
    else:
        holder[key] = [value] * 2


def _wrap(holder: Any, key: Any, chance: random.Random, names: list[str]) -> None:
    value = holder[key]
    holder[key] = chance.choice(([value], {"a": value}, str(value), {str(value)[:50]: None}, [value] * 1000))


def _delete(holder: Any, key: Any, chance: random.Random, names: list[str]) -> None:
    del holder[key]


def _deepen(holder: Any, key: Any, chance: random.Random, names: list[str]) -> None:
    holder[key] = MARK_DEEP


def _twice(holder: Any, key: Any, chance: random.Random, names: list[str]) -> None:
    if isinstance(holder, dict):
        holder[f"{MARK_TWICE}{key}"] = copy.deepcopy(chance.choice(PLAIN))
    else:
        holder.append(holder[key])


def _rename(holder: Any, key: Any, chance: random.Random, names: list[str]) -> None:
    if isinstance(holder, dict):
        holder[chance.choice((*names, "unknown", f"{key}s"))] = holder.pop(key)
    else:
        holder.pop(key)


CHANGES: tuple[Callable[[Any, Any, random.Random, list[str]], None], ...] = (
    _number, _number, _plain, _name, _scale, _wrap, _delete, _deepen, _twice, _rename,
)  # fmt: skip


def _flip(data: bytearray, place: int, chance: random.Random) -> None:
    if data:
        data[place] ^= 1 << chance.randrange(8)


def _extreme(data: bytearray, place: int, chance: random.Random) -> None:
    size = chance.choice((1, 2, 4, 8))
    value = chance.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1))
    data[place : place + size] = value.to_bytes(size, chance.choice(("little", "big")))


def _cut(data: bytearray, place: int, chance: random.Random) -> None:
    del data[place:]


def _insert(data: bytearray, place: int, chance: random.Random) -> None:
    data[place:place] = bytes([chance.randrange(256)]) * chance.choice((1, 4, 100, 70_000))


def _drop(data: bytearray, place: int, chance: random.Random) -> None:
    del data[place : place + chance.choice((1, 4, 100))]


def _repeat(data: bytearray, place: int, chance: random.Random) -> None:
    data[place:place] = data[place : place + 1000] * chance.choice((1, 3))


BYTE_CHANGES: tuple[Callable[[bytearray, int, random.Random], None], ...] = (
    _flip, _extreme, _extreme, _cut, _insert, _drop, _repeat,
)  # fmt: skip
