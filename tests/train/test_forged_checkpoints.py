"""A checkpoint that PyTorch reads and whose digest is right, but that holds something else: a line, nothing loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from store.reader import Store
from store.run_files import RunFolder
from store.schema import RunError
from tests.support.checkpoints import forge_newest
from tests.support.disks import contents
from tests.support.runs import assert_equal, state
from tests.support.tiny_run import NARROW
from train.loop.fit import fit
from train.methods.image_pool import ImagePool
from train.methods.recipes import load_recipe
from train.run.checkpoint import Position, checkpoints, read_newest, restore, save_checkpoint

Held = dict[str, Any]
NETWORK, PLAYER = "generator", "generator"
HUGE = torch.zeros(1).expand(10**9)


def moments(held: Held) -> Held:
    found: Held = held["optimisers"][PLAYER]["state"][0]
    return found


def weight(held: Held) -> Held:
    found: Held = held["modules"][NETWORK]
    return found


def put(place: Callable[[Held], Any], key: object, value: Any) -> Callable[[Held], None]:
    def change(held: Held) -> None:
        place(held)[key] = value

    return change


def drop(place: Callable[[Held], Any], key: object) -> Callable[[Held], None]:
    def change(held: Held) -> None:
        del place(held)[key]

    return change


def everything(held: Held) -> Held:
    return held


def modules(held: Held) -> Any:
    return held["modules"]


def optimisers(held: Held) -> Any:
    return held["optimisers"]


def of_player(held: Held) -> Any:
    return held["optimisers"][PLAYER]


def all_moments(held: Held) -> Any:
    return held["optimisers"][PLAYER]["state"]


FIRST = "0.weight"
SECONDS: list[object] = [-1.0, float("nan"), float("inf"), "3", None, []]
TERMS: list[object] = [
    *({}, None, "a", [3], [{"a": "b"}], [{3: 1.0}]),
    *([{"a": float("nan")}], [{"a": 1.0}, {"b": 1.0}], [{}, None]),
]
FORGED: dict[str, tuple[Callable[[Held], Any], str]] = {
    "a list": (lambda held: [held], "holds a list as it, not a dictionary"),
    "a tensor": (lambda _: torch.ones(3), "holds a Tensor"),
    "nothing": (lambda _: {}, "has no '"),
    "a number": (lambda _: 7, "holds a int"),
    **{f"no {key}": (drop(everything, key), f"has no '{key}'") for key in ("step", "terms", "modules", "optimisers")},
    "format text": (put(everything, "format", "x" * 999), "has format 'xxx"),
    "format tensor": (put(everything, "format", torch.ones(3)), "has format a Tensor"),
    "format list": (put(everything, "format", [2]), "has format a list"),
    **{
        f"step {value!r:.20}": (put(everything, "step", value), "as its step, not a whole number from 1 to 9")
        for value in (-1, 0, 10, 10**18, 10**30, 2.0, True, "3", None, torch.tensor(3))
    },
    **{f"seconds {value!r:.20}": (put(everything, "seconds", value), "as its seconds") for value in SECONDS},
    **{f"terms {value!r:.20}": (put(everything, "terms", value), "has other terms than") for value in TERMS},
    "metrics": (put(everything, "metrics", 3), "as the digest of metrics"),
    "validation": (put(everything, "validation", b"a"), "as the digest of validation"),
    "skips": (put(everything, "skips", 3), "holds a int as its skipped steps"),
    "no skips": (put(everything, "skips", {}), "has no 'total' in its skipped steps"),
    **{
        f"skips {counts}": (
            put(everything, "skips", dict(zip(("total", "unwritten", "in_row"), counts, strict=True))),
            f"as {name} of its skipped steps, not a number from 0 to {most}",
        )
        for counts, name, most in (
            ((4, 0, 0), "total", 3),
            ((-1, 0, 0), "total", 3),
            ((2.0, 0, 0), "total", 3),
            (("a", 0, 0), "total", 3),
            ((2, 3, 0), "unwritten", 2),
            ((2, 0, 3), "in_row", 2),
            ((2, 0, None), "in_row", 2),
        )
    },
    "modules list": (put(everything, "modules", []), "holds a list as its modules"),
    "modules none": (put(everything, "modules", {}), "has no 'generator' in its modules"),
    "module text": (put(modules, NETWORK, "text"), "holds a str as the generator"),
    "no weight": (drop(weight, FIRST), "has no '0.weight' in the generator"),
    "more weights": (put(weight, "9.weight\x1b[2J", torch.ones(1)), "which the network has not"),
    "number as key": (put(weight, 3, torch.ones(1)), "which the network has not"),
    "weight text": (put(weight, FIRST, "text"), "has a str as 0.weight"),
    "weight none": (put(weight, FIRST, None), "has a NoneType as 0.weight"),
    "other shape": (put(weight, FIRST, torch.ones(4, 3)), "shape \\[4, 3\\] and torch.float32, not \\[3, 4\\]"),
    "other sum": (put(weight, FIRST, torch.ones(3, 5)), "not \\[3, 4\\]"),
    "no shape": (put(weight, FIRST, torch.tensor(1.0)), "shape \\[\\]"),
    "huge": (put(weight, FIRST, HUGE), "shape \\[1000000000\\]"),
    "half": (put(weight, FIRST, torch.ones(3, 4).half()), "torch.float16"),
    "complex": (put(weight, FIRST, torch.ones(3, 4) * 1j), "torch.complex64"),
    "whole": (put(weight, FIRST, torch.ones(3, 4).long()), "torch.int64"),
    "sparse": (put(weight, FIRST, torch.ones(3, 4).to_sparse()), "as no plain tensor"),
    "nan": (put(weight, FIRST, torch.full((3, 4), float("nan"))), "values that are not finite"),
    "infinite buffer": (put(weight, "1.running_var", torch.full((3,), float("inf"))), "1.running_var of the generator"),
    "optimisers list": (put(everything, "optimisers", [1]), "holds a list as its optimisers"),
    "no player": (drop(optimisers, PLAYER), "has no 'generator' in its optimisers"),
    "player list": (put(optimisers, PLAYER, [1]), "holds a list as the optimiser of the generator"),
    "no state": (drop(of_player, "state"), "has no 'state'"),
    "state list": (put(of_player, "state", [1]), "holds a list as"),
    "state empty": (put(of_player, "state", {}), "has no moments of parameter 0 of the generator, which was trained"),
    "one is missing": (drop(all_moments, 0), "has no moments of parameter 0"),
    "one more": (put(all_moments, 99, {}), "has moments of a parameter 99"),
    "a name": (put(all_moments, "0", {}), "has moments of a parameter '0'"),
    "moments list": (put(all_moments, 0, [1]), "holds a list as the moments of parameter 0"),
    **{f"no {key}": (drop(moments, key), f"has no '{key}'") for key in ("exp_avg", "exp_avg_sq")},
    "no step of Adam": (drop(moments, "step"), "has no 'step' in the moments"),
    "moment text": (put(moments, "exp_avg", "a"), "has a str as exp_avg"),
    "moment shape": (put(moments, "exp_avg", torch.ones(2)), "exp_avg of parameter 0 of the generator with shape"),
    "moment nan": (put(moments, "exp_avg_sq", torch.full((3, 4), float("inf"))), "values that are not finite"),
    "negative": (put(moments, "exp_avg_sq", torch.full((3, 4), -1.0)), "has a negative mean of squares"),
    **{
        f"Adam's step {value}": (put(moments, "step", torch.tensor(value)), "as the step of parameter 0 of the")
        for value in (0.0, -1.0, 4.0, 0.5)
    },
    "Adam's step number": (put(moments, "step", 1), "has a int as the step"),
    "Adam's step nan": (put(moments, "step", torch.tensor(float("nan"))), "not finite"),
}


def made() -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    return {NETWORK: network}, {PLAYER: torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A checkpoint after step 3 of 9, of a network whose last layer had no gradient."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    networks, adams = made()
    for _ in range(3):
        adams[PLAYER].zero_grad()
        networks[NETWORK][:2](torch.rand(8, 4)).square().sum().backward()  # type: ignore[index]  # a Sequential
        adams[PLAYER].step()
    save_checkpoint(folder, networks, adams, Position(step=3, seconds=1.0, terms=[{"a": 1.0}] * 3), 0)
    return folder


def test_what_was_saved_comes_back_whatever_the_optimisers_groups_say(saved: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(saved.path, tmp_path / "run")))
    forge_newest(folder, put(of_player, "param_groups", [{"params": [0], "lr": "much", "betas": (2, 2)}]))
    networks, adams = made()
    ours = adams[PLAYER].param_groups[0] | {"params": ()}
    position = restore(read_newest(folder)[0], networks, adams, 9)
    assert (position.step, position.seconds, position.terms) == (3, 1.0, [{"a": 1.0}] * 3)
    assert adams[PLAYER].param_groups[0] | {"params": ()} == ours
    save_checkpoint(folder, networks, adams, position, 0)
    assert_equal(state(folder), state(saved))


@pytest.mark.parametrize("kind", FORGED)
def test_anything_else_is_refused_and_named(saved: RunFolder, tmp_path: Path, kind: str) -> None:
    change, words = FORGED[kind]
    folder = RunFolder(Path(shutil.copytree(saved.path, tmp_path / "run")))
    file = forge_newest(folder, change)
    networks, adams = made()
    with pytest.raises(RunError, match=words) as caught:
        restore(read_newest(folder)[0], networks, adams, 9)
    message = str(caught.value)
    assert message.startswith(f"the newest checkpoint (*-{file.stem.partition('-')[2]}.pt) ")
    assert message.endswith("or remove it from the run's checkpoints, to resume from the one before")
    assert message.isprintable()
    assert len(message) < 400
    untouched, _ = made()
    assert_equal(dict(networks[NETWORK].state_dict()), dict(untouched[NETWORK].state_dict()))


@pytest.mark.parametrize(
    "pool",
    [None, {}, [None], [torch.ones(3)], [torch.ones(1, 3, 4, 4)] * 3, [torch.ones(1, 3, 4, 4) * torch.nan], "ab"],
)
def test_a_pool_of_fakes_takes_pictures_only(pool: object) -> None:
    with pytest.raises(RunError, match="no list of at most 2 pictures"):
        ImagePool(2).load_state_dict({"_extra_state": pool})


def test_a_pool_of_another_runs_pictures_is_found_when_one_is_drawn() -> None:
    pool, generator = ImagePool(1), torch.Generator().manual_seed(0)
    pool.load_state_dict({"_extra_state": [torch.ones(1, 3, 4, 4)]})
    with pytest.raises(RunError, match=r"has a picture \[1, 3, 4, 4\] .* where this run has \[1, 3, 8, 8\]"):
        pool.exchange(torch.ones(9, 3, 8, 8), pool.choose(9, generator))


@pytest.mark.usefixtures("one_thread")
def test_a_run_says_so_and_goes_on_from_the_checkpoint_before_when_it_is_removed(
    small_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of CycleGAN, which has a pool and two generators; a method of other terms is found at the first step."""
    folder, one = RunFolder(tmp_path / "run"), ("optimiser.constant_epochs=1", "optimiser.decay_epochs=0")
    settings = load_recipe(
        [], [*NARROW, *one, "method=cyclegan", "data.views=['x1']", "checkpoint_every=3", "keep_every=1"]
    )
    fit(folder, small_store, settings)
    folder.generator.unlink()
    whole = state(folder)
    forged = forge_newest(folder, put(modules, "generator_he", torch.ones(1)))
    before = contents(folder.path)
    with pytest.raises(RunError, match="holds a Tensor as the generator_he"):
        fit(folder, small_store, settings)
    assert contents(folder.path) == before
    forged.unlink()
    other = forge_newest(folder, put(everything, "terms", [{"a": 1.0}]))
    with pytest.raises(RunError, match="has terms of another method"):
        fit(folder, small_store, settings)
    other.unlink()
    assert len(checkpoints(folder)) == 1
    fit(folder, small_store, settings)
    assert "resuming after step 3" in capsys.readouterr().err
    assert_equal(state(folder), whole)
