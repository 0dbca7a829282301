"""How long super-resolution takes here: measured by the network that a build would use, and said in the plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prep.build.describe import describe_plan
from prep.build.plan import make_plan
from prep.build.settle import find_pace
from prep.settings import Device, Kernels, Precision, PrepSettings
from prep.upscaling.pace import SIDE, measure_pace
from prep.upscaling.upscale import UpscalerChoice, upscaler_choice
from prep.views import MAC_PER_PIXEL
from store.images import PictureU8
from tests.support.tiles import lanczos, single

SETTINGS = PrepSettings(view_side=64, margin=0, device=Device.CPU, precision=Precision.FP32)


class Slow:
    """An upscaler on a clock that is wound by hand."""

    now = 0.0

    def enlarge(self, pictures: PictureU8, factor: int, names: object = ()) -> PictureU8:
        Slow.now += 0.5
        side = SIDE * factor
        return np.zeros((1, side, side, 3), np.uint8)


def test_the_pace_is_operations_by_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(choice: UpscalerChoice, factor: int) -> Slow:
        assert choice.factors == {factor}
        return Slow()

    monkeypatch.setattr("prep.upscaling.pace._without_weights", slow)
    monkeypatch.setattr("prep.upscaling.pace.time.perf_counter", lambda: Slow.now)
    settled = PrepSettings(device=Device.CPU, precision=Precision.FP32, kernels=Kernels.PLAIN, batch=1)
    pace = measure_pace(upscaler_choice(settled, frozenset({2, 4}), ()))
    assert pace == pytest.approx(2 * MAC_PER_PIXEL[4] * SIDE**2 / 0.5)


def test_without_weights_the_network_itself_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prep.upscaling.pace.SIDE", 8)
    pace = find_pace(SETTINGS, frozenset({2}), ())
    assert pace is not None
    assert 1e8 < pace < 1e15


def test_what_cannot_be_measured_stops_no_plan() -> None:
    assert find_pace(lanczos(), frozenset(), ()) is None
    assert find_pace(SETTINGS, frozenset(), ()) is None


def test_a_device_that_is_not_here_stops_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cuda = PrepSettings(view_side=64, margin=0, device=Device.CUDA)
    assert find_pace(cuda, frozenset({2}), ()) is None


def test_the_plan_says_minutes_here(mist: Path) -> None:
    plan = make_plan(SETTINGS, single(mist), threads=1)
    measured = " ".join(describe_plan(plan, pace=plan.flop / 3600).split())
    assert "TFLOP of super-resolution: about 60 min on this machine (measured), a minute or less on an H200" in measured
    assert "on two CPU cores" in " ".join(describe_plan(plan).split())
