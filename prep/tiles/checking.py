"""Check each pair once before anything is built from it, and read it again unchanged.

Bad pairs are collected with their reasons. A store keeps these reasons (`skipped/`), so their words are part of its
bytes. Files are named relative to the data folder, so that a store does not depend on where the data are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prep.tiles.decoded import NONE_KEPT, Decoded, PairU8
from prep.tiles.layouts import Sources
from prep.tiles.leakage import Fingerprint, Leak, Print, find_leaks, fingerprint
from prep.tiles.pairs import Candidate, Discovery
from store.images import Picture, digest_picture, load_picture
from store.pairs.table import Pair, Skipped, Table
from store.schema import PairingError, PictureError, Split, Stain

BLANK_NAMED = 20  # pictures of one colour, in a note


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The pairs that can be stored and the bad ones, the side of every tile in px, notes for a person.

    `leaks` are the pictures of held-out splits that are also in another one.
    """

    table: Table
    tile_side: int
    notes: tuple[str, ...]
    leaks: tuple[Leak, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundPair:
    """A pair whose pictures were read completely and agree with each other."""

    candidate: Candidate
    pair: Pair
    side: int
    notes: tuple[tuple[str, str], ...]  # source name, what was converted
    prints: tuple[Fingerprint, Fingerprint]  # H&E, IHC


def inspect_pairs(discovery: Discovery, *, threads: int, decoded: Decoded = NONE_KEPT) -> Iterator[SoundPair | Skipped]:
    """Read the pictures of every candidate strictly; one result for each, in their order.

    `decoded` keeps of the sound ones what fits.
    """
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        yield from pool.map(lambda candidate: _inspect(discovery.sources, candidate, decoded), discovery.candidates)
    finally:
        pool.shutdown(cancel_futures=True)


def collect_pairs(discovery: Discovery, inspected: Iterable[SoundPair | Skipped]) -> Checked:
    """The table of what was inspected.

    The side of the store's tiles is the most frequent one (of equally frequent ones the largest); pairs of another side
    are bad, and so are tiles without a counterpart.
    """
    sound: list[SoundPair] = []
    skipped = list(discovery.unpaired)
    for result in inspected:
        if isinstance(result, SoundPair):
            sound.append(result)
        else:
            skipped.append(result)
    tile_side = _common_side(sound)
    skipped += [
        _bad(r.candidate, f"is {r.side} px, most tiles are {tile_side} px, and a store holds one size; cut it again")
        for r in sound
        if r.side != tile_side
    ]
    sound = [result for result in sound if result.side == tile_side]
    pairs = {split: rows for split in Split if (rows := _rows(sound, split))}
    return Checked(
        table=Table(pairs=pairs, skipped=tuple(skipped)),
        tile_side=tile_side,
        notes=(*_conversion_notes(sound), *_blank_notes(sound)),
        leaks=(*_leaks(sound, Stain.HE), *_leaks(sound, Stain.IHC)),
    )


def read_pair(sources: Sources, pair: Pair, decoded: Decoded = NONE_KEPT) -> PairU8:
    """H&E and IHC of a checked pair, u8 [S,S,3] each; raises PairingError if a file changed since it was checked."""
    if kept := decoded.take(pair):
        _refuse_change(pair, _digest_one(sources.he, pair.he), _digest_one(sources.ihc, pair.ihc))
        return kept
    he, ihc = _read(sources, pair.he, pair.ihc)
    _refuse_change(pair, he.digest, ihc.digest)
    return _pixels(sources, he, ihc)


def _refuse_change(pair: Pair, he_digest: str, ihc_digest: str) -> None:
    for name, found, expected in ((pair.he, he_digest, pair.he_digest), (pair.ihc, ihc_digest, pair.ihc_digest)):
        if found != expected:
            raise PairingError(
                f"{name}: changed while the store was built: sha256 was {expected}, is {found}; "
                "put the file back as it was, or start a new store"
            )


def _inspect(sources: Sources, candidate: Candidate, decoded: Decoded) -> SoundPair | Skipped:
    try:
        he, ihc = _read(sources, candidate.he, candidate.ihc)
        he_size, ihc_size = _sizes(sources, he, ihc)
    except PictureError as error:
        return _bad(candidate, str(error))
    if he_size != ihc_size:
        return _bad(
            candidate,
            f"H&E is {_in_px(he_size)}, IHC is {_in_px(ihc_size)}; the two must show one field: cut them alike",
        )
    if he_size[0] != he_size[1]:
        return _bad(candidate, f"is {_in_px(he_size)}, and a tile must be square; cut it again")
    pair = Pair(
        id=candidate.id,
        slide=candidate.slide,
        he=candidate.he,
        ihc=candidate.ihc,
        he_digest=he.digest,
        ihc_digest=ihc.digest,
    )
    notes = dict.fromkeys([*((pair.he, note) for note in he.notes), *((pair.ihc, note) for note in ihc.notes)])
    he_u8, ihc_u8 = _pixels(sources, he, ihc)
    decoded.keep(pair, (he_u8, ihc_u8))
    return SoundPair(
        candidate=candidate,
        pair=pair,
        side=he_size[0],
        notes=tuple(notes),
        prints=(fingerprint(he_u8), fingerprint(ihc_u8)),
    )


def _read(sources: Sources, he: str, ihc: str) -> tuple[Picture, Picture]:
    """The picture in the file of each stain; a file that holds both is read once."""
    first = _read_one(sources.he, he)
    return first, first if sources.joined else _read_one(sources.ihc, ihc)


def _read_one(root: Path, name: str) -> Picture:
    with _named_within(root):
        return load_picture(root / name)


def _digest_one(root: Path, name: str) -> str:
    with _named_within(root):
        return digest_picture(root / name)


@contextmanager
def _named_within(root: Path) -> Iterator[None]:
    """Errors in the block name a file relative to the data folder."""
    try:
        yield
    except PictureError as error:
        raise PictureError(str(error).removeprefix(f"{root}/")) from error


def _sizes(sources: Sources, he: Picture, ihc: Picture) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of each stain's picture."""
    height, width = he.pixels.shape[:2]
    if not sources.joined:
        return (height, width), (ihc.pixels.shape[0], ihc.pixels.shape[1])
    if width != 2 * height:
        raise PictureError(
            f"is {_in_px((height, width))}, and a side-by-side picture must be twice as wide as high; "
            "cut it again, or choose another layout"
        )
    return (height, height), (height, height)


def _pixels(sources: Sources, he: Picture, ihc: Picture) -> PairU8:
    if not sources.joined:
        return he.pixels, ihc.pixels
    height = he.pixels.shape[0]  # [S,2S,3], H&E left
    return he.pixels[:, :height].copy(), he.pixels[:, height:].copy()


def _bad(candidate: Candidate, reason: str) -> Skipped:
    return Skipped(id=candidate.id, split=candidate.split, he=candidate.he, ihc=candidate.ihc, reason=reason)


def _common_side(sound: Sequence[SoundPair]) -> int:
    sides = Counter(result.side for result in sound)
    return max(sides, key=lambda side: (sides[side], side), default=0)


def _leaks(sound: Sequence[SoundPair], stain: Stain) -> list[Leak]:
    """The pictures of one stain that are in two splits."""
    prints: dict[Split, list[Print]] = {}
    for result in sound:
        he, ihc = result.prints
        name, of = (result.pair.he, he) if stain is Stain.HE else (result.pair.ihc, ihc)
        prints.setdefault(result.candidate.split, []).append(Print(name=name, of=of))
    return find_leaks(prints, stain)


def _rows(sound: Sequence[SoundPair], split: Split) -> tuple[Pair, ...]:
    return tuple(sorted((r.pair for r in sound if r.candidate.split is split), key=lambda pair: pair.id))


def _conversion_notes(sound: Sequence[SoundPair]) -> tuple[str, ...]:
    examples: dict[str, list[str]] = {}
    for result in sound:
        for name, note in result.notes:
            examples.setdefault(note, []).append(name)
    return tuple(
        f"{len(names)} picture(s) {note}, for example {names[0]!r}" for note, names in sorted(examples.items())
    )


def _blank_notes(sound: Sequence[SoundPair]) -> list[str]:
    """A note for each split that has pictures of one colour, with their names."""
    notes = []
    for split in Split:
        held = [result for result in sound if result.candidate.split is split]
        prints = (pair for r in held for pair in zip((r.pair.he, r.pair.ihc), r.prints, strict=True))
        if names := list(dict.fromkeys(name for name, of in prints if of.blank)):
            more = f" and {len(names) - BLANK_NAMED} more" if len(names) > BLANK_NAMED else ""
            notes.append(
                f"{len(names)} picture(s) of {split} have one colour, like glass without tissue; training learns "
                f"nothing from them, scores count them: {', '.join(map(repr, names[:BLANK_NAMED]))}{more}"
            )
    return notes


def _in_px(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} px"
