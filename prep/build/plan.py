"""What a build will write, decided before anything is written: the pairs and their split, the views, the manifest.

Reads folders and, once, every picture; writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from prep.build.bad_pairs import refuse_empty
from prep.build.manifest import plan_manifest
from prep.build.units import Work
from prep.demo.draw import is_synthetic
from prep.settings import Layout, PrepSettings
from prep.tiles.checking import collect_pairs, inspect_pairs
from prep.tiles.decoded import NONE_KEPT, Decoded
from prep.tiles.discovery import Data, find_pairs
from prep.tiles.layouts import Sources
from prep.tiles.leakage import Leak, refuse_leaks
from prep.tiles.pairs import Discovery
from prep.upscaling.upscale import UpscalerChoice
from prep.views import Geometry, plan_geometries, super_resolution_flop
from store.cli import track
from store.format.codec import require
from store.format.layout import raw_bytes
from store.pairs.table import Table
from store.schema import Manifest, Split


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
    raw_bytes: int  # of all arrays before compression
    notes: tuple[str, ...]
    leaks: tuple[Leak, ...]

    @property
    def work(self) -> Work:
        """What every process of the build needs. The upscaler's settings must be settled."""
        settings = self.settings
        upscaler = UpscalerChoice(
            enlarger=settings.upscaler,
            device=settings.device,
            precision=settings.precision,
            kernels=settings.kernels,
            batch=settings.batch,
            factors=self.factors,
        )
        return Work(manifest=self.manifest, sources=self.sources, geometries=self.geometries, upscaler=upscaler)

    def refuse_leakage(self) -> None:
        """Raise PairingError if a picture is in two splits, unless the settings allow it."""
        refuse_leaks(self.leaks, self.manifest.counts, allowed=self.settings.allow_leakage)


def make_plan(settings: PrepSettings, data: Data, *, threads: int) -> BuildPlan:
    """Find and check the pairs of the data folders and plan the store. Raises MagstainError."""
    settings = replace(settings, name=settings.name or data.name)
    return plan_build(settings, data, find_pairs(settings, data), threads=threads)


def plan_build(
    settings: PrepSettings, data: Data, discovery: Discovery, *, threads: int, decoded: Decoded = NONE_KEPT
) -> BuildPlan:
    """Check every candidate strictly, with progress on stderr, and plan the store; `decoded` keeps what it can.

    Raises MagstainError: no pair is left, tiles do not fit the settings, the library of the codec is not installed.
    """
    require(settings.codec)
    inspected = inspect_pairs(discovery, threads=threads, decoded=decoded)
    checked = collect_pairs(discovery, track(inspected, what="checking", unit="pair", total=len(discovery.candidates)))
    refuse_empty(checked.table, discovery.layout)
    geometries = plan_geometries(settings, checked.tile_side, example=checked.table.pairs[Split.TRAIN][0].he)
    flop = super_resolution_flop(geometries, sum(len(pairs) for pairs in checked.table.pairs.values()))
    synthetic = is_synthetic(data.he)
    manifest = plan_manifest(settings, checked.table, geometries, synthetic=synthetic, leaks=checked.leaks)
    return BuildPlan(
        settings=settings,
        manifest=manifest,
        table=checked.table,
        layout=discovery.layout,
        sources=discovery.sources,
        geometries=geometries,
        factors=frozenset(int(geometry.factor) for geometry in geometries if geometry.enlarged),
        flop=flop,
        raw_bytes=raw_bytes(manifest),
        notes=(*discovery.notes, *checked.notes),
        leaks=checked.leaks,
    )
