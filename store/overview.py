"""What is in a store, in words: for `python -m store info` and for the captions of a contact sheet."""

from __future__ import annotations

from itertools import takewhile
from operator import attrgetter

from store.cli import wrapped
from store.files import disk_errors
from store.pairs.table import Skipped, describe_slides
from store.reader import Store
from store.schema import Manifest, Source, Split, Stain, Upscaler, View

SHOWN = 10  # skipped pairs; the table `skipped` of the store has all of them
INDENT = 12  # columns of the name of a fact


def describe(store: Store) -> str:
    """The manifest and the pair tables in words, one fact a line; long facts are wrapped to 100 columns."""
    manifest = store.manifest
    facts = [
        ("stain", f"H&E to {manifest.stain}"),
        ("sides", f"tiles of {manifest.tile_side} px, views of {manifest.view_side} px"),
        ("mpp", ", ".join(f"{name} {mpp:g} um/px" for name, mpp in manifest.mpp.items()) or "unknown"),
        ("recipe", f"{manifest.recipe}, margin {manifest.margin} px"),
        *((f"view {view.name}", describe_view(view, manifest)) for view in manifest.views),
        ("tiles", f"stored as delivered in {' and '.join(s for s in manifest.counts if manifest.has_tiles(s))}"),
        ("upscaler", describe_upscaler(manifest.upscaler)),
        ("split", f"{manifest.split}, seed {manifest.seed}"),
        *((str(split), _describe_split(store, split)) for split in manifest.counts),
        *(("warning", text) for split in manifest.counts for text in describe_leakage(store, split)),
        *_skipped(store.skipped()),
        ("disk", f"{_on_disk(store)}, codec {manifest.codec}"),
        ("software", ", ".join(f"{name} {version}" for name, version in manifest.software.items())),
        ("seal", manifest.seal),
    ]
    head = f"{store.address}: {manifest.name}{': SYNTHETIC, drawn and not tissue' if manifest.synthetic else ''}"
    return "\n".join([head, *(_line(name, text) for name, text in facts)])


def describe_view(view: View, manifest: Manifest) -> str:
    """How many pictures of a pair a view has, and how they are made."""
    return f"{_plural(view.count, 'picture')} per pair, {describe_picture(view, manifest)}"


def describe_picture(view: View, manifest: Manifest) -> str:
    """How the pictures of a view are made: what is cut from the tile, and how it is brought to the view side."""
    tile, side = manifest.tile_side, manifest.view_side
    source = side if view.source is Source.FIELD else tile
    patch, factor = source // view.zoom, side * view.zoom / source
    if view.zoom == 1:
        return "the whole tile" if tile == side else f"the whole tile downsampled to {side} px"
    cut = f"{patch} px of the tile" + ("" if source == tile else f" downsampled to {source} px")
    if factor == 1:
        return cut
    if factor < 1:
        return f"{cut}, downsampled to {side} px"
    return f"{cut}, enlarged {factor:g}x by {manifest.upscaler.name}"


def describe_upscaler(upscaler: Upscaler) -> str:
    """What enlarged the views, and with which weights."""
    if not upscaler.digests:
        return f"{upscaler.name}: a plain filter, not super-resolution"
    weights = ", ".join(f"{factor} sha256 {digest}" for factor, digest in upscaler.digests.items())
    kernels = f", kernels {upscaler.kernels}" if upscaler.kernels else ""
    return f"{upscaler.name}, {upscaler.precision}{kernels}, batches of {upscaler.batch}; {weights}"


def _line(name: str, text: str) -> str:
    return wrapped(f"  {name}{' ' * (INDENT - 2 - len(name))}{text}", indent=" " * INDENT)


def _describe_split(store: Store, split: Split) -> str:
    slides = {pair.slide for pair in store.pairs(split)}
    count = f"{_plural(store.manifest.counts[split], 'pair')} of {_plural(len(slides), 'slide')}"
    return f"{count}: {describe_slides(store.pairs(split))}"


def describe_leakage(store: Store, split: Split) -> list[str]:
    """Warnings that pictures or slides of a split are also in a split before it: its scores are optimistic.

    Copies are counted by preparation if they were allowed; in older stores by the digests of the source files.
    """
    before = [pair for other in takewhile(lambda other: other is not split, Split) for pair in store.pairs(other)]
    own = store.pairs(split)
    copies = store.manifest.leakage.get(split) or {
        stain: len([pair for pair in own if digest(pair) in known])
        for stain, digest in (
            (Stain.HE, attrgetter("he_digest")),
            (Stain.IHC, attrgetter("ihc_digest")),
        )
        if (known := {digest(pair) for pair in before})
    }
    shared = {pair.slide for pair in own} & {pair.slide for pair in before}
    names = {Stain.HE: "H&E", Stain.IHC: "IHC"}
    found = [f"{count} of {len(own)} {names[stain]} tiles of {split}" for stain, count in copies.items() if count]
    if shared:
        found.append(f"{len(shared)} of {_plural(len({pair.slide for pair in own}), 'slide')} of {split}")
    return [f"{text} are also in another split (leakage): its scores are optimistic" for text in found]


def _skipped(skipped: tuple[Skipped, ...]) -> list[tuple[str, str]]:
    shown = [("", f"{bad.split} {bad.id!r}: {bad.reason}") for bad in skipped[:SHOWN]]
    more = [("", f"and {len(skipped) - SHOWN} more")] if len(skipped) > SHOWN else []
    return [("skipped", _plural(len(skipped), "pair") if skipped else "none"), *shown, *more]


def _on_disk(store: Store) -> str:
    with disk_errors(store.location):
        sizes = store.location.sizes().values()
    return f"{sum(sizes):,} bytes in {_plural(len(sizes), 'file')}"


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
