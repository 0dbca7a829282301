"""Steps that are replayed as one graph: the same numbers, nothing read back, no trace of a capture, and when it is off.

On a CPU a stand-in replays the recorded operations; on a GPU the graphs are CUDA's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from store.reader import Store
from store.run_files import RunFolder
from store.schema import Interrupted, SettingsError
from tests.support.distributed_steps import small
from tests.support.replaying import SIDE, OnDevice, StandIn, Trained, draw_bytes, move_without_values, start
from tests.support.runs import assert_equal, state
from tests.support.tiny_run import CPU, TINY
from tests.support.toy_method import MINE
from train.data.batch import RawBatch
from train.data.loader import to_batch
from train.loop import captured, session
from train.loop.captured import MOST, WARM_UP, CudaRecorder, Uncaptured, wants_graph
from train.loop.fit import fit
from train.loop.inputs import Inputs
from train.loop.schedule import set_learning_rate
from train.loop.step import step_generator, trial_step
from train.methods.decisions import Decisions
from train.methods.registry import METHODS, build_method
from train.networks.compiling import compile_passes
from train.run.checkpoint import Position, save_checkpoint
from train.run.metrics import Terms
from train.runtime.device import Compute, resolve
from train.runtime.distributed import ALONE, Ranks
from train.settings import Precision, TrainSettings, Use

pytestmark = pytest.mark.usefixtures("one_thread")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def settings(method: str) -> TrainSettings:
    """Narrow networks for 64 px, with dropout where there is any."""
    more = ["generator.dropout=true"] if METHODS[method].reads_setting("generator.dropout") else []
    less = ["discriminator.layers=3"] if METHODS[method].reads_setting("discriminator.layers") else []
    return small(method, *more, *less)


@pytest.mark.parametrize("name", METHODS)
def test_replayed_steps_are_the_steps_and_read_nothing_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other pictures, flips, patches, fakes, progress, rate and dropout at each step; a pool fills up; and resumed."""
    monkeypatch.setattr(captured, "WARM_UP", 1)
    plain, replayed = start(settings(name), CPU), start(settings(name), CPU)
    recorder = replayed.capture()
    assert_equal(replayed.run([1]), plain.run([1]))
    addresses = [tensor.data_ptr() for tensor in replayed.tensors()]
    assert_equal(replayed.run(range(2, 5)), plain.run(range(2, 5)))
    assert_equal(replayed.state(), plain.state())
    assert [tensor.data_ptr() for tensor in replayed.tensors()] == addresses
    assert isinstance(recorder, StandIn)
    assert recorder.logs
    reads = {read for log in recorder.logs for read in log.reads}
    assert {file for _, file in reads} <= {"norms.py"}, reads  # which looks at values on a CPU only
    resumed = start(settings(name), CPU, plain.state())
    resumed.capture()
    assert_equal(resumed.run(range(5, 8)), plain.run(range(5, 8)))
    assert_equal(resumed.state(), plain.state())
    assert replayed.said == resumed.said == []


@pytest.mark.parametrize("name", METHODS)
def test_what_a_step_on_a_gpu_computes_with_lies_there(name: str) -> None:
    """Without a GPU, on tensors without values: nothing crosses to or from the host, and no value is asked for."""
    gpu = Compute(device=torch.device("cuda", 0), precision=Precision.FP32)
    with FakeTensorMode():
        method = build_method(settings(name))
        move_without_values(method.modules(), gpu.device)
        raw = RawBatch(torch.zeros(2, 1, SIDE, SIDE, 3, dtype=torch.uint8), torch.zeros(2, 1, dtype=torch.bool))
        with unset_fake_temporarily():  # the host draws with values
            drawn = method.decide(1, SIDE, 0.9, step_generator(0, 1))
        decisions = [drawn.with_numbers([torch.empty(n.shape, dtype=n.dtype) for n in drawn.numbers])]
        inputs = Inputs([raw], decisions, gpu.device)
        with OnDevice() as seen:
            (batch,), (decided,) = inputs.read(decisions)
            outputs = method.generate(batch, decided)
            for player in method.players:
                terms = method.terms(player, batch, outputs, decided)
                assert {term.device for term in terms.values()} == {gpu.device}
    assert seen.elsewhere == set()


def test_steps_without_a_graph_get_all_their_numbers_in_one_copy_too() -> None:
    """A number that crosses by itself waits for the GPU: ten of them a step. Here a CPU stands for it."""
    seen: list[Decisions] = []

    class Step:
        compute = SimpleNamespace(cuda=True, device=torch.device("cpu"))
        method = SimpleNamespace(modules=dict)

        def __call__(self, _batches: object, decisions: list[Decisions]) -> Terms:
            seen.extend(decisions)
            return Terms.of({"term": torch.zeros(())})

    take = Uncaptured(Step())  # type: ignore[arg-type]
    for step in range(2):
        decided = Decisions(mirrored=bool(step), positions=([torch.arange(4) + step, torch.arange(3)],))
        take([draw_bytes(step)], [decided], lambda: None)
        assert seen[-1].mirrored == decided.mirrored
        assert_equal(seen[-1].numbers, decided.numbers)
    one, other = ([number.data_ptr() for number in decisions.numbers] for decisions in seen)
    assert one == other


def test_each_way_through_accumulated_parts_has_its_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "WARM_UP", 1)
    plain, replayed = (start(settings("fastcut"), CPU, parts=2) for _ in range(2))
    recorder = replayed.capture()
    assert_equal(replayed.run(range(1, 8)), plain.run(range(1, 8)))
    assert_equal(replayed.state(), plain.state())
    assert isinstance(recorder, StandIn)
    assert 2 <= len(recorder.logs) <= 4


def test_a_broken_step_moves_nobody_when_it_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "WARM_UP", 1)
    replayed = start(settings("cyclegan"), CPU)
    replayed.capture()
    replayed.run(range(1, 5))
    before = replayed.state()
    weight = next(replayed.step.method.generator.parameters())
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(torch.nan)
    assert not replayed.run([5])[0].isfinite().all()
    with torch.no_grad():
        weight.copy_(kept)
    assert_equal(replayed.state(), before)
    replayed.run([6])
    assert not torch.equal(weight, kept)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> TrainSettings:
    """A method whose steps are quick."""
    monkeypatch.setitem(METHODS, "mine", MINE)
    return replace(TINY, method="mine")


def test_a_step_is_captured_after_three_and_replayed_at_once(toy: TrainSettings) -> None:
    made = start(toy, CPU)
    recorder = made.capture()
    assert isinstance(recorder, StandIn)
    counts = []
    for step in range(1, 7):
        made.run([step])
        counts.append(len(recorder.logs))
    assert counts == [0] * WARM_UP + [1] * 3


def test_where_a_capture_fails_steps_go_on_uncaptured_and_one_line_says_why(toy: TrainSettings) -> None:
    plain, refused = start(toy, CPU), start(toy, CPU)
    refused.capture(StandIn(refused.tensors, refuses=True))
    assert_equal(refused.run(range(1, 9)), plain.run(range(1, 9)))
    assert_equal(refused.state(), plain.state())
    reason = "(RuntimeError: operation not permitted when stream is capturing)"
    assert refused.said == [
        f"warning: steps run uncaptured, slower: capturing one as a CUDA graph failed here {reason}"
    ]


def test_where_a_later_capture_fails_earlier_graphs_are_left_too(
    toy: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They draw from the generator that they were captured with, which is another one now."""
    made, plain = (start(toy, CPU, parts=2) for _ in range(2))
    monkeypatch.setattr(captured, "WARM_UP", 1)
    ways = iter("aabaabba")
    monkeypatch.setattr(captured, "branches_of", lambda _: (next(ways),))
    recorder = made.capture()
    assert isinstance(recorder, StandIn)
    assert_equal(made.run(range(1, 4)), plain.run(range(1, 4)))
    recorder.refuses = True
    assert_equal(made.run(range(4, 9)), plain.run(range(4, 9)))
    assert_equal(made.state(), plain.state())
    assert len(made.said) == 1
    assert isinstance(made.take, captured.Captured)
    assert not any(branch.captured for branch in made.take.branches.values())


def test_a_failed_capture_is_ended_for_memory_and_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch ends none that was invalidated: 2.11 raises at the next dropout then. Without a GPU: what is called."""
    called: list[tuple[Any, ...]] = []

    @contextmanager
    def invalidated(*_: Any, **_named: Any) -> Iterator[None]:
        yield
        raise RuntimeError("operation failed due to a previous error during capture")

    class Generator:
        def graphsafe_set_state(self, state: object) -> None:
            called.append(("generator", state))

    recorder = object.__new__(CudaRecorder)
    vars(recorder).update(stream=SimpleNamespace(device=torch.device("cuda", 1)), pool=(0, 7))
    monkeypatch.setattr(torch.cuda, "graph", invalidated)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "default_generators", (None, Generator()))
    monkeypatch.setattr(torch, "Generator", lambda device: f"new on {device}")
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, name, lambda *which, name=name: called.append((name, *which)), raising=False)
    with pytest.raises(RuntimeError, match="previous error"):
        recorder.record(lambda: Terms(names=(), values=torch.empty(0)))
    assert called == [
        ("_cuda_endAllocateToPool", 1, (0, 7)),
        ("_cuda_releasePool", 1, (0, 7)),
        ("generator", "new on cuda:1"),
    ]


def test_more_branches_than_graphs_run_uncaptured_and_one_line_says_so(
    toy: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, plain = (start(toy, CPU, parts=4) for _ in range(2))
    monkeypatch.setattr(captured, "WARM_UP", 0)
    ways = iter(range(10))
    monkeypatch.setattr(captured, "branches_of", lambda _: (next(ways),))  # each step takes another
    recorder = made.capture()
    assert_equal(made.run(range(1, 8)), plain.run(range(1, 8)))
    assert isinstance(recorder, StandIn)
    assert len(recorder.logs) == MOST
    assert made.said == [f"note: steps have more than {MOST} branches; those without a CUDA graph run uncaptured"]


def test_terms_of_a_step_stay_when_the_next_is_replayed(toy: TrainSettings) -> None:
    made = start(toy, CPU)
    made.capture()
    terms = made.run(range(1, 8))
    assert len({tuple(values.tolist()) for values in terms}) == 7


def test_a_run_that_is_captured_stopped_and_resumed_is_the_run(
    store: Store,
    tmp_path: Path,
    toy: TrainSettings,
    signal_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, cut = RunFolder(tmp_path / "plain"), RunFolder(tmp_path / "cut")
    fit(plain, store, replace(toy, ema=0.9))
    taken: list[int] = []

    class Calling(StandIn):
        """Replays by calling: what is held is the run's."""

        def __init__(self, _device: torch.device) -> None:
            super().__init__(list)

        def record(self, take: Callable[[], Terms]) -> Callable[[], Terms]:
            taken.append(1)
            return take

    monkeypatch.setattr(session, "wants_graph", lambda *_: True)
    monkeypatch.setattr(session, "CudaRecorder", Calling)
    signal_at(13)
    with pytest.raises(Interrupted, match="saved after step 13"):
        fit(cut, store, replace(toy, ema=0.9))
    signal_at(0)
    fit(cut, store, replace(toy, ema=0.9, graph=Use.OFF))  # it may change: it changes no number
    assert len(taken) == 2
    assert_equal(state(cut), state(plain))
    assert cut.generator.read_bytes() != b""
    groups = [group for optimiser in state(cut)["optimisers"].values() for group in optimiser["param_groups"]]
    assert all(type(group["lr"]) is float for group in groups)


def test_a_graph_is_wanted_by_one_process_on_a_gpu() -> None:
    gpu, two = Compute(device=torch.device("cuda"), precision=Precision.BF16), Ranks(rank=0, count=2, local=0)
    assert [wants_graph(setting, gpu, ALONE) for setting in Use] == [True, True, False]
    assert [wants_graph(setting, gpu, two) for setting in Use] == [False, False, False]
    assert not wants_graph(Use.AUTO, CPU, ALONE)
    with pytest.raises(SettingsError, match=r"graph = on with device = cpu: only NVIDIA .*graph=auto or graph=off"):
        wants_graph(Use.ON, CPU, ALONE)


def test_a_rate_on_the_device_is_filled_in_place_and_saved_as_a_number(toy: TrainSettings, tmp_path: Path) -> None:
    made = start(toy, CPU)
    (group,) = made.optimisers["generator"].param_groups
    rate = group["lr"]
    set_learning_rate(made.optimisers, replace(toy.optimiser, learning_rate=0.5), 1)
    assert group["lr"] is rate
    assert rate.item() == 0.5
    (tmp_path / "run").mkdir()
    position = Position(step=1, seconds=0.0, terms=[])
    save_checkpoint(RunFolder(tmp_path / "run"), made.step.method.modules(), made.optimisers, position, 0)
    (saved,) = state(RunFolder(tmp_path / "run"))["optimisers"]["generator"]["param_groups"]
    assert type(saved["lr"]) is float
    assert saved["lr"] == 0.5


def on_gpu(name: str, held: dict[str, Any] | None = None) -> Trained:
    return start(settings(name), resolve("cuda", Precision.BF16), held)


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("name", METHODS)
def test_fifty_replayed_steps_are_fifty_uncaptured_ones(name: str) -> None:
    """Bit for bit in deterministic mode, resumed after 25; a capture leaves no trace."""
    compute = resolve("cuda", Precision.BF16)
    compute.configure(deterministic=True)
    try:
        plain, replayed = on_gpu(name), on_gpu(name)
        replayed.capture(CudaRecorder(compute.device))
        assert_equal(replayed.run(range(1, 26)), plain.run(range(1, 26)))
        assert_equal(replayed.state(), plain.state())
        resumed = on_gpu(name, replayed.state())
        resumed.capture(CudaRecorder(compute.device))
        assert_equal(resumed.run(range(26, 51)), plain.run(range(26, 51)))
        assert_equal(resumed.state(), plain.state())
        assert replayed.said == resumed.said == []
        assert isinstance(resumed.take, captured.Captured)
        assert any(branch.captured for branch in resumed.take.branches.values())
    finally:
        compute.configure()


@pytest.mark.gpu
@GPU
def test_compiled_steps_are_captured_too() -> None:
    compute = resolve("cuda", Precision.FP32)
    made = start(settings("asp"), compute)
    method, batch = made.step.method, to_batch(draw_bytes(0), compute.device)
    assert compile_passes(method.modules(), lambda: trial_step(method, compute, batch)) == ""
    made.capture(CudaRecorder(compute.device))
    assert all(terms.isfinite().all() for terms in made.run(range(1, 11)))
    assert made.said == []
    assert isinstance(made.take, captured.Captured)
    assert [branch.captured for branch in made.take.branches.values()] == [True]


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("name", ["mine", "pix2pix"])  # which drops out
def test_a_step_that_reads_a_value_back_is_not_captured_and_goes_on(
    name: str, toy: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed capture leaves networks, optimisers and random numbers as they were."""
    chosen = toy if name == "mine" else settings(name)
    compute = resolve("cuda", Precision.FP32)
    compute.configure(deterministic=True)
    try:
        plain, refused = start(chosen, compute), start(chosen, compute)
        terms = refused.step.method.terms

        def reading(*arguments: Any) -> dict[str, torch.Tensor]:
            made = terms(*arguments)
            assert all(term.item() >= 0 for term in made.values())
            return made

        monkeypatch.setattr(refused.step.method, "terms", reading)
        refused.capture(CudaRecorder(compute.device))
        assert_equal(refused.run(range(1, 11)), plain.run(range(1, 11)))
        assert_equal(refused.state(), plain.state())
        assert len(refused.said) == 1
        assert "capturing one as a CUDA graph failed here" in refused.said[0]
    finally:
        compute.configure()
