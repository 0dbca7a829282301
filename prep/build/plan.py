"""What a build will write, decided before anything is written: the pairs and their split, the views, the manifest.

Reads folders and, once, every picture; writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from prep.demo.draw import is_synthetic
from prep.settings import Enlarger, PrepSettings, SplitRule
from prep.tiles.checking import Checked, check_pairs
from prep.tiles.layouts import Sources
from prep.tiles.pairs import Discovery, discover, discover_folders, hold_out_val, resplit
from prep.tiles.splits import leaking_slides
from prep.upscaling.upscale import describe_upscaler
from prep.views import Geometry, plan_views
from store.format.codec import require
from store.format.layout import plan_arrays
from store.schema import FORMAT, Codec, Manifest, PairingError, Table
from store.settings import plain

SOFTWARE = ("magstain", "numcodecs", "numpy", "opencv-python", "pillow", "zarr")  # what the bytes of a store depend on
NETWORKS = ("basicsr", "torch")  # what BSRGAN's views depend on as well
PACKERS = {Codec.PORTABLE: (), Codec.COMPACT: ("imagecodecs",)}  # what the bytes of packed pictures depend on as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where the tiles stand: one data folder, or (`he` and `ihc` differ) one folder for each stain."""

    he: Path
    ihc: Path

    @property
    def single(self) -> bool:
        """Whether one folder holds everything, in a layout that is told from its folders."""
        return self.he == self.ihc

    @property
    def name(self) -> str:
        """What the data set is called unless a setting says otherwise."""
        return self.he.resolve().name if self.single else self.he.resolve().parent.name


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Everything that a build needs to know, and the notes that a person should read first."""

    manifest: Manifest
    table: Table
    sources: Sources
    geometries: tuple[Geometry, ...]
    notes: tuple[str, ...]


def resolve(settings: PrepSettings, data: Data) -> PrepSettings:
    """The settings as the store will hold them: with the data set's name."""
    return replace(settings, name=settings.name or data.name)


def find_pairs(settings: PrepSettings, data: Data) -> Discovery:
    """The candidates in the data folders, in the split that the settings ask for."""
    if data.single:
        discovery = discover(data.he, settings.layout, settings.slide_pattern)
    else:
        discovery = discover_folders(data.he, data.ihc, settings.slide_pattern)
    seed, val_fraction = settings.seed, settings.val_fraction
    if settings.split is SplitRule.BY_SLIDE:
        return resplit(discovery, seed=seed, val_fraction=val_fraction, test_fraction=settings.test_fraction)
    if not discovery.published:
        raise PairingError(
            f"{data.he}: layout {discovery.layout} has no test set of its own, and split = published asks for one; "
            "set split=by-slide to hold slides out"
        )
    return hold_out_val(discovery, seed=seed, val_fraction=val_fraction) if val_fraction else discovery


def plan_build(
    settings: PrepSettings, data: Data, discovery: Discovery, *, threads: int, tick: Callable[[], object]
) -> BuildPlan:
    """Check every candidate strictly and plan the store; `tick` is called once per candidate. Raises MagstainError."""
    checked = check_pairs(discovery, lambda side: plan_geometries(settings, side), threads=threads, tick=tick)
    table = Table(
        pairs={split: pairs for split, pairs in checked.table.pairs.items() if pairs}, skipped=checked.table.skipped
    )
    geometries = plan_geometries(settings, checked.tile_side)
    return BuildPlan(
        manifest=plan_manifest(settings, table, geometries, synthetic=is_synthetic(data.he)),
        table=table,
        sources=discovery.sources,
        geometries=geometries,
        notes=(*discovery.notes, *checked.notes, *_leaks(settings, table), *_left_over(checked)),
    )


def plan_geometries(settings: PrepSettings, tile_side: int) -> tuple[Geometry, ...]:
    """The views of the recipe for tiles of `tile_side` px; SchemaError if they do not fit."""
    views = plan_views(settings.recipe, settings.boxes)
    largest_zoom_first = [  # it asks the most of a side, so that the side its error names suits every view
        Geometry(view=view, tile_side=tile_side, view_side=settings.view_side, margin=settings.margin)
        for view in reversed(views)
    ]
    return tuple(reversed(largest_zoom_first))


def plan_manifest(
    settings: PrepSettings, table: Table, geometries: tuple[Geometry, ...], *, synthetic: bool
) -> Manifest:
    """What the store will say of itself. Raises StoreError if the library of its codec is not installed."""
    require(settings.codec)
    tile_side = geometries[0].tile_side
    packages = SOFTWARE + (NETWORKS if settings.upscaler is Enlarger.BSRGAN else ()) + PACKERS[settings.codec]
    return Manifest(
        format=FORMAT,
        name=settings.name,
        stain=settings.stain,
        synthetic=synthetic,
        tile_side=tile_side,
        view_side=settings.view_side,
        recipe=settings.recipe,
        views=tuple(geometry.view for geometry in geometries),
        keep_tiles=settings.keep_tiles,
        margin=settings.margin,
        mpp=_mpp(settings, geometries),
        upscaler=describe_upscaler(settings),
        unit=settings.unit,
        counts={split: len(pairs) for split, pairs in table.pairs.items()},
        skipped=len(table.skipped),
        split=settings.split,
        seed=settings.seed,
        settings=plain(settings),
        software={name: version(name) for name in packages},
        codec=settings.codec,
    )


def describe_plan(plan: BuildPlan) -> str:
    """The plan for a person: pairs, views, bytes, super-resolution TFLOP, notes."""
    manifest = plan.manifest
    counts = ", ".join(
        f"{len(pairs)} in {split} ({_plural(len({pair.slide for pair in pairs}), 'slide')})"
        for split, pairs in plan.table.pairs.items()
    )
    lines = [
        f"{manifest.name}: {'synthetic, ' if manifest.synthetic else ''}{manifest.stain}, tiles of "
        f"{manifest.tile_side} px, views of {manifest.view_side} px, recipe {manifest.recipe}",
        f"  pairs     {counts}" + (f", {manifest.skipped} left out" if manifest.skipped else ""),
        f"  split     {manifest.split}, seed {manifest.seed}; {_describe_leaks(plan.table)}",
        *(f"  view {geometry.view.name:<4} {_describe_geometry(geometry, manifest)}" for geometry in plan.geometries),
        f"  upscaler  {manifest.upscaler.name}, {manifest.upscaler.precision}"
        + (": a stand-in, not super-resolution" if manifest.upscaler.name == Enlarger.LANCZOS else ""),
        f"  size      {raw_bytes(manifest) / 1e9:,.3f} GB before compression, codec {manifest.codec}",
        f"  compute   {_compute(plan)}",
    ]
    return "\n".join([*lines, *(f"  note      {note}" for note in plan.notes)])


def raw_bytes(manifest: Manifest) -> int:
    """Bytes of all arrays before compression."""
    return sum(array.nbytes for split in manifest.counts for array in plan_arrays(manifest, split))


def super_resolution_flop(geometries: tuple[Geometry, ...], pairs: int) -> int:
    """Floating point operations of BSRGAN for both stains of `pairs` pairs, margins included."""
    return sum(2 * pairs * geometry.view.count * geometry.flop() for geometry in geometries)


def _compute(plan: BuildPlan) -> str:
    if plan.manifest.upscaler.name != Enlarger.BSRGAN:
        return "no super-resolution"
    flop = super_resolution_flop(plan.geometries, sum(plan.manifest.counts.values()))
    return f"{flop / 1e12:,.0f} TFLOP of super-resolution"


def _describe_geometry(geometry: Geometry, manifest: Manifest) -> str:
    patch = f"{_plural(geometry.view.count, 'box', 'boxes')} of {geometry.tile_side // geometry.view.zoom} px"
    factor = float(geometry.factor)
    how = "as it is" if factor == 1 else f"enlarged x{factor:g}" if factor > 1 else f"downsampled x{factor:g}"
    mpp = manifest.mpp.get(geometry.view.name)
    return f"{patch} of the tile, {geometry.patch_side} px of the {geometry.view.source}, {how}" + (
        f", {mpp:g} um/px" if mpp else ""
    )


def _mpp(settings: PrepSettings, geometries: tuple[Geometry, ...]) -> dict[str, float]:
    """Micrometres per pixel of the tile and of every view, where the tile's is known."""
    if not settings.mpp:
        return {}
    sides = {g.view.name: g.tile_side / g.view.zoom / g.view_side for g in geometries}
    return {"tile": settings.mpp} | {name: settings.mpp * ratio for name, ratio in sides.items()}


def _leaking(table: Table) -> list[str]:
    """The slides that stand in more than one split."""
    return sorted(leaking_slides((split, pair.slide) for split, pairs in table.pairs.items() for pair in pairs))


def _describe_leaks(table: Table) -> str:
    slides = {pair.slide for pairs in table.pairs.values() for pair in pairs}
    return f"{len(_leaking(table)) or 'none'} of {_plural(len(slides), 'slide')} in more than one split"


def _leaks(settings: PrepSettings, table: Table) -> tuple[str, ...]:
    leaking = _leaking(table)
    if not leaking:
        return ()
    shown = ", ".join(leaking[:3]) + (", …" if len(leaking) > 3 else "")
    return (
        f"{_plural(len(leaking), 'slide')} ({shown}) stand in more than one split, so that scores flatter; "
        f"split = {settings.split}, split=by-slide keeps them apart",
    )


def _left_over(checked: Checked) -> tuple[str, ...]:
    return tuple(f"left out {bad.split} {bad.id!r}: {bad.reason}" for bad in checked.table.skipped)


def _plural(number: int, word: str, plural: str = "") -> str:
    """A number with its word: 1 slide, 2 slides."""
    return f"{number} {word if number == 1 else plural or f'{word}s'}"
