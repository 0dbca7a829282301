"""Small contrastive methods, and batches for them."""

from __future__ import annotations

import torch

from tests.support.tiny_run import NARROW, NARROW_CONTRAST
from train.data.batch import Batch
from train.methods.contrastive import Contrastive
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.networks.spectral_norm import SpectralConv2d
from train.settings import TrainSettings


def narrow(method: str, *overrides: str) -> TrainSettings:
    return load_recipe([], [f"method={method}", *NARROW, *NARROW_CONTRAST, *overrides])


def build(settings: TrainSettings) -> Contrastive:
    method = build_method(settings)
    assert isinstance(method, Contrastive)
    return method


def draw_batch(size: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(1)
    he, ihc = torch.rand(2, size, 3, 96, 96, generator=generator, dtype=torch.float64).mul(2).sub(1)
    return Batch(he=he, ihc=ihc)


def freeze_doubled(method: Contrastive) -> None:
    """Let spectral norms make no more iterations, as in evaluation mode, and compute in double precision.

    In single precision a ReLU within rounding of its kink changes a gradient by 1e-4.
    """
    for module in method.modules().values():
        for layer in module.double().modules():
            if isinstance(layer, SpectralConv2d):
                layer.eval()
