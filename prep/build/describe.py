"""The plan of a build for a person, in lines of at most 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from prep.build.bad_pairs import count_bad, cut_hint, describe_bad
from prep.build.plan import BuildPlan
from prep.registration.matching import describe_rules
from prep.settings import Align, Enlarger, Precision, how_to_set
from prep.tiles.leakage import describe_leaks
from prep.tiles.overlaps.sharing import describe_overlaps
from prep.tiles.squares import describe_cut
from prep.views import Geometry
from store.cli import wrapped
from store.overview import describe_rule
from store.pairs.shifts import describe_shifts, summarise_shifts
from store.pairs.table import Pair, Skipped, Table, describe_slides
from store.schema import Manifest, Source, Stain

LABEL = 10  # columns of a line's label
LEAKS_SHOWN = 3  # slides in a note
LEFT_OUT_SHOWN = 10  # pairs; a build names all
AN_H200 = "an H200"
RATES = {"two CPU cores": 0.37, AN_H200: 100.0}  # TFLOP/s of super-resolution, measured: prep/README.md


def describe_plan(plan: BuildPlan, *, skip_bad: bool = False, pace: float | None = None) -> str:
    """Pairs, split, views, size, operations of super-resolution, bad pairs, notes.

    `pace` is how many floating point operations of super-resolution this machine does in a second, if it was measured.
    """
    manifest, skipped = plan.manifest, plan.bad
    each = "pair" if manifest.paired else "tile"
    notes = (*plan.notes, *_lacking_notes(plan), *_leak_note(plan.table.leaking), *_copy_notes(plan))
    bad = count_bad(skipped, skip_bad=skip_bad, paired=manifest.paired) + cut_hint(plan.to_cut)
    facts = [
        _describe_pairs(plan.table, paired=manifest.paired),
        *((str(split), _describe_slides(pairs, paired=manifest.paired)) for split, pairs in plan.table.pairs.items()),
        ("read as:", plan.read_as),
        *([("tiles", describe_cut(plan.cut, paired=manifest.paired))] if plan.cut.cutting else []),
        *_describe_shifts(plan),
        ("split", f"{describe_rule(manifest)}; {_describe_leaks(plan.table)}"),
        *((geometry.view.name, describe_geometry(geometry, each)) for geometry in plan.geometries),
        *([("mpp", _describe_mpp(manifest))] if manifest.mpp else []),
        ("upscaler", _describe_upscaler(manifest)),
        ("size", f"{plan.raw_bytes / 1e9:,.3f} GB before compression, codec {manifest.codec}"),
        ("compute", _describe_compute(plan, pace)),
        *([("bad", bad)] if skipped else []),
        *(("", describe_bad(one)) for one in skipped),
        *([("left out", _count_left_out(plan.left_out))] if plan.left_out else []),
        *(("", describe_bad(one)) for one in plan.left_out[:LEFT_OUT_SHOWN]),
        *([("names", plan.hint)] if plan.hint else []),
        *(("note", note) for note in notes),
    ]
    title = (
        f"{manifest.name}: {'synthetic, ' if manifest.synthetic else ''}H&E to {manifest.stain}, tiles of "
        f"{manifest.tile_side} px, views of {manifest.view_side} px, recipe {manifest.recipe}"
    )
    return "\n".join([wrapped(title, indent="  "), *(fact_line(label, text) for label, text in facts)])


def fact_line(label: str, text: str) -> str:
    """One labelled fact, wrapped below itself."""
    return wrapped(f"  {label:<{LABEL}}{text}", indent=" " * (2 + LABEL))


def describe_geometry(geometry: Geometry, each: str = "pair") -> str:
    """What is done to make a view from a tile; boxes are of `each` pair or tile."""
    zoom, count, factor = geometry.view.zoom, geometry.view.count, geometry.factor
    field = geometry.view.source is Source.FIELD
    change = f"enlarged {int(factor)}x" if factor > 1 else f"downsampled to {geometry.view_side} px"
    if zoom == 1:
        same = geometry.tile_side == geometry.view_side
        return f"the whole tile, {geometry.tile_side} px, {'unchanged' if same else change}"
    boxes = (
        f"{count} {'box' if count == 1 else 'boxes'} of {geometry.tile_side // zoom} px per {each}, cut from the tile"
    )
    if field and geometry.tile_side != geometry.source_side:
        boxes += f" downsampled to {geometry.source_side} px ({geometry.patch_side} px there)"
    elif not field:
        boxes += " as delivered"
    return f"{boxes}, {'unchanged' if factor == 1 else change}"


def _describe_pairs(table: Table, *, paired: bool) -> tuple[str, str]:
    """How many pairs and slides each split has, or how many tiles of each stain."""
    if paired:
        return "pairs", ", ".join(
            f"{len(table.pairs[split])} in {split} ({_slides(len(slides))})" for split, slides in table.slides.items()
        )
    return "unpaired", ", ".join(
        f"{' and '.join(f'{count} {stain.spoken}' for stain, count in tiles.items())} in {split} "
        f"({_slides(len(table.slides[split]))})"
        for split, tiles in table.tiles.items()
    )


def _describe_shifts(plan: BuildPlan) -> list[tuple[str, str]]:
    """How far the pairs are apart, if it was measured, and which of them the settings would leave out."""
    pairs = [pair for rows in plan.table.pairs.values() for pair in rows]
    shifts, left = summarise_shifts(pairs, as_delivered=True), summarise_shifts(pairs)
    if shifts is None or left is None:
        return []
    moved = (
        [("", f"with the IHC moved, estimate less move: {describe_shifts(left)}")]
        if plan.settings.align is not Align.NONE
        else []
    )
    return [("shifts", describe_shifts(shifts)), ("", describe_rules(shifts)), *moved]


def _count_left_out(left_out: Sequence[Skipped]) -> str:
    more = f"; the first {LEFT_OUT_SHOWN}:" if len(left_out) > LEFT_OUT_SHOWN else ":"
    return f"{len(left_out)} {'pair' if len(left_out) == 1 else 'pairs'}, because of settings{more}"


def _describe_slides(pairs: Sequence[Pair], *, paired: bool) -> str:
    """The slides of pairs, or of the tiles of each stain."""
    if paired:
        return describe_slides(pairs)
    stains = [stain for stain in Stain if any(stain in pair.stains for pair in pairs)]
    return "; ".join(f"{stain.spoken}: {describe_slides(pairs, stain)}" for stain in stains)


def _lacking_notes(plan: BuildPlan) -> list[str]:
    """A note for each split that has tiles of one stain only, with what works."""
    lacking = [(split, stain) for split, tiles in plan.table.tiles.items() for stain in Stain if not tiles[stain]]
    works = {
        Stain.HE: "nothing of it can be translated",
        Stain.IHC: "`train predict` translates its H&E, and there is no real IHC to look at beside them",
    }
    return [f"{split} has no {stain.spoken} tiles: {works[stain]}" for split, stain in lacking]


def _describe_leaks(table: Table) -> str:
    slides, count = frozenset().union(*table.slides.values()), len(table.leaking)
    return f"{count or 'none'} of {_slides(len(slides))} {'occur' if count > 1 else 'occurs'} in more than one split"


def _leak_note(leaking: Sequence[str]) -> tuple[str, ...]:
    if not leaking:
        return ()
    occur = "occurs" if len(leaking) == 1 else "occur"
    return (
        f"{_slides(len(leaking))} ({_listed(leaking, LEAKS_SHOWN)}) {occur} in more than one split "
        f"(leakage): test scores will be optimistic; for a split without leakage: {how_to_set('split=by-slide')}",
    )


def _copy_notes(plan: BuildPlan) -> list[str]:
    """A note for each held-out split some of whose pictures, or parts of them, are also in another split."""
    table = plan.table
    said = [*describe_leaks(plan.leaks, table.tiles), *describe_overlaps(plan.overlaps, table.sizes)]
    told = "test scores will be optimistic, and every table will say so"
    return [f"{text}: {told if plan.settings.allow_leakage else 'a build stops at that'}" for text in said]


def _describe_mpp(manifest: Manifest) -> str:
    return ", ".join(f"{name} {mpp:g}" for name, mpp in manifest.mpp.items()) + " um per pixel"


def _describe_upscaler(manifest: Manifest) -> str:
    upscaler = manifest.upscaler
    if upscaler.name == Enlarger.LANCZOS:
        return f"{upscaler.name}: interpolation, no super-resolution"
    halved = [factor for factor, network in upscaler.networks.items() if factor != f"x{network.scale}"]
    name = f"{upscaler.name}{', its x4 result averaged where views are enlarged by 2' if halved else ''}"
    if upscaler.precision == Precision.AUTO:
        return f"{name}, in the precision that suits the device; the build chooses and stores it"
    kernels = f", kernels {upscaler.kernels}" if upscaler.kernels else ""
    return f"{name}, {upscaler.precision}{kernels}, batches of {upscaler.batch}"


def _describe_compute(plan: BuildPlan, pace: float | None) -> str:
    if plan.manifest.upscaler.name == Enlarger.LANCZOS:
        return "no super-resolution"
    tflop = plan.flop / 1e12
    rates = RATES if pace is None else {"this machine (measured)": pace / 1e12, AN_H200: RATES[AN_H200]}
    times = ", ".join(f"{_about(tflop / rate)} on {device}" for device, rate in rates.items())
    return f"{tflop:,.0f} TFLOP of super-resolution: {times}"


def _about(seconds: float) -> str:
    """A duration as a person says it.

    >>> [_about(seconds) for seconds in (20, 200, 93_000)]
    ['a minute or less', 'about 3 min', 'about 26 h']
    """
    if seconds < 90:
        return "a minute or less"
    return f"about {seconds / 60:.0f} min" if seconds < 2 * 3600 else f"about {seconds / 3600:.0f} h"


def _listed(names: Sequence[str], longest: int) -> str:
    """Names in one line, no more than `longest` of them."""
    return ", ".join(names[:longest]) + (", …" if len(names) > longest else "")


def _slides(count: int) -> str:
    return f"{count} {'slide' if count == 1 else 'slides'}"
