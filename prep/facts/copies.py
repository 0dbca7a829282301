"""Pictures of held-out splits that look like one of a split before them, by their hashes; also turned or mirrored.

This finds what the leakage report of `prep/tiles` does not, and refuses nothing. Two hashes of 63 bits that differ in
at most 6 agree in one of 7 groups of 9 bits: only pictures that do are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from prep.facts.picture import FREQUENCIES
from store.card.measured import HASH_BITS, Copy
from store.schema import Split, Stain

Hashed = tuple[str, int]  # the id of a pair, the hash of its picture
Hashes = NDArray[np.uint64]

GROUPS, GROUP = HASH_BITS + 1, 9  # of bits, behind the first, which is always 0
NONE = 64  # bits that differ where nothing is near
AT_ONCE = 1 << 22  # pairs of pictures that are compared
_U, _V = np.divmod(np.arange(FREQUENCIES**2), FREQUENCIES)
_UPSIDE_DOWN, _MIRRORED = (np.uint64(sum(1 << int(n) for n in np.flatnonzero(axis % 2))) for axis in (_U, _V))
_TRANSPOSED = _V * FREQUENCIES + _U  # where the bit of each frequency is after rows and columns are exchanged


def find_copies(hashes: Mapping[Split, Sequence[Hashed]], stain: Stain) -> list[Copy]:
    """For each picture of a held-out split the nearest one of the splits before it, if it is near enough."""
    order, found = [split for split in Split if hashes.get(split)], []
    for place, split in enumerate(order):
        known = [(other, name, value) for other in order[:place] for name, value in hashes[other]]
        if not known:
            continue
        queries = np.array([value for _, value in hashes[split]], np.uint64)
        nearest = _nearest(queries, np.array([value for _, _, value in known], np.uint64))
        for (name, _), bits, row, turned in zip(hashes[split], *(part.tolist() for part in nearest), strict=True):
            if bits <= HASH_BITS:
                other, original, _ = known[row]
                copy = Copy(
                    split=split, stain=stain, name=name, other=other, original=original, bits=bits, turned=turned
                )
                found.append(copy)
    return found


def turned_hashes(hashes: Hashes) -> Iterator[Hashes]:
    """The hashes of pictures in eight positions, the first as they are: mirrored, upside down, transposed."""
    unpacked = hashes[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)  # [N,64]
    transposed = (unpacked[:, _TRANSPOSED] << np.arange(64, dtype=np.uint64)).sum(axis=1, dtype=np.uint64)
    for start, down, across in product((hashes, transposed), (0, 1), (0, 1)):
        yield start ^ (_UPSIDE_DOWN if down else np.uint64(0)) ^ (_MIRRORED if across else np.uint64(0))


def _nearest(queries: Hashes, known: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """For each query how many bits differ in the nearest known hash, its row, and whether one of them was turned.

    Equal hashes are compared once: a folder of equal pictures must not take the square of their number.
    """
    queries, of_query = np.unique(queries, return_inverse=True)
    rows = np.sort(np.unique(known, return_index=True)[1])  # where each hash occurs first
    bits, index = np.full(len(queries), NONE), np.zeros(len(queries), np.int64)
    turned = np.zeros(len(queries), np.bool_)
    for position, hashes in enumerate(turned_hashes(queries)):
        here, found = _nearest_upright(hashes, known[rows])
        better = here < bits
        bits[better], index[better], turned[better] = here[better], found[better], position > 0
    return bits[of_query], rows[index[of_query]], turned[of_query]


def _nearest_upright(queries: Hashes, known: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same of hashes as they are; where more bits than allowed differ, it may be said that nothing is near."""
    bits, index = np.full(len(queries), NONE), np.full(len(queries), len(known))
    for rows, columns in _candidates(queries, known):
        distances = np.bitwise_count(queries[rows, None] ^ known[None, columns]).astype(np.int64)
        place = distances.argmin(axis=1)
        least, column = distances[np.arange(len(rows)), place], columns[place]
        better = (least < bits[rows]) | ((least == bits[rows]) & (column < index[rows]))
        bits[rows[better]], index[rows[better]] = least[better], column[better]
    return bits, index


def _candidates(queries: Hashes, known: Hashes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of both that agree in a group of bits, in blocks of at most about `AT_ONCE` comparisons."""
    for group in range(GROUPS):
        shift, mask = np.uint64(1 + GROUP * group), np.uint64(2**GROUP - 1)
        by_value = _rows_by_value(known >> shift & mask)
        for value, rows in _rows_by_value(queries >> shift & mask).items():
            if value in by_value:
                columns = by_value[value]
                step = max(1, AT_ONCE // len(columns))
                for start in range(0, len(rows), step):
                    yield rows[start : start + step], columns


def _rows_by_value(values: Hashes) -> dict[int, NDArray[np.int64]]:
    """The rows that have each value, in order."""
    order = np.argsort(values, kind="stable")
    distinct, starts = np.unique(values[order], return_index=True)
    return {int(value): rows for value, rows in zip(distinct, np.split(order, starts[1:]), strict=True)}
