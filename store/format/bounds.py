"""What a store may say of itself: numbers that some machine can hold, and words that can be printed.

The root of a store is read before anything else, and everything that follows takes time and memory by its numbers. The
bounds are far above every store that can be used.
"""

from __future__ import annotations

import re

from store.format.layout import plan_arrays
from store.schema import Manifest, SchemaError
from store.untrusted.documents import shorten
from store.untrusted.names import UNPRINTABLE

SIDE = 9_459  # px; a picture of more than 89,478,485 px is not read (store/images.py, Pillow)
PAIRS = 10_000_000  # of a split, and skipped ones
FILES = 1_000_000  # shards
ZOOM, COUNT, VIEWS = 64, 4096, 16  # of a view: its zoom, its pictures of a pair; views
UNIT = 65_536  # pairs
WORD = 1000  # signs
SEAL = re.compile("[0-9a-f]{64}")
INDEX = 1 << 20  # pictures in a shard, each with 16 bytes in the index


def check_bounds(manifest: Manifest) -> None:
    """Raise SchemaError for a manifest with a number that no machine holds, or a word that cannot be printed."""
    for name, number, most in _numbers(manifest):
        if not 0 <= number <= most:
            raise SchemaError(f"{name} = {number}: no store has a number outside 0 to {most:,} there")
    for view in manifest.views:
        if view.count * manifest.unit > INDEX:
            raise SchemaError(f"unit = {manifest.unit} with {view.count} boxes: a shard has at most {INDEX:,} pictures")
        if view.zoom > manifest.tile_side:
            raise SchemaError(f"view {view.name} of tiles of {manifest.tile_side} px shows less than a pixel")
    units = {split: -(-pairs // manifest.unit) for split, pairs in manifest.counts.items()}
    files = sum(count * len(plan_arrays(manifest, split)) for split, count in units.items())
    if files > FILES:
        raise SchemaError(f"unit = {manifest.unit}: the pictures take {files:,} files, more than {FILES:,}; raise it")
    for name, text in _words(manifest):
        if (sign := UNPRINTABLE.search(text)) or len(text) > WORD:
            raise SchemaError(f"{name} = {shorten(text)!r} {f'holds {sign[0]!r}' if sign else 'is too long'}")
    if manifest.sealed and not SEAL.fullmatch(manifest.seal):
        raise SchemaError(f"seal = {shorten(manifest.seal)!r}: a sealed store has 64 hexadecimal digits there")


def _numbers(manifest: Manifest) -> list[tuple[str, float, float]]:
    """Each number of a manifest by name, and the largest that it may be."""
    return [
        ("tile_side", manifest.tile_side, SIDE),
        ("view_side", manifest.view_side, SIDE),
        ("margin", manifest.margin, SIDE),
        ("unit", manifest.unit, UNIT),
        ("skipped", manifest.skipped, PAIRS),
        ("views", len(manifest.views), VIEWS),
        *((f"counts.{split}", pairs, PAIRS) for split, pairs in manifest.counts.items()),
        *(
            (f"tiles.{split}.{stain}", n, PAIRS)
            for split, tiles in manifest.tiles.items()
            for stain, n in tiles.items()
        ),
        *((f"zoom of {view.name}", view.zoom, ZOOM) for view in manifest.views),
        *((f"count of {view.name}", view.count, COUNT) for view in manifest.views),
        *((f"mpp.{name}", mpp, 1e6) for name, mpp in manifest.mpp.items()),
    ]


def _words(manifest: Manifest) -> list[tuple[str, str]]:
    """Each word of a manifest that is printed, by name."""
    upscaler = manifest.upscaler
    return [
        ("name", manifest.name),
        ("stain", manifest.stain),
        ("recipe", manifest.recipe),
        ("split", manifest.split),
        ("upscaler", upscaler.name),
        ("precision", upscaler.precision),
        ("kernels", upscaler.kernels),
        *(("mpp", name) for name in manifest.mpp),
        *(("upscaler", text) for entry in upscaler.digests.items() for text in entry),
        *(
            ("upscaler", text)
            for factor, network in upscaler.networks.items()
            for text in (factor, network.architecture, network.file, network.licence)
        ),
        *(("software", text) for entry in manifest.software.items() for text in entry),
    ]
