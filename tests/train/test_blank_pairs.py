"""Pairs without structure: no method is harmed by one, in any precision, and a map without variance has no gradient."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.stepping import take_step
from tests.support.tiny_run import NARROW_CONTRAST, read_by
from train.data.batch import Batch
from train.loop.step import make_optimisers, step_generator
from train.methods.recipes import load_recipe
from train.methods.registry import METHODS, build_method
from train.networks.norms import BatchNorm, InstanceNorm
from train.networks.patchgan import PatchDiscriminator
from train.runtime.device import Compute
from train.settings import DiscriminatorSettings, Norm, Precision

SIDE = 96
WIDTHS = ("generator.base=4", "generator.depth=5", "generator.blocks=5", "discriminator.base=4", *NARROW_CONTRAST)

pytestmark = pytest.mark.usefixtures("one_thread")


def tissue(seed: int) -> Batch:
    drawn = torch.Generator().manual_seed(seed)
    noise = [torch.rand(2, 3, side, side, generator=drawn) for side in (6, 24)]
    blurred = torch.stack([F.interpolate(coarse, size=SIDE, mode="bicubic") for coarse in noise])
    he, ihc = blurred.sum(0).sub(0.6).clamp(-1, 1)[:, None]
    return laid_out(he, ihc)


def laid_out(he: Tensor, ihc: Tensor) -> Batch:
    last = torch.channels_last
    return Batch(he=he.contiguous(memory_format=last), ihc=ihc.contiguous(memory_format=last))


def blank() -> list[Batch]:
    """White, black, mid-grey, and two white pairs with one pixel: black in IHC, a grey level off in both."""
    white = torch.ones(1, 3, SIDE, SIDE)
    black_pixel, near_white = white.clone(), white.clone()
    black_pixel[:, :, 30, 40], near_white[:, :, 30, 40] = -1, 1 - 1 / 127.5
    colours = [(white, white), (-white, -white), (white / 255, white / 255)]
    return [laid_out(*pair) for pair in [*colours, (white, black_pixel), (near_white, near_white)]]


def extreme() -> list[Batch]:
    """A checkerboard of pixels, and a picture that is black above and white below."""
    places = torch.arange(SIDE)
    board = (places[:, None] + places) % 2
    halves = (places[:, None] >= SIDE // 2).expand(SIDE, SIDE)
    pictures = [(picture * 2.0 - 1).expand(1, 3, SIDE, SIDE) for picture in (board, halves)]
    return [laid_out(picture, picture) for picture in pictures]


def moments(method: str, precision: Precision, batches: Sequence[Batch]) -> dict[str, float]:
    """The largest second moment of each network after a step on each batch."""
    torch.manual_seed(0)
    settings = load_recipe([], [f"method={method}", *read_by(method, WIDTHS)])
    compute = Compute(device=torch.device("cpu"), precision=precision)
    built = build_method(settings)
    for module in built.modules().values():
        compute.place(module)
    optimisers = make_optimisers(built, settings.optimiser, fused=True)
    for step, batch in enumerate(batches, start=1):
        take_step(built, optimisers, compute, [batch], 0.9, [step_generator(0, step)])
    held = {parameter: s["exp_avg_sq"] for o in optimisers.values() for parameter, s in o.state.items()}
    return {
        name: max(float(held[parameter].max()) for parameter in module.parameters())
        for name, module in built.modules().items()
        if list(module.parameters())
    }


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP32])
@pytest.mark.parametrize("method", METHODS)
def test_blank_pairs_leave_the_second_moments_of_adam_as_they_are(method: str, precision: Precision) -> None:
    """One before a step on tissue, four after it."""
    first, *others = blank()
    without = moments(method, precision, [tissue(0)])
    among = moments(method, precision, [first, tissue(0), *others])
    assert {name: among[name] / without[name] for name in without if not among[name] < 10 * without[name]} == {}


@pytest.mark.parametrize("method", METHODS)
def test_pictures_of_extreme_structure_have_the_second_moments_of_fp32(method: str) -> None:
    """Not those of a run without them: their gradients are large, and real.

    In fp32, by PyTorch's own norms too, they make the second moments of CycleGAN's generators 30 times as large as
    tissue does, and those of pix2pix's discriminator 12 times.
    """
    batches = [tissue(0), *extreme()]
    exact, rounded = (moments(method, precision, batches) for precision in (Precision.FP32, Precision.BF16))
    assert {name: rounded[name] / exact[name] for name in exact if not rounded[name] < 10 * exact[name]} == {}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layer", [InstanceNorm, BatchNorm])
@pytest.mark.parametrize("side", [4, 128])
def test_a_map_without_variance_becomes_the_bias_and_passes_no_gradient(
    side: int, layer: type[InstanceNorm] | type[BatchNorm], dtype: torch.dtype, device: torch.device
) -> None:
    norm = (InstanceNorm(4, affine=True) if layer is InstanceNorm else BatchNorm(4)).to(device)
    with torch.no_grad():
        norm.bias.fill_(0.5)
    x = torch.randn(1, 4, side, side, device=device).to(dtype)
    x[:, 0], x[:, 1], x[:, 2] = 0.7, 0, -300.0
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    made = norm(x)
    made.backward(torch.randn_like(made))
    assert x.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert (made[:, :3] == 0.5).all()
    torch.testing.assert_close(made[:, 3:], F.batch_norm(x, None, None, norm.weight, norm.bias, training=True)[:, 3:])
    assert not x.grad[:, :3].any()
    assert not norm.weight.grad[:3].any()
    assert x.grad[:, 3].any()
    assert norm.bias.grad.all()


def test_batch_norm_keeps_the_statistics_that_pytorch_keeps() -> None:
    ours, plain = BatchNorm(3), nn.BatchNorm2d(3)
    for seed in range(3):
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 + 1
        torch.testing.assert_close(ours(x), plain(x))
    assert ours.state_dict().keys() == plain.state_dict().keys()
    for name, kept in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], kept)
    ours.eval()
    plain.eval()
    torch.testing.assert_close(ours(x), plain(x))


def test_a_picture_of_one_colour_passes_no_gradient_through_a_discriminator_and_its_neighbour_does() -> None:
    judge = PatchDiscriminator(DiscriminatorSettings(base=4, layers=3, norm=Norm.INSTANCE))
    pictures = torch.full((2, 3, SIDE, SIDE), 0.002)
    pictures[1] = tissue(0).he[0]
    pictures.requires_grad_()
    judge(pictures).square().mean().backward()
    assert pictures.grad is not None
    assert [bool(gradient.any()) for gradient in pictures.grad] == [False, True]
