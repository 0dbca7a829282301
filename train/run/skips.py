"""Steps that stand out: skipped ones, of which a term or gradient was not finite, and those with a large one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from store.schema import RunError

DIVERGED = "nothing was saved of it: start a new run with --set precision=fp32 or a lower optimiser.learning_rate"
GRADIENT = "gradient_"
"""Begins the name of the length of a player's gradient, which stands among the terms."""
LARGEST = 1e4
"""A larger term is said: with the published weights those of healthy runs begin at 90 at most, and fall."""
LONGEST = 1e9
"""A longer gradient is said: FastCUT's first ones, the longest of all methods, are up to 6e6. bf16 ends at 3e38."""
SHOWN = 3  # steps, and terms of a step, that one message names


@dataclass(frozen=True, slots=True, kw_only=True)
class Skips:
    """Skipped steps of a run: in total, since its last line of metrics, and in a row up to its last step."""

    total: int = 0
    unwritten: int = 0
    in_row: int = 0

    def after(self, *, skipped: bool) -> Skips:
        """The counts after one more step."""
        if not skipped:
            return replace(self, in_row=0)
        return Skips(total=self.total + 1, unwritten=self.unwritten + 1, in_row=self.in_row + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusual:
    """A step with the terms that are not finite or large; `in_row` skipped ones ended with it, 0 if it moved."""

    step: int
    terms: dict[str, float]
    in_row: int

    def __str__(self) -> str:
        named = [f"{name} is {value:.3g}" for name, value in self.terms.items()]
        return f"step {self.step}: {', '.join(named[:SHOWN])}" + (
            f" and {len(named) - SHOWN} more" * (len(named) > SHOWN)
        )


def find_unusual(step: int, terms: dict[str, float], in_row: int) -> list[Unusual]:
    """The step, if it stands out: `in_row` is above 0 if it was skipped."""
    if in_row:
        odd = {name: value for name, value in terms.items() if not math.isfinite(value)}
    else:
        odd = {name: value for name, value in terms.items() if abs(value) > bound(name)}
    return [Unusual(step=step, terms=odd, in_row=in_row)] if odd else []


def bound(name: str) -> float:
    """Above which a term of this name, or a gradient's length, is large."""
    return LONGEST if name.startswith(GRADIENT) else LARGEST


def remarks(unusual: Sequence[Unusual], pairs_of: Callable[[int], str]) -> list[str]:
    """A line about skipped steps and one about large terms, where there are any; `pairs_of` a step says its pairs."""
    skipped = [step for step in unusual if step.in_row]
    large = [str(step) for step in unusual if not step.in_row]
    lines = []
    if skipped:
        named = [f"{step} (pairs {pairs_of(step.step)})" for step in skipped[:SHOWN]]
        lines.append(f"{_counted(len(skipped))} skipped, nothing moved: {_listed(named, len(skipped))}")
    if large:
        rule = f"healthy runs have terms below {LARGEST:g} and gradients shorter than {LONGEST:g}"
        lines.append(f"{_counted(len(large))} large: {_listed(large[:SHOWN], len(large))}; {rule}")
    return lines


def check_in_row(unusual: Sequence[Unusual], most: int, pairs_of: Callable[[int], str]) -> None:
    """Raise RunError at the step with which `most` in a row were skipped."""
    for step in unusual:
        if step.in_row >= most:
            raise RunError(
                f"{step.in_row} steps in a row were skipped, and the run stops: {step} (pairs {pairs_of(step.step)}); "
                f"{DIVERGED}, or let this one go on with a higher optimiser.stop_after_skips (now {most})"
            )


def _counted(steps: int) -> str:
    return "1 step was" if steps == 1 else f"{steps} steps were"


def _listed(named: Sequence[str], all_of: int) -> str:
    return "; ".join(named) + (f"; and {all_of - len(named)} more" if all_of > len(named) else "")
