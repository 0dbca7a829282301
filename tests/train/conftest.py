"""What tests of training runs share: something happens in the middle of a step."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch

from train.loop import fit as loop
from train.loop.step import step_generator

AtStep: TypeAlias = "Callable[[int, Callable[[], object]], None]"


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> AtStep:
    """Have something happen in the middle of a step; step 0 never comes."""

    def arrange(wanted: int, happens: Callable[[], object]) -> None:
        def generator(seed: int, step: int, part: int = 0) -> torch.Generator:
            if step == wanted:
                happens()
            return step_generator(seed, step, part)

        monkeypatch.setattr(loop, "step_generator", generator)

    return arrange


@pytest.fixture
def signal_at(at_step: AtStep) -> Callable[[int], None]:
    """Send this process a real SIGTERM in the middle of a step."""
    return lambda step: at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
