"""At which magnification a picture is translated: as it is, or resampled to one that the generator was trained at.

Scales are micrometres per pixel (mpp). A network that was trained at one scale takes cells for other things at another,
so a difference of more than `TOLERANCE` is refused rather than translated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, log
from pathlib import Path

from store.schema import SettingsError

MODEL = "model"  # the scale that the generator was trained at
TOLERANCE = 1.1  # ratio of two scales that are taken for one
SAME = 1.001  # ratio of two scales for which nothing is resampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user says about scales: `wanted` is a number, `model` or "", `said` that of the picture or None."""

    wanted: str = ""
    said: float | None = None

    def __post_init__(self) -> None:
        if self.said is not None and not 0 < self.said < inf:
            raise SettingsError(f"--source-mpp {self.said:g}: micrometres per pixel are above 0, e.g. 0.25")
        if self.wanted not in ("", MODEL):
            _number(self.wanted)

    @property
    def number(self) -> float | None:
        """The scale to resample to, where it is given as a number."""
        return None if self.wanted in ("", MODEL) else _number(self.wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The scale of the picture and of the pixels that are translated, None where unknown; what to tell the user."""

    source: float | None
    translated: float | None
    notes: tuple[str, ...] = ()

    @property
    def resampled(self) -> bool:
        """Whether the picture is resampled."""
        return self.source is not None and self.translated is not None and _ratio(self.source, self.translated) > SAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A picture and the scale that its file claims, None if it does not; where it does, in words."""

    path: Path
    mpp: float | None
    is_slide: bool
    mpp_from: str = ""


def choose_scale(picture: Claim, trained: Mapping[str, float], wish: Wish) -> Scale:
    """The scale at which a picture goes through a generator that was trained at the scales of its views.

    Raises SettingsError where they do not go together, with both values and what to do.
    """
    own = wish.said or picture.mpp
    notes = list[str]()
    if wish.said and picture.mpp and _ratio(wish.said, picture.mpp) > TOLERANCE:
        notes.append(f"{picture.path} says {_mpp(picture.mpp)}; --source-mpp {wish.said:g} is taken")
    if wish.wanted:
        return Scale(source=own, translated=_target(picture, own, trained, wish), notes=tuple(notes))
    nearest = _nearest(own, trained)
    if own is None and trained:
        if picture.is_slide:
            raise SettingsError(
                f"{picture.path}: says no micrometres per pixel, and the generator was trained at {_all(trained)}; "
                "give the slide's with --source-mpp NUMBER"
            )
        notes.append(f"{picture.path} says no micrometres per pixel; the generator was trained at {_all(trained)}")
    elif not trained:
        here = f"; the picture has {_mpp(own)}" if own else ""
        notes.append(f"the generator does not say at which micrometres per pixel it was trained{here}")
    elif own is not None and nearest is not None and _ratio(own, nearest) > TOLERANCE:
        told = "--source-mpp" if wish.said else picture.mpp_from
        where = f" ({told})" if told else ""
        raise SettingsError(
            f"{picture.path}: has {_mpp(own)}{where}, and the generator was trained at {_all(trained)}: more than 10 % "
            f"apart; --mpp {MODEL} resamples it to {nearest:g}, or, if its file is wrong, --source-mpp NUMBER says the "
            "right one"
        )
    return Scale(source=own, translated=own, notes=tuple(notes))


def _target(picture: Claim, own: float | None, trained: Mapping[str, float], wish: Wish) -> float:
    """The scale that `--mpp` asks for."""
    if wish.number is None and not trained:
        here = f" (the picture has {_mpp(own)})" if own else ", and say that of the picture with --source-mpp NUMBER"
        raise SettingsError(
            f"--mpp {MODEL}: the generator does not say at which micrometres per pixel it was trained; give the scale "
            f"as a number, --mpp NUMBER{here}, or translate the picture as it is, without --mpp"
        )
    known = f"the generator was trained at {_all(trained)}" if trained else "the generator does not say at which either"
    if own is None:
        raise SettingsError(
            f"--mpp {wish.wanted}: {picture.path} says no micrometres per pixel, and {known}; give the picture's with "
            "--source-mpp NUMBER"
        )
    number = wish.number
    nearest = _nearest(number or own, trained)
    if number is None:
        assert nearest is not None
        return own if _ratio(own, nearest) <= SAME else nearest
    if nearest is not None and _ratio(number, nearest) > TOLERANCE:
        raise SettingsError(
            f"--mpp {number:g}: {known}, more than 10 % apart; give --mpp {MODEL}, or a number near {nearest:g}"
        )
    return number


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < inf:
        raise SettingsError(f"--mpp {text}: give micrometres per pixel, e.g. 0.5, or `{MODEL}` for the generator's")
    return number


def _nearest(own: float | None, trained: Mapping[str, float]) -> float | None:
    """The trained scale nearest to `own` by ratio."""
    return None if own is None or not trained else min(trained.values(), key=lambda one: abs(log(one / own)))


def _ratio(one: float, other: float) -> float:
    return max(one / other, other / one)


def _mpp(value: float) -> str:
    return f"{value:.4g} µm/px"


def _all(trained: Mapping[str, float]) -> str:
    """The trained scales, each once, in words.

    >>> _all({"x1": 1.0, "x2": 0.5, "x4": 0.5})
    '1 or 0.5 µm/px'
    """
    return f"{' or '.join(f'{value:.4g}' for value in dict.fromkeys(trained.values()))} µm/px"
