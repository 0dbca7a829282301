"""A step whose terms or gradients are not finite moves nobody and is said; a run bears so many of them in a row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from store.reader import Store
from store.run_files import RunFolder
from store.schema import Interrupted, RunError, SettingsError, Split, Stain
from tests.support.checkpoints import forge_newest
from tests.support.command_line import CommandLine
from tests.support.distributed_steps import draw_pairs, small
from tests.support.runs import assert_equal, newest, state
from tests.support.stepping import take_step
from tests.support.tiny_run import CPU, TINY
from tests.support.toy_method import MINE
from train.__main__ import app
from train.data.batch import Batch
from train.data.block_sampling import pairs_of_step
from train.data.loader import read_batches
from train.data.sampling import plan_order
from train.loop import fit as loop
from train.loop.ema import Ema
from train.loop.fit import fit
from train.loop.step import OptimisationStep, make_optimisers, seed_layers, step_generator
from train.methods.base import Method
from train.methods.image_pool import ImagePool
from train.methods.registry import METHODS, build_method
from train.run.metrics import Terms, TermWindow
from train.run.skips import LARGEST, LONGEST, Skips, remarks
from train.runtime.device import Compute, resolve
from train.settings import DataSettings, OptimiserSettings, Precision, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Trained:
    """A method and its optimisers: everything that a step may move."""

    method: Method[Any]
    optimisers: dict[str, Optimizer]
    compute: Compute

    def step(self, number: int, batch: Batch | None = None) -> dict[str, Tensor]:
        torch.manual_seed(number)
        batches = [batch or self.batch(number)]
        return take_step(self.method, self.optimisers, self.compute, batches, 0.5, [step_generator(0, number)], 0.0)

    def batch(self, number: int, factor: float = 1.0) -> Batch:
        drawn = draw_pairs(1, seed=number)
        return Batch(he=drawn.he.to(self.compute.device) * factor, ihc=drawn.ihc.to(self.compute.device))

    def state(self) -> dict[str, Any]:
        """A copy of networks, statistics, pools and moments; those of no step yet are zeros, and left out."""
        held = {name: module.state_dict() for name, module in self.method.modules().items()}
        moments: dict[str, Any] = {}
        for player, optimiser in self.optimisers.items():
            found = optimiser.state_dict()["state"]
            moments[player] = {index: one for index, one in found.items() if one["step"]}
            assert not any(value.any() for one in found.values() if not one["step"] for value in one.values())
        everything: dict[str, Any] = copied(held | {"moments": moments})
        return everything


def copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: copied(held) for key, held in value.items()}
    return [copied(held) for held in value] if isinstance(value, list) else value


def trained(name: str, *, fused: bool = True, compute: Compute = CPU) -> Trained:
    torch.manual_seed(0)
    settings = small(name)
    method = build_method(settings)
    for module in method.modules().values():
        compute.place(module)
        if isinstance(module, ImagePool):
            module.capacity = 2  # so that it is full after two steps
    return Trained(method, make_optimisers(method, settings.optimiser, fused=fused), compute)


@contextmanager
def broken_gradient(method: Method[Any], player: str, value: float) -> Iterator[None]:
    """One number of a player's gradients is `value`; its terms are finite."""

    def change(gradient: Tensor) -> Tensor:
        changed = gradient.clone()
        changed.view(-1)[0] = value
        return changed

    last = [parameter for module in method.owned(player) for parameter in module.parameters()][-1]
    hook = last.register_hook(change)  # type: ignore[no-untyped-call]  # torch
    yield
    hook.remove()


@contextmanager
def infinite_term(method: Method[Any], player: str) -> Iterator[None]:
    """The first term of a player is infinite; all gradients are finite."""
    terms = method.terms

    def changed(of: str, *arguments: Any) -> dict[str, Tensor]:
        made = terms(of, *arguments)
        return made | ({next(iter(made)): next(iter(made.values())) + math.inf} if of == player else {})

    method.terms = changed  # type: ignore[method-assign,assignment]  # for one step
    yield
    del method.terms


def check_that_broken_steps_change_nothing(one: Trained, other: Trained) -> None:
    """Of every kind, as the first steps and later, by every player; `other` never has one, and ends as `one`."""
    for number in (1, 2, 3):
        before = one.state()
        assert not all(term.isfinite() for term in one.step(9, one.batch(9, math.nan)).values())
        for player in one.method.players:
            with broken_gradient(one.method, player, math.inf if number % 2 else math.nan):
                terms = one.step(9)
            odd = [name for name, term in terms.items() if not term.isfinite()]
            assert odd == [f"gradient_{player}"]
            with infinite_term(one.method, player):
                terms = one.step(9)
            odd = [name for name, term in terms.items() if not term.isfinite()]
            assert odd
            assert not any(name.startswith("gradient_") for name in odd)
        assert_equal(one.state(), before)
        one.step(number)
        other.step(number)
        assert_equal(one.state(), other.state())
        assert not torch.equal(weight(one.state()), weight(before))


def weight(held: dict[str, Any]) -> Tensor:
    found: Tensor = next(iter(held["generator"].values()))
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_a_broken_step_changes_no_network_no_statistic_no_pool_and_no_moment(name: str, device: torch.device) -> None:
    compute = resolve(device.type, Precision.FP32)
    compute.configure(deterministic=True)
    try:
        check_that_broken_steps_change_nothing(trained(name, compute=compute), trained(name, compute=compute))
    finally:
        compute.configure()


def test_nor_does_it_with_an_adam_that_is_not_fused() -> None:
    check_that_broken_steps_change_nothing(trained("pix2pix", fused=False), trained("pix2pix", fused=False))


def test_a_pool_holds_what_it_held_before_a_broken_step() -> None:
    pool, generator = ImagePool(2), torch.Generator().manual_seed(0)
    for number in range(40):
        before = pool.pictures
        for value, broken in ((math.nan, torch.tensor(True)), (float(number), torch.tensor(False))):
            pool.begin()
            pool.exchange(torch.full((2, 3, 4, 4), value), pool.choose(2, generator))
            pool.put_back_if(broken)
            pool.settle(broken)
            if broken:
                assert_equal(pool.pictures, before)
    assert min(picture[0, 0, 0, 0].item() for picture in pool.pictures) > 20


def test_the_fused_step_with_a_flag_is_the_fused_step_without() -> None:
    one, other = trained("pix2pix"), trained("pix2pix")
    for number in (1, 2):
        one.step(number)
        other.step(number)
        for optimiser in other.optimisers.values():
            assert not hasattr(optimiser, "found_inf")
    gradients = [p.grad for o in one.optimisers.values() for g in o.param_groups for p in g["params"]]
    for mine, theirs in zip(one.optimisers.values(), other.optimisers.values(), strict=True):
        mine.step()
        theirs.found_inf = torch.zeros(())  # type: ignore[attr-defined]
        theirs.step()
    assert gradients
    assert_equal(one.state(), other.state())


def test_an_average_takes_in_sound_steps_as_before_and_broken_ones_not_at_all() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    ema, plain = Ema(network, 0.9), [p.detach().clone() for p in network.parameters()]
    for broken in (False, True, False):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn(parameter.shape) * (not broken))
        ema.update(network, torch.tensor(broken))
        if not broken:
            torch._foreach_lerp_(plain, [p.detach() for p in network.parameters()], 1 - 0.9)
        assert_equal(list(ema.network.parameters()), [nn.Parameter(p, requires_grad=False) for p in plain])


Breaks = Callable[[set[int]], None]


@pytest.fixture
def break_steps(monkeypatch: pytest.MonkeyPatch) -> Breaks:
    """Have the gradient of the generator be infinite at some steps, whatever start of the run makes them."""

    def arrange(wanted: set[int]) -> None:
        now: list[int] = []

        def noted(seed: int, step: int, rank: int) -> None:
            now[:] = [step]
            seed_layers(seed, step, rank)

        def stepped(step: OptimisationStep, *parts: Any) -> Terms:
            if now[0] not in wanted:
                return call(step, *parts)
            with broken_gradient(step.method, step.method.players[-1], math.inf):
                return call(step, *parts)

        call = OptimisationStep.__call__
        monkeypatch.setattr(loop, "seed_layers", noted)
        monkeypatch.setattr(OptimisationStep, "__call__", stepped)

    return arrange


def metrics(folder: RunFolder) -> list[dict[str, float]]:
    return [json.loads(line) | {"seconds": 0.0} for line in folder.metrics.read_text().splitlines()]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> TrainSettings:
    """32 quick steps."""
    monkeypatch.setitem(METHODS, "mine", MINE)
    return replace(TINY, method="mine")


def bears(most: int, settings: TrainSettings) -> TrainSettings:
    return replace(settings, optimiser=replace(settings.optimiser, stop_after_skips=most))


def test_a_run_goes_on_says_which_steps_it_skipped_and_resumes_among_them_bit_for_bit(
    store: Store,
    tmp_path: Path,
    break_steps: Breaks,
    signal_at: Callable[[int], None],
    short: TrainSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is stopped after its first step, which was skipped, so that it has no moments, and between two others."""
    settings = replace(short, ema=0.9)
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    break_steps({1, 13, 14, 28})
    fit(whole, store, settings, as_json=True)
    out, said = capsys.readouterr()
    pairs = {pair.id for pair in store.pairs(Split.TRAIN)}
    for step in (1, 13, 14, 28):
        found = said.partition(f"step {step}: gradient_generator is inf (pairs ")[2].partition(")")[0]
        assert found in pairs
    assert said.count("warning: ") == 3  # at the checkpoints after 10, 20 and 30
    assert "steps that were skipped, as a term or gradient was not finite: 4 of 32" in said
    assert json.loads(out.splitlines()[-1])["skipped"] == 4
    assert "steps skipped, as a term or gradient was not finite: 4 |" in whole.model_card.read_text()
    assert [(line["step"], line["skipped"]) for line in metrics(whole)] == [(25, 3), (32, 1)]
    assert all(math.isfinite(value) for line in metrics(whole) for value in line.values())
    for stop in (1, 13):
        signal_at(stop)
        with pytest.raises(Interrupted, match=f"saved after step {stop} of 32"):
            fit(cut, store, settings)
    signal_at(0)
    fit(cut, store, settings)
    assert_equal(state(cut), state(whole))
    assert metrics(cut) == metrics(whole)
    assert cut.generator.read_bytes() == whole.generator.read_bytes()


def test_a_skipped_step_of_a_run_moves_no_average(
    store: Store, tmp_path: Path, break_steps: Breaks, signal_at: Callable[[int], None], short: TrainSettings
) -> None:
    folder = RunFolder(tmp_path / "run")
    break_steps({3})
    averages = []
    for step in (1, 2, 3):
        signal_at(step)
        with pytest.raises(Interrupted, match=f"saved after step {step} of"):
            fit(folder, store, replace(short, ema=0.9))
        averages.append(dict(state(folder)["modules"]["average0"]))
    assert_equal(averages[2], averages[1])
    assert not any(torch.equal(value, averages[0][key]) for key, value in averages[1].items())


def test_a_run_stops_at_so_many_in_a_row_over_two_starts_and_keeps_the_checkpoint_before(
    store: Store, tmp_path: Path, break_steps: Breaks, signal_at: Callable[[int], None], short: TrainSettings
) -> None:
    folder = RunFolder(tmp_path / "run")
    break_steps({2, 3, 12, 13, 14})
    signal_at(13)
    with pytest.raises(Interrupted, match="saved after step 13"):
        fit(folder, store, bears(3, short))
    assert state(folder)["skips"] == {"total": 4, "unwritten": 4, "in_row": 2}
    signal_at(0)
    for _ in range(2):
        said = r"^3 steps in a row were skipped.* step 14: gradient_generator is inf \(pairs "
        with pytest.raises(RunError, match=said + ".*lower optimiser.learning_rate") as stopped:
            fit(folder, store, bears(3, short))
        assert "clip" not in str(stopped.value)
        assert newest(folder).name.startswith("00000013")
    fit(folder, store, bears(4, short))
    assert state(folder)["skips"] == {"total": 5, "unwritten": 0, "in_row": 0}


@pytest.mark.parametrize(("last", "code"), [(12, 0), (13, 2)])
def test_by_default_the_tenth_in_a_row_ends_with_exit_code_2_although_later_ones_are_sound(
    store: Store,
    tmp_path: Path,
    break_steps: Breaks,
    short: TrainSettings,
    line: CommandLine,
    last: int,
    code: int,
) -> None:
    run, folder = replace(line, name="train", app=app), RunFolder(tmp_path / "run")
    break_steps(set(range(4, last + 1)))
    chosen = ("method=mine", "device=cpu", "data.workers=0", "optimiser.constant_epochs=2", "optimiser.decay_epochs=0")
    done = run("fit", "--store", store.path, "--run", folder.path, *(w for key in chosen for w in ("--set", key)))
    assert done.code == code, done.err
    assert folder.generator.exists() == (code == 0)
    if code:
        assert "10 steps in a row were skipped, and the run stops: step 13" in " ".join(done.err.split())
        assert not folder.checkpoints.exists()


def test_a_window_in_which_nothing_moved_has_a_line_without_terms(
    store: Store, tmp_path: Path, break_steps: Breaks, short: TrainSettings
) -> None:
    folder = RunFolder(tmp_path / "run")
    break_steps(set(range(1, 26)))
    fit(folder, store, bears(26, short))
    first, second = metrics(folder)
    assert first.keys() == {"step", "epoch", "seconds", "learning_rate", "skipped"}
    assert second.keys() == first.keys() | {"l1", "gradient_generator"}
    assert (first["skipped"], second["skipped"]) == (25, 0)


def test_a_checkpoint_of_an_earlier_version_has_no_counts(store: Store, tmp_path: Path, short: TrainSettings) -> None:
    folder = RunFolder(tmp_path / "run")
    fit(folder, store, short)
    folder.generator.unlink()
    forge_newest(folder, lambda held: {key: value for key, value in held.items() if key != "skips"})
    fit(folder, store, short)
    assert folder.generator.exists()


def test_large_terms_are_said_once_and_are_no_error(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    short: TrainSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def large(step: OptimisationStep, *parts: Any) -> Terms:
        assert call(step, *parts).names == ("l1", "gradient_generator")
        return Terms.of({"l1": torch.tensor(-2.0 * LARGEST), "gradient_generator": torch.tensor(3 * LONGEST)})

    call = OptimisationStep.__call__
    monkeypatch.setattr(OptimisationStep, "__call__", large)
    fit(RunFolder(tmp_path / "run"), store, replace(short, checkpoint_every=100))
    said = " ".join(capsys.readouterr().err.split())
    assert "25 steps were large: step 1: l1 is -2e+04, gradient_generator is 3e+09; step 2" in said
    assert "and 22 more; healthy runs have terms below 10000 and gradients shorter than 1e+09" in said
    assert said.count("were large") == 2
    assert "skipped" not in said


@pytest.mark.parametrize(
    ("name", "value", "odd"), [("nce", 9e3, False), ("nce", 1.1e4, True), ("gradient_x", 1e8, False)]
)
def test_what_is_large_depends_on_whether_it_is_a_term_or_a_gradient(name: str, value: float, odd: bool) -> None:
    window = TermWindow()
    window.add(7, Terms.of({name: torch.tensor(value)}))
    assert bool(remarks(window.fetch(), str)) == odd
    assert window.skips == Skips()


@pytest.mark.parametrize(
    "data",
    [
        DataSettings(workers=0, batch=2, accumulate=2),
        DataSettings(workers=0, accumulate=2, block=3, buffer=4),
        DataSettings(workers=0, paired=False),
    ],
)
def test_the_pairs_that_are_named_are_those_that_the_step_read(store: Store, data: DataSettings) -> None:
    order = plan_order(store, data, seed=3, epochs=2)
    for step in (1, 3, order.steps):
        stream = read_batches(store, order, done=step - 1, workers=0, pin=False)
        read = torch.cat([next(stream).pixels for _ in range(data.accumulate)], dim=1)  # [2,B,S,S,3]
        pairs = pairs_of_step(order, step)
        assert read.shape[1] == len(pairs) == order.effective_batch
        for row, pair in enumerate(pairs):
            for stain, ref, picture in zip(Stain, (pair.he, pair.ihc), read[:, row], strict=True):
                assert (store.picture(Split.TRAIN, ref.view, stain, ref.pair, ref.index) == picture.numpy()).all()


def test_the_pairs_of_several_processes_are_those_of_each(store: Store) -> None:
    alone = plan_order(store, DataSettings(batch=4), seed=3, epochs=1)
    two = plan_order(store, DataSettings(batch=2), seed=3, epochs=1, processes=2)
    assert pairs_of_step(two, 2) == pairs_of_step(alone, 2)


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"optimiser.stop_after_skips = 0: at least 1"):
        OptimiserSettings(stop_after_skips=0)
