"""When a run uses fused kernels, and what it says about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from store.files import write_json
from store.reader import Store
from store.records.facts import read_facts
from store.run_files import RunFolder
from store.schema import Interrupted, SettingsError
from store.settings import load
from tests.support.tiny_run import TINY
from train.kernels import launching
from train.kernels.launching import choose, settle
from train.loop.fit import fit
from train.run.folder import recorded_fused
from train.settings import TrainSettings, Use

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
AUTO, ON, OFF = Use


@pytest.fixture(autouse=True)
def switched_back() -> Iterator[None]:
    yield
    launching.switch(fused=True)


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels do not run here: settle says so itself where no GPU is."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run here, or so it says."""
    monkeypatch.setattr(launching, "settle", lambda _: "")


def test_a_cpu_has_no_fused_kernels() -> None:
    assert [choose(wanted, AUTO, CPU) for wanted in (AUTO, OFF)] == [(AUTO, ""), (OFF, "")]
    assert choose(AUTO, ON, CPU) == (AUTO, "")  # the device may change, and with it every rounding
    with pytest.raises(SettingsError, match="fused = on, but on cpu: fused kernels need an NVIDIA GPU; use"):
        choose(ON, AUTO, CPU)


@pytest.mark.usefixtures("fails")
def test_where_kernels_fail_plain_ones_are_used_and_a_line_says_why() -> None:
    said = "fused kernels do not run here (TRITON_INTERPRET is set): the run takes PyTorch's, which are slower"
    assert choose(AUTO, AUTO, CUDA) == (OFF, said)
    assert not launching._switch.fused
    assert choose(OFF, AUTO, CUDA) == (OFF, "")
    with pytest.raises(SettingsError, match=r"fused = on: fused kernels do not run on cuda \(TRITON_INTERPRET"):
        choose(ON, AUTO, CUDA)


@pytest.mark.usefixtures("fails")
def test_a_run_that_cannot_go_on_as_it_began_says_so() -> None:
    now, note = choose(AUTO, ON, CUDA)
    assert now is OFF
    assert "fused kernels do not run here" in note
    assert "warning: the run began with fused = on and goes on with off" in note


@pytest.mark.usefixtures("works")
def test_a_run_goes_on_as_it_began_unless_another_is_wanted() -> None:
    assert [choose(wanted, recorded, CUDA) for wanted, recorded in ((AUTO, AUTO), (AUTO, ON), (ON, ON))] == [
        (ON, "")
    ] * 3
    assert launching._switch.fused
    assert choose(OFF, OFF, CUDA) == (OFF, "")
    assert not launching._switch.fused
    assert choose(AUTO, OFF, CUDA) == (
        OFF,
        "the run goes on without fused kernels, as it began; fused=on is faster and rounds otherwise",
    )
    now, note = choose(ON, OFF, CUDA)
    assert now is ON
    assert note.startswith("warning: the run began with fused = off and goes on with on: sums are rounded otherwise")
    now, note = choose(OFF, ON, CUDA)
    assert now is OFF
    assert note.startswith("warning: the run began with fused = on and goes on with off")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_check_says_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = settle(CUDA)
    assert reason.partition("\n")[0] == reason != ""
    monkeypatch.setattr(launching, "has_triton", lambda: False)
    assert settle(CUDA) == "Triton is not installed"


def test_what_a_run_began_with_is_recorded(store: Store, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert recorded_fused(folder) is AUTO
    for wanted, recorded in ((OFF, OFF), (AUTO, OFF)):
        with pytest.raises(Interrupted):
            fit(folder, store, replace(TINY, fused=wanted, time_limit=1e-6))
        assert recorded_fused(folder) is recorded
    folder.settings.write_text(folder.settings.read_text().replace('fused = "off"\n', ""))
    assert load(TrainSettings, folder.settings).fused is AUTO
    assert recorded_fused(folder) is AUTO
    write_json(folder.facts, replace(read_facts(folder), device="cuda:0"))
    assert recorded_fused(folder) is OFF  # such a run is older than the kernels
    folder.facts.write_text("{")
    assert recorded_fused(folder) is AUTO


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fused_kernels_run_on_this_gpu_and_a_run_records_it(store: Store, tmp_path: Path) -> None:
    assert settle(CUDA) == ""
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(Interrupted):
        fit(folder, store, replace(TINY, device="cuda", time_limit=1e-6))
    assert load(TrainSettings, folder.settings).fused is ON
