"""Compiled passes take the same step, and where there is no compiler a run says so and trains without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from store.reader import Store
from store.run_files import RunFolder
from tests.support.distributed_steps import Recorded, draw_pairs, small
from tests.support.runs import assert_equal, state
from tests.support.stepping import take_step
from tests.support.stores import build_small_store
from tests.support.tiny_run import CPU
from train.data.batch import Batch
from train.loop.fit import fit
from train.loop.step import make_optimisers, step_generator, trial_step
from train.methods.base import Method
from train.methods.registry import build_method
from train.networks import compiling as compiled

DIFFERENT = ("pix2pix", "pyramid_p2p", "cyclegan", "cut", "attention_gan")
"""Methods with all networks that there are: what is compiled is a network, and those of the others are among these."""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Passes are captured as for a compiler, and then run by PyTorch's own kernels: quick, and exact."""
    functions: list[object] = []

    def capture(function: Callable[..., Any], *, dynamic: bool) -> Callable[..., Any]:
        functions.append(function)
        taken: Callable[..., Any] = compile_(function, dynamic=dynamic, backend="aot_eager", fullgraph=True)
        return taken

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", capture)
    yield functions
    torch._dynamo.reset()


def take(method: Method[Any], batch: Batch, settings: Any) -> Recorded:
    """A step: its terms, gradients, and all buffers after it."""
    optimisers = make_optimisers(method, settings.optimiser, fused=False)
    terms = take_step(method, optimisers, CPU, [batch], 0.9, [step_generator(0, 1)])
    recorded = {name: term.numpy() for name, term in terms.items()}
    for name, module in method.modules().items():
        recorded |= {f"{name}/{key}": p.grad.numpy() for key, p in module.named_parameters() if p.grad is not None}
        recorded |= {f"{name}/{key}": buffer.numpy() for key, buffer in module.named_buffers()}
    return recorded


def build(method: str) -> Method[Any]:
    torch.manual_seed(0)
    built = build_method(small(method))
    for module in built.modules().values():
        module.double()
    return built


def pairs() -> Batch:
    batch = draw_pairs(1)
    return Batch(he=batch.he.double(), ihc=batch.ihc.double())


@pytest.mark.parametrize("method", DIFFERENT)
def test_a_compiled_step_is_the_step(method: str, captured: list[object]) -> None:
    """Each network is one graph, which runs several times before one backward; the trial step changes nothing."""
    plain = take(build(method), pairs(), small(method))
    built = build(method)
    assert compiled.compile_passes(built.modules(), lambda: trial_step(built, CPU, pairs())) == ""
    assert captured
    count = len(captured)
    recorded = take(built, pairs(), small(method))
    assert len(captured) == count  # all was compiled in the trial step
    assert recorded.keys() == plain.keys()
    longest = max(float(np.abs(value).max()) for value in plain.values())
    for name, value in plain.items():  # before a norm a bias has a gradient of rounding alone
        atol = 1e-12 * longest if name.endswith("bias") else 0
        torch.testing.assert_close(
            torch.from_numpy(recorded[name]), torch.from_numpy(value), rtol=1e-8, atol=atol + 1e-12
        )


def test_a_run_without_a_compiler_says_why_and_is_the_run_that_does_not_ask_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> Callable[..., Any]:
        raise RuntimeError("no C++ compiler on this machine\nand a long trace")

    store: Store = build_small_store(tmp_path / "s.zarr", tile_side=192, view_side=96)
    short = ("optimiser.constant_epochs=1", "optimiser.decay_epochs=0", "data.views=['x1']")
    plain, without = RunFolder(tmp_path / "plain"), RunFolder(tmp_path / "without")
    fit(plain, store, small("asp", *short))
    monkeypatch.setattr(torch, "compile", refuse)
    fit(without, store, small("asp", *short, "compile=true"))
    said = capsys.readouterr().err
    assert "run without torch.compile, which failed here (RuntimeError: no C++ compiler on this machine)" in said
    assert_equal(state(without), state(plain))
