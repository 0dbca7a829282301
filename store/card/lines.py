"""The main facts of a data card in one line each, for `python -m store info`."""

from __future__ import annotations

from store.card.card import Card
from store.card.measured import Measured
from store.card.words import SUBSTANCES
from store.pairs.shifts import describe_shifts
from store.schema import Stain
from store.untrusted.text import printable

UNMEASURED = "glass, copies, colours and densities are not measured: `prep build --repair` with the tiles adds them"


def main_lines(card: Card) -> list[tuple[str, str]]:
    """Pairs of a name and a text, as `store info` shows facts."""
    measured = card.measured
    if not measured:
        facts = [("card", UNMEASURED)]
    else:
        facts = [
            ("glass", _glass(measured)),
            ("alike", _alike(measured)),
            ("colours", _colours(measured)),
            ("density", _densities(measured)),
        ]
    contradictions = [("warning", text) for text in card.contradictions]
    lines = [*contradictions, *facts, *_registration(card), ("terms", card.terms.text)]
    return [(name, printable(text)) for name, text in lines]


def _glass(measured: Measured) -> str:
    found = [(stain.spoken, glass) for stains in measured.glass.values() for stain, glass in stains.items()]
    parts = []
    for name in (stain.spoken for stain in Stain):
        one_colour = sum(glass.one_colour.count for stain, glass in found if stain == name)
        nearly = sum(glass.nearly.count for stain, glass in found if stain == name)
        parts.append(f"{name} {one_colour} tiles of one colour, {nearly} nearly glass")
    return "; ".join(parts)


def _alike(measured: Measured) -> str:
    counts = [
        f"{count} {stain.spoken} tiles of {split}"
        for split, stains in measured.copies.items()
        for stain, count in stains.items()
    ]
    return f"{', '.join(counts)} look like one of a split before it" if counts else "no tile in two splits"


def _colours(measured: Measured) -> str:
    differ = [one for one in measured.colours if one.differ]
    if differ:
        first = differ[0]
        return (
            f"{sum(one.pairs.count for one in differ)} pairs claim two ways to show colours, which nobody applies: H&E "
            f"{first.he or 'nothing'}, IHC {first.ihc or 'nothing'}"
        )
    return "both stains claim the same" if measured.colours else "no picture claims a profile or gamma"


def _densities(measured: Measured) -> str:
    """The mean over the tiles of all splits, by stain and substance."""
    sums: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for stains in measured.densities.values():
        for stain, substances in stains.items():
            for name, density in substances.items():
                sums.setdefault((stain.spoken, name), []).append((density.mean, sum(density.tiles)))
    means = {key: sum(m * n for m, n in parts) / sum(n for _, n in parts) for key, parts in sums.items()}
    return ", ".join(f"{stain} {SUBSTANCES.get(name, name)} {mean:.3f}" for (stain, name), mean in means.items())


def _registration(card: Card) -> list[tuple[str, str]]:
    if not card.paired:
        return []
    if not card.registration:
        return [("shifts", "not measured (build with registration=true)")]
    return [("shifts", f"{split}: {describe_shifts(shifts)}") for split, shifts in card.registration.items()]
