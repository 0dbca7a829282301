"""What a build will write, decided before anything is written: the pairs and their split, the views, the manifest.

Reads folders and, once, every picture; writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from prep.build.bad_pairs import refuse_bad, refuse_empty, refuse_left_out
from prep.build.manifest import plan_manifest, require_networks
from prep.build.units import Work
from prep.demo.draw import is_synthetic
from prep.facts.gather import gather
from prep.facts.notes import describe_facts
from prep.facts.terms import find_terms_files
from prep.refusals import Refusals
from prep.registration.matching import matching_of
from prep.settings import Layout, PrepSettings
from prep.tiles.checking import collect_pairs, inspect_pairs
from prep.tiles.decoded import NONE_KEPT, Decoded
from prep.tiles.discovery import Data, find_pairs
from prep.tiles.inspected import Checked
from prep.tiles.layouts import Sources
from prep.tiles.leakage import Leak, count_leaks, refuse_leaks
from prep.tiles.overlaps.sharing import Overlap
from prep.tiles.pairs import Discovery
from prep.tiles.shifts.aligning import align_whole
from prep.tiles.squares import Cut, cutting_of
from prep.upscaling.files.given import GivenNetwork, by_factor
from prep.upscaling.upscale import read_networks, upscaler_choice
from prep.views import MAC_PER_PIXEL, Geometry, cut_to_fit, plan_geometries, super_resolution_flop
from store.card.measured import Measured
from store.cli import track
from store.format.codec import require
from store.format.layout import raw_bytes
from store.pairs.table import Skipped, Table
from store.schema import Manifest, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Everything that a build needs to know, and the notes that a person should read first."""

    settings: PrepSettings
    manifest: Manifest
    table: Table
    layout: Layout
    read_as: str
    hint: str  # the settings that would pair more names
    sources: Sources
    geometries: tuple[Geometry, ...]
    factors: frozenset[int]  # by which the upscaler enlarges
    networks: tuple[GivenNetwork, ...]  # that were given as files
    flop: int  # of super-resolution
    raw_bytes: int  # of all arrays before compression
    notes: tuple[str, ...]
    left_out: tuple[Skipped, ...]  # by settings; the end of table.skipped
    leaks: tuple[Leak, ...]
    overlaps: tuple[Overlap, ...]
    measured: Measured  # for the data card
    cut: Cut
    to_cut: str  # how squares are cut from pictures whose shape makes them bad; empty if there are none

    @property
    def work(self) -> Work:
        """What every process of the build needs. The upscaler's settings must be settled."""
        upscaler = upscaler_choice(self.settings, self.factors, self.networks)
        return Work(manifest=self.manifest, sources=self.sources, geometries=self.geometries, upscaler=upscaler)

    @property
    def bad(self) -> tuple[Skipped, ...]:
        """The skipped pairs that have a fault."""
        return self.table.skipped[: len(self.table.skipped) - len(self.left_out)]

    def refuse(self, *, skip_bad: bool) -> None:
        """Raise what stops a build of this plan, all of it: bad pairs that are not skipped, pictures in two splits."""
        refusals = Refusals()
        with refusals.collect():
            bad, paired = () if skip_bad else self.bad, self.settings.paired
            refuse_bad(bad, self.layout, self.to_cut, self.hint, paired=paired)
        with refusals.collect():
            refuse_leaks(self.leaks, self.overlaps, self.table, allowed=self.settings.allow_leakage)
        refusals.raise_all()


def make_plan(
    settings: PrepSettings,
    data: Data,
    *,
    threads: int,
    skip_bad: bool = False,
    networks: tuple[GivenNetwork, ...] | None = None,
) -> BuildPlan:
    """Find and check the pairs of the data folders and plan the store; `networks` are read unless they are given.

    Raises MagstainError: all that is refused before there can be a plan, after every picture was read.
    """
    settings, refusals = replace(settings, name=settings.name or data.name), Refusals()
    networks = read_networks(settings) if networks is None else networks
    discovery = find_pairs(settings, data, refusals)
    if networks:
        look_ahead(settings, discovery, Refusals(), networks)
    return plan_build(
        settings, data, discovery, threads=threads, refusals=refusals, skip_bad=skip_bad, networks=networks
    )


def plan_build(
    settings: PrepSettings,
    data: Data,
    discovery: Discovery,
    *,
    threads: int,
    decoded: Decoded = NONE_KEPT,
    refusals: Refusals | None = None,
    skip_bad: bool = False,
    networks: tuple[GivenNetwork, ...] = (),
) -> BuildPlan:
    """Check every candidate strictly, with progress on stderr, and plan the store; `decoded` keeps what it can.

    Raises MagstainError, with `refusals` that were collected before: no pair is left, tiles do not fit the settings,
    the library of the codec is not installed.
    """
    require(settings.codec)
    refusals = Refusals() if refusals is None else refusals
    cutting, matching = cutting_of(settings), matching_of(settings)
    inspected = inspect_pairs(discovery, threads=threads, cutting=cutting, measured=matching.measured, decoded=decoded)
    watched = track(inspected, what="checking", unit="pair", total=len(discovery.candidates))
    checked = align_whole(settings, collect_pairs(discovery, watched, cutting, matching), matching)
    geometries = _plan_views(settings, discovery, checked, refusals, skip_bad=skip_bad)
    synthetic = is_synthetic(data.he)
    factors = frozenset(int(geometry.factor) for geometry in geometries if geometry.enlarged)
    macs = {factor: network.macs for factor, network in by_factor(networks, factors).items()} if networks else None
    tiles = sum(sum(stains.values()) for stains in checked.table.tiles.values())
    leaks, overlaps = checked.leaks, checked.overlaps
    manifest = plan_manifest(
        settings,
        checked.table,
        geometries,
        synthetic=synthetic,
        leaks=leaks,
        overlaps=overlaps,
        networks=networks,
    )
    measured = _measured(data, discovery, checked)
    return BuildPlan(
        settings=settings,
        manifest=manifest,
        table=checked.table,
        layout=discovery.layout,
        read_as=discovery.read_as,
        hint=discovery.hint,
        sources=discovery.sources,
        geometries=geometries,
        factors=factors,
        networks=networks,
        flop=super_resolution_flop(geometries, tiles, macs or MAC_PER_PIXEL),
        raw_bytes=raw_bytes(manifest),
        notes=(*discovery.notes, *checked.notes, *describe_facts(measured, count_leaks(leaks), settings.mpp)),
        left_out=checked.left_out,
        leaks=leaks,
        overlaps=overlaps,
        measured=measured,
        cut=checked.cut,
        to_cut=cut_to_fit(settings, checked.to_cut),
    )


def look_ahead(
    settings: PrepSettings, discovery: Discovery, refusals: Refusals, networks: Sequence[GivenNetwork] = ()
) -> None:
    """Raise what was refused, and what the first pair says about the settings, before all pictures are read.

    Returns if nothing was refused; where networks were given, only if one makes each view of the first pair.
    """
    if refusals or networks:
        first = replace(discovery, candidates=discovery.candidates[:1], unpaired=())
        checked = collect_pairs(first, inspect_pairs(first, threads=1, cutting=cutting_of(settings)))
        for pairs in checked.table.pairs.values():
            with refusals.collect():
                example = pairs[0].he or pairs[0].ihc
                require_networks(networks, plan_geometries(settings, checked.tile_side, example=example))
    refusals.raise_all()


def _plan_views(
    settings: PrepSettings, discovery: Discovery, checked: Checked, refusals: Refusals, *, skip_bad: bool
) -> tuple[Geometry, ...]:
    """The views that tiles of this side give. Raises all that is refused if there can be no plan."""
    table, geometries, to_cut = checked.table, tuple[Geometry, ...](), cut_to_fit(settings, checked.to_cut)
    with refusals.collect():
        refuse_left_out(table, checked.left_out)
        refuse_empty(table, discovery.layout, to_cut, paired=settings.paired)
    for pairs in [*table.pairs.values()][:1]:
        with refusals.collect():
            geometries = plan_geometries(settings, checked.tile_side, example=pairs[0].he or pairs[0].ihc)
    if refusals and Split.TRAIN in table.pairs:
        with refusals.collect():
            bad = () if skip_bad else checked.bad
            refuse_bad(bad, discovery.layout, to_cut, discovery.hint, paired=settings.paired)
        with refusals.collect():
            refuse_leaks(checked.leaks, checked.overlaps, table, allowed=settings.allow_leakage)
    refusals.raise_all()
    return geometries


def _measured(data: Data, discovery: Discovery, checked: Checked) -> Measured:
    """What the check of the pictures measured, and how the data folder was read."""
    return gather(
        checked.facts,
        read_as=discovery.read_as,
        set_aside=discovery.notes,
        terms=find_terms_files((data.he, data.ihc)),
    )
