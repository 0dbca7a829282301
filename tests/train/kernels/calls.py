"""Calls of every kernel at shapes as in training, with gradients; `test_kernels_compile.py` compiles what they launch.

A module with kernels has a function here, in `CALLS`. Nothing is computed: results are memory that nobody wrote.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from train.kernels import attention, blurring, copying, norms, padding
from train.kernels.norm_gradients import Fused
from train.kernels.patches import contrasting
from train.losses import octaves, pyramid, pyramid_levels
from train.networks.layers import make_conv
from train.networks.patch_projector import Comparison, ProjectionHeads
from train.networks.spectral_norm import precomputed_weights


def laid(*shape: int, dtype: torch.dtype) -> Tensor:
    """A map or other tensor that asks for its gradient, channels last."""
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, memory_format=layout).requires_grad_()


def with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Forward and backward."""
    made = function(*inputs)
    torch.autograd.grad(made, inputs, torch.empty_like(made))


def call_padding(dtype: torch.dtype) -> None:
    """A residual block's, the stem's, the last convolution's."""
    for margin, channels in ((1, 256), (1, 3), (3, 64)):
        with_gradients(lambda x, margin=margin: padding.reflect_pad(x, margin), laid(1, channels, 8, 128, dtype=dtype))


def call_blurring(dtype: torch.dtype) -> None:
    """The generator's, and those of its first halving."""
    for blur in (blurring.blur_down, blurring.blur_up):
        for channels in (64, 256):
            with_gradients(blur, laid(1, channels, 8, 128, dtype=dtype))


def call_spectral(dtype: torch.dtype) -> None:
    """The first and the widest layers of generator and discriminator, in a training and in an evaluation pass."""
    convs = [make_conv(*sizes, spectral=True).to(memory_format=torch.channels_last) for sizes in SPECTRAL]
    for training in (True, False):
        for conv in convs:
            conv.train(training)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32), precomputed_weights(convs):
            made = [part for conv in convs if isinstance(conv.precomputed, tuple) for part in conv.precomputed]
        torch.autograd.grad(made, [p for conv in convs for p in conv.parameters()], made)


def call_heads(_dtype: torch.dtype) -> None:
    """The padded picture in float32, the other taps in bf16; two terms of the same pictures."""
    heads = ProjectionHeads((3, 128, 256), 256)
    taps = [laid(1, c, 16, 16, dtype=torch.bfloat16 if c > 3 else torch.float32) for c in (3, 128, 256)]
    keys = [tap.detach() for tap in taps]
    positions = [torch.zeros(32, dtype=torch.int64) for _ in taps]
    made = heads.compare([Comparison(query=taps, key=keys, positions=positions)] * 2)
    queries = [query for both, _ in made for query in both]
    torch.autograd.grad(queries, [*taps, *heads.parameters()], [torch.empty_like(query) for query in queries])


SPECTRAL = ((3, 64, 7), (256, 256, 3), (512, 512, 4), (512, 1, 4))  # channels in and out, kernel


def call_copying(dtype: torch.dtype) -> None:
    """Of tensors that are whole words, and of one that is not."""
    for sizes in ((512, 1), (3,)):
        targets = [torch.empty(size, dtype=dtype) for size in sizes]
        copying.ConditionalCopy(targets, [torch.empty_like(target) for target in targets])(torch.tensor(True))


def call_attention(dtype: torch.dtype) -> None:
    """AMMFI's at the middle level."""
    maps = [laid(1, 128, 64, 64, dtype=dtype) for _ in range(3)]
    with_gradients(attention.pool_channels, maps[0])
    with_gradients(lambda *given: attention.gate_and_concatenate(given[0], given[1], given[2])[0], *maps)


def call_norms(dtype: torch.dtype) -> None:
    """What stages and residual blocks of generators and discriminators ask for, and batch norm of a batch."""
    weight, bias, left_out = (torch.empty(256).requires_grad_() for _ in range(3))
    for shared, slope, margin in ((False, 0.0, 0), (False, 0.0, 1), (False, 0.2, 0), (True, 1.0, 0)):
        fused = Fused(epsilon=1e-5, shared=shared, slope=slope, margin=margin)
        x = laid(1 + shared, 256, 128, 128, dtype=dtype)
        with_gradients(
            lambda *given, fused=fused: norms.normalise(given[0], given[1], given[2], None, fused)[0], x, weight, bias
        )
    picture = laid(1, 3, 64, 64, dtype=dtype).detach()
    with_gradients(lambda made: norms.pass_gradient_of_varied(picture, made, 1e-3), laid(1, 1, 64, 64, dtype=dtype))
    for slope, margin in ((0.2, 0), (0.0, 1)):
        fused = Fused(slope=slope, margin=margin)
        with_gradients(lambda *given, fused=fused: norms.activate(given[0], given[1], fused), x, bias)
    for margin in (0, 1):
        fused = Fused(epsilon=1e-5, margin=margin)
        x, residual = laid(1, 256, 128, 128, dtype=dtype), laid(1, 256, 128, 128, dtype=dtype)
        summed, padded, *_ = norms.normalise_and_add(x, weight, bias, left_out, residual, fused)
        made = [summed, padded] if margin else [summed]
        torch.autograd.grad(made, (x, residual, weight, bias), [torch.empty_like(one) for one in made])


def call_pyramids(dtype: torch.dtype) -> None:
    """Of pictures of 512 px."""
    fake, real = (laid(1, 3, 512, 512, dtype=dtype) for _ in range(2))
    for compare in (
        pyramid,
        lambda *both: torch.stack(pyramid_levels(*both)),
        lambda *both: torch.stack(octaves(*both)),
    ):
        with_gradients(compare, fake, real)


def call_contrasting(_dtype: torch.dtype) -> None:
    """The cosines of all taps."""
    with_gradients(lambda x: contrasting.cross_entropy_of_diagonal(x, 0.07), torch.empty(5, 256, 256).requires_grad_())


CALLS: dict[str, Callable[[torch.dtype], None]] = {
    "attention": call_attention,
    "blurring": call_blurring,
    "contrasting": call_contrasting,
    "copying": call_copying,
    "heads": call_heads,
    "norms": call_norms,
    "padding": call_padding,
    "pyramids": call_pyramids,
    "spectral": call_spectral,
}
