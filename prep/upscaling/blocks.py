"""The network's 23 blocks, nearly all of its work, in one of several ways: they differ in speed and in rounding only.

A block is three dense blocks, a dense block five convolutions, each of which reads all that was made before it. Sums
that run through all blocks are fp32. Each way maps fp32 [B,64,h,w] to fp32 [B,64,h,w].
Source: Wang et al., ESRGAN (ECCV 2018 workshops), residual-in-residual dense blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

RESIDUAL = 0.2  # weight of a block's result in the sum (BSRGAN, models/network_rrdbnet.py)
SLOPE = 0.2  # of leaky ReLU (the same)
Blocks = Callable[[Tensor], Tensor]
Layers = Sequence[tuple[Tensor, Tensor]]  # weight and bias of the five convolutions of a dense block


def run_plain(body: Any, shallow: Tensor) -> Tensor:
    """As PyTorch has it: a concatenation before each convolution, an activation after it."""
    dtype = body[0].rdb1.conv1.weight.dtype
    deep = shallow
    for block in body:
        inner = deep
        for dense in (block.rdb1, block.rdb2, block.rdb3):
            inner = torch.add(inner, _run_dense(dense, inner.to(dtype)), alpha=RESIDUAL)
        deep = torch.add(deep, inner, alpha=RESIDUAL)
    return deep


def _run_dense(dense: Any, feature: Tensor) -> Tensor:
    """The five convolutions of a dense block; the input of each is all before it; [B,64,h,w] to [B,64,h,w]."""
    for layer in (dense.conv1, dense.conv2, dense.conv3, dense.conv4):
        feature = torch.cat([feature, activate(layer(feature))], dim=1)
    last: Tensor = dense.conv5(feature)
    return last


def activate(feature: Tensor) -> Tensor:
    """Leaky ReLU, in place."""
    return F.leaky_relu(feature, SLOPE, inplace=True)


def layers_of(body: Any) -> list[list[Layers]]:
    """Weights and biases by block, dense block and convolution."""
    return [
        [
            [(layer.weight, layer.bias) for layer in (dense.conv1, dense.conv2, dense.conv3, dense.conv4, dense.conv5)]
            for dense in (block.rdb1, block.rdb2, block.rdb3)
        ]
        for block in body
    ]


def run_compiled(blocks: Sequence[Sequence[Layers]], shallow: Tensor) -> Tensor:
    """Cuts the glue between convolutions to a third; one compiled dense block serves all, in batches of any size.

    Compiling takes some seconds for each size of picture.
    """
    dense = _compiled()
    deep = shallow
    for block in blocks:
        inner = deep
        for layers in block:
            torch._dynamo.maybe_mark_dynamic(inner, 0)
            inner = dense(inner, layers)
        deep = torch.add(deep, inner, alpha=RESIDUAL)
    return deep


def _compiled() -> Callable[[Tensor, Layers], Tensor]:
    """In this process: its few kernels need no pool of others, which a signal to the builder would reach too.

    Convolutions are never chosen by timing, whatever the environment says: the same batch gives the same bytes.
    """
    options: dict[str, str | int | bool | Callable[..., Any]] = {
        "compile_threads": 1,
        "max_autotune": False,
        "max_autotune_gemm": False,
    }
    return torch.compile(_add_dense, dynamic=False, fullgraph=True, options=options)


def _add_dense(inner: Tensor, layers: Layers) -> Tensor:
    """`inner` and the result of a dense block on it."""
    feature = inner.to(layers[0][0].dtype)
    for weight, bias in layers[:-1]:
        feature = torch.cat([feature, F.leaky_relu(F.conv2d(feature, weight, bias, padding=1), SLOPE)], dim=1)
    weight, bias = layers[-1]
    return torch.add(inner, F.conv2d(feature, weight, bias, padding=1), alpha=RESIDUAL)
