"""Instance and batch norm that give a map without variance no gradient, and the same for pictures.

A map that is one value, of glass that is white to the last bit, has no variance: the norm multiplies its gradient by
1 / sqrt(1e-5) = 316, and in bf16, where rounding is 2^-8 of it, each norm makes more noise than it was given: 1e17
after the norms of CUT. What such a map varies by is rounding, so it becomes 0, the exact result, and passes no gradient
on. Maps of real pictures vary by more; their numbers do not change.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from train.kernels import launching
from train.networks.moments import TakesMoments
from train.networks.resampling import reflect_pad

INSTANCE_EPSILON = 1e-5
FLAT = 1e-3
"""A picture in [-1, 1] with a smaller standard deviation is of one colour: an eighth of a grey level.

An untrained generator of CUT makes pictures with 0.014; white with one pixel of another colour has at most 2 / side.
"""
ROUNDING = 2**-8
"""A standard deviation below this share of the mean is rounding: of bf16, and of sums over a constant in float32."""


class InstanceNorm(TakesMoments, nn.Module):
    """Each channel of each picture to mean 0 and variance 1, then scaled and shifted if `affine`. Keeps [B,C,H,W].

    On CUDA it is a fused kernel, which returns maps channels last. Elsewhere it is batch norm in training mode, one
    picture at a time. `F.instance_norm` must not be used: on a CPU it returns wrong gradients at batch 1 when the
    incoming gradient is channels-last. Group norm and `var_mean` are correct but slow: 1x64x128x128 channels-last takes
    2.1 ms (bf16 0.9) here, 5.1 (16.9) and 11.7 (8.4) with them. Scale and shift are always passed, in float32: without
    them the bf16 kernel rounds twice, 2 % off at a mean of ten standard deviations. Channels-last on a CPU the kernel
    sums without compensation: in float32 it is 2e-6 off at 256 px, the contiguous kernel 5e-8. A map of one position
    has no variance and is refused with a ValueError.
    """

    weight: Tensor
    bias: Tensor
    eps = INSTANCE_EPSILON

    def __init__(self, channels: int, affine: bool = False) -> None:
        super().__init__()
        if affine:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        else:
            self.register_buffer("weight", torch.ones(channels), persistent=False)
            self.register_buffer("bias", torch.zeros(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] to the same shape, normalised over H and W."""
        if self.moments is not None:
            return self.moments.normalise(x, self.weight, self.bias, INSTANCE_EPSILON)
        if fuses(self, x):
            return _fuse(self, x, None, 1.0, 0)
        pictures = [normalise(picture, self.weight, self.bias, INSTANCE_EPSILON)[0] for picture in torch.split(x, 1)]
        return pictures[0] if len(pictures) == 1 else torch.cat(pictures)


class BatchNorm(TakesMoments, nn.BatchNorm2d):
    """PyTorch's batch norm, with `normalise` in training mode; state and names are the same."""

    def forward(self, x: Tensor) -> Tensor:
        """[B,C,H,W] to the same shape, normalised over B, H and W in training mode, else by the running statistics."""
        if not self.training:
            normalised: Tensor = super().forward(x)
            return normalised
        if self.moments is not None:
            return self.moments.normalise(x, self.weight, self.bias, self.eps)
        if fuses(self, x):
            return _fuse(self, x, None, 1.0, 0)
        normalised, mean, variance = normalise(x, self.weight, self.bias, self.eps)
        self.keep(mean, variance)
        return normalised

    def keep(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch, [C] each."""
        if self.track_running_stats:
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)


def norm_then(norm: nn.Module, x: Tensor, bias: Tensor | None, activation: nn.Module, margin: int = 0) -> Tensor:
    """Maps [B,C,H,W] through `norm` and `activation`, then mirrored by `margin` px on each side; fused on CUDA.

    bias: [C], of the convolution before, if it did not add it (`takes_bias`). The fused kernels keep `x` for the
    gradient, and no other map of its size.
    """
    slope = _slope(activation)
    if slope is not None and fuses(norm, x):
        return _fuse(norm, x, bias, slope, margin)
    if slope is not None and bias is not None and isinstance(norm, nn.Identity) and launching.takes(x, bias):
        from train.kernels.norm_gradients import Fused
        from train.kernels.norms import activate

        return activate(x, bias, Fused(slope=slope, margin=margin))
    made: Tensor = activation(norm(_shifted(x, bias)))
    return reflect_pad(made, margin) if margin else made


def add_norm(
    residual: Tensor, norm: nn.Module, x: Tensor, bias: Tensor | None = None, margin: int = 0
) -> tuple[Tensor, Tensor]:
    """The sum residual + norm(x), [B,C,H,W], and that sum mirrored by `margin` px on each side; fused on CUDA.

    bias: as in `norm_then`. Fused, the first is the inner part of the second.
    """
    if residual.dtype == x.dtype and launching.takes(residual) and fuses(norm, x):
        from train.kernels.norm_gradients import Fused
        from train.kernels.norms import normalise_and_add

        fused = Fused(epsilon=norm.eps, shared=_shared(norm, x), margin=margin)
        summed, padded, *found = normalise_and_add(x, norm.weight, norm.bias, bias, residual, fused)
        _keep(norm, *found)
        return summed, padded
    summed = residual + norm(_shifted(x, bias))
    return summed, reflect_pad(summed, margin) if margin else summed


def takes_bias(norm: nn.Module, x: Tensor) -> bool:
    """Whether `norm_then` or `add_norm` is to take over the bias of the convolution of `x` before them."""
    return fuses(norm, x) or (isinstance(norm, nn.Identity) and launching.takes(x))


def fuses(norm: nn.Module, x: Tensor) -> TypeGuard[InstanceNorm | BatchNorm]:
    """Whether a fused kernel normalises `x`; by given statistics, or running ones, PyTorch does."""
    if not isinstance(norm, InstanceNorm | BatchNorm) or norm.moments is not None:
        return False
    if isinstance(norm, BatchNorm) and not norm.training:
        return False
    return launching.takes(x, norm.weight, norm.bias)


def _fuse(norm: InstanceNorm | BatchNorm, x: Tensor, bias: Tensor | None, slope: float, margin: int) -> Tensor:
    from train.kernels import norms as kernels
    from train.kernels.norm_gradients import Fused

    fused = Fused(epsilon=norm.eps, shared=_shared(norm, x), slope=slope, margin=margin)
    made, *found = kernels.normalise(x, norm.weight, norm.bias, bias, fused)
    _keep(norm, *found)
    return made


def _shifted(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias.to(x.dtype)[:, None, None]


def _shared(norm: nn.Module, x: Tensor) -> bool:
    """Whether the pictures of a batch share their statistics. Raises ValueError for one position."""
    shared = isinstance(norm, BatchNorm)
    _check_positions(x if shared else x[:1])
    return shared


def _keep(norm: nn.Module, mean: Tensor, variance: Tensor) -> None:
    if isinstance(norm, BatchNorm):
        norm.keep(mean[0], variance[0])


def _slope(activation: nn.Module) -> float | None:
    """What an activation multiplies values below 0 by, if that is all that it does."""
    match activation:
        case nn.Identity():
            return 1.0
        case nn.ReLU():
            return 0.0
        case nn.LeakyReLU():
            return float(activation.negative_slope)
    return None


def without_gradient_of_flat(picture: Tensor, made: Tensor) -> Tensor:
    """What a network made from pictures, without the gradient of those that are of one colour.

    picture: signed [B,C,H,W]; made: [B,...] with as many axes. Only zero padding makes the maps of such a picture vary,
    often by less than 1e-5, and each norm multiplies the gradient of that by 316.
    """
    if launching.takes(picture, made):
        from train.kernels.norms import pass_gradient_of_varied

        return pass_gradient_of_varied(picture.detach(), made, FLAT)
    flat = (picture.detach().std(dim=(2, 3), keepdim=True) < FLAT).all(dim=1, keepdim=True)  # [B,1,1,1]
    return torch.where(flat, made.detach(), made)


def normalise(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Each channel of [B,C,H,W] to mean 0 and variance 1, times weight, plus bias, [C] each; keeps the memory format.

    Also returns each channel's mean and unbiased variance, [C], without gradient. Where the variance is rounding, the
    result is the bias, and no gradient reaches `x`. Raises ValueError for one position.
    """
    _check_positions(x)
    if torch.compiler.is_compiling():
        return _formula(x, weight, bias, epsilon)
    result: tuple[Tensor, Tensor, Tensor] = _Normalise.apply(x, weight, bias, epsilon)
    return result


class _Normalise(torch.autograd.Function):
    """PyTorch's kernels; the inverse deviation that they keep for the gradient is 0 where the variance is rounding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = torch.zeros_like(weight), torch.zeros_like(weight)  # momentum 1 writes the statistics there
        made, saved, inverse = torch.native_batch_norm(x, weight, bias, mean, variance, True, 1.0, epsilon)
        varying = varies(mean, variance)
        seen = made.is_cpu and type(made) is Tensor  # a GPU would be waited for, and a fake tensor has no values
        if not (seen and varying.all()):
            made = torch.where(varying[:, None, None], made, bias.to(made.dtype)[:, None, None])
        ctx.save_for_backward(x, weight, saved, torch.where(varying, inverse, 0))
        ctx.epsilon = epsilon
        ctx.mark_non_differentiable(mean, variance)
        return made, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        found = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean, inverse, True, ctx.epsilon, [True, *wanted[1:]]
        )
        return *(g if needed else None for g, needed in zip(found, wanted, strict=True)), None


def _formula(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same for the compiler, which fuses it."""
    wide = x.to(weight.dtype)
    variance, mean = torch.var_mean(wide, dim=(0, 2, 3), correction=0)
    count = x.numel() // x.shape[1]
    unbiased = variance.detach() * (count / (count - 1))
    inverse = torch.where(varies(mean.detach(), unbiased), (variance + epsilon).rsqrt(), 0)
    centred = (wide - mean[:, None, None]) * (inverse * weight)[:, None, None]
    return (centred + bias[:, None, None]).to(x.dtype), mean.detach(), unbiased


def varies(mean: Tensor, variance: Tensor) -> Tensor:
    """Whether a channel varies by more than rounding, bool [C]; one that is not finite does."""
    return ~(variance <= (ROUNDING * mean).square())


def _check_positions(x: Tensor) -> None:
    if x.numel() == x.shape[1]:
        raise ValueError(f"a norm needs more than 1 value per channel, got a map of shape {tuple(x.shape)}")
