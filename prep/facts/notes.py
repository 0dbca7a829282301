"""What a person should know of the pictures before they are built into a store, in one line each."""

from __future__ import annotations

from collections.abc import Mapping

from prep.settings import how_to_set
from store.card.card import find_contradictions
from store.card.measured import GLASS_SHARE, HASH_BITS, Colour, Glass, Measured, Named
from store.schema import Split, Stain

SHOWN = 5  # names in a note


def describe_facts(measured: Measured, leaks: Mapping[Split, Mapping[Stain, int]], mpp: float = 0.0) -> tuple[str, ...]:
    """Notes on the scale, on colours that only one stain claims, on glass, and on pictures like one of another split.

    `leaks` counts the copies that are said already; `mpp` is the scale that is set, 0 if none is.
    """
    glass = [
        _describe_glass(split, stain, of)
        for split, stains in measured.glass.items()
        for stain, of in stains.items()
        if of.nearly.count
    ]
    copies = [
        _describe_copies(measured, split, stain)
        for split, stains in measured.copies.items()
        for stain, count in stains.items()
        if count > leaks.get(split, {}).get(stain, 0)
    ]
    scale = _describe_scale(measured, mpp)
    return (*scale, *(_describe_colour(one) for one in measured.colours if one.differ), *glass, *copies)


def _describe_colour(one: Colour) -> str:
    he, ihc = (said or "nothing" for said in (one.he, one.ihc))
    return (
        f"{one.pairs.count} pair(s) claim two ways to show colours, H&E {he} and IHC {ihc}: {_listed(one.pairs)}; "
        "neither is applied; if the two look different on your screen, convert both to sRGB yourself"
    )


def _describe_glass(split: Split, stain: Stain, glass: Glass) -> str:
    return (
        f"{glass.nearly.count} {stain.spoken} tile(s) of {split} are at least {GLASS_SHARE:.0%} glass, bright and "
        f"without colour: {_listed(glass.nearly)}"
    )


def _listed(names: Named) -> str:
    more = f" and {names.count - SHOWN} more" if names.count > SHOWN else ""
    return ", ".join(map(repr, names.names[:SHOWN])) + more


def _describe_scale(measured: Measured, mpp: float) -> list[str]:
    """What is wrong with the scale, or that the pictures state one that is not set."""
    wrong = [f"{text}; see that `mpp` is right" for text in find_contradictions(mpp, measured.scales)]
    stated = [scale for scale in measured.scales if scale.mpp]
    if mpp or wrong or not stated:
        return wrong
    said = f"{stated[0].mpp:g} um/px ({stated[0].where})"
    return [f"the pictures state {said}, and mpp is not set: to record it, {how_to_set(f'mpp={stated[0].mpp:g}')}"]


def _describe_copies(measured: Measured, split: Split, stain: Stain) -> str:
    first = next(copy for copy in measured.copies_named if (copy.split, copy.stain) == (split, stain))
    turned = ", turned or mirrored" if first.turned else ""
    return (
        f"{measured.copies[split][stain]} {stain.spoken} tile(s) of {split} look like one of a split before it (a "
        f"perceptual hash differs in at most {HASH_BITS} of 63 bits), for example {first.name!r} like "
        f"{first.original!r} of {first.other}{turned}: look at them; a build does not stop at this"
    )
