"""Which slides are held out for validation and test.

Tiles of one slide are similar, so no slide should occur in two splits. Pure functions of names and numbers.
"""

from __future__ import annotations

import difflib
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from prep.settings import how_to_set
from prep.tiles.names.patterns import USUAL
from prep.tiles.pairs import Candidate, Discovery
from store.schema import PairingError, SettingsError, Split, Stain

NAMES_SHOWN = 12  # slides in an error


NO_GROUPS: Mapping[str, str] = MappingProxyType({})
NO_SLIDES: Mapping[str, Split] = MappingProxyType({})


def resplit(
    discovery: Discovery,
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    test_slides: Sequence[str] = (),
    val_slides: Sequence[str] = (),
    groups: Mapping[str, str] = NO_GROUPS,
) -> Discovery:
    """The same candidates in a split in which no slide occurs twice, whatever split was published.

    Slides that are named are held out, and for a part of which none is named a fraction. Slides of one of the `groups`
    stay together.
    """
    tiles = Counter(candidate.slide for candidate in discovery.candidates)
    named = _named(tiles, {Split.TEST: test_slides, Split.VAL: val_slides})
    wanted = {Split.TEST: test_fraction, Split.VAL: val_fraction}
    splits = _split_stains(discovery.candidates, groups, seed, wanted, named)
    return _assign(discovery, [splits[candidate.slide] for candidate in discovery.candidates])


def hold_out_val(
    discovery: Discovery,
    *,
    seed: int,
    val_fraction: float,
    val_slides: Sequence[str] = (),
    groups: Mapping[str, str] = NO_GROUPS,
) -> Discovery:
    """The published split with some slides of train held out as `val`: those that are named, or a fraction."""
    train = [candidate for candidate in discovery.candidates if candidate.split is Split.TRAIN]
    elsewhere = {c.slide: c.split for c in discovery.candidates if c.split is not Split.TRAIN}
    named = _named(Counter(candidate.slide for candidate in train), {Split.VAL: val_slides}, elsewhere)
    splits = _split_stains(train, groups, seed, {Split.TEST: 0, Split.VAL: val_fraction}, named)
    return _assign(discovery, [splits[c.slide] if c.split is Split.TRAIN else c.split for c in discovery.candidates])


def _split_groups(
    tiles: Mapping[str, int],
    groups: Mapping[str, str],
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    named: Mapping[str, Split],
) -> dict[str, Split]:
    """A split for each slide, the same for all slides of a group; else as `split_by_slide`."""
    of_group = Counter[str]()
    for slide, count in tiles.items():
        of_group[groups.get(slide, slide)] += count
    held: dict[str, tuple[str, Split]] = {}
    for slide, split in named.items():
        other, chosen = held.setdefault(groups.get(slide, slide), (slide, split))
        if chosen is not split:
            raise PairingError(
                f"{chosen}_slides names {other!r} and {split}_slides {slide!r}, and tiles of the two share pixels; "
                "name both in one of them"
            )
    try:
        splits = split_by_slide(
            of_group,
            seed=seed,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            named={group: split for group, (_, split) in held.items()},
        )
    except PairingError as error:
        together = f"; slides whose tiles share pixels count as one: {', '.join(sorted(groups)[:NAMES_SHOWN])}"
        raise PairingError(f"{error}{together if groups else ''}") from error
    return {slide: splits[groups.get(slide, slide)] for slide in tiles}


def split_by_slide(
    tiles: Mapping[str, int],
    *,
    seed: int,
    val_fraction: float,
    test_fraction: float,
    named: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """A split for each slide, given how many tiles it has; a function of the seed and the slides, not of their order.

    Slides that are `named` have that split; the rest is drawn for parts of which no slide is named.

    `test_fraction` is of all tiles, `val_fraction` of the tiles that are not in test. Slides are taken in an order
    drawn from (seed, slide) as long as the part stays within its fraction; if none fits, the smallest is taken. Every
    part that was asked for gets at least one slide, and train keeps at least one.

    Raises SettingsError for an impossible fraction, PairingError if there are too few slides.
    """
    wanted = {Split.TEST: test_fraction, Split.VAL: val_fraction}
    for split, fraction in wanted.items():
        if not 0 <= fraction < 1:
            raise SettingsError(f"{split}_fraction = {fraction}: must be at least 0 and below 1")
    named = named or {}
    parts = [split for split, fraction in wanted.items() if fraction > 0 and split not in named.values()]
    free = sorted(tiles.keys() - named.keys())
    if named and not free:
        raise PairingError(f"test_slides and val_slides name all {len(named)} slides; leave at least one for train")
    if parts and len(free) <= len(parts):
        beside = f" beside the {len(named)} that test_slides and val_slides name" if named else ""
        raise PairingError(
            f"{len(free)} slide(s) ({', '.join(free[:5])}){beside} cannot be split into "
            f"{', '.join(['train', *parts])}: no slide may occur in two splits, so at least {len(parts) + 1} are "
            f"needed; ask for fewer parts, or set a slide_pattern that separates more slides, for "
            f"example {how_to_set(f'slide_pattern={USUAL}')}"
        )
    rest = sorted(free, key=lambda slide: hashlib.sha256(f"{seed}/{slide}".encode()).digest())
    splits = dict.fromkeys(tiles, Split.TRAIN) | dict(named)
    for index, split in enumerate(parts):
        kept = len(parts) - index  # one slide for train and for each part still to come
        target = wanted[split] * sum(tiles[slide] for slide in rest)
        taken = _take(rest, tiles, target, len(rest) - kept)
        splits |= dict.fromkeys(taken, split)
        rest = [slide for slide in rest if slide not in taken]
    return splits


def _split_stains(
    candidates: Sequence[Candidate],
    groups: Mapping[str, str],
    seed: int,
    wanted: Mapping[Split, float],
    named: Mapping[str, Split],
) -> dict[str, Split]:
    """A split for each slide. Of unpaired tiles the H&E are split, then the IHC of other slides than these.

    Where the IHC have too few slides of their own to hold some out, these stay in train.
    """
    splits = dict(named)
    for stain in Stain:
        tiles = Counter(candidate.slide for candidate in candidates if stain in candidate.stains)
        of_group = {groups.get(slide, slide): split for slide, split in splits.items()}
        known = {slide: split for slide, split in splits.items() if slide in tiles}
        known = {s: of_group[groups.get(s, s)] for s in tiles if groups.get(s, s) in of_group} | known
        free = {groups.get(slide, slide) for slide in tiles.keys() - known.keys()}
        parts = [part for part, share in wanted.items() if share > 0 and part not in known.values()]
        if stain is Stain.IHC and len(free) <= len(parts):
            splits = dict.fromkeys(tiles, Split.TRAIN) | splits | known
        else:
            val_fraction, test_fraction = wanted[Split.VAL], wanted[Split.TEST]
            splits |= _split_groups(
                tiles, groups, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction, named=known
            )
    return splits


def _named(
    tiles: Mapping[str, int], wanted: Mapping[Split, Sequence[str]], elsewhere: Mapping[str, Split] = NO_SLIDES
) -> dict[str, Split]:
    """The split of every slide that is named, in either form of Unicode; PairingError for a name that no tile has.

    `elsewhere` are slides of published splits, of which nothing is taken.
    """
    forms = {unicodedata.normalize("NFC", slide): slide for slide in tiles}
    named = {
        forms.get(unicodedata.normalize("NFC", slide), slide): split
        for split, slides in wanted.items()
        for slide in slides
    }
    for slide, split in named.items():
        if slide not in tiles:
            near = difflib.get_close_matches(slide, tiles, n=1)
            if slide in elsewhere:
                raise PairingError(
                    f"{split}_slides: slide {slide!r} is in {elsewhere[slide]}, as published, and {split} takes slides "
                    f"of train only; name one of those, or give all slides anew with {how_to_set('split=by-slide')}"
                )
            hint = f"did you mean {near[0]!r}?" if near else f"the slides are {', '.join(sorted(tiles)[:NAMES_SHOWN])}"
            more = ", …" if not near and len(tiles) > NAMES_SHOWN else ""
            raise PairingError(
                f"{split}_slides: no tile that could be in {split} is of slide {slide!r}; {hint}{more}; names as the "
                "plan lists them"
            )
    return named


def _take(order: Sequence[str], tiles: Mapping[str, int], target: float, most: int) -> set[str]:
    taken: set[str] = set()
    count = 0
    for slide in order:
        if len(taken) < most and count + tiles[slide] <= target:
            taken.add(slide)
            count += tiles[slide]
    return taken or {min(order, key=lambda slide: tiles[slide])}


def _assign(discovery: Discovery, splits: Iterable[Split]) -> Discovery:
    """Move the candidates to their splits; an id may occur only once in each."""
    moved = [replace(c, split=split) for c, split in zip(discovery.candidates, splits, strict=True)]
    first: dict[tuple[Split, str, tuple[Stain, ...]], Candidate] = {}
    for candidate in moved:
        other = first.setdefault((candidate.split, candidate.id, candidate.stains), candidate)
        if other is not candidate:
            raise PairingError(
                f"{other.he or other.ihc!r} and {candidate.he or candidate.ihc!r} would both be {candidate.id!r} in "
                f"{candidate.split}; "
                f"rename one of the pairs, or keep the published split: {how_to_set('split=published')}"
            )
    return replace(discovery, candidates=tuple(sorted(moved, key=lambda candidate: candidate.rank)))
