"""A data card as Markdown: one section for each question that a person has about a data set."""

from __future__ import annotations

from collections.abc import Iterable

from store.card.card import Card, Part, stated_scales
from store.card.measured import (
    DENSITY_STEP,
    DENSITY_STEPS,
    GLASS_LEVEL,
    GLASS_SHARE,
    GLASS_SPREAD,
    HASH_BITS,
    Measured,
    Named,
)
from store.card.words import SHOWN, SUBSTANCES, bars, listed, table, word
from store.pairs.shifts import SURE, Shifts
from store.schema import Stain, Upscaler

NOT_MEASURED = (
    "Not measured: an earlier version built this store, or its record is damaged; `python -m prep build --repair` "
    "with its tiles adds it."
)


def card_markdown(card: Card) -> str:
    """The card in Markdown, without a line break at its end."""
    sections = {
        "Pairs": _pairs(card),
        "Sides and scale": _sides(card),
        "Glass": _glass(card.measured),
        "Alike in two splits": _copies(card.measured),
        "Colours": _colours(card.measured),
        "Registration": _registration(card),
        "Stain density": _densities(card.measured),
        "Left out": _left_out(card),
        "Terms of use": [word(card.terms.text), *_source_of_terms(card)],
        "Made by": _made_by(card),
    }
    head = f"# Data card: {word(card.name)}, H&E to {word(card.stain)}"
    warning = ["", "**SYNTHETIC: drawn, not tissue.**"] if card.synthetic else []
    body = [line for title, lines in sections.items() for line in ("", f"## {title}", "", *lines)]
    return "\n".join([head, *warning, *body])


def _pairs(card: Card) -> list[str]:
    rows = [
        (str(split), what, f"{part.tiles[stain]:,}", f"{part.slides[stain]:,}", _slides(part, stain))
        for split, part in card.parts.items()
        for stain, what in ({Stain.HE: "pairs"} if card.paired else {stain: stain.spoken for stain in Stain}).items()
    ]
    shared = [
        "",
        f"**{len(card.shared_slides)} slide(s) are in more than one split, so scores are optimistic:** "
        f"{listed([word(slide) for slide in card.shared_slides], len(card.shared_slides))}.",
    ]
    read_as = ["", f"Read as: {word(card.measured.read_as)}."] if card.measured and card.measured.read_as else []
    lines = table(("split", "of", "number", "slides", "of each slide"), rows)
    if not card.paired:
        lines += ["", "**Unpaired: no H&E tile shows the place of an IHC tile.**"]
    return [*lines, *(shared if card.shared_slides else []), *read_as]


def _slides(part: Part, stain: Stain) -> str:
    if part.slides[stain] == part.tiles[stain] > SHOWN:
        return "1: each tile counts as a slide"
    tiles = [f"{word(slide)} {count}" for slide, count in part.tiles_of[stain].items()]
    return listed(tiles, part.slides[stain])


def _sides(card: Card) -> list[str]:
    each = "pair" if card.paired else "tile"
    views = ", ".join(f"{name} ({count} a {each})" for name, count in card.views.items())
    lines = [f"- Tiles of {card.tile_side} px; views of {card.view_side} px: {views}."]
    if card.measured:
        sizes = (
            f"{stain.spoken} {', '.join(f'{count:,} of {word(size)} px' for size, count in found.items())}"
            for stain, found in card.measured.sources.items()
        )
        lines.append(f"- Source pictures: {'; '.join(sizes)}.")
    lines.append(f"- Scale: {_scale(card)}.")
    return [*lines, *(f"- **Contradiction:** {text}." for text in card.contradictions)]


def _scale(card: Card) -> str:
    scales = card.measured.scales if card.measured else ()
    stated = [
        f"{stain.spoken} {one.mpp:g} um/px ({word(one.where)}, {one.pictures:,} pictures)"
        for stain in Stain
        for one in stated_scales(scales, stain)
    ]
    said = f"; the pictures state {listed(stated, len(stated))}" if stated else "; the pictures state none"
    if card.mpp:
        known = ", ".join(f"{name} {mpp:g}" for name, mpp in card.mpp.items())
        return f"{known} um/px, as set by `mpp`{said if scales else ''}"
    if stated:
        return f"not set{said}. If that is right, build with `mpp` set to it"
    return f"unknown: `mpp` was not set{said if scales else ''}"


def _glass(measured: Measured | None) -> list[str]:
    if not measured:
        return [NOT_MEASURED]
    rows, names = [], []
    for split, stains in measured.glass.items():
        for stain, glass in stains.items():
            rows.append((str(split), stain.spoken, f"{glass.one_colour.count:,}", f"{glass.nearly.count:,}"))
            kinds: Iterable[tuple[str, Named]] = (("one colour", glass.one_colour), ("nearly glass", glass.nearly))
            names += [
                f"- {split}, {stain.spoken}, {kind}: {listed([word(n) for n in of.names], of.count)}"
                for kind, of in kinds
                if of.count
            ]
    rule = (
        f"A pixel is glass if all its channels are at least {GLASS_LEVEL} and differ by at most {GLASS_SPREAD}; a tile "
        f"is nearly glass if {GLASS_SHARE:.0%} of it are. Training learns nothing from glass, scores count it."
    )
    if not names:
        return [f"None: no tile has one colour, none is nearly glass. {rule}"]
    return [*table(("split", "stain", "one colour", "nearly glass"), rows), "", *names, "", rule]


def _copies(measured: Measured | None) -> list[str]:
    if not measured:
        return [NOT_MEASURED]
    rule = (
        f"A tile of a held-out split is listed if its perceptual hash differs in at most {HASH_BITS} of 63 bits from "
        "one of a split before it, also mirrored or turned by 90 degrees; glass is left out."
    )
    counts = [
        f"{count:,} {stain.spoken} tiles of {split}"
        for split, stains in measured.copies.items()
        for stain, count in stains.items()
    ]
    if not counts:
        return [f"None. {rule}"]
    lines = [
        f"- {one.split} {one.stain.spoken} {word(one.name)} is like {one.other} {word(one.original)} "
        f"({one.bits} bits{', turned or mirrored' if one.turned else ''})"
        for one in measured.copies_named[:SHOWN]
    ]
    return [f"**{'; '.join(counts)} look like a tile of a split before it.** {rule}", "", *lines]


def _colours(measured: Measured | None) -> list[str]:
    if not measured:
        return [NOT_MEASURED]
    if not measured.colours:
        return ["No picture states a colour profile or a gamma."]
    rows = [
        (
            word(one.he) or "nothing",
            word(one.ihc) or "nothing",
            f"{one.pairs.count:,}",
            "**yes**" if one.differ else "no",
            listed([word(name) for name in one.pairs.names], one.pairs.count),
        )
        for one in measured.colours
    ]
    return [
        *table(("H&E states", "IHC states", "pairs", "differ", "these"), rows),
        "",
        "None of it is applied: pixels are stored as they are in the files. Nothing stated counts as sRGB.",
    ]


def _registration(card: Card) -> list[str]:
    if not card.paired:
        return ["Unpaired: there is nothing to register."]
    if not card.registration:
        return ["Not measured: build with `registration=true`, or run `python -m prep register`."]
    rows = [
        (
            str(split),
            f"{shifts.pairs:,}",
            f"{shifts.doubtful:,}",
            _px(shifts.median),
            _px(shifts.one_in_20),
            _px(shifts.worst.registration.distance if shifts.worst else None),
            *(_over(shifts, step) for step in (5, 10)),
        )
        for split, shifts in card.registration.items()
    ]
    head = ("split", "pairs", "doubtful", "median, px", "one in 20, px", "worst, px", "over 5 px", "over 10 px")
    farthest = [
        f"- {split}, farthest apart: {', '.join(f'{word(name)} {px:g} px' for name, px in pairs.items())}"
        for split, pairs in card.farthest.items()
    ]
    rule = f"Estimated; an estimate with a confidence below {SURE:g} is doubtful, and counts in nothing else."
    return [*table(head, rows), "", *farthest, "", rule]


def _px(distance: float | None) -> str:
    return "" if distance is None else f"{distance:.1f}"


def _over(shifts: Shifts, step: int) -> str:
    """The share of the sure estimates that are more than so many px."""
    return f"{1 - shifts.within[step] / shifts.sure:.0%}" if shifts.sure else ""


def _densities(measured: Measured | None) -> list[str]:
    if not measured:
        return [NOT_MEASURED]
    rows = [
        (str(split), stain.spoken, word(SUBSTANCES.get(name, name)), f"{density.mean:.3f}", f"`{bars(density.tiles)}`")
        for split, stains in measured.densities.items()
        for stain, substances in stains.items()
        for name, density in substances.items()
    ]
    top = DENSITY_STEP * (DENSITY_STEPS - 1)
    rule = (
        "Mean optical density of a tile by colour deconvolution (Ruifrok and Johnston), glass included. A bar is "
        f"{DENSITY_STEP:g} wide, from 0 at the left to {top:g} and more at the right, as high as tiles are many."
    )
    return [*table(("split", "picture", "stain", "mean", "tiles, from low to high density"), rows), "", rule]


def _left_out(card: Card) -> list[str]:
    lines = [f"- {count:,} skipped: {word(reason)}" for reason, count in list(card.skipped.items())[:SHOWN]]
    if len(card.skipped) > SHOWN:
        lines.append(f"- and {len(card.skipped) - SHOWN} more reasons")
    lines += [f"- of the data folder: {word(note)}" for note in (card.measured.set_aside if card.measured else ())]
    return lines or ["Nothing."]


def _source_of_terms(card: Card) -> list[str]:
    sources = {"setting": "As set by `terms`.", "file": "As found beside the tiles; read the file."}
    return ["", sources[card.terms.source]] if card.terms.source in sources else []


def _made_by(card: Card) -> list[str]:
    software = ", ".join(f"{name} {version}" for name, version in card.software.items())
    return [
        f"- Recipe {word(card.recipe)}, views enlarged by {word(card.upscaler.name)}{_weights(card.upscaler)}.",
        f"- {word(software)}.",
        f"- Seal `{word(card.seal)}`. This card has schema {card.schema}.",
    ]


def _weights(upscaler: Upscaler) -> str:
    """Precision and weights of a network; empty for a plain filter."""
    weights = [
        f"{factor}{f' {of.architecture} {of.file}, licence {of.licence},' if of else ''} sha256 {digest}"
        for factor, digest in upscaler.digests.items()
        for of in [upscaler.networks.get(factor)]
    ]
    return f" in {word(upscaler.precision)}, weights {word('; '.join(weights))}" if weights else ""
