"""The setting `freeze`: named parts stay bit for bit as they started, and all others move.

Steps are taken as a run takes them: plain, replayed, compiled, accumulated, with an average of the generator.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from store.schema import SettingsError
from tests.support.distributed_steps import draw_pairs, small
from tests.support.replaying import start
from tests.support.runs import assert_equal
from tests.support.stepping import take_step
from tests.support.tiny_run import CPU
from train.data.batch import Batch
from train.loop import captured
from train.loop.ema import Ema
from train.loop.freezing import freeze
from train.loop.step import make_optimisers, step_generator, trained_by, trial_step
from train.methods.base import Method
from train.methods.registry import METHODS, build_method
from train.networks.compiling import compile_passes
from train.networks.spectral_norm import SpectralConv2d, precomputed_weights
from train.run.inference import translation_mode
from train.settings import AtTest, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")

PARTS = {
    "pix2pix": ("generator.down", "generator.up.0", "discriminator.stages.1"),
    "pyramid_p2p": ("generator.stem", "generator.blocks.0.first_norm", "discriminator"),
    "cyclegan": ("generator_he", "discriminator.stages.0", "generator.encoder"),
    "cut": ("generator.encoder.1", "heads.heads.0"),
    "asp": ("generator.decoder", "discriminator"),
    "attention_gan": ("generator.attention.level2", "generator.encoder", "heads"),
}

STILL = {"discriminator.output.weight_u"}  # one number of length one


def built(name: str, frozen: Sequence[str] = (), *more: str) -> tuple[TrainSettings, Method[Any]]:
    """A method with narrow networks, as at its start: statistics of batch norm are not those of nothing."""
    settings = replace(small(name, *more), freeze=tuple(frozen))
    torch.manual_seed(0)
    method = build_method(settings)
    for norm in (m for network in method.modules().values() for m in network.modules()):
        if isinstance(norm, nn.BatchNorm2d):
            for statistic in (norm.running_mean, norm.running_var):
                assert statistic is not None
                statistic.uniform_(0.5, 1.5)
    freeze(method, settings.freeze, settings.generator.at_test)
    return settings, method


def tensors(method: Method[Any]) -> dict[str, Tensor]:
    """Every tensor of every network, by network and name."""
    return {
        f"{name}.{key}": value.detach().clone()
        for name, network in method.modules().items()
        for key, value in network.state_dict().items()
        if isinstance(value, Tensor)
    }


def is_in(key: str, parts: Sequence[str]) -> bool:
    return any(key.startswith(f"{part}.") for part in parts)


@pytest.mark.parametrize("name", PARTS)
def test_frozen_parts_stay_bit_for_bit_and_the_others_move(name: str) -> None:
    settings, method = built(name, PARTS[name])
    before, ema = tensors(method), Ema(method.generator, 0.5)
    averaged = copy.deepcopy(ema.network.state_dict())
    optimisers = make_optimisers(method, settings.optimiser, fused=True)
    for step in (1, 2):
        with translation_mode(method.generator, settings.generator.at_test):  # as samples do between steps
            method.generator(draw_pairs(1).he)
        batch = draw_pairs(1, seed=step)
        terms = take_step(method, optimisers, CPU, [batch], 0.9, [step_generator(0, step)])
        assert all(term.isfinite() for term in terms.values())
        ema.update(method.generator, torch.tensor(data=False))
    after = tensors(method)
    held = {key for key in before if is_in(key, PARTS[name])}
    assert {key for key in before if torch.equal(before[key], after[key])} == held | STILL & before.keys()
    for key, value in ema.network.state_dict().items():
        if f"generator.{key}" in held:
            assert torch.equal(value, averaged[key])
    trained = {id(p) for optimiser in optimisers.values() for group in optimiser.param_groups for p in group["params"]}
    with_state = {id(p) for optimiser in optimisers.values() for p in optimiser.state}
    for network, module in method.modules().items():
        for key, parameter in module.named_parameters():
            frozen = f"{network}.{key}" in held
            assert (parameter.requires_grad, id(parameter) in trained) == (not frozen, not frozen)
            assert not (frozen and (parameter.grad is not None or id(parameter) in with_state))


@pytest.mark.parametrize("mode", AtTest)
def test_a_frozen_generator_computes_as_in_translation(mode: AtTest) -> None:
    """With its statistics, or with those of the pictures and with dropout, where a trained one translates so."""
    _, method = built("pix2pix", ("generator",), f"generator.at_test={mode}", "generator.dropout=true")
    _, other = built("pix2pix", (), f"generator.at_test={mode}", "generator.dropout=true")
    pictures = draw_pairs(2).he
    torch.manual_seed(1)
    made = method.generator(pictures)
    with translation_mode(other.generator, mode):
        torch.manual_seed(1)
        expected = other.generator(pictures)
    assert torch.equal(made, expected)
    torch.manual_seed(1)
    assert not torch.equal(other.generator(pictures), expected) or mode is AtTest.TRAINING
    assert not made.requires_grad


def test_a_translation_leaves_each_module_as_it_was() -> None:
    for mode in AtTest:
        _, method = built("pyramid_p2p", ("generator.encoder", "generator.blocks.1"), f"generator.at_test={mode}")
        network = method.generator
        modes = [(module.training, getattr(module, "track_running_stats", None)) for module in network.modules()]
        assert len(set(modes)) > 2
        for within in AtTest:
            with translation_mode(network, within):
                training = {module.training for module in network.modules() if isinstance(module, nn.BatchNorm2d)}
                assert training == {within is AtTest.TRAINING}
            after = [(module.training, getattr(module, "track_running_stats", None)) for module in network.modules()]
            assert after == modes


@pytest.mark.parametrize(
    ("name", "frozen", "player"),
    [
        ("asp", ("discriminator",), "discriminator"),
        ("cyclegan", ("discriminator", "discriminator_he"), "discriminators"),
        ("cyclegan", ("generator", "generator_he"), "generators"),
        ("attention_gan", ("generator", "heads"), "generator"),
        ("pix2pix", ("generator",), "generator"),
    ],
)
def test_a_player_with_nothing_to_train_has_terms_and_takes_no_steps(
    name: str, frozen: tuple[str, ...], player: str
) -> None:
    settings, method = built(name, frozen)
    optimisers = make_optimisers(method, settings.optimiser, fused=True)
    assert optimisers.keys() == set(method.players) - {player}
    before = tensors(method)
    terms = take_step(method, optimisers, CPU, [draw_pairs(1), draw_pairs(1, seed=2)], 0.9, [step_generator(0, 1)] * 2)
    _, plain = built(name)
    adams = make_optimisers(plain, settings.optimiser, fused=True)
    expected = take_step(plain, adams, CPU, [draw_pairs(1), draw_pairs(1, seed=2)], 0.9, [step_generator(0, 1)] * 2)
    assert list(terms) == list(expected)
    assert terms[f"gradient_{player}"] == 0
    assert all(terms[f"gradient_{other}"] > 0 for other in optimisers)
    after = tensors(method)
    moved = {key.partition(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert moved == {key.partition(".")[0] for key in before} - set(frozen)


@pytest.mark.parametrize("frozen", [("discriminator", "discriminator_he"), ("generator", "generator_he")])
def test_a_term_of_a_frozen_player_that_is_not_finite_moves_nobody(frozen: tuple[str, ...]) -> None:
    """Also if the other player has stepped before it."""
    settings, method = built("cyclegan", frozen)
    optimisers = make_optimisers(method, settings.optimiser, fused=True)
    player = next(player for player in method.players if not trained_by(method, player))
    terms = method.terms

    def infinite(of: str, *given: Any) -> dict[str, Tensor]:
        assert torch.is_grad_enabled() == (of != player)
        made = terms(of, *given)
        return {key: term + (math.inf if of == player else 0) for key, term in made.items()}

    before = tensors(method)
    method.terms = infinite  # type: ignore[method-assign,assignment]  # for one step
    take_step(method, optimisers, CPU, [draw_pairs(1)], 0.9, [step_generator(0, 1)])
    assert_equal(tensors(method), before)
    method.terms = terms  # type: ignore[method-assign]
    take_step(method, optimisers, CPU, [draw_pairs(1)], 0.9, [step_generator(0, 2)])
    assert any(not torch.equal(value, before[key]) for key, value in tensors(method).items())


@pytest.mark.parametrize("name", ["pyramid_p2p", "cyclegan", "asp"])
def test_replayed_steps_with_frozen_parts_are_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "WARM_UP", 1)
    layers = ["discriminator.layers=3"] if METHODS[name].reads_setting("discriminator.layers") else []
    settings = replace(small(name, *layers), freeze=PARTS[name])
    plain, replayed = start(settings, CPU), start(settings, CPU)
    replayed.capture()
    before = plain.state()
    assert_equal(replayed.run(range(1, 4)), plain.run(range(1, 4)))
    assert_equal(replayed.state(), plain.state())
    assert replayed.said == []
    for network, held in plain.state()["modules"].items():
        frozen = {key for key in held if is_in(f"{network}.{key}", PARTS[name])}
        assert_equal({key: held[key] for key in frozen}, {key: before["modules"][network][key] for key in frozen})


def test_compiled_steps_with_frozen_parts_are_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a network with spectral norm, and a discriminator as a whole; the trial step changes nothing either.

    What is compiled runs as it is here: weights are computed before each pass all the same.
    """
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    results = []
    for compiled in (False, True):
        settings, method = built("asp", ("generator.encoder", "discriminator"))
        for module in method.modules().values():
            module.double()
        pair = draw_pairs(1)
        batch, before = Batch(he=pair.he.double(), ihc=pair.ihc.double()), tensors(method)
        if compiled:
            assert compile_passes(method.modules(), lambda m=method, b=batch: trial_step(m, CPU, b)) == ""  # type: ignore[misc]
            assert_equal(tensors(method), before)
        optimisers = make_optimisers(method, settings.optimiser, fused=False)
        terms = take_step(method, optimisers, CPU, [batch], 0.9, [step_generator(0, 1)])
        after = tensors(method)
        assert all(torch.equal(after[key], before[key]) for key in before if is_in(key, settings.freeze))
        results.append(torch.stack(list(terms.values())))
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-12)


def test_layers_that_iterate_and_frozen_ones_are_precomputed_as_one_by_one() -> None:
    torch.manual_seed(0)
    layers = [SpectralConv2d(2, 3, 3, 1, 0, bias=True) for _ in range(4)]
    twins = copy.deepcopy(layers)
    for n in (1, 2):
        layers[n].eval()
        twins[n].eval()
    with precomputed_weights(layers):
        filters = [layer.precomputed for layer in layers]
    for layer, twin, made in zip(layers, twins, filters, strict=True):
        assert made is not None
        assert torch.equal(made.weight, twin.normalised_weight())
        assert_equal(dict(layer.state_dict()), dict(twin.state_dict()))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "generator.encodr",
            "freeze = 'generator.encodr': no part with weights has this name; did you mean 'generator.encoder'",
        ),
        ("generator.block.0", "did you mean 'generator.blocks.0"),
        ("discriminators", "did you mean 'discriminator'"),
        ("generator.encoder.0.activation", "no part with weights"),
        ("generator.encoder.0.conv.weight_orig", "did you mean 'generator.encoder.0.conv'"),
        (
            "encoder",
            "The networks are generator, discriminator, heads; parts of the generator are generator.attention, ",
        ),
        ("", "freeze = '': no part with weights has this name. The networks are"),
        ("generator.", "did you mean 'generator'"),
        ("*", "no part"),
        ("average0", "no part"),
        ("\x1b[31m" + "x" * 1000, r"freeze = '\x1b[31mxxx"),
    ],
)
def test_a_name_that_is_no_part_is_refused_with_the_nearest(name: str, words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        built("attention_gan", ("discriminator", name))
    assert words in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize("name", METHODS)
def test_a_run_with_nothing_to_train_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"freeze = \['generator'.*: nothing is left to train; name fewer parts"):
        built(
            name, tuple(name for name, module in build_method(small(name)).modules().items() if [*module.parameters()])
        )


def test_parts_are_counted_once_however_they_are_named() -> None:
    _, method = built("attention_gan")
    parts = ("generator.blocks.0.first", "generator.blocks.0", "generator.blocks.0", "heads.heads.1")
    held = sum(p.numel() for p in method.generator.get_submodule("blocks.0").parameters())
    heads = sum(p.numel() for p in method.modules()["heads"].get_submodule("heads.1").parameters())
    assert freeze(method, parts, AtTest.EVALUATION) == {"generator": held, "heads": heads}
    assert freeze(built("attention_gan")[1], (), AtTest.EVALUATION) == {}
