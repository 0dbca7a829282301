"""The discriminator against the published network, its size and its smallest picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from store.schema import SettingsError
from tests.support.places import GOLDEN
from train.networks.patchgan import PatchDiscriminator, check_side, published_names, smallest_side
from train.settings import DiscriminatorSettings, Norm


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """New networks take their parameters from torch's global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def load_golden() -> dict[str, Tensor]:
    with np.load(GOLDEN / "discriminator_patchgan5_instance.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_logits_are_the_published_one(layout: torch.memory_format) -> None:
    golden = load_golden()
    settings = DiscriminatorSettings(base=8)
    names = published_names(settings)
    network = PatchDiscriminator(settings).eval()  # no power iteration
    network.load_state_dict({ours: golden[f"state/{name}"] for ours, name in names.items()})
    assert {f"state/{name}" for name in names.values()} == {k for k in golden if "state" in k and "filt" not in k}
    network = network.to(memory_format=layout)
    picture = golden["input"].contiguous(memory_format=layout)
    torch.testing.assert_close(network(picture), golden["output"], rtol=0, atol=1e-4)
    assert not torch.allclose(network(picture.flip(3)), golden["output"], atol=1e-2)


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        (DiscriminatorSettings(), 2_791_905),
        (DiscriminatorSettings(spectral=False), 2_791_905),
        (DiscriminatorSettings(base=64), 11_154_369),
        (DiscriminatorSettings(base=64, layers=3), 2_764_737),
    ],
)
def test_parameter_counts(settings: DiscriminatorSettings, parameters: int) -> None:
    with torch.device("meta"):
        network = PatchDiscriminator(settings)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("layers", "side", "positions"), [(5, 256, 6), (5, 512, 14), (5, 1024, 30), (3, 256, 30), (3, 512, 62), (5, 96, 1)]
)
def test_the_side_of_the_logits(layers: int, side: int, positions: int) -> None:
    network = PatchDiscriminator(DiscriminatorSettings(base=1, layers=layers, norm=Norm.NONE))
    assert network(torch.zeros(1, 3, side, side)).shape == (1, 1, positions, positions)


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_the_smallest_side_is_the_first_that_works(layers: int) -> None:
    network = PatchDiscriminator(DiscriminatorSettings(base=4, layers=layers))
    smallest = smallest_side(layers)
    assert network(torch.rand(1, 3, smallest, smallest)).shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value"):
        network(torch.rand(1, 3, smallest - 1, smallest - 1))


def test_five_layers_need_96_pixels_and_the_error_says_so() -> None:
    check_side(96, 5)
    with pytest.raises(SettingsError, match=r"pictures of 95 px.*2 x 2 positions.*96 px"):
        check_side(95, 5)
    check_side(24, 3)
    with pytest.raises(SettingsError, match="24 px"):
        check_side(20, 3)


def test_bf16_is_close_to_fp32_and_answers_in_fp32() -> None:
    network = PatchDiscriminator(DiscriminatorSettings(base=8)).to(memory_format=torch.channels_last)
    picture = load_golden()["input"].contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for _ in range(10):
            network(picture)  # the spectral norms settle
        network.eval()
        exact = network(picture)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(picture)
    assert logits.dtype == torch.float32
    assert (logits - exact).abs().max() < 0.03 * exact.abs().max()
