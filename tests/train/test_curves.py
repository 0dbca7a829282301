"""Five steps of each method, recorded as plain text: they show a change that no other test notices.

Recorded on a CPU in fp32 with one thread, after the step of the method had passed its golden test. The first step
agrees to rounding. Instruction sets add up in different orders, and Adam makes much of little: between AVX-512 and
SSE 4.1 terms of later steps were up to 0.006 apart. Record again with MAGSTAIN_RECORD=1, and say in the commit why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from tests.support.places import GOLDEN
from tests.support.stepping import take_step
from tests.support.tiny_run import CPU, read_by
from train.data.batch import Batch
from train.loop.schedule import set_learning_rate
from train.loop.step import make_optimisers, step_generator
from train.methods.recipes import load_recipe
from train.methods.registry import METHODS, build_method
from train.settings import WeightSettings

CURVES = GOLDEN / "curves"
WIDTHS = ["generator.base=8", "generator.depth=6", "discriminator.base=8"]
STEPS = 5


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    """One thread, and the global generator restored: networks and dropout use it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_num_threads(threads)


def curve(name: str, *overrides: str, steps: int = STEPS) -> list[dict[str, float]]:
    """The terms of each step, on pictures drawn again for each."""
    settings = load_recipe([], [f"method={name}", "precision=fp32", *read_by(name, WIDTHS), *overrides])
    method = build_method(settings)
    optimisers = make_optimisers(method, settings.optimiser, fused=False)
    set_learning_rate(optimisers, settings.optimiser, 1)
    pictures = torch.Generator().manual_seed(1)
    terms = []
    for step in range(1, steps + 1):
        coarse = torch.rand(2, 1, 3, 8, 8, generator=pictures)  # he, ihc: smooth, as tissue is
        he, ihc = (torch.nn.functional.interpolate(c, size=128, mode="bicubic").mul(2).sub(1) for c in coarse)
        batch = Batch(he=he, ihc=ihc)
        made = take_step(method, optimisers, CPU, [batch], 0.9, [step_generator(0, step)])
        terms.append({name: term.item() for name, term in made.items() if not name.startswith("gradient_")})
    return terms


def text(terms: list[dict[str, float]]) -> str:
    lines = [" ".join(terms[0]), *(" ".join(f"{value:.6g}" for value in row.values()) for row in terms)]
    return "\n".join(lines) + "\n"


def agrees(method: str, terms: list[dict[str, float]]) -> bool:
    """Whether a curve is the recorded one: the first step to 1e-4, later ones to 2 % and 0.01."""
    head, *rows = [line.split() for line in (CURVES / f"{method}.txt").read_text(encoding="utf-8").splitlines()]
    recorded = [[float(value) for value in row] for row in rows]
    made = [list(row.values()) for row in terms]
    assert head == list(terms[0])
    assert len(recorded) == STEPS
    first = made[0] == pytest.approx(recorded[0], rel=1e-4, abs=1e-6)
    later = all(m == pytest.approx(r, rel=0.02, abs=0.01) for m, r in zip(made[1:], recorded[1:], strict=False))
    return first and later


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_curve_is_the_recorded_one(method: str) -> None:
    terms = curve(method)
    if os.environ.get("MAGSTAIN_RECORD") == "1":
        CURVES.mkdir(exist_ok=True)
        (CURVES / f"{method}.txt").write_text(text(terms), encoding="utf-8")
    assert len(terms) == STEPS
    assert agrees(method, terms), text(terms)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("other", "steps"), [("optimiser.learning_rate=0.0004", STEPS), ("weights.{term}=2", 1)])
def test_a_run_that_learns_otherwise_has_another_curve(method: str, other: str, steps: int) -> None:
    """With twice the learning rate, or another weight of its first term: the adversarial one, where it has one."""
    terms = (name for name in vars(WeightSettings()) if METHODS[method].reads_setting(f"weights.{name}"))
    assert not agrees(method, curve(method, other.format(term=next(terms)), steps=steps))
