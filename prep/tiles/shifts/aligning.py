"""Leave pairs out because of their measured shift, and cut the IHC where it shows the same place as the H&E."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prep.registration.matching import Matching, common_side, move_square, move_whole
from prep.settings import Align, PrepSettings, how_to_set
from prep.tiles.inspected import Checked, SoundPair
from prep.views import largest_side
from store.pairs.table import Pair, Skipped, Table
from store.schema import SchemaError

NAMED = 3  # pairs that are furthest apart, in a note


def match_pairs(sound: Sequence[SoundPair], matching: Matching) -> tuple[list[SoundPair], tuple[Skipped, ...]]:
    """The pairs that are wanted, squares moved as their shift says, and the others with the reason."""
    kept: list[SoundPair] = []
    left_out: list[Skipped] = []
    for result in sound:
        pair, estimate, field = result.pair, result.pair.registration, result.field
        fault = matching.fault(estimate) if estimate else ""
        moved = fault or move_square(pair, matching, field.height, field.width)
        if isinstance(moved, Pair):
            kept.append(replace(result, pair=moved))
        else:
            split = result.candidate.split
            left_out.append(Skipped(id=pair.id, split=split, he=pair.he, ihc=pair.ihc, reason=moved))
    return kept, tuple(left_out)


def align_whole(settings: PrepSettings, checked: Checked, matching: Matching) -> Checked:
    """Pairs of whole pictures, cut so that the IHC is moved by its measured shift; others are returned unchanged.

    The squares have one side: the largest that fits the recipe and that every pair has. Raises SchemaError if there is
    none.
    """
    if matching.align is Align.NONE or settings.tile_side or not checked.table.pairs:
        return checked
    pairs = [pair for rows in checked.table.pairs.values() for pair in rows]
    room = common_side(checked.tile_side, map(matching.shift, pairs))
    square = largest_side(settings, room)
    if not square:
        raise SchemaError(
            f"align = shift leaves {room} px of tiles of {checked.tile_side} px, and the recipe does not fit them: "
            f"{_furthest(pairs, matching)}; leave such pairs out, for example {how_to_set('max_shift=20')}, or set a "
            f"smaller view_side"
        )
    moved = {
        split: tuple(move_whole(pair, matching.shift(pair), checked.tile_side, square) for pair in rows)
        for split, rows in checked.table.pairs.items()
    }
    count = sum(any(matching.shift(pair)) for pair in pairs)
    note = (
        f"align = shift: the IHC of {count} of {len(pairs)} pairs is moved by its shift, so tiles are squares of "
        f"{square} px of {checked.tile_side} px; {_furthest(pairs, matching)}"
    )
    return replace(
        checked,
        table=Table(pairs=moved, skipped=checked.table.skipped),
        tile_side=square,
        notes=(*checked.notes, note),
    )


def _furthest(pairs: list[Pair], matching: Matching) -> str:
    """The pairs that make the squares small."""
    moves = sorted(((max(map(abs, matching.shift(pair))), pair.id) for pair in pairs), reverse=True)[:NAMED]
    return f"moved most: {', '.join(f'{name!r} by {length} px' for length, name in moves)}"
