"""AMMFI, the paper's attention-based multi-magnification feature interaction: eq. (1) to eq. (3).

Encoder feature f_e and decoder feature f_d of one level have the same C channels and the same side; a projection has
C_i. Gates and attention maps are in (0,1). Sources: the target paper; Woo et al., CBAM: Convolutional Block Attention
Module, ECCV 2018, for both attentions; Oktay et al., Attention U-Net: Learning Where to Look for the Pancreas, MIDL
2018, for the alternatives in `AttentionSettings`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from train.kernels import launching
from train.networks.layers import NONE, RELU, convolve, make_conv, make_norm
from train.networks.moments import TakesMoments
from train.networks.norms import norm_then
from train.settings import AttentionSettings, Gate, Join, Order, Width

JOINS: dict[Join, Callable[[Tensor, Tensor], Tensor]] = {
    Join.CONCAT: lambda decoded, gated: torch.cat((decoded, gated), dim=1),  # [B,2C,h,w]
    Join.ADD: torch.add,
    Join.MULTIPLY: torch.mul,
}


class ChannelAttention(TakesMoments, nn.Module):
    """M_c of CBAM: a shared two-layer perceptron on the mean and on the maximum of each channel."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.perceptron = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, features: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,C,1,1] in (0,1); with moments that vary from place to place [B,C,H,W]."""
        if self.moments is not None:
            return self.moments.gate(features, self.gate)
        mean = features.mean(dim=(2, 3))  # [B,C]
        peak = features.amax(dim=(2, 3))  # [B,C]
        return self.gate(mean, peak)[:, :, None, None]

    def gate(self, mean: Tensor, peak: Tensor) -> Tensor:
        """The factor of each channel by its mean and maximum, [B,C] each -> [B,C] in (0,1)."""
        return torch.sigmoid(self.perceptron(mean) + self.perceptron(peak))


class SpatialAttention(nn.Module):
    """M_s of CBAM's formula: a convolution on the maximum and the mean over the channels, without batch norm."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """[B,C,H,W] -> [B,1,H,W] in (0,1)."""
        return torch.sigmoid(self.conv(pool_channels(features)))


def pool_channels(features: Tensor) -> Tensor:
    """Maximum and mean over the channels of [B,C,H,W], [B,2,H,W]; fused on CUDA."""
    if launching.takes(features):
        from train.kernels import attention

        return attention.pool_channels(features)
    peak, mean = features.amax(dim=1, keepdim=True), features.mean(dim=1, keepdim=True)
    return torch.cat((peak, mean), dim=1)


class Projection(nn.Sequential):
    """W f + b of eq. (1) with its norm, C -> C_i, and a ReLU if `relu`."""

    def __init__(self, channels: int, width: int, settings: AttentionSettings) -> None:
        conv = make_conv(channels, width, settings.kernel, spectral=settings.spectral, padding=settings.kernel // 2)
        super().__init__(conv, make_norm(settings.norm, width, affine=True))
        self.relu = settings.relu

    def forward(self, feature: Tensor) -> Tensor:
        """[B,C,h,w] -> [B,C_i,h,w]."""
        conv, norm = self
        return norm_then(norm, *convolve(conv, feature, norm), RELU if self.relu else NONE)


class AMMFI(nn.Module):
    """Gates the encoder feature of one level by both features and joins it with the decoder feature."""

    def __init__(self, channels: int, settings: AttentionSettings) -> None:
        super().__init__()
        width = channels // 2 if settings.width is Width.HALF else channels
        gates = channels if settings.gate is Gate.ELEMENTWISE else 1
        self.encoder_projection = Projection(channels, width, settings)
        self.decoder_projection = Projection(channels, width, settings)
        self.channel_attention = ChannelAttention(2 * width, settings.reduction)
        self.spatial_attention = SpatialAttention(settings.spatial_kernel)
        self.gate_conv = make_conv(
            2 * width, gates, settings.kernel, spectral=settings.spectral, padding=settings.kernel // 2
        )
        self.twice = settings.order is Order.TWICE
        self.join = JOINS[settings.join]
        self.concatenates = settings.join is Join.CONCAT

    def forward(self, encoded: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """f_e, f_d [B,C,h,w] -> the joined feature [B,2C,h,w] (concatenated) or [B,C,h,w], and the gate [B,C|1,h,w]."""
        logits = self.gate_logits(self.weigh_channels(self.project(encoded, decoded)))
        maps = (logits, encoded, decoded)
        if self.concatenates and len({(x.shape, x.dtype) for x in maps}) == 1 and launching.takes(*maps):
            from train.kernels import attention

            return attention.gate_and_concatenate(*maps)
        gate = torch.sigmoid(logits)
        return self.join(decoded, gate * encoded), gate

    def project(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """Projection and concatenation, eq. (1): f' = Cat(W_e f_e + b_e, W_d f_d + b_d), [B,2C_i,h,w]."""
        return torch.cat((self.encoder_projection(encoded), self.decoder_projection(decoded)), dim=1)

    def weigh_channels(self, projected: Tensor) -> Tensor:
        """Channel attention, eq. (2): f'' = M_c(f') ⊗ f', [B,2C_i,h,w]."""
        weighted: Tensor = self.channel_attention(projected) * projected
        return weighted

    def gate_logits(self, weighted: Tensor) -> Tensor:
        """Spatial attention and gate, eq. (3): f''' = M_s(f'') ⊗ f'', a = σ(W_a f''' + b), f_out = a ⊗ f_e.

        Returns W_a f''' + b.

        The printed M_s(M_c(f'')) would be one number per picture. It is read as M_s(f''), or, in the order `twice`, as
        M_s(M_c(f'') ⊗ f'').
        """
        attended = self.weigh_channels(weighted) if self.twice else weighted
        focused = self.spatial_attention(attended) * weighted  # [B,2C_i,h,w]
        logits: Tensor = self.gate_conv(focused)
        return logits
