"""Check each pair once before anything is built from it, and read it again unchanged.

Bad pairs are collected with their reasons. Files are named relative to the data folder, so that a store does not depend
on where the data stood. `refuse_bad` turns bad pairs into one error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from prep.tiles.layouts import Sources
from prep.tiles.pairs import Candidate, Discovery
from store.images import Picture, PictureU8, Survey, load_picture, survey_picture
from store.schema import Pair, PairingError, PictureError, SchemaError, Skipped, Split, Table

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The pairs that can be stored and those that cannot, the side of every tile in px, what was converted."""

    table: Table
    tile_side: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sound:
    """A pair whose pictures were read whole and agree with each other."""

    candidate: Candidate
    pair: Pair
    side: int
    notes: tuple[tuple[str, str], ...]  # source name, what was converted


def check_pairs(
    discovery: Discovery,
    check_side: Callable[[int], object],
    *,
    threads: int,
    tick: Callable[[], object] = lambda: None,
) -> Checked:
    """Read every picture strictly; `check_side` raises SchemaError for a side that the recipe cannot use.

    The side of the store's tiles is the most frequent one (of equally frequent ones the largest); pairs of another side
    are bad. `tick` is called once per candidate. The result does not depend on the number of threads.
    """
    sound: list[_Sound] = []
    skipped = list(discovery.unpaired)
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        for result in pool.map(lambda candidate: _inspect(discovery.sources, candidate), discovery.candidates):
            tick()
            if isinstance(result, _Sound):
                sound.append(result)
            else:
                skipped.append(result)
    finally:
        pool.shutdown(cancel_futures=True)
    tile_side = _common_side(sound)
    skipped += [
        _bad(r.candidate, f"is {r.side} px, most tiles are {tile_side} px, and a store holds one size; cut it again")
        for r in sound
        if r.side != tile_side
    ]
    sound = [result for result in sound if result.side == tile_side]
    if not any(result.candidate.split is Split.TRAIN for result in sound):
        raise PairingError(f"no pair is left in train: {_listing(skipped)}; give tiles that can be read and paired")
    try:
        check_side(tile_side)
    except SchemaError as error:
        raise SchemaError(f"{sound[0].pair.he}: {error}") from error
    table = Table(pairs={split: _rows(sound, split) for split in Split}, skipped=tuple(skipped))
    return Checked(table=table, tile_side=tile_side, notes=_count_notes(sound))


def refuse_bad(skipped: Sequence[Skipped]) -> None:
    """Raise PairingError if anything had to be left out: the first names with reasons, the total, the way on."""
    if skipped:
        raise PairingError(f"{_listing(skipped)}; mend them, or leave them out with --skip-bad")


def read_pair(sources: Sources, pair: Pair) -> tuple[PictureU8, PictureU8]:
    """H&E and IHC of a checked pair, u8 [S,S,3] each; raises PairingError if a file changed since it was checked."""
    he, ihc = _read(sources, load_picture, pair.he, pair.ihc)
    for name, picture, expected in ((pair.he, he, pair.he_digest), (pair.ihc, ihc, pair.ihc_digest)):
        if picture.digest != expected:
            raise PairingError(
                f"{name}: changed while the store was built: sha256 was {expected}, is {picture.digest}; "
                "put the file back as it was, or start a new store"
            )
    return _pixels(sources, he, ihc)


def _inspect(sources: Sources, candidate: Candidate) -> _Sound | Skipped:
    try:
        he, ihc = _read(sources, survey_picture, candidate.he, candidate.ihc)
        he_size, ihc_size = _sizes(sources, he, ihc)
    except PictureError as error:
        return _bad(candidate, str(error))
    if he_size != ihc_size:
        return _bad(
            candidate, f"H&E is {_told(he_size)}, IHC is {_told(ihc_size)}; the two must show one field: cut them alike"
        )
    if he_size[0] != he_size[1]:
        return _bad(candidate, f"is {_told(he_size)}, and a tile must be square; cut it again")
    pair = Pair(
        id=candidate.id,
        slide=candidate.slide,
        he=candidate.he,
        ihc=candidate.ihc,
        he_digest=he.digest,
        ihc_digest=ihc.digest,
    )
    notes = dict.fromkeys([*((pair.he, note) for note in he.notes), *((pair.ihc, note) for note in ihc.notes)])
    return _Sound(candidate=candidate, pair=pair, side=he_size[0], notes=tuple(notes))


def _read(sources: Sources, read: Callable[[Path], T], he: str, ihc: str) -> tuple[T, T]:
    """What `read` makes of the file of each stain; one file is read once if it holds both."""
    first = _read_one(sources.he, read, he)
    return first, first if sources.joined else _read_one(sources.ihc, read, ihc)


def _read_one(root: Path, read: Callable[[Path], T], name: str) -> T:
    try:
        return read(root / name)
    except PictureError as error:
        raise PictureError(str(error).removeprefix(f"{root}/")) from error


def _sizes(sources: Sources, he: Survey, ihc: Survey) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of each stain's picture."""
    if not sources.joined:
        return (he.height, he.width), (ihc.height, ihc.width)
    if he.width != 2 * he.height:
        raise PictureError(
            f"is {_told((he.height, he.width))}, and a side-by-side picture must be twice as wide as high; "
            "cut it again, or choose another layout"
        )
    return (he.height, he.height), (he.height, he.height)


def _pixels(sources: Sources, he: Picture, ihc: Picture) -> tuple[PictureU8, PictureU8]:
    if not sources.joined:
        return he.pixels, ihc.pixels
    height = he.pixels.shape[0]  # [S,2S,3], H&E left
    return he.pixels[:, :height].copy(), he.pixels[:, height:].copy()


def _bad(candidate: Candidate, reason: str) -> Skipped:
    return Skipped(id=candidate.id, split=candidate.split, he=candidate.he, ihc=candidate.ihc, reason=reason)


def _common_side(sound: Sequence[_Sound]) -> int:
    sides = Counter(result.side for result in sound)
    return max(sides, key=lambda side: (sides[side], side), default=0)


def _rows(sound: Sequence[_Sound], split: Split) -> tuple[Pair, ...]:
    return tuple(sorted((r.pair for r in sound if r.candidate.split is split), key=lambda pair: pair.id))


def _count_notes(sound: Sequence[_Sound]) -> tuple[str, ...]:
    examples: dict[str, list[str]] = {}
    for result in sound:
        for name, note in result.notes:
            examples.setdefault(note, []).append(name)
    return tuple(
        f"{len(names)} picture(s) {note}, for example {names[0]!r}" for note, names in sorted(examples.items())
    )


def _listing(skipped: Sequence[Skipped]) -> str:
    """The total, then up to five of each kind: H&E alone, IHC alone, pairs that cannot be used."""
    kinds = {
        "H&E without IHC": [f"{bad.he!r}" for bad in skipped if not bad.ihc],
        "IHC without H&E": [f"{bad.ihc!r}" for bad in skipped if not bad.he],
        "not usable": [f"{bad.id!r} ({bad.reason})" for bad in skipped if bad.he and bad.ihc],
    }
    told = [
        f"{len(names)} {kind}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for kind, names in kinds.items()
        if names
    ]
    return f"{len(skipped)} bad pair(s): {'; '.join(told)}"


def _told(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} px"
