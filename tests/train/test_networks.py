"""The networks of the other methods against the published ones: U-Net, strided ResNet, strided PatchGAN."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from store.schema import SettingsError
from tests.support.places import GOLDEN
from train.networks import patchgan as discriminators
from train.networks import resnet as generators
from train.networks import unet
from train.networks.layers import ResidualBlock, initialise
from train.networks.patchgan import PatchDiscriminator, check_side, smallest_side
from train.networks.resnet import ResnetGenerator
from train.networks.spectral_norm import SpectralConv2d
from train.networks.unet import UnetGenerator
from train.run.inference import translate, translation_mode
from train.settings import (
    AttentionSettings,
    AtTest,
    DiscriminatorSettings,
    GeneratorSettings,
    Initial,
    Network,
    Norm,
    Resampling,
)

OFF = AttentionSettings(enabled=False)
UNET = GeneratorSettings(network=Network.UNET, base=4, norm=Norm.BATCH, spectral=False, attention=OFF)
STRIDED = GeneratorSettings(
    base=4, blocks=9, stem=7, resampling=Resampling.STRIDED, norm=Norm.BATCH, spectral=False, attention=OFF
)
CONDITIONAL = DiscriminatorSettings(
    base=8, layers=3, resampling=Resampling.STRIDED, norm=Norm.BATCH, spectral=False, conditional=True
)
BLURRED = DiscriminatorSettings(base=8, layers=3)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """New networks take their parameters from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def load(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("name", "network", "names"),
    [
        ("generator_unet256", lambda: UnetGenerator(UNET), unet.published_names(UNET)),
        ("generator_resnet9_batch", lambda: ResnetGenerator(STRIDED), generators.published_names(STRIDED)),
        (
            "discriminator_patchgan3_batch_conditional",
            lambda: PatchDiscriminator(CONDITIONAL),
            discriminators.published_names(CONDITIONAL),
        ),
        (
            "discriminator_patchgan3_instance",
            lambda: PatchDiscriminator(BLURRED),
            discriminators.published_names(BLURRED),
        ),
    ],
)
def test_the_output_is_the_published_one(
    name: str, network: type[nn.Module], names: dict[str, str], layout: torch.memory_format
) -> None:
    golden, made = load(name), network().eval()
    stored = {key for key in golden if key.startswith("state/") and "filt" not in key}
    assert stored == {f"state/{theirs}" for theirs in names.values()}
    made.load_state_dict({ours: golden[f"state/{theirs}"] for ours, theirs in names.items()})
    made.to(memory_format=layout)
    with torch.no_grad():
        output = made(golden["input"].contiguous(memory_format=layout))
    torch.testing.assert_close(output, golden["output"], rtol=0, atol=1e-4)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("depth", "norm", "parameters"),
    [(8, Norm.BATCH, 54_413_955), (7, Norm.BATCH, 41_828_995), (8, Norm.INSTANCE, 54_409_603)],
)
def test_parameters_of_the_unet(depth: int, norm: Norm, parameters: int) -> None:
    settings = GeneratorSettings(network=Network.UNET, depth=depth, norm=norm, spectral=False, attention=OFF)
    with torch.device("meta"):
        assert count(UnetGenerator(settings)) == parameters


@pytest.mark.parametrize(("norm", "parameters"), [(Norm.INSTANCE, 11_378_179), (Norm.BATCH, 11_383_427)])
def test_parameters_of_the_strided_resnet(norm: Norm, parameters: int) -> None:
    settings = GeneratorSettings(
        blocks=9, stem=7, resampling=Resampling.STRIDED, norm=norm, spectral=False, attention=OFF
    )
    with torch.device("meta"):
        assert count(ResnetGenerator(settings)) == parameters


@pytest.mark.parametrize(
    ("conditional", "norm", "parameters"), [(True, Norm.BATCH, 2_768_705), (False, Norm.INSTANCE, 2_764_737)]
)
def test_parameters_of_the_strided_discriminator(conditional: bool, norm: Norm, parameters: int) -> None:
    settings = DiscriminatorSettings(
        base=64, layers=3, resampling=Resampling.STRIDED, norm=norm, spectral=False, conditional=conditional
    )
    with torch.device("meta"):
        assert count(PatchDiscriminator(settings)) == parameters


@pytest.mark.parametrize(("layers", "side", "positions"), [(3, 256, 30), (3, 512, 62), (3, 1024, 126), (5, 512, 14)])
def test_the_side_of_the_logits_of_the_strided_discriminator(layers: int, side: int, positions: int) -> None:
    settings = DiscriminatorSettings(base=1, layers=layers, resampling=Resampling.STRIDED, norm=Norm.NONE)
    assert PatchDiscriminator(settings)(torch.zeros(1, 3, side, side)).shape[2:] == (positions, positions)


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_the_smallest_side_of_the_strided_discriminator_is_the_first_that_works(layers: int) -> None:
    network = PatchDiscriminator(DiscriminatorSettings(base=2, layers=layers, resampling=Resampling.STRIDED))
    smallest = smallest_side(layers)
    assert network(torch.rand(1, 3, smallest, smallest)).shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value"):
        network(torch.rand(1, 3, smallest - 1, smallest - 1))
    with pytest.raises(SettingsError, match=f"nearest side that works is {smallest} px"):
        check_side(smallest - 1, layers)


def test_a_conditional_discriminator_sees_the_he_and_another_does_not() -> None:
    he, other, ihc = torch.rand(3, 1, 3, 32, 32).mul(2).sub(1)
    for conditional in (True, False):
        network = PatchDiscriminator(DiscriminatorSettings(base=4, layers=2, conditional=conditional)).eval()
        differs = not torch.equal(network.score(he, ihc), network.score(other, ihc))
        assert differs == conditional


@pytest.mark.parametrize(("depth", "side"), [(5, 33), (5, 48), (6, 32), (7, 192)])
def test_sides_that_a_unet_does_not_halve_to_its_depth_are_refused(depth: int, side: int) -> None:
    settings = GeneratorSettings(network=Network.UNET, base=4, depth=depth, spectral=False, attention=OFF)
    with pytest.raises(SettingsError, match=f"multiples of {2**depth}, such as"):
        UnetGenerator(settings)(torch.zeros(1, 3, side, side))


def test_a_unet_at_its_smallest_side_has_one_position_at_the_bottom_and_trains() -> None:
    settings = GeneratorSettings(network=Network.UNET, base=4, depth=5, norm=Norm.BATCH, spectral=False, attention=OFF)
    network = UnetGenerator(settings)
    network(torch.rand(1, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_dropout_is_where_it_is_published() -> None:
    settings = GeneratorSettings(
        network=Network.UNET, base=4, norm=Norm.BATCH, dropout=True, spectral=False, attention=OFF
    )
    dropped = [level for level, up in enumerate(UnetGenerator(settings).up) if isinstance(up.dropout, nn.Dropout)]
    assert dropped == [4, 5, 6]  # of 0, the outermost, to 7, the innermost
    block = ResidualBlock(4, Norm.INSTANCE, spectral=False, dropout=True)
    seen: list[Tensor] = []
    block.second.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    block(torch.rand(1, 4, 16, 16))
    kept = torch.rand(1, 4, 16, 16)
    block.eval()
    block(kept)
    share = [(features == 0).float().mean().item() for features in seen]
    assert share[0] > share[1] + 0.15  # half of what the ReLU let through


def test_dropout_moves_the_names_of_a_published_block_by_one() -> None:
    """A Pyramid Pix2pix checkpoint has the names of the second kind."""
    with_dropout = generators.published_names(
        GeneratorSettings(
            base=4, blocks=9, stem=7, resampling=Resampling.STRIDED, norm=Norm.BATCH, dropout=True, spectral=False
        )
    )
    plain = generators.published_names(STRIDED)
    assert plain["blocks.0.second.weight"] == "model.10.conv_block.5.weight"
    assert with_dropout["blocks.0.second.weight"] == "model.10.conv_block.6.weight"
    assert plain["blocks.8.second_norm.bias"] == "model.18.conv_block.6.bias"
    assert with_dropout["blocks.8.second_norm.bias"] == "model.18.conv_block.7.bias"
    assert plain["output.bias"] == with_dropout["output.bias"] == "model.26.bias"


def test_initial_weights_are_those_of_the_repositories() -> None:
    """Normal and Xavier normal with gain 0.02; PyTorch's uniform has a deviation of 1 / sqrt(3 fan_in)."""
    deviations = {}
    for initial in Initial:
        block = ResidualBlock(64, Norm.BATCH, spectral=True)
        plain = nn.ConvTranspose2d(64, 64, 3)
        network = nn.Sequential(block, plain)
        initialise(network, initial)
        conv = block.first
        assert isinstance(conv, SpectralConv2d)
        deviations[initial] = conv.weight_orig.std().item()
        scale = block.first_norm.get_parameter("weight")
        assert (scale.std().item() == pytest.approx(0.02, rel=0.4)) == (initial is not Initial.PYTORCH)
    assert deviations[Initial.PYTORCH] == pytest.approx((3 * 64 * 9) ** -0.5, rel=0.02)
    assert deviations[Initial.NORMAL] == pytest.approx(0.02, rel=0.02)
    assert deviations[Initial.XAVIER] == pytest.approx(0.02 * (2 / (2 * 64 * 9)) ** 0.5, rel=0.02)


def test_at_test_batch_norm_and_dropout_are_as_the_settings_say_and_nothing_is_changed_by_it() -> None:
    settings = GeneratorSettings(
        base=4,
        stem=7,
        resampling=Resampling.STRIDED,
        norm=Norm.BATCH,
        dropout=True,
        spectral=False,
        attention=OFF,
    )
    network = ResnetGenerator(settings)
    network(torch.rand(2, 3, 32, 32))  # running statistics that are not those of one picture
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    he = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    made = {}
    state = torch.get_rng_state()
    for mode in AtTest:
        with translation_mode(network, mode):
            made[mode] = [translate(network, he, torch.device("cpu"), seed=seed) for seed in (1, 1, 2)]
        assert network.training
        assert all(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    first, again, other = made[AtTest.EVALUATION]
    assert torch.equal(first, again)
    assert torch.equal(first, other)
    first, again, other = made[AtTest.TRAINING]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)  # dropout goes on
    assert not torch.allclose(first, made[AtTest.EVALUATION][0], atol=1e-2)
    network(torch.rand(1, 3, 32, 32))
    assert not torch.equal(network.state_dict()["stem.norm.running_mean"], before["stem.norm.running_mean"])
