"""Which two file names are one pair: templates of both stains, and the templates that would fit where none do.

A template such as `{}_HE` says what a name has beside the id of its pair; with two `{}` the id is both, joined by `_`.
Two forms of Unicode are one name; upper and lower case are told apart unless a setting says that they are not.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from prep.settings import how_to_set
from prep.tiles.folders.words import Family, Role, read_word
from store.schema import PairingError

SEPARATOR = re.compile(r"[\s_.\-]+")
WITHOUT = "{}"  # a template that is not needed
EXAMPLES = 2000  # names of a stain that are looked at for a hint
LIKELY = 8  # templates that are tried
MOST = 0.75  # of the names of a stain: what its template fits; the others are strays


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """How names say their pair: a template for each stain, and whether upper and lower case are told apart."""

    he: str = WITHOUT
    ihc: str = WITHOUT
    ignore_case: bool = False

    def key(self, pair_id: str) -> str:
        """What is equal for the two names of a pair."""
        composed = unicodedata.normalize("NFC", pair_id)
        return unicodedata.normalize("NFC", composed.casefold()) if self.ignore_case else composed


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """The settings that pair more names than now, and how many pairs they give; none if templates are in the way."""

    settings: tuple[str, ...]
    pairs: int

    def __str__(self) -> str:
        if not self.settings:
            return f"without he_name and ihc_name there are {self.pairs} pair(s)"
        return f"{how_to_set(*self.settings)} gives {self.pairs} pair(s)"


def pair_id(name: str, template: str) -> str | None:
    """The id in a name without suffix; its folders stay. None if the name does not fit the template.

    >>> pair_id("slide7/a_HE", "{}_HE"), pair_id("7_IHC_0_1", "{}_IHC_{}"), pair_id("a_IHC", "{}_HE")
    ('slide7/a', '7_0_1', None)
    """
    if template in ("", WITHOUT):
        return name
    folder, slash, last = name.rpartition("/")
    found = re.fullmatch("(.+)".join(map(re.escape, template.split(WITHOUT))), last, re.DOTALL)
    return f"{folder}{slash}{'_'.join(found.groups())}" if found else None


def suggest(he: Sequence[str], ihc: Sequence[str], naming: Naming, pairs: int, *, mixed: bool = False) -> Hint | None:
    """The settings that would give more pairs of these names than the `pairs` there are; None if none are found.

    Where the stains are `mixed` in the same folders, the names of both are the same ones.
    """
    ways = [Naming(he=naming.he, ihc=naming.ihc, ignore_case=True), Naming(), *_template_ways(he, ihc, mixed=mixed)]
    ways = [way for way in ways if not mixed or way.he != way.ihc]  # a picture is no pair with itself
    counted = [(count_pairs(he, ihc, way), -n, way) for n, way in enumerate(ways)]
    best, _, way = max(counted, default=(0, 0, naming))
    if best <= pairs:
        return None
    settings = [f"{key}={value}" for key, value in (("he_name", way.he), ("ihc_name", way.ihc)) if value != WITHOUT]
    return Hint(settings=(*settings, *(["ignore_case=true"] if way.ignore_case else [])), pairs=best)


def stains_in_names(names: Sequence[str]) -> Hint | None:
    """The settings that pair names of one folder, if every name says H&E or IHC, as in `a_HE` and `a_IHC`."""
    said: dict[Role, list[str]] = {Role.HE: [], Role.IHC: []}
    for name in names:
        words = [word for term in SEPARATOR.split(name.rpartition("/")[2]) if (word := read_word(term))]
        roles = {Role.IHC if word.marker else word.role for word in words if word.marker or word.family is Family.STAIN}
        for role in said:
            said[role] += [name] if role in roles else []
    if sum(map(len, said.values())) != len(names) or not all(said.values()):
        return None
    return suggest(said[Role.HE], said[Role.IHC], Naming(), 0)


def count_pairs(he: Sequence[str], ihc: Sequence[str], naming: Naming) -> int:
    """How many pairs these names make; none if two names of a stain would be one."""
    keys = []
    for names, template in ((he, naming.he), (ihc, naming.ihc)):
        found = [naming.key(one) for name in names if (one := pair_id(name, template)) is not None]
        keys.append(set(found))
        if len(keys[-1]) < len(found):
            return 0
    return len(keys[0] & keys[1])


def _template_ways(he: Sequence[str], ihc: Sequence[str], *, mixed: bool) -> list[Naming]:
    """The templates that names of the two stains differ by: one term that one or both have and the other has not.

    Unless names are `mixed`, one of two templates fits most names of its stain: else it is of a slide.
    """
    taken = [_by_rest(names[:EXAMPLES]) for names in (he, ihc)]
    votes: Counter[tuple[str, str]] = Counter()
    for rest in taken[0].keys() & taken[1].keys():
        if all(len(of_stain[rest]) <= LIKELY for of_stain in taken):  # else what differs is the id, and not a stain
            votes.update(product(taken[0][rest], taken[1][rest]))
    likely = [templates for templates, _ in votes.most_common(LIKELY)]
    likely = [way for way in likely if mixed or _is_rule(he, way[0]) or _is_rule(ihc, way[1])]
    ends = _ends(he, ihc)
    tried = [likely, [ends] if ends else []]
    return [Naming(he=a, ihc=b, ignore_case=fold) for ways in tried for fold in (False, True) for a, b in ways]


def _is_rule(names: Sequence[str], template: str) -> bool:
    """Whether a template that says something fits most names of a stain."""
    return template != WITHOUT and sum(pair_id(name, template) is not None for name in names) >= MOST * len(names)


def _by_rest(names: Sequence[str]) -> Mapping[str, set[str]]:
    """The ids that names have without one of their terms, with the templates that give them."""
    found: dict[str, set[str]] = {}
    for name in names:
        for template in _templates(name.rpartition("/")[2]):
            rest = pair_id(name, template)
            if rest is not None:
                found.setdefault(unicodedata.normalize("NFC", rest).casefold(), set()).add(template)
    return found


def _templates(name: str) -> Iterator[str]:
    """The templates of a name that leave one of its terms out, if that is no number."""
    yield WITHOUT
    gaps = [match.span() for match in SEPARATOR.finditer(name)]
    starts, ends = [0, *(end for _, end in gaps)], [*(start for start, _ in gaps), len(name)]
    for start, end in zip(starts, ends, strict=True):
        term = name[start:end]
        if not term or term.isdigit() or "{" in term or "}" in term or len(gaps) == 0:
            continue
        if start == 0:
            yield f"{name[: gaps[0][1]]}{{}}"
        elif end == len(name):
            yield f"{{}}{name[gaps[-1][0] :]}"
        else:
            before, after = max(s for s, e in gaps if e <= start), min(e for s, e in gaps if s >= end)
            yield f"{{}}{name[before:after]}{{}}"


def _ends(he: Sequence[str], ihc: Sequence[str]) -> tuple[str, str] | None:
    """The templates of what all names of a stain begin and end with, as far as the stains differ in it."""
    lasts = [[name.rpartition("/")[2] for name in names] for names in (he, ihc)]
    if not all(lasts):
        return None
    fronts, backs = [_common(names) for names in lasts], [_common([n[::-1] for n in names]) for names in lasts]
    shared = _to_separator(_common([front[::-1] for front in fronts]))  # before the id in both: a part of it
    fronts = [front[: len(front) - shared] for front in fronts]
    shared = _to_separator(_common([back[::-1] for back in backs]))
    backs = [back[::-1][shared:] for back in backs]
    if any(term.isdigit() for end in (*fronts, *backs) for term in SEPARATOR.split(end)):
        return None  # a place in a grid that all tiles share, and the other stain not
    he_name, ihc_name = (f"{front}{{}}{back}" for front, back in zip(fronts, backs, strict=True))
    return he_name, ihc_name


def _to_separator(shared: str) -> int:
    """How much of what two stains share belongs to the id: a separator at its end belongs to the template."""
    return len(re.sub(rf"{SEPARATOR.pattern}$", "", shared))


def _common(names: Sequence[str]) -> str:
    """What all names begin with."""
    first, last = min(names), max(names)
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]


def check_template(name: str, template: str) -> None:
    """Raise PairingError unless a template has a place for the id, something between two such, and no folder."""
    if template and (WITHOUT not in template or 2 * WITHOUT in template or "/" in template):
        raise PairingError(
            f"{name} = {template!r}: a template has {{}} where the id of the pair stands, something between two of "
            f"them, and no folder; for example {how_to_set(f'{name}={{}}_HE')}"
        )
