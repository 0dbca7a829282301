"""Check each pair once before anything is built from it: the tiles of each candidate, and the table of all.

Bad pairs are collected with their reasons. A store keeps these reasons (`skipped/`), so their words are part of its
bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain

from prep.facts.gather import measure_stain
from prep.registration.matching import UNMEASURED, Matching
from prep.tiles.decoded import NONE_KEPT, Decoded
from prep.tiles.inspected import Checked, Inspected, Misfit, SoundPair
from prep.tiles.layouts import Sources
from prep.tiles.leakage import Fingerprint, Leak, Print, find_leaks, fingerprint
from prep.tiles.overlaps.places import Corner, Place, place_tile, read_corners
from prep.tiles.overlaps.sharing import Placed, find_overlaps
from prep.tiles.pairs import Candidate, Discovery
from prep.tiles.reading import SourcePair, cut_squares, read_sources
from prep.tiles.remarks.pictures import blank_notes, conversion_notes, empty_notes
from prep.tiles.shapes import common_field, halves_fault, room_fault, shape_fault, uneven_fault
from prep.tiles.shifts.aligning import match_pairs
from prep.tiles.squares import WHOLE, Cut, Cutting, Field, count_cut, name_square, plan_squares
from prep.tiles.unpaired import make_rows
from store.pairs.table import NO_DIGEST, Pair, Skipped, Table
from store.schema import Box, LargePictureError, PictureError, Split, Stain

LARGE = 4096  # px at least of the side of a picture that is too large for a tile, for what is cut of it


def inspect_pairs(
    discovery: Discovery,
    *,
    threads: int,
    cutting: Cutting = WHOLE,
    measured: bool = False,
    decoded: Decoded = NONE_KEPT,
) -> Iterator[Inspected]:
    """Read the pictures of every candidate strictly; the tiles of each, in the order of the candidates.

    `measured` says whether the shift of each tile is measured; `decoded` keeps of the sound ones what fits.
    """
    inspect = partial(_inspect, discovery.sources, cutting=cutting, measured=measured, decoded=decoded)
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        yield from pool.map(inspect, discovery.candidates)
    finally:
        pool.shutdown(cancel_futures=True)


def collect_pairs(
    discovery: Discovery, inspected: Iterable[Inspected], cutting: Cutting = WHOLE, matching: Matching = UNMEASURED
) -> Checked:
    """The table of what was inspected, without the pairs that `matching` leaves out.

    The side of the store's tiles is the most frequent one (of equally frequent ones the largest); pairs of another side
    are bad, and so are tiles without a counterpart.
    """
    sound: list[SoundPair] = []
    skipped = list(discovery.unpaired)
    sides: list[int] = []  # of pictures that are no tiles
    for result in chain.from_iterable(inspected):
        if isinstance(result, SoundPair):
            sound.append(result)
        elif isinstance(result, Misfit):
            skipped.append(result.skipped)
            sides.append(result.side)
        else:
            skipped.append(result)
    tile_side = _common_side(sound)
    sides += [result.side for result in sound if result.side != tile_side]
    skipped += [
        _bad(r.candidate, f"is {r.side} px, most tiles are {tile_side} px, and a store holds one size; cut it again")
        for r in sound
        if r.side != tile_side
    ]
    sound, left_out = match_pairs([result for result in sound if result.side == tile_side], matching)
    pairs = {split: rows for split in Split if (rows := _rows(sound, split, paired=discovery.paired))}
    return Checked(
        table=Table(pairs=pairs, skipped=(*skipped, *left_out)),
        tile_side=tile_side,
        notes=(
            *conversion_notes(note for r in sound for note in r.notes),
            *blank_notes(_all_prints(sound)),
            *empty_notes((candidate.split for candidate in discovery.candidates), pairs),
        ),
        left_out=left_out,
        leaks=(*_leaks(sound, Stain.HE), *_leaks(sound, Stain.IHC)),
        overlaps=tuple(find_overlaps(_placed(sound, cutting))),
        facts={split: [result.facts for result in sound if result.candidate.split is split] for split in Split},
        cut=_count_cut(cutting, sound),
        to_cut=tuple(sides),
    )


def make_tiles(candidate: Candidate, read: SourcePair, cutting: Cutting, *, measured: bool = False) -> Inspected:
    """The tiles of a candidate whose sources were read: sound pairs, or bad ones with the reason."""
    field, fault = common_field(read), halves_fault(read, cutting)
    if not cutting and (cutting.halves or not fault):
        fault = fault or shape_fault(read)
        side = min(field.height, field.width)
        if fault:
            return (Misfit(skipped=_bad(candidate, fault), side=side),)
        return (_sound_pair(candidate, read, field, measured=measured),)
    if fault := fault or uneven_fault(read, field):
        return (_bad(candidate, fault),)
    if fault := room_fault(field, cutting):
        return (Misfit(skipped=_bad(candidate, fault), side=min(field.height, field.width)),)
    return tuple(_sound_pair(candidate, read, field, box, measured=measured) for box in plan_squares(cutting, field))


def _inspect(sources: Sources, candidate: Candidate, cutting: Cutting, measured: bool, decoded: Decoded) -> Inspected:
    try:
        read = read_sources(sources, candidate.he, candidate.ihc, regions=bool(cutting))
    except LargePictureError as error:
        return (Misfit(skipped=_bad(candidate, str(error)), side=LARGE),)
    except PictureError as error:
        return (_bad(candidate, str(error)),)
    tiles = make_tiles(candidate, read, cutting, measured=measured)
    if sound := [tile for tile in tiles if isinstance(tile, SoundPair)]:
        decoded.keep(sound[0].pair, read.pictures)
    return tiles


def _sound_pair(
    candidate: Candidate, read: SourcePair, field: Field, box: Box | None = None, *, measured: bool = False
) -> SoundPair:
    """A tile of a candidate, with all that is measured on its two pictures as delivered, u8 [S,S,3] each."""
    name, he, ihc = name_square(candidate.id, box) if box else candidate.id, bool(candidate.he), bool(candidate.ihc)
    pair = Pair(
        id=name,
        slide=candidate.slide if he else "",
        he=candidate.he,
        ihc=candidate.ihc,
        he_digest=read.he_file.digest if he else NO_DIGEST,
        ihc_digest=read.ihc_file.digest if ihc else NO_DIGEST,
        he_box=box if he else None,
        ihc_box=box if ihc else None,
        ihc_id="" if he else name,
        ihc_slide="" if he else candidate.slide,
    )
    he_u8, ihc_u8 = cut_squares(read.pictures, pair)
    files, tiles = {Stain.HE: read.he_file, Stain.IHC: read.ihc_file}, {Stain.HE: he_u8, Stain.IHC: ihc_u8}
    he_print = fingerprint(he_u8)
    prints = he_print, fingerprint(ihc_u8) if he and ihc else he_print
    if measured:
        from prep.registration.estimate import register  # scipy is not imported where nothing is measured

        pair = replace(pair, registration=register(he_u8, ihc_u8))
    return SoundPair(
        candidate=candidate,
        pair=pair,
        side=he_u8.shape[0],
        field=field,
        notes=_conversions(pair, read),
        prints=prints,
        facts={
            stain: measure_stain(stain, pair, files[stain], tiles[stain], one_colour=of.blank)
            for stain, of in zip(Stain, prints, strict=True)
            if stain in pair.stains
        },
    )


def _conversions(pair: Pair, read: SourcePair) -> tuple[tuple[str, str], ...]:
    """What was converted in which source; in a file that holds both pictures it is said once."""
    files = {Stain.HE: read.he_file, Stain.IHC: read.ihc_file}
    return tuple(dict.fromkeys((pair.tile_of(stain), note) for stain in pair.stains for note in files[stain].notes))


def _bad(candidate: Candidate, reason: str) -> Skipped:
    if len(candidate.stains) == 1:
        reason = f"{candidate.stains[0].spoken} tile {reason}"
    return Skipped(id=candidate.id, split=candidate.split, he=candidate.he, ihc=candidate.ihc, reason=reason)


def _common_side(sound: Sequence[SoundPair]) -> int:
    sides = Counter(result.side for result in sound)
    return max(sides, key=lambda side: (sides[side], side), default=0)


def _leaks(sound: Sequence[SoundPair], stain: Stain) -> list[Leak]:
    """The pictures of one stain that are in two splits."""
    prints: dict[Split, list[Print]] = {}
    for result in sound:
        for name, of in _prints(result).get(stain, {}).items():
            prints.setdefault(result.candidate.split, []).append(Print(name=name, of=of))
    return find_leaks(prints, stain)


def _prints(result: SoundPair) -> dict[Stain, dict[str, Fingerprint]]:
    """The print of each tile by what a person calls it: its source, with the place of the square in it."""
    boxes = {Stain.HE: result.pair.he_box, Stain.IHC: result.pair.ihc_box}
    of = dict(zip(Stain, result.prints, strict=True))
    return {stain: {_name(result.pair.tile_of(stain), boxes[stain]): of[stain]} for stain in result.pair.stains}


def _all_prints(sound: Sequence[SoundPair]) -> Iterator[tuple[Split, str, Fingerprint]]:
    """The prints of all tiles with their splits and names."""
    for result in sound:
        for of_stain in _prints(result).values():
            yield from ((result.candidate.split, name, of) for name, of in of_stain.items())


def _name(source: str, box: Box | None) -> str:
    return f"{source} at y={box.top} x={box.left}" if box else source


def _placed(sound: Sequence[SoundPair], cutting: Cutting) -> list[Placed]:
    """The tiles with their places in the pictures that their names tell of; those of unpaired stains are not one."""
    corners = read_corners([result.candidate.id for result in sound], cutting.name_stride)
    return [
        Placed(
            name=result.pair.id,
            split=result.candidate.split,
            slide=result.candidate.slide,
            place=_place(result, corner) if corner else None,
        )
        for result, corner in zip(sound, corners, strict=True)
    ]


def _place(result: SoundPair, corner: Corner) -> Place:
    box = result.pair.he_box or result.pair.ihc_box
    place = place_tile(corner, (result.field.height, result.field.width), box)
    return replace(place, picture=f"{'+'.join(result.pair.stains)} {place.picture}")


def _count_cut(cutting: Cutting, sound: Sequence[SoundPair]) -> Cut:
    """What was cut from the pictures of these pairs."""
    fields = {(result.pair.he, result.pair.ihc): result.field for result in sound}
    return count_cut(cutting, [*fields.values()], squares=len(sound))


def _rows(sound: Sequence[SoundPair], split: Split, *, paired: bool) -> tuple[Pair, ...]:
    pairs = [result.pair for result in sound if result.candidate.split is split]
    return tuple(sorted(pairs, key=lambda pair: pair.id)) if paired else make_rows(pairs)
