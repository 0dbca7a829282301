"""The manifest of a store before it is built: everything that its readers need to know about how it was made."""

from __future__ import annotations

from collections.abc import Sequence

from prep.settings import BATCH, Enlarger, Kernels, PrepSettings, recorded
from prep.tiles.leakage import Leak, count_leaks
from prep.views import Geometry
from store.format.bounds import check_bounds
from store.pairs.table import Table
from store.process import installed_versions
from store.schema import FORMAT, Codec, Manifest, Upscaler
from store.weights import BSRGAN_FILES

SOFTWARE = ("magstain", "numcodecs", "numpy", "opencv-python", "pillow", "zarr")  # what the bytes of a store depend on
NETWORKS = ("basicsr", "torch")  # what BSRGAN's views depend on as well
PACKERS = {Codec.PORTABLE: (), Codec.COMPACT: ("imagecodecs",)}  # what the bytes of packed pictures depend on as well


def plan_manifest(
    settings: PrepSettings,
    table: Table,
    geometries: tuple[Geometry, ...],
    *,
    synthetic: bool,
    leaks: Sequence[Leak] = (),
) -> Manifest:
    """The manifest of the store that these settings make of these pairs; `leaks` are recorded if they are allowed."""
    tile_side = geometries[0].tile_side
    packages = SOFTWARE + (NETWORKS if settings.upscaler is Enlarger.BSRGAN else ()) + PACKERS[settings.codec]
    manifest = Manifest(
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
        settings=recorded(settings),
        software=installed_versions(packages),
        codec=settings.codec,
        leakage=count_leaks(leaks) if settings.allow_leakage else {},
    )
    check_bounds(manifest)
    return manifest


def record_upscaler(settings: PrepSettings) -> Upscaler:
    """The record of the upscaler in the manifest; needs no weight files, because their digests are known."""
    if settings.upscaler is Enlarger.LANCZOS:
        return Upscaler(name=settings.upscaler, digests={}, precision="u8", batch=settings.batch or BATCH)
    digests = {f"x{factor}": weight.sha256 for factor, weight in BSRGAN_FILES.items()}
    return Upscaler(
        name=settings.upscaler,
        digests=digests,
        precision=settings.precision,
        batch=settings.batch or BATCH,
        kernels="" if settings.kernels in (Kernels.AUTO, Kernels.PLAIN) else settings.kernels,
    )


def _mpp(settings: PrepSettings, geometries: tuple[Geometry, ...]) -> dict[str, float]:
    """Micrometres per pixel of the tile and of every view, if the tile's is known."""
    if not settings.mpp:
        return {}
    sides = {g.view.name: g.tile_side / g.view.zoom / g.view_side for g in geometries}
    return {"tile": settings.mpp} | {name: settings.mpp * ratio for name, ratio in sides.items()}
