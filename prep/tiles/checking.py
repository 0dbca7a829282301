"""Check each pair once before anything is built from it: the tiles of each candidate, and the table of all.

Bad pairs are collected with their reasons. A store keeps these reasons (`skipped/`), so their words are part of its
bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from prep.tiles.decoded import NONE_KEPT, Decoded
from prep.tiles.layouts import Sources
from prep.tiles.leakage import Fingerprint, Leak, Print, find_leaks, fingerprint
from prep.tiles.pairs import Candidate, Discovery
from prep.tiles.reading import SourcePair, cut_squares, in_px, read_sources
from store.pairs.table import Pair, Skipped, Table
from store.schema import PictureError, Split, Stain

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


Inspected = tuple[SoundPair | Skipped, ...]  # of one candidate: one for each tile that is cut from its pictures


def inspect_pairs(discovery: Discovery, *, threads: int, decoded: Decoded = NONE_KEPT) -> Iterator[Inspected]:
    """Read the pictures of every candidate strictly; the tiles of each, in the order of the candidates.

    `decoded` keeps of the sound ones what fits.
    """
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        yield from pool.map(lambda candidate: _inspect(discovery.sources, candidate, decoded), discovery.candidates)
    finally:
        pool.shutdown(cancel_futures=True)


def collect_pairs(discovery: Discovery, inspected: Iterable[Inspected]) -> Checked:
    """The table of what was inspected.

    The side of the store's tiles is the most frequent one (of equally frequent ones the largest); pairs of another side
    are bad, and so are tiles without a counterpart.
    """
    sound: list[SoundPair] = []
    skipped = list(discovery.unpaired)
    for result in chain.from_iterable(inspected):
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


def make_tiles(candidate: Candidate, read: SourcePair) -> Inspected:
    """The tiles of a candidate whose sources were read: sound pairs, or bad ones with the reason."""
    if read.he.shape != read.ihc.shape:
        he, ihc = in_px(read.he), in_px(read.ihc)
        return (_bad(candidate, f"H&E is {he}, IHC is {ihc}; the two must show one field: cut them alike"),)
    if read.he.shape[0] != read.he.shape[1]:
        return (_bad(candidate, f"is {in_px(read.he)}, and a tile must be square; cut it again"),)
    return (_sound_pair(candidate, read),)


def _inspect(sources: Sources, candidate: Candidate, decoded: Decoded) -> Inspected:
    try:
        read = read_sources(sources, candidate.he, candidate.ihc)
    except PictureError as error:
        return (_bad(candidate, str(error)),)
    tiles = make_tiles(candidate, read)
    if sound := [tile for tile in tiles if isinstance(tile, SoundPair)]:
        decoded.keep(sound[0].pair, read.pictures)
    return tiles


def _sound_pair(candidate: Candidate, read: SourcePair) -> SoundPair:
    """A tile of a candidate, with all that is measured on its two pictures as delivered, u8 [S,S,3] each."""
    pair = Pair(
        id=candidate.id,
        slide=candidate.slide,
        he=candidate.he,
        ihc=candidate.ihc,
        he_digest=read.he_file.digest,
        ihc_digest=read.ihc_file.digest,
    )
    he_u8, ihc_u8 = cut_squares(read.pictures, pair)
    return SoundPair(
        candidate=candidate,
        pair=pair,
        side=he_u8.shape[0],
        notes=_conversions(pair, read),
        prints=(fingerprint(he_u8), fingerprint(ihc_u8)),
    )


def _conversions(pair: Pair, read: SourcePair) -> tuple[tuple[str, str], ...]:
    """What was converted in which source; in a file that holds both pictures it is said once."""
    notes = [(pair.he, note) for note in read.he_file.notes] + [(pair.ihc, note) for note in read.ihc_file.notes]
    return tuple(dict.fromkeys(notes))


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
