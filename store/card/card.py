"""The facts of a data card, from the manifest and the tables of a store and from what its build measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from store.card.measured import NAMED, Measured, Scale
from store.card.terms import Terms, find_terms
from store.pairs.shifts import SURE, Shifts, left_over, summarise_shifts
from store.pairs.table import Pair, Skipped, Table
from store.schema import Manifest, Split, Stain, Upscaler

SCHEMA = 1  # of the JSON of a card: keys may be added under the same number, never changed or removed
SAME_SCALE = 0.02  # relative difference of two scales that agree
WORST = 10  # pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A split: its rows, the tiles and slides of each stain, and how many tiles each of the first slides has."""

    rows: int
    tiles: dict[Stain, int]
    slides: dict[Stain, int]
    tiles_of: dict[Stain, dict[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A data card.

    `measured` is None for a store whose build measured nothing. `registration` has the splits in which shifts were
    measured, `farthest` the pairs of these that are farthest apart, by id, in px.
    """

    schema: int
    name: str
    stain: str
    synthetic: bool
    paired: bool
    parts: dict[Split, Part]
    tile_side: int
    view_side: int
    recipe: str
    views: dict[str, int]
    mpp: dict[str, float]
    mpp_from: str
    contradictions: tuple[str, ...]
    registration: dict[Split, Shifts]
    farthest: dict[Split, dict[str, float]]
    skipped: dict[str, int]
    shared_slides: tuple[str, ...]
    terms: Terms
    upscaler: Upscaler
    software: dict[str, str]
    settings: dict[str, object]
    seal: str
    measured: Measured | None


def make_card(manifest: Manifest, table: Table, measured: Measured | None) -> Card:
    """The card of a store with this manifest and these tables."""
    scales = measured.scales if measured else ()
    return Card(
        schema=SCHEMA,
        name=manifest.name,
        stain=manifest.stain,
        synthetic=manifest.synthetic,
        paired=manifest.paired,
        parts={split: _part(pairs) for split, pairs in table.pairs.items()},
        tile_side=manifest.tile_side,
        view_side=manifest.view_side,
        recipe=manifest.recipe,
        views={view.name: view.count for view in manifest.views},
        mpp=manifest.mpp,
        mpp_from=_mpp_from(manifest, measured),
        contradictions=find_contradictions(manifest.mpp.get("tile", 0.0), scales),
        registration={split: found for split, pairs in table.pairs.items() if (found := summarise_shifts(pairs))},
        farthest={split: far for split, pairs in table.pairs.items() if (far := _farthest(pairs))},
        skipped=dict(Counter(_reason(bad) for bad in table.skipped).most_common()),
        shared_slides=table.leaking,
        terms=find_terms(manifest, measured),
        upscaler=manifest.upscaler,
        software=manifest.software,
        settings=manifest.settings,
        seal=manifest.seal,
        measured=measured,
    )


def stated_scales(scales: Sequence[Scale], stain: Stain) -> list[Scale]:
    """The scales that pictures of a stain state."""
    return [scale for scale in scales if scale.stain is stain and scale.mpp]


def _part(pairs: Sequence[Pair]) -> Part:
    slides = {stain: Counter(pair.slide_of(stain) for pair in pairs if pair.tile_of(stain)) for stain in Stain}
    return Part(
        rows=len(pairs),
        tiles={stain: counts.total() for stain, counts in slides.items()},
        slides={stain: len(counts) for stain, counts in slides.items()},
        tiles_of={stain: dict(sorted(counts.items())[:NAMED]) for stain, counts in slides.items()},
    )


def _farthest(pairs: Sequence[Pair]) -> dict[str, float]:
    """The pairs that are farthest apart by a sure estimate, and their distances in px."""
    sure = [(one.distance, pair.id) for pair in pairs if (one := left_over(pair)) and one.confidence >= SURE]
    return {name: round(distance, 2) for distance, name in sorted(sure, key=lambda one: (-one[0], one[1]))[:WORST]}


def _reason(bad: Skipped) -> str:
    """Why a pair was skipped, without the name of its file, so that equal reasons are counted together."""
    for name in filter(None, (bad.he, bad.ihc)):
        if bad.reason.startswith(f"{name}: "):
            return bad.reason.removeprefix(f"{name}: ")
    return bad.reason


def _mpp_from(manifest: Manifest, measured: Measured | None) -> str:
    if manifest.mpp:
        return "setting"
    if measured is None:
        return "unknown"
    return "pictures" if any(scale.mpp for scale in measured.scales) else "unknown"


def find_contradictions(given: float, scales: Sequence[Scale]) -> tuple[str, ...]:
    """Scales that cannot all be right, in words."""
    found = []
    stated = {stain: [scale.mpp for scale in stated_scales(scales, stain)] for stain in Stain}
    for stain, values in stated.items():
        if values and _apart(min(values), max(values)):
            found.append(f"{stain.spoken} pictures state scales from {min(values):g} to {max(values):g} um/px")
        if given and (wrong := [value for value in values if _apart(given, value)]):
            found.append(f"mpp = {given:g} is set, {stain.spoken} pictures state {wrong[0]:g} um/px")
    he, ihc = stated[Stain.HE], stated[Stain.IHC]
    if he and ihc and _apart(he[0], ihc[0]):
        found.append(f"H&E pictures state {he[0]:g} um/px, IHC pictures {ihc[0]:g} um/px")
    return tuple(found)


def _apart(one: float, other: float) -> bool:
    return abs(one - other) > SAME_SCALE * max(one, other)
