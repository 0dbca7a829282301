"""Spectral norm as the published runs have it: a convolution whose largest singular value is about one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.kernels import launching

SPECTRAL_EPSILON = 1e-12


class Filter(NamedTuple):
    """What a convolution of one pass uses: its weight [out,in,k,k] and bias [out]."""

    weight: Tensor
    bias: Tensor | None


class SpectralConv2d(nn.Module):
    """A convolution whose weight is divided by its largest singular value, estimated by power iteration.

    As in PyTorch's older hook, which the ASP repository uses: the weight is read as a matrix out x (in k k), a forward
    pass in training mode makes one iteration, v before u, and the state is `weight_orig`, `weight_u`, `weight_v`. The
    vectors keep their memory, so that a recorded step finds them there, and a pass computes with tensors of its own, so
    that several passes can precede one backward pass; within `precomputed_weights` the iteration was made before the
    pass. All of this stays float32 under autocast.
    `nn.utils.parametrizations.spectral_norm` is a different function: u first, 15 iterations at the start.
    Sources: Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018; PyTorch's default
    weights and bias 0, which the published runs had.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, bias: bool) -> None:
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.weight_orig = nn.Conv2d(inputs, outputs, kernel).weight
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("weight_u", _unit(torch.randn(outputs)))
        self.register_buffer("weight_v", _unit(torch.randn(inputs * kernel * kernel)))
        self.precomputed: Filter | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B,in,H,W] -> [B,out,h,w]."""
        return self.convolve(x, biased=True)

    def convolve(self, x: Tensor, *, biased: bool) -> Tensor:
        """The same with or without the bias."""
        weight, bias = Filter(self.normalised_weight(), self.bias) if self.precomputed is None else self.precomputed
        return F.conv2d(x, weight, bias if biased else None, stride=self.stride, padding=self.padding)

    def normalised_weight(self) -> Tensor:
        """The weight for one pass, [out,in,k,k]; in training mode after one iteration."""
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            matrix = self.weight_orig.flatten(1)
            u, v = self._vectors(matrix.detach())
            sigma = u @ (matrix @ v)
            return self.weight_orig * sigma.reciprocal()  # a product: the gradient of a quotient took a third of a step

    @torch.no_grad()
    def _vectors(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors u and v of one pass; in training mode they are iterated, and written back."""
        if not self.training:
            return self.weight_u.clone(), self.weight_v.clone()
        v = _unit(matrix.t() @ self.weight_u)
        u = _unit(matrix @ v)
        self.weight_u.copy_(u)
        self.weight_v.copy_(v)
        return u, v


@contextmanager
def precomputed_weights(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Compute the weights of all layers with spectral norm in `modules` now, before the pass that uses them.

    `modules` must not hold a layer that the pass does not use: its vectors would make an extra iteration.
    """
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, SpectralConv2d)]
    for layer, made in zip(layers, _filters(layers), strict=True):
        layer.precomputed = made
    try:
        yield
    finally:
        for layer in layers:
            layer.precomputed = None


def _filters(layers: Sequence[SpectralConv2d]) -> list[Filter]:
    """What each layer uses in the coming pass; those that iterate are computed together, and so are frozen ones."""
    groups = {iterate: [layer for layer in layers if layer.training is iterate] for iterate in (True, False)}
    made = {
        layer: one
        for iterate, group in groups.items()
        for layer, one in zip(group, _filters_at_once(group, iterate=iterate), strict=True)
    }
    return [made[layer] for layer in layers]


def _filters_at_once(layers: Sequence[SpectralConv2d], *, iterate: bool) -> list[Filter]:
    """What each layer uses; fused kernels write it in the dtype of convolutions under autocast."""
    if layers and launching.takes(*(layer.weight_orig for layer in layers)):
        from train.kernels import layer_table, spectral

        parts = [
            layer_table.Layer(weight=layer.weight_orig, bias=layer.bias, u=layer.weight_u, v=layer.weight_v)
            for layer in layers
        ]
        if layer_table.is_listable(parts):
            kind = layers[0].weight_orig.device.type
            dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
            return [Filter(*made) for made in spectral.normalised(parts, dtype, iterate=iterate)]
    return [Filter(layer.normalised_weight(), layer.bias) for layer in layers]


def _unit(vector: Tensor) -> Tensor:
    return F.normalize(vector, dim=0, eps=SPECTRAL_EPSILON)
