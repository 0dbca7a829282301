"""A data card as files for people and programs: `card.md` and `card.json`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from store.card.card import Card
from store.card.markdown import card_markdown
from store.files import disk_errors, to_json, write_json, write_whole


def card_tree(card: Card) -> dict[str, Any]:
    """The card as plain values, as `card.json` has them."""
    tree: dict[str, Any] = to_json(asdict(card))
    return tree


def write_card(folder: Path, card: Card) -> tuple[Path, Path]:
    """Write both files into a folder, which is created; the JSON has its own sha256. Raises StoreError."""
    text, record = folder / "card.md", folder / "card.json"
    write_json(record, card)
    with disk_errors(text):
        write_whole(text, f"{card_markdown(card)}\n".encode())
    return text, record
