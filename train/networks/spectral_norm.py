"""Spectral norm as the published runs have it: a convolution whose largest singular value is about one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPECTRAL_EPSILON = 1e-12


class SpectralConv2d(nn.Module):
    """A convolution whose weight is divided by its largest singular value, estimated by power iteration.

    As in the classic hook of PyTorch, which the ASP repository uses: the weight is read as out x (in k k), a forward
    pass in training mode makes one iteration, v before u, and the state is `weight_orig`, `weight_u`, `weight_v`. The
    vectors are replaced, not written into, so that several passes can precede one backward pass; within
    `settled_weights` that was done before the pass. All this stays float32 under autocast.
    `nn.utils.parametrizations.spectral_norm` is another function: u first, 15 iterations at the start.
    Sources: Miyato et al. (ICLR 2018); PyTorch's default weights and bias 0, which is what the published runs had.
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
        self.settled: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B,in,H,W] -> [B,out,h,w]."""
        weight = self.divided_weight() if self.settled is None else self.settled
        return F.conv2d(x, weight, self.bias, stride=self.stride, padding=self.padding)

    def divided_weight(self) -> Tensor:
        """The weight of a pass, [out,in,k,k], after an iteration in training mode."""
        with torch.autocast(self.weight_orig.device.type, enabled=False):
            matrix = self.weight_orig.flatten(1)
            if self.training:
                with torch.no_grad():
                    self.weight_v = _unit(matrix.t() @ self.weight_u)
                    self.weight_u = _unit(matrix @ self.weight_v)
            sigma = self.weight_u @ (matrix @ self.weight_v)
            return self.weight_orig * sigma.reciprocal()  # a product: the gradient of a quotient took a third of a step


@contextmanager
def settled_weights(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Divide the weights of all spectrally normalised layers in `modules` now, outside of the pass that needs them.

    A layer that the pass does not reach must not be among them: its vectors would make an iteration too many.
    """
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, SpectralConv2d)]
    for layer in layers:
        layer.settled = layer.divided_weight()
    try:
        yield
    finally:
        for layer in layers:
            layer.settled = None


def _unit(vector: Tensor) -> Tensor:
    return F.normalize(vector, dim=0, eps=SPECTRAL_EPSILON)
