"""Compare upscalers on tiles before a store is built: which are there, which places they made, what was found."""

from __future__ import annotations

from dataclasses import dataclass

from prep.demo.draw import is_synthetic
from prep.fidelity.entrants import Entrant, ask, load_entrant, missing_weights
from prep.fidelity.measures import Change
from prep.fidelity.places import Compared, Shown, choose_pairs, compare, cut_patches, drawn_pairs, keep_most_apart
from prep.fidelity.sources import Sample
from prep.fidelity.verdict import judge
from prep.settings import PrepSettings
from prep.tiles.discovery import Data, find_pairs
from prep.tiles.squares import cutting_of
from prep.views import plan_geometries
from store.cli import say, track
from store.schema import PairingError, SettingsError, Stain
from store.untrusted.text import markdown_word


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that was found: of which data, by which upscalers, at which places, and what was left out."""

    name: str
    stain: str
    synthetic: bool
    entrants: tuple[Entrant, ...]
    compared: tuple[Compared, ...]
    shown: tuple[Shown, ...]
    left_out: tuple[str, ...]

    @property
    def sentences(self) -> list[str]:
        """Which upscaler invents least, for each stain."""
        names = {Stain.HE: "H&E", Stain.IHC: markdown_word(self.stain)}
        return [judge(self.compared, self.entrants, stain, names[stain]) for stain in Stain]

    def groups(self) -> list[tuple[str, Stain, str, list[Change]]]:
        """View, stain, upscaler and its changes, where it made the view."""
        views = dict.fromkeys(one.view for one in self.compared)
        rows = [(view, stain, entrant.title) for view in views for stain in Stain for entrant in self.entrants]
        return [(*row, changes) for row in rows if (changes := self._changes(*row))]

    def _changes(self, view: str, stain: Stain, title: str) -> list[Change]:
        same = [one for one in self.compared if (one.view, one.stain) == (view, stain)]
        return [one.changes[title] for one in same if title in one.changes]


def compare_upscalers(settings: PrepSettings, data: Data, names: str, sample: Sample, *, threads: int) -> Comparison:
    """Measure the upscalers on at most `sample.limit` pairs of a data folder.

    Raises SettingsError, WeightsError or PairingError for what a user can correct. An upscaler whose weights are not
    here is left out; one that cannot make a view is not measured on it.
    """
    asked, cutting = ask(names, settings), cutting_of(settings)
    discovery = find_pairs(settings, data)
    checked = choose_pairs(discovery, sample.limit, sample.seed, threads=threads, cutting=cutting)
    left_out = [f"pair {bad.id!r}: {bad.reason}" for bad in checked.table.skipped]
    pairs = drawn_pairs(checked, sample.limit, sample.seed)
    if not pairs:
        raise PairingError(f"{data.he}: no pair can be compared: {'; '.join(left_out[:3])}")
    planned = plan_geometries(settings, checked.tile_side, example=pairs[0][1].he)
    geometries = [geometry for geometry in planned if geometry.enlarged]
    factors = {int(geometry.factor): geometry.view.name for geometry in geometries}
    if not factors:
        raise SettingsError(f"recipe {settings.recipe} enlarges no view of tiles of {checked.tile_side} px")
    entrants = []
    for one in asked:
        if absent := missing_weights(one, factors):
            left_out.append(f"{one.title}: {absent}")
            continue
        entrants.append(load_entrant(one, factors))
        left_out += [
            f"{one.title} on {view}: it does not enlarge by {factor}"
            for factor, view in factors.items()
            if factor not in one.factors
        ]
    for text in left_out:
        say(f"left out: {text}")
    if not entrants:
        raise SettingsError(f"--upscalers {names}: none of them is here ({'; '.join(left_out)})")
    shown, compared = list[Shown](), list[Compared]()
    cut = cut_patches(pairs, discovery, geometries, settings.seed)
    for patches in track(cut, what="comparing", unit="pair", total=len(pairs)):
        compared += keep_most_apart(shown, compare(patches, entrants))
    return Comparison(
        name=settings.name or data.name,
        stain=settings.stain,
        synthetic=is_synthetic(data.he),
        entrants=tuple(entrants),
        compared=tuple(compared),
        shown=tuple(sorted(shown, key=lambda one: (one.compared.view, one.compared.stain, -one.compared.apart))),
        left_out=tuple(left_out),
    )
