"""Which upscaler invents least: one sentence for a stain, from what was measured at the same places.

The measure is truth, the correlation of the finer detail of a view with that of the tile as delivered, over all places
together: 1 is restored, 0 invented. The interval is of the difference between the two best, by a bootstrap of slides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prep.fidelity.entrants import Entrant
from prep.fidelity.measures import FADED, pool
from prep.fidelity.places import Compared
from store.schema import Stain

SLIDES = 5  # fewer cannot stand for a stain: then pairs are drawn, and the sentence says so
RESAMPLES = 2000
TAILS = (2.5, 97.5)  # percentiles of a 95 % interval

Sums = NDArray[np.float64]  # [clusters, entrants, (product, view, tile)]


def judge(compared: Sequence[Compared], entrants: Sequence[Entrant], stain: Stain, name: str) -> str:
    """The sentence for a stain, called `name`. Places that not every upscaler can make do not count."""
    titles = [entrant.title for entrant in entrants]
    same = [one for one in compared if one.stain is stain and one.changes.keys() == {*titles}]
    if len(entrants) < 2 or not same:
        return f"On {name} there is nothing to compare: fewer than two upscalers make one view."
    if min(one.changes[titles[0]].shared_tile for one in same) <= 0:
        return _by_agreement(same, entrants, name)
    slides, pairs = {one.slide for one in same}, {one.pair for one in same}
    by_slide = len(slides) >= SLIDES
    sums = _sum_clusters(same, titles, by_slide=by_slide)
    values = truth_of(sums.sum(0))  # [entrants]
    order = [int(place) for place in np.argsort(-values, kind="stable")]
    best, second = order[:2]
    views = " and ".join(dict.fromkeys(one.view for one in same))
    place = f"{len(same)} pictures ({views}) of {_count(len(pairs), 'pair')} of {_count(len(slides), 'slide')}"
    caveat = "" if by_slide else "; so few slides say little about a stain: look at more"
    if len(sums) < 2:
        return f"On {name} truth is {_listed(titles, values, order)}, of {place}: one pair ranks nothing, look at more."
    low, high = _interval(sums, best, second)
    found = f"difference {values[best] - values[second]:.2f}, 95 % interval {low:+.2f} to {high:+.2f}"
    what = f"{found}, bootstrap of {'slides' if by_slide else 'pairs'}; {place}{caveat}"
    if low > 0:
        filtered = _of_networks(entrants, values, order) if entrants[best].interpolates else ""
        return (
            f"On {name} **{titles[best]}** invents least: the truth of its finer detail is {values[best]:.2f}, against "
            f"{_listed(titles, values, order[1:])} ({what}).{filtered}"
        )
    return (
        f"On {name} {titles[best]} and {titles[second]} cannot be told apart by what they invent: truth "
        f"{_listed(titles, values, order)} ({what})."
    )


def truth_of(sums: Sums) -> Sums:
    """Correlations from sums [..., (product, view, tile)]; 0 where there is no detail."""
    product, view, tile = np.moveaxis(sums, -1, 0)
    return np.asarray(np.where(np.minimum(view, tile) > FADED, product, 0) / np.sqrt(np.maximum(view * tile, FADED**2)))


def _sum_clusters(same: Sequence[Compared], titles: Sequence[str], *, by_slide: bool) -> Sums:
    keys = [one.slide if by_slide else one.pair for one in same]
    rows = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    sums = np.zeros((len(rows), len(titles), 3))
    for key, one in zip(keys, same, strict=True):
        for number, title in enumerate(titles):
            change = one.changes[title]
            sums[rows[key], number] += (change.product_view, change.shared_view, change.shared_tile)
    return sums


def _interval(sums: Sums, best: int, second: int) -> tuple[float, float]:
    """Of the difference in truth between two upscalers, clusters drawn with replacement, always the same draws."""
    count = len(sums)
    weights = np.random.default_rng(0).multinomial(count, [1 / count] * count, RESAMPLES)  # [R,C]
    values = truth_of(np.einsum("rc,cek->rek", weights.astype(np.float64), sums))  # [R,E]
    low, high = np.percentile(values[:, best] - values[:, second], TAILS)
    return float(low), float(high)


def _by_agreement(same: Sequence[Compared], entrants: Sequence[Entrant], name: str) -> str:
    """Where tiles are no finer than patches, only how well a view agrees with its patch can be said."""
    values = np.array([pool([one.changes[entrant.title] for one in same]).psnr for entrant in entrants])
    order = [int(place) for place in np.argsort(-values, kind="stable")]
    listed = ", ".join(f"{values[place]:.1f} dB ({entrants[place].title})" for place in order)
    return (
        f"On {name} what is invented cannot be measured, because the tiles are no finer than the patches; downsampled "
        f"again, {entrants[order[0]].title} agrees best with the patches: {listed}, of {len(same)} pictures."
    )


def _of_networks(entrants: Sequence[Entrant], values: Sums, order: Sequence[int]) -> str:
    networks = [place for place in order if not entrants[place].interpolates]
    if not networks:
        return ""
    return f" It only interpolates; of the networks {entrants[networks[0]].title} invents least."


def _listed(titles: Sequence[str], values: Sums, order: Sequence[int]) -> str:
    return ", ".join(f"{values[place]:.2f} of {titles[place]}" for place in order)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
