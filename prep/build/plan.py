"""What a build will write, decided before anything is written: the pairs and their split, the views, the manifest.

Reads folders and, once, every picture; writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from prep.build.bad_pairs import refuse_empty
from prep.build.units import Work
from prep.demo.draw import is_synthetic
from prep.settings import Enlarger, Layout, PrepSettings, how_to_set
from prep.tiles.checking import Checked, collect_pairs, inspect_pairs
from prep.tiles.layouts import Sources
from prep.tiles.pairs import Data, Discovery, find_pairs
from prep.upscaling.upscale import UpscalerChoice
from prep.views import Geometry, plan_geometries, super_resolution_flop
from store.cli import track
from store.format.codec import require
from store.format.layout import plan_arrays
from store.process import installed_versions
from store.schema import FORMAT, Codec, Manifest, SchemaError, Table, Upscaler
from store.settings import plain
from store.weights import BSRGAN_FILES

SOFTWARE = ("magstain", "numcodecs", "numpy", "opencv-python", "pillow", "zarr")  # what the bytes of a store depend on
NETWORKS = ("basicsr", "torch")  # what BSRGAN's views depend on as well
PACKERS = {Codec.PORTABLE: (), Codec.COMPACT: ("imagecodecs",)}  # what the bytes of packed pictures depend on as well
LEAKS_SHOWN = 3  # slides in the note


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Everything that a build needs to know, and the notes that a person should read first."""

    settings: PrepSettings
    manifest: Manifest
    table: Table
    layout: Layout
    sources: Sources
    geometries: tuple[Geometry, ...]
    factors: frozenset[int]  # by which the upscaler enlarges
    flop: int  # of super-resolution, if BSRGAN enlarges
    leaking: tuple[str, ...]  # slides in more than one split
    notes: tuple[str, ...]

    @property
    def work(self) -> Work:
        """What every process of the build needs. Device and precision must be settled."""
        settings = self.settings
        upscaler = UpscalerChoice(
            enlarger=settings.upscaler,
            device=settings.device,
            precision=settings.precision,
            batch=settings.batch,
            factors=self.factors,
        )
        return Work(manifest=self.manifest, sources=self.sources, geometries=self.geometries, upscaler=upscaler)


def with_name(settings: PrepSettings, data: Data) -> PrepSettings:
    """The settings as the store will record them: with the name of the data set."""
    return replace(settings, name=settings.name or data.name)


def make_plan(settings: PrepSettings, data: Data, *, threads: int) -> BuildPlan:
    """Find and check the pairs of the data folders and plan the store. Raises MagstainError."""
    return plan_build(with_name(settings, data), data, find_pairs(settings, data), threads=threads)


def plan_build(settings: PrepSettings, data: Data, discovery: Discovery, *, threads: int) -> BuildPlan:
    """Check every candidate strictly, with progress on stderr, and plan the store. Raises MagstainError."""
    inspected = inspect_pairs(discovery, threads=threads)
    checked = collect_pairs(discovery, track(inspected, what="checking", unit="pair", total=len(discovery.candidates)))
    refuse_empty(checked.table, discovery.layout)
    geometries = _fitting_geometries(settings, checked)
    factors = frozenset(int(geometry.factor) for geometry in geometries if geometry.enlarged)
    flop = super_resolution_flop(geometries, sum(len(pairs) for pairs in checked.table.pairs.values()))
    return BuildPlan(
        settings=settings,
        manifest=plan_manifest(settings, checked.table, geometries, synthetic=is_synthetic(data.he)),
        table=checked.table,
        layout=discovery.layout,
        sources=discovery.sources,
        geometries=geometries,
        factors=factors,
        flop=flop,
        leaking=checked.leaking,
        notes=(*discovery.notes, *checked.notes, *_leak_note(checked.leaking)),
    )


def plan_manifest(
    settings: PrepSettings, table: Table, geometries: tuple[Geometry, ...], *, synthetic: bool
) -> Manifest:
    """The manifest of the store. Raises StoreError if the library of its codec is not installed."""
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
        upscaler=record_upscaler(settings),
        unit=settings.unit,
        counts={split: len(pairs) for split, pairs in table.pairs.items()},
        skipped=len(table.skipped),
        split=settings.split,
        seed=settings.seed,
        settings=plain(settings),
        software=installed_versions(packages),
        codec=settings.codec,
    )


def record_upscaler(settings: PrepSettings) -> Upscaler:
    """The record of the upscaler in the manifest; needs no weight files, because their digests are known."""
    if settings.upscaler is Enlarger.LANCZOS:
        return Upscaler(name=settings.upscaler, digests={}, precision="u8", batch=settings.batch)
    digests = {f"x{factor}": weight.sha256 for factor, weight in BSRGAN_FILES.items()}
    return Upscaler(name=settings.upscaler, digests=digests, precision=settings.precision, batch=settings.batch)


def raw_bytes(manifest: Manifest) -> int:
    """Bytes of all arrays before compression."""
    return sum(array.nbytes for split in manifest.counts for array in plan_arrays(manifest, split))


def _fitting_geometries(settings: PrepSettings, checked: Checked) -> tuple[Geometry, ...]:
    """The views for the tiles that were found; an error names one of them."""
    try:
        return plan_geometries(settings, checked.tile_side)
    except SchemaError as error:
        first = next(pair for pairs in checked.table.pairs.values() for pair in pairs)
        raise SchemaError(f"{first.he}: {error}") from error


def _leak_note(leaking: tuple[str, ...]) -> tuple[str, ...]:
    if not leaking:
        return ()
    count = "1 slide" if len(leaking) == 1 else f"{len(leaking)} slides"
    shown = ", ".join(leaking[:LEAKS_SHOWN]) + (", …" if len(leaking) > LEAKS_SHOWN else "")
    return (
        f"{count} ({shown}) {'occurs' if len(leaking) == 1 else 'occur'} in more than one split (leakage): test scores "
        f"will be optimistic; for a split without leakage: {how_to_set('split=by-slide')}",
    )


def _mpp(settings: PrepSettings, geometries: tuple[Geometry, ...]) -> dict[str, float]:
    """Micrometres per pixel of the tile and of every view, if the tile's is known."""
    if not settings.mpp:
        return {}
    sides = {g.view.name: g.tile_side / g.view.zoom / g.view_side for g in geometries}
    return {"tile": settings.mpp} | {name: settings.mpp * ratio for name, ratio in sides.items()}
