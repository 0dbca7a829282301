"""The quicker convolution is the convolution, at every size, and replaces only what it can."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evaluate.features.lpips import Trunk, load_perceptual
from evaluate.features.networks import BUILT
from evaluate.features.winograd import Winograd, quicken
from evaluate.protocol import Network
from tests.support.feature_networks import parameters, published


def convolution(inputs: int, outputs: int, *, bias: bool = True) -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(inputs + outputs)
        return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (5, 7), (130, 33), (4, 300)])
@pytest.mark.parametrize(("inputs", "outputs", "bias"), [(8, 8, True), (5, 12, False)])
def test_it_is_the_convolution(size: tuple[int, int], inputs: int, outputs: int, bias: bool) -> None:
    """In float64, on every pixel, edges included; strips of tiles that do not divide the picture among the sizes."""
    conv = convolution(inputs, outputs, bias=bias).double()
    x = torch.randn(2, inputs, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    quick = Winograd(conv)
    quick.register_buffer("kernel", quick.get_buffer("kernel").double())
    found = quick.double()(x)
    torch.testing.assert_close(found, conv(x), rtol=0, atol=1e-5)  # the kernel was rounded to float32


def test_rounding_is_that_of_float32() -> None:
    conv, x = convolution(128, 128), torch.randn(1, 128, 64, 64, generator=torch.Generator().manual_seed(0)).relu()
    exact = conv.double()(x.double())
    off = (Winograd(conv.float())(x) - exact).abs().max() / exact.abs().max()
    assert 0 < off < 1e-5


def test_only_large_plain_convolutions_are_replaced() -> None:
    vgg = published(Network.VGG)
    quicken(vgg)
    layers = vgg.get_submodule("features").children()
    assert [type(layer).__name__ for layer in layers if hasattr(layer, "bias")].count("Winograd") == 10
    for odd in (
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 3, padding=2, dilation=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 5, padding=1),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
    ):
        module = nn.Sequential(odd)
        quicken(module)
        assert module[0] is odd


def test_scores_do_not_change() -> None:
    """LPIPS on VGG, a 1e-4 relative apart at most, and exactly 0 for a picture and itself."""
    plain, quick = (load_perceptual(Trunk.VGG, parameters(Network.VGG), "") for _ in range(2))
    quicken(quick.trunk)
    one, two = torch.rand(2, 1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = [network.distance(network.taps(one), network.taps(two)) for network in (plain, quick)]
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=0)
    assert float(quick.distance(quick.taps(one), quick.taps(one))) == 0
    resnet = BUILT[Network.RESNET]()
    quicken(resnet)
    assert sum(isinstance(module, Winograd) for module in resnet.modules()) == 3 + 5 + 2
