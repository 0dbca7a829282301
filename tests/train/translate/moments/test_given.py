"""Moments that are collected and given back: a generator computes with them what it computes with its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from store.schema import SettingsError
from tests.train.translate.moments.generators import drawn_generator, drawn_picture, small_settings
from train.networks.ammfi import ChannelAttention
from train.networks.moments import TakesMoments, moments_from
from train.networks.norms import BatchNorm, InstanceNorm, fuses, takes_bias
from train.run.inference import translation_mode
from train.settings import AtTest
from train.translate.moments.collect import Collector, collect, collect_together, layout_of
from train.translate.moments.field import Field, Geometry
from train.translate.moments.given import Given, translate_given
from train.translate.moments.layout import Layout
from train.translate.moments.table import kernel_field, kernel_weights
from train.translate.settings import Kernel

METHODS = ("attention_gan", "twice", "asp", "cut", "cyclegan", "pix2pix", "pyramid_p2p")


def alone(generator: nn.Module, pictures: Tensor) -> Tensor:
    """Each picture through the generator by itself."""
    with torch.inference_mode():
        return torch.cat([generator(picture[None]) for picture in pictures])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_given_its_own_moments_a_tile_comes_out_as_by_itself(method: str, layout: torch.memory_format) -> None:
    """So `kernel` with a kernel of one tile is `tile`."""
    settings = small_settings(method)
    generator = drawn_generator(settings)
    windows = drawn_picture(64, 96, batch=2).contiguous(memory_format=layout)
    with translation_mode(generator, settings.at_test):
        before = alone(generator, windows)
        table = collect(generator, windows).numpy()[None]  # [1,2,K]
        assert table.dtype == "float32"
        assert table.shape == (1, 2, layout_of(generator).size)
        fields = [
            kernel_field(table, layout_of(generator), 0, tile, kernel_weights(Kernel.CONSTANT, 1)) for tile in range(2)
        ]
        torch.testing.assert_close(translate_given(generator, windows, Field.stack(fields)), before, rtol=0, atol=1e-4)
        exchanged = translate_given(generator, windows, Field.stack(fields[::-1]))
        assert (exchanged - before).abs().max() > 1e-2, "moments decide about colours"
        assert torch.equal(alone(generator, windows), before), "nothing is left in the generator"


@pytest.mark.parametrize("method", METHODS)
def test_pictures_that_share_their_moments_come_out_as_they_did_when_these_were_collected(method: str) -> None:
    settings = small_settings(method)
    generator = drawn_generator(settings)
    windows = drawn_picture(64, 64, batch=3)
    with translation_mode(generator, settings.at_test):
        field = Field.everywhere(collect_together(generator, windows), layout_of(generator))
        with torch.inference_mode(), moments_from(generator, Collector(together=True)):
            jointly = generator(windows)
        given = translate_given(generator, windows, field)
        torch.testing.assert_close(given, jointly, rtol=0, atol=1e-4)
        assert (alone(generator, windows) - given).abs().max() > 1e-2
        torch.testing.assert_close(
            collect_together(generator, windows[:1]), collect(generator, windows)[0], rtol=1e-5, atol=1e-6
        )


def test_the_maximum_of_several_pictures_is_the_mean_of_their_maxima() -> None:
    maps = drawn_picture(8, 8, batch=4)
    collector = Collector(together=True)
    collector.gate(maps, lambda mean, peak: mean + peak)
    expected = torch.cat((maps.mean(dim=(0, 2, 3)), maps.amax(dim=(2, 3)).mean(dim=0)))
    torch.testing.assert_close(collector.moments(1)[0], expected)


def test_norms_with_running_statistics_have_no_moments() -> None:
    settings = small_settings("pix2pix")
    generator = drawn_generator(settings)
    windows = drawn_picture(64, 64, batch=2)
    with translation_mode(generator, AtTest.EVALUATION):
        layout = layout_of(generator)
        assert layout == Layout(norms=0, gates=0)
        assert collect(generator, windows).shape == (2, 0)
        field = Field.everywhere(collect_together(generator, windows), layout)
        assert torch.equal(translate_given(generator, windows, field), generator(windows))
    with translation_mode(generator, AtTest.TRAINING):
        assert layout_of(generator).norms > 0


def test_after_an_error_in_a_pass_the_layers_have_their_own_statistics_again() -> None:
    generator = drawn_generator(small_settings("attention_gan")).eval()
    with pytest.raises(SettingsError, match="multiples of 4"):
        collect(generator, torch.zeros(1, 3, 63, 64))
    assert all(module.moments is None for module in generator.modules() if isinstance(module, TakesMoments))


@pytest.mark.parametrize("method", ["twice", "pyramid_p2p"])
def test_the_same_moments_at_all_nodes_are_those_of_one_node(method: str) -> None:
    settings = small_settings(method)
    generator = drawn_generator(settings)
    windows = drawn_picture(48, 64, batch=2)
    with translation_mode(generator, settings.at_test):
        one = Field.everywhere(collect_together(generator, windows), layout_of(generator))
        many = replace(one, nodes=one.nodes.expand(-1, -1, 3, 2), geometry=Geometry(top=-7, left=9, spacing=32))
        torch.testing.assert_close(
            translate_given(generator, windows, many), translate_given(generator, windows, one), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("nodes", [(1, 1), (2, 3)])
def test_in_bf16_moments_stay_float32(nodes: tuple[int, int]) -> None:
    """A mean of a hundred deviations, which bf16 would round to half a deviation, is taken off exactly."""
    norm = InstanceNorm(2)
    x = (torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0)) + 100).bfloat16()
    mean, deviation = torch.tensor([100.2, 99.9]), torch.tensor([1.1, 0.9])
    field = Field(
        nodes=torch.cat((mean, deviation))[None, :, None, None].expand(-1, -1, *nodes), layout=Layout(norms=2, gates=0)
    )
    norm.moments = Given(field, (8, 8))
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        made = norm(x)
    assert made.dtype == torch.bfloat16
    expected = (x.float() - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(made.float(), expected, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("method", ["attention_gan", "pix2pix"])
def test_bf16_translates_as_float32_does(method: str) -> None:
    settings = small_settings(method)
    generator = drawn_generator(settings)
    windows = drawn_picture(64, 64)
    with translation_mode(generator, settings.at_test):
        moments = collect(generator, windows)
        field = Field.everywhere(moments[0], layout_of(generator))
        local = replace(field, nodes=field.nodes.expand(-1, -1, 2, 2))
        exact = translate_given(generator, windows, field)
        with torch.autocast("cpu", torch.bfloat16):
            assert collect(generator, windows).dtype == torch.float32
            rounded = [translate_given(generator, windows, each) for each in (field, local)]
    for made in rounded:
        assert (made - exact).abs().mean() < 0.02


@pytest.mark.parametrize("nodes", [(1, 1), (2, 2)])
def test_scale_and_shift_are_those_of_the_norm_and_without_deviation_the_result_is_the_shift(
    nodes: tuple[int, int],
) -> None:
    norm = InstanceNorm(4, affine=True)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, -3.0, 0.0, 5.0]))
        norm.bias.copy_(torch.tensor([1.0, 0.5, -2.0, 3.0]))
    x = drawn_picture(8, 8)[:, [0, 1, 2, 0]]
    x[:, 3] = 0.7
    mean, deviation = torch.tensor([0.1, 0.2, -0.3, 0.7]), torch.tensor([0.5, 2.0, 0.25, 0.0])
    flat = torch.cat((mean, deviation))[None, :, None, None].expand(-1, -1, *nodes)
    with torch.no_grad():
        norm.moments = Given(Field(nodes=flat, layout=Layout(norms=4, gates=0)), (8, 8))
        made = norm(x)
        expected = (x - mean[:, None, None]) / deviation.clamp(min=1e-9)[:, None, None]
        expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(made[:, :3], expected[:, :3], rtol=0, atol=1e-5)
    torch.testing.assert_close(made[:, 3], torch.full_like(made[:, 3], 3.0))


@pytest.mark.parametrize("method", METHODS)
def test_glass_has_moments_without_deviation_and_is_translated_by_any(method: str) -> None:
    settings = small_settings(method)
    generator = drawn_generator(settings)
    glass, tissue = torch.ones(1, 3, 64, 64), drawn_picture(64, 64)
    with translation_mode(generator, settings.at_test):
        layout = layout_of(generator)
        of_glass, of_tissue = collect(generator, glass)[0], collect(generator, tissue)[0]
        assert (of_glass[layout.deviations] == 0).any() == (method != "pix2pix")  # which pads each map with zeros
        assert of_glass.isfinite().all()
        between = torch.stack((of_glass, of_tissue), dim=1)[None, :, None]  # [1,K,1,2]
        fields = [Field.everywhere(of_glass, layout), Field.everywhere(of_tissue, layout)]
        fields.append(Field(nodes=between, layout=layout, geometry=Geometry(top=0, left=16, spacing=32)))
        torch.testing.assert_close(translate_given(generator, glass, fields[0]), alone(generator, glass))
        for field in fields:
            for window in (glass, tissue):
                assert translate_given(generator, window, field).isfinite().all()


def test_no_fused_kernel_takes_a_norm_whose_moments_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.kernels.launching.takes", lambda *tensors: True)  # as on a GPU
    x, field = torch.zeros(1, 4, 8, 8), Field.everywhere(torch.zeros(8), Layout(norms=4, gates=0))
    for norm in (InstanceNorm(4), BatchNorm(4)):
        assert fuses(norm, x)
        assert takes_bias(norm, x)
        norm.moments = Given(field, (8, 8))
        assert not fuses(norm, x)
        assert not takes_bias(norm, x)


def test_factors_between_nodes_are_interpolated_and_not_what_they_are_made_of() -> None:
    attention = ChannelAttention(4, reduction=2)
    nodes = 3 * torch.randn(2, 8, 1, 2, generator=torch.Generator().manual_seed(0))
    attention.moments = Given(
        Field(nodes=nodes, layout=Layout(norms=0, gates=4), geometry=Geometry(top=0, left=0.5, spacing=3)), (4, 4)
    )
    with torch.no_grad():
        made = attention(torch.zeros(2, 4, 4, 4))  # of pixels at 0.5, 1.5, 2.5 and 3.5 px
        first, last = (attention.gate(nodes[:, :4, 0, node], nodes[:, 4:, 0, node]) for node in range(2))
    for column, share in enumerate((0, 1 / 3, 2 / 3, 1)):
        expected = ((1 - share) * first + share * last)[:, :, None].expand(-1, -1, 4)
        torch.testing.assert_close(made[..., column], expected)
