"""The generator against the published network, its parameter counts, its taps and its precision."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from store.schema import SettingsError
from tests.support.places import GOLDEN
from train.networks.resnet import ResnetGenerator, published_names
from train.settings import AttentionSettings, Gate, GeneratorSettings, Join, Levels, Norm, Order, Width

OFF = AttentionSettings(enabled=False)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """New networks take their parameters from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small(attention: AttentionSettings = OFF, stem: int = 3) -> ResnetGenerator:
    """A network of 8 base channels in evaluation mode, after enough passes for its spectral norms to have settled."""
    network = ResnetGenerator(GeneratorSettings(base=8, stem=stem, attention=attention))
    with torch.no_grad():
        for _ in range(10):
            network(torch.zeros(1, 3, 8, 8))
    return network.eval()


def draw_picture(side: int, batch: int = 1, seed: int = 0) -> Tensor:
    unit = np.random.default_rng(seed).random((batch, 3, side, side), dtype=np.float32)
    return torch.from_numpy(2 * unit - 1)


@pytest.fixture(scope="module")
def published() -> tuple[ResnetGenerator, dict[str, Tensor]]:
    """The published network in evaluation mode: no power iteration."""
    with np.load(GOLDEN / "generator_resnet6.npz") as file:
        golden = {name: torch.from_numpy(file[name]) for name in file.files}
    settings = GeneratorSettings(base=8, stem=7, attention=OFF)
    network = ResnetGenerator(settings).eval()
    network.load_state_dict({ours: golden[f"state/{name}"] for ours, name in published_names(settings).items()})
    return network, golden


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_output_and_taps_are_the_published_ones(
    published: tuple[ResnetGenerator, dict[str, Tensor]], layout: torch.memory_format
) -> None:
    network, golden = published
    with torch.no_grad():
        picture = golden["input"].contiguous(memory_format=layout)
        torch.testing.assert_close(network(picture), golden["output"], rtol=0, atol=1e-4)
        for tap, layer in zip(network.encode(picture), (0, 4, 8, 12, 16), strict=True):
            torch.testing.assert_close(tap, golden[f"feature_layer{layer}"], rtol=0, atol=1e-4)


def test_published_names_cover_the_whole_published_state(
    published: tuple[ResnetGenerator, dict[str, Tensor]],
) -> None:
    network, golden = published
    stored = {name.removeprefix("state/") for name in golden if name.startswith("state/") and "filt" not in name}
    names = published_names(GeneratorSettings(base=8, stem=7, attention=OFF))
    assert set(names.values()) == stored
    assert set(names) == set(network.state_dict())


def count(settings: GeneratorSettings) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in ResnetGenerator(settings).parameters())


@pytest.mark.parametrize(
    ("attention", "parameters"),
    [
        (AttentionSettings(norm=Norm.NONE), 9_684_831),
        (AttentionSettings(norm=Norm.NONE, kernel=1), 8_374_111),
        (AttentionSettings(norm=Norm.NONE, width=Width.FULL), 11_190_903),
        (AttentionSettings(norm=Norm.NONE, gate=Gate.SINGLE), 8_950_625),
        (AttentionSettings(norm=Norm.NONE, levels=Levels.P2), 8_285_139),
        (AttentionSettings(norm=Norm.NONE, levels=Levels.P3), 9_768_773),
        (AttentionSettings(), 9_684_831 + 2 * 2 * (128 + 64)),  # scale and shift of two projections at two levels
        (OFF, 7_830_019),
    ],
)
def test_parameter_counts_of_the_variants(attention: AttentionSettings, parameters: int) -> None:
    assert count(GeneratorSettings(attention=attention)) == parameters
    assert count(GeneratorSettings(attention=attention, spectral=False)) == parameters


def test_parameter_count_of_the_published_baseline() -> None:
    assert count(GeneratorSettings(stem=7, attention=OFF)) == 7_837_699


def test_parameters_of_one_ammfi_per_level() -> None:
    with torch.device("meta"):
        network = ResnetGenerator(GeneratorSettings(attention=AttentionSettings(norm=Norm.NONE, levels=Levels.P3)))
    counts = {level: sum(p.numel() for p in module.parameters()) for level, module in network.attention.items()}
    assert counts == {"level2": 1_188_722, "level1": 297_450, "level0": 74_534}


@pytest.mark.parametrize(("stem", "margin"), [(3, 1), (7, 3)])
def test_taps_have_the_published_shapes_and_start_with_the_padded_picture(stem: int, margin: int) -> None:
    network = small(stem=stem)
    picture = draw_picture(32)
    taps = network.encode(picture)
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (3, 32 + 2 * margin, 32 + 2 * margin),
        (16, 32, 32),
        (32, 16, 16),
        (32, 8, 8),
        (32, 8, 8),
    ]
    assert tuple(tap.shape[1] for tap in taps) == network.tap_channels
    assert torch.equal(taps[0][:, :, margin:-margin, margin:-margin], picture)
    assert torch.equal(taps[0][:, :, 0, margin:-margin], picture[:, :, margin])  # mirrored, the edge not repeated


def test_tapped_convolutions_are_before_their_norm() -> None:
    taps = small().encode(draw_picture(32))
    assert taps[1].min() < 0
    assert taps[2].min() < 0


def test_encode_stops_after_the_fifth_block_and_never_runs_the_attention() -> None:
    network = small(AttentionSettings(levels=Levels.P3))
    picture = draw_picture(32)
    taps = network.encode(picture)
    with torch.no_grad():
        for behind in (network.attention, network.decoder, network.output, network.blocks[5:]):
            for parameter in behind.parameters():
                parameter.fill_(float("nan"))
    for tap, again in zip(taps, network.encode(picture), strict=True):
        assert torch.equal(tap, again)
    assert network(picture).isnan().all()


def test_the_fifth_tap_is_the_fifth_block() -> None:
    network = small()
    picture = draw_picture(32)
    before = network.encode(picture)
    with torch.no_grad():
        weight = network.blocks[4].get_parameter("second.weight_orig")
        weight.copy_(weight.roll(1, dims=1))
    after = network.encode(picture)
    assert torch.equal(before[3], after[3])
    assert not torch.allclose(before[4], after[4], atol=1e-2)


@pytest.mark.parametrize(
    ("levels", "sides"),
    [
        (Levels.P1, {"level2": (32, 8), "level1": (16, 16)}),
        (Levels.P2, {"level1": (16, 16), "level0": (8, 32)}),
        (Levels.P3, {"level2": (32, 8), "level1": (16, 16), "level0": (8, 32)}),
    ],
)
@pytest.mark.parametrize("join", list(Join))
def test_gates_are_at_their_levels(levels: Levels, sides: dict[str, tuple[int, int]], join: Join) -> None:
    network = small(AttentionSettings(levels=levels, join=join))
    fake, gates = network.forward_with_gates(draw_picture(32, batch=2))
    assert {level: tuple(gate.shape) for level, gate in gates.items()} == {
        level: (2, channels, side, side) for level, (channels, side) in sides.items()
    }
    for gate in gates.values():
        assert 0 < gate.min() < gate.max() < 1
    assert fake.shape == (2, 3, 32, 32)
    assert fake.abs().max() <= 1


def test_without_attention_there_are_no_gates() -> None:
    network = small()
    picture = draw_picture(32)
    fake, gates = network.forward_with_gates(picture)
    assert gates == {}
    assert torch.equal(fake, network(picture))


def test_pictures_of_a_batch_do_not_meet() -> None:
    network = small(AttentionSettings(gate=Gate.SINGLE, order=Order.TWICE))
    pictures = draw_picture(32, batch=2)
    with torch.no_grad():
        together = network(pictures)
        for index in range(2):
            alone = network(pictures[index : index + 1])
            torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-5)


def test_the_state_loads_into_a_generator_that_gives_the_same_picture() -> None:
    first, second = small(AttentionSettings()), ResnetGenerator(GeneratorSettings(base=8))
    second.load_state_dict(first.state_dict())
    picture = draw_picture(32)
    assert torch.equal(first(picture), second.eval()(picture))


def test_bf16_channels_last_is_close_to_fp32_and_answers_in_fp32() -> None:
    network = small(AttentionSettings()).to(memory_format=torch.channels_last)
    picture = draw_picture(64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        exact, exact_taps = network(picture), network.encode(picture)
        with torch.autocast("cpu", torch.bfloat16):
            fake, taps = network(picture), network.encode(picture)
    assert fake.dtype == torch.float32
    assert [tap.dtype for tap in taps] == [torch.float32, *[torch.bfloat16] * 4]
    assert all(tap.is_contiguous(memory_format=torch.channels_last) for tap in taps)
    assert (fake - exact).abs().mean() < 0.01  # half of a grey level of 8 bits is 0.004
    assert (fake - exact).abs().max() < 0.1
    for tap, truth in zip(taps, exact_taps, strict=True):
        assert (tap.float() - truth).norm() / truth.norm() < 0.02


def test_gradients_reach_every_parameter_in_both_memory_formats() -> None:
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        network = small(AttentionSettings(levels=Levels.P3)).to(memory_format=layout)
        network(draw_picture(32).contiguous(memory_format=layout)).square().mean().backward()
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        assert gradient is not None
        assert other is not None
        if not name.endswith("bias"):  # a bias before a norm has no gradient but rounding
            assert gradient.norm() > 0
            assert (gradient - other).norm() < 1e-3 * gradient.norm()


@pytest.mark.parametrize(("side", "message"), [(34, "near 34: 32 and 36"), (4, "near 4: 8 and 12")])
def test_sides_that_do_not_halve_twice_are_refused(side: int, message: str) -> None:
    for refuse in (small().forward, small().encode):
        with pytest.raises(SettingsError, match=message):
            refuse(torch.zeros(1, 3, side, side))
