"""What is in a store, in words: for `python -m store info` and for the captions of a contact sheet."""

from __future__ import annotations

from store.files import disk_errors
from store.reader import Store
from store.schema import Manifest, Skipped, Source, Split, Upscaler, View

SHOWN = 10  # pairs that were left out; `--json` and the table `skipped` hold all


def describe(store: Store) -> str:
    """Everything that the manifest and the pair tables say, one fact a line."""
    manifest = store.manifest
    facts = [
        ("stain", f"H&E to {manifest.stain}"),
        ("sides", f"tiles of {manifest.tile_side} px, views of {manifest.view_side} px"),
        ("mpp", ", ".join(f"{name} {mpp:g} um/px" for name, mpp in manifest.mpp.items()) or "unknown"),
        ("recipe", f"{manifest.recipe}, margin {manifest.margin} px"),
        *((f"view {view.name}", describe_view(view, manifest)) for view in manifest.views),
        ("tiles", f"as delivered, in {', '.join(split for split in manifest.counts if manifest.has_tiles(split))}"),
        ("upscaler", describe_upscaler(manifest.upscaler)),
        ("split", f"{manifest.split}, seed {manifest.seed}"),
        *((str(split), _describe_split(store, split)) for split in manifest.counts),
        *_leaks(store),
        *_left_out(store.skipped()),
        ("disk", f"{_on_disk(store)}, codec {manifest.codec}"),
        ("software", ", ".join(f"{name} {version}" for name, version in manifest.software.items())),
        ("seal", manifest.seal),
    ]
    head = f"{store.address}: {manifest.name}{': SYNTHETIC, drawn and not tissue' if manifest.synthetic else ''}"
    return "\n".join([head, *(f"  {name:<9} {text}" for name, text in facts)])


def describe_view(view: View, manifest: Manifest) -> str:
    """Where a view's pictures come from and what was done to them."""
    field = view.source is Source.FIELD
    side = manifest.view_side if field else manifest.tile_side
    patch, factor = side // view.zoom, manifest.view_side * view.zoom / side
    how = "as it is" if factor == 1 else f"downsampled x{factor:g}"
    if factor > 1:
        how = f"enlarged x{factor:g} by {manifest.upscaler.name}"
    source = f"of the tile downsampled to {side} px" if field else "of the tile as delivered"
    return f"{_plural(view.count, 'picture')} a pair: {patch} px {source}, {how}"


def describe_upscaler(upscaler: Upscaler) -> str:
    """Who enlarged the views, and with which weights."""
    if not upscaler.digests:
        return f"{upscaler.name}: a plain filter that stands in for super-resolution"
    weights = ", ".join(f"{factor} sha256 {digest}" for factor, digest in upscaler.digests.items())
    return f"{upscaler.name}, {upscaler.precision}, batches of {upscaler.batch}; {weights}"


def _describe_split(store: Store, split: Split) -> str:
    slides = {pair.slide for pair in store.pairs(split)}
    return f"{_plural(store.manifest.counts[split], 'pair')} of {_plural(len(slides), 'slide')}"


def _leaks(store: Store) -> list[tuple[str, str]]:
    """Slides that stand in more than one split: what was trained on is then judged."""
    seen = [{pair.slide for pair in store.pairs(split)} for split in store.manifest.counts]
    twice = len([slide for slide in set().union(*seen) if sum(slide in slides for slides in seen) > 1])
    return [("note", f"{_plural(twice, 'slide')} in more than one split, so that scores flatter")] if twice else []


def _left_out(skipped: tuple[Skipped, ...]) -> list[tuple[str, str]]:
    shown = [("", f"{bad.split} {bad.id!r}: {bad.reason}") for bad in skipped[:SHOWN]]
    more = [("", f"and {len(skipped) - SHOWN} more")] if len(skipped) > SHOWN else []
    return [("left out", _plural(len(skipped), "pair") if skipped else "nothing"), *shown, *more]


def _on_disk(store: Store) -> str:
    with disk_errors(store.location):
        sizes = store.location.sizes().values()
    return f"{sum(sizes):,} bytes in {_plural(len(sizes), 'file')}"


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
