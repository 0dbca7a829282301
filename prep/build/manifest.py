"""The manifest of a store before it is built: everything that its readers need to know about how it was made."""

from __future__ import annotations

from collections.abc import Sequence

from prep.settings import Enlarger, PrepSettings, recorded
from prep.tiles.leakage import Leak, count_leaks
from prep.tiles.overlaps.sharing import Overlap, count_overlaps
from prep.upscaling.files.given import GivenNetwork, by_factor
from prep.upscaling.upscale import record_upscaler
from prep.views import Geometry
from store.format.bounds import check_bounds
from store.pairs.table import Table
from store.process import installed_versions
from store.schema import FORMAT, Codec, Manifest

SOFTWARE = ("magstain", "numcodecs", "numpy", "opencv-python", "pillow", "zarr")  # what the bytes of a store depend on
NETWORKS: dict[Enlarger, tuple[str, ...]] = {  # what enlarged views depend on as well
    Enlarger.BSRGAN: ("basicsr", "torch"),
    Enlarger.LANCZOS: (),
    Enlarger.FILE: ("spandrel", "torch"),
}
MEASURES = ("scikit-image", "scipy")  # what measured shifts depend on as well
PACKERS = {Codec.PORTABLE: (), Codec.COMPACT: ("imagecodecs",)}  # what the bytes of packed pictures depend on as well


def plan_manifest(
    settings: PrepSettings,
    table: Table,
    geometries: tuple[Geometry, ...],
    *,
    synthetic: bool,
    leaks: Sequence[Leak] = (),
    networks: Sequence[GivenNetwork] = (),
    overlaps: Sequence[Overlap] = (),
) -> Manifest:
    """The manifest of the store that these settings make of these pairs.

    `leaks` and `overlaps` are recorded if they are allowed.
    """
    tile_side = geometries[0].tile_side
    packages = SOFTWARE + NETWORKS[settings.upscaler] + PACKERS[settings.codec]
    packages += MEASURES if settings.registers else ()
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
        upscaler=record_upscaler(settings, require_networks(networks, geometries)),
        unit=settings.unit,
        counts={split: len(pairs) for split, pairs in table.pairs.items()},
        skipped=len(table.skipped),
        split=settings.split,
        seed=settings.seed,
        settings=recorded(settings),
        software=installed_versions(packages),
        codec=settings.codec,
        paired=settings.paired,
        tiles={} if settings.paired else table.tiles,
        leakage=count_leaks(leaks) if settings.allow_leakage else {},
        overlaps=count_overlaps(overlaps) if settings.allow_leakage else {},
    )
    check_bounds(manifest)
    return manifest


def require_networks(networks: Sequence[GivenNetwork], geometries: Sequence[Geometry]) -> dict[int, GivenNetwork]:
    """The network for each factor of these views, if networks were given. Raises SettingsError if one is missing."""
    views = {int(geometry.factor): geometry.view.name for geometry in geometries if geometry.enlarged}
    return by_factor(networks, views, views) if networks else {}


def _mpp(settings: PrepSettings, geometries: tuple[Geometry, ...]) -> dict[str, float]:
    """Micrometres per pixel of the tile and of every view, if the tile's is known."""
    if not settings.mpp:
        return {}
    sides = {g.view.name: g.tile_side / g.view.zoom / g.view_side for g in geometries}
    return {"tile": settings.mpp} | {name: settings.mpp * ratio for name, ratio in sides.items()}
