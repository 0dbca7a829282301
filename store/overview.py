"""What is in a store, in words: for `python -m store info` and for the captions of a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from store.card.card import Card, make_card
from store.card.lines import main_lines
from store.card.record import read_measured
from store.cli import wrapped
from store.files import disk_errors
from store.pairs.table import Pair, Skipped, Table, describe_slides
from store.reader import Store
from store.schema import Manifest, Source, Split, Stain, StoreError, Upscaler, View

SHOWN = 10  # skipped pairs; the table `skipped` of the store has all of them
INDENT = 12  # columns of the name of a fact


def read_card(store: Store) -> tuple[Card, str]:
    """The data card of a store, and what is wrong with its record; then nothing is measured. Empty if it is whole."""
    fault, measured = "", None
    try:
        measured = read_measured(store.location, store.manifest.seal)
    except StoreError as error:
        fault = str(error)
    pairs = {split: store.pairs(split) for split in store.manifest.counts}
    return make_card(store.manifest, Table(pairs=pairs, skipped=store.skipped()), measured), fault


def describe(store: Store, card: Card | None = None) -> str:
    """The manifest, the pair tables and the card in words, one fact a line; they are wrapped to 100 columns."""
    card = card or read_card(store)[0]
    manifest = store.manifest
    facts = [
        ("stain", f"H&E to {manifest.stain}"),
        ("sides", f"tiles of {manifest.tile_side} px, views of {manifest.view_side} px"),
        ("mpp", ", ".join(f"{name} {mpp:g} um/px" for name, mpp in manifest.mpp.items()) or "unknown"),
        ("recipe", f"{manifest.recipe}, margin {manifest.margin} px"),
        *((f"view {view.name}", describe_view(view, manifest)) for view in manifest.views),
        ("tiles", f"stored as delivered in {' and '.join(s for s in manifest.counts if manifest.has_tiles(s))}"),
        ("upscaler", describe_upscaler(manifest.upscaler)),
        ("split", describe_rule(manifest)),
        *((str(split), _describe_split(store, split)) for split in manifest.counts),
        *(("warning", text) for split in manifest.counts for text in describe_leakage(store, split)),
        *_skipped(store.skipped(), "pair" if manifest.paired else "tile"),
        *main_lines(card),
        ("disk", f"{_on_disk(store)}, codec {manifest.codec}"),
        ("software", ", ".join(f"{name} {version}" for name, version in manifest.software.items())),
        ("seal", manifest.seal),
    ]
    head = f"{store.address}: {manifest.name}{': SYNTHETIC, drawn and not tissue' if manifest.synthetic else ''}"
    return "\n".join([head, *(_line(name, text) for name, text in facts)])


def describe_view(view: View, manifest: Manifest) -> str:
    """How many pictures of a pair a view has, and how they are made."""
    each = "pair" if manifest.paired else "tile"
    return f"{_plural(view.count, 'picture')} per {each}, {describe_picture(view, manifest)}"


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
    weights = ", ".join(
        f"{factor}{_describe_network(upscaler, factor)} sha256 {digest}" for factor, digest in upscaler.digests.items()
    )
    kernels = f", kernels {upscaler.kernels}" if upscaler.kernels else ""
    return f"{upscaler.name}, {upscaler.precision}{kernels}, batches of {upscaler.batch}; {weights}"


def _describe_network(upscaler: Upscaler, factor: str) -> str:
    """Which network made the views of a factor, if it was given as a file."""
    network = upscaler.networks.get(factor)
    if network is None:
        return ""
    halved = f", its x{network.scale} result averaged" if factor != f"x{network.scale}" else ""
    return f" by {network.architecture} {network.file}{halved}, licence {network.licence},"


def _line(name: str, text: str) -> str:
    return wrapped(f"  {name}{' ' * (INDENT - 2 - len(name))}{text}", indent=" " * INDENT)


def describe_rule(manifest: Manifest) -> str:
    """How the pairs were split: the rule, the seed, and whether slides were chosen by name."""
    chosen = [split for split in (Split.TEST, Split.VAL) if manifest.settings.get(f"{split}_slides")]
    named = f"; slides of {' and '.join(chosen)} chosen by name" if chosen else ""
    return f"{manifest.split}, seed {manifest.seed}{named}"


def _describe_split(store: Store, split: Split) -> str:
    pairs = store.pairs(split)
    if store.manifest.paired:
        return f"{_plural(len(pairs), 'pair')} of {_describe_slides(pairs, Stain.HE)}"
    parts = [f"{len(store.rows(split, one)):,} {one.spoken} of {_describe_slides(pairs, one)}" for one in Stain]
    return f"unpaired, {'; '.join(parts)}"


def _describe_slides(pairs: Sequence[Pair], stain: Stain) -> str:
    slides = {pair.slide_of(stain) for pair in pairs if pair.tile_of(stain)}
    return _plural(len(slides), "slide") + (f": {describe_slides(pairs, stain)}" if slides else "")


def describe_counts(manifest: Manifest) -> str:
    """How much each split has: pairs, or the tiles of each stain of an unpaired store.

    `4 train, 2 test`, or `unpaired: 4 H&E and 3 IHC train, 2 H&E and 0 IHC test`.
    """
    if manifest.paired:
        return ", ".join(f"{count} {split}" for split, count in manifest.counts.items())
    of_split = [
        f"{' and '.join(f'{manifest.tiles_of(split, stain)} {stain.spoken}' for stain in Stain)} {split}"
        for split in manifest.counts
    ]
    return f"unpaired: {', '.join(of_split)}"


def describe_leakage(store: Store, split: Split) -> list[str]:
    """Warnings that pictures or slides of a split are also in a split before it: its scores are optimistic.

    Copies are counted by preparation if they were allowed; in older stores by the digests of the source files.
    """
    before = [pair for other in takewhile(lambda other: other is not split, Split) for pair in store.pairs(other)]
    own = store.pairs(split)
    copies = store.manifest.leakage.get(split) or {
        stain: len([pair for pair in own if pair.tile_of(stain) and pair.digest_of(stain) in known])
        for stain in Stain
        if (known := {pair.digest_of(stain) for pair in before if pair.tile_of(stain)})
    }
    slides, seen = (frozenset[str]().union(*(pair.slides for pair in pairs)) for pairs in (own, before))
    found = [
        f"{count} of {len(store.rows(split, stain))} {stain.spoken} tiles of {split}"
        for stain, count in copies.items()
        if count
    ]
    if shared := slides & seen:
        found.append(f"{len(shared)} of {_plural(len(slides), 'slide')} of {split}")
    warnings = [f"{text} are also in another split (leakage): its scores are optimistic" for text in found]
    if count := store.manifest.overlaps.get(split):
        warnings.append(
            f"{count} of {_plural(len(own), 'tile')} of {split} share pixels with tiles of another split (leakage): "
            "its scores are optimistic"
        )
    return warnings


def _skipped(skipped: tuple[Skipped, ...], word: str) -> list[tuple[str, str]]:
    shown = [("", f"{bad.split} {bad.id!r}: {bad.reason}") for bad in skipped[:SHOWN]]
    more = [("", f"and {len(skipped) - SHOWN} more")] if len(skipped) > SHOWN else []
    return [("skipped", _plural(len(skipped), word) if skipped else "none"), *shown, *more]


def _on_disk(store: Store) -> str:
    with disk_errors(store.location):
        sizes = store.location.sizes().values()
    return f"{sum(sizes):,} bytes in {_plural(len(sizes), 'file')}"


def _plural(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
