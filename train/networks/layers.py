"""Building blocks of the networks: norm, convolution, stage, residual block.

Tensors are `[B,C,H,W]` in any memory format, which every block preserves. Under the caller's autocast convolutions
compute in bf16; everything else returns its input's dtype. Times are forward and backward on two cores with AVX-512
bf16.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from train.kernels import launching
from train.networks.norms import BatchNorm, InstanceNorm, add_norm, norm_then, takes_bias
from train.networks.resampling import reflect_pad
from train.networks.spectral_norm import SpectralConv2d
from train.settings import Initial, Norm

DROPPED = 0.5  # share of values that dropout zeroes: pix2pix
RELU, NONE = nn.ReLU(), nn.Identity()  # activations
INITIAL_GAIN = 0.02  # pix2pix, CycleGAN, CUT: init_gain


def make_norm(norm: Norm, channels: int, affine: bool = False) -> nn.Module:
    """The norm layer of that name; `affine` is for instance norm, batch norm always is affine."""
    match norm:
        case Norm.INSTANCE:
            return InstanceNorm(channels, affine)
        case Norm.BATCH:
            return BatchNorm(channels)
        case Norm.NONE:
            return nn.Identity()


def make_conv(
    inputs: int, outputs: int, kernel: int, *, spectral: bool, stride: int = 1, padding: int = 0, bias: bool = True
) -> nn.Module:
    """A convolution, zero padded, with PyTorch's default weights and a bias of 0."""
    if spectral:
        return SpectralConv2d(inputs, outputs, kernel, stride, padding, bias)
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=bias)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def make_doubling_conv(inputs: int, outputs: int, kernel: int, *, bias: bool) -> nn.Module:
    """A transposed convolution that doubles a side: kernel 4 (U-Net) or 3 (ResNet), stride 2, padding 1, bias 0."""
    conv = nn.ConvTranspose2d(inputs, outputs, kernel, stride=2, padding=1, output_padding=kernel % 2, bias=bias)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def initialise(network: nn.Module, initial: Initial) -> None:
    """Draw the weights of all convolutions, and the scales of batch norm around 1, with a gain of 0.02.

    `pytorch` keeps PyTorch's weights. Source: init_weights of the pix2pix/CycleGAN and CUT repositories.
    """
    if initial is Initial.PYTORCH:
        return
    for module in network.modules():
        match module:
            case SpectralConv2d():
                _draw(module.weight_orig, initial)
            case nn.Conv2d() | nn.ConvTranspose2d():
                _draw(module.weight, initial)
            case nn.BatchNorm2d():
                nn.init.normal_(module.weight, 1.0, INITIAL_GAIN)


def _draw(weight: Tensor, initial: Initial) -> None:
    if initial is Initial.NORMAL:
        nn.init.normal_(weight, 0.0, INITIAL_GAIN)
    else:
        nn.init.xavier_normal_(weight, INITIAL_GAIN)


def convolve(conv: nn.Module, x: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor | None]:
    """A convolution before `norm`, [B,in,H,W] -> [B,out,h,w], and its bias [out] where a fused kernel takes it over.

    A norm takes a bias off again, so that adding it, and summing its gradient, would be two readings of the map for
    nothing; without a norm the kernel of the activation adds it.
    """
    bias = conv.bias
    if not isinstance(bias, Tensor) or not takes_bias(norm, x):
        features: Tensor = conv(x)
        return features, None
    match conv:
        case SpectralConv2d():
            return conv.convolve(x, biased=False), bias
        case nn.Conv2d(padding=tuple(padding)):
            return F.conv2d(x, conv.weight, None, conv.stride, padding), bias
        case nn.ConvTranspose2d(padding=tuple(padding)):
            return F.conv_transpose2d(x, conv.weight, None, conv.stride, padding, conv.output_padding), bias
    raise AssertionError(f"a convolution of type {type(conv)}")


class Stage(nn.Module):
    """Convolution, norm, activation."""

    def __init__(self, conv: nn.Module, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """[B,in,H,W] -> [B,out,h,w]."""
        return norm_then(self.norm, *convolve(self.conv, x, self.norm), self.activation)


class TappedStage(nn.Module):
    """A stage that also returns the output of its convolution, before the norm."""

    def __init__(self, conv: nn.Module, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B,in,H,W] -> before the norm, and activated, both [B,out,h,w]."""
        features: Tensor = self.conv(x)
        return features, norm_then(self.norm, features, None, self.activation)


class ResidualBlock(nn.Module):
    """x + [pad, conv 3x3, norm, ReLU, dropout, pad, conv 3x3, norm](x), reflection padded; no activation at the end."""

    def __init__(self, channels: int, norm: Norm, spectral: bool, dropout: bool = False) -> None:
        super().__init__()
        bias = norm is not Norm.BATCH
        self.first = make_conv(channels, channels, 3, spectral=spectral, bias=bias)
        self.first_norm = make_norm(norm, channels)
        self.dropout = nn.Dropout(DROPPED) if dropout else nn.Identity()
        self.second = make_conv(channels, channels, 3, spectral=spectral, bias=bias)
        self.second_norm = make_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] to the same shape."""
        return self.chained(x, reflect_pad(x, 1), margin=0)[0]

    def chained(self, x: Tensor, padded: Tensor, margin: int) -> tuple[Tensor, Tensor]:
        """The block's output, and it mirrored by `margin` px for the next block; x mirrored by 1 px is `padded`."""
        first = convolve(self.first, padded, self.first_norm)
        if isinstance(self.dropout, nn.Dropout) and self.dropout.training:
            inner = reflect_pad(self.dropout(norm_then(self.first_norm, *first, RELU)), 1)
        else:
            inner = norm_then(self.first_norm, *first, RELU, margin=1)
        return add_norm(x, self.second_norm, *convolve(self.second, inner, self.second_norm), margin)


def run_blocks(blocks: nn.ModuleList, x: Tensor) -> Iterator[Tensor]:
    """The outputs of blocks that follow each other, [B,C,H,W] each.

    With fused kernels the sum of a block is written once, padded for the next block.
    """
    if not launching.takes(x):
        for block in blocks:
            x = block(x)
            yield x
        return
    padded = reflect_pad(x, 1)
    for place, block in enumerate(blocks, start=1):
        assert isinstance(block, ResidualBlock)
        x, padded = block.chained(x, padded, margin=1 if place < len(blocks) else 0)
        yield x
