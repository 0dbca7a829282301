"""Generators that learned nothing, with weights of spectral norm and running statistics as training leaves them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.run.generator_file import FORMAT, GeneratorHeader, save_generator
from train.settings import TrainSettings

ITERATIONS = 10  # of the power iteration: before, outputs are a hundred times too large


def settled(settings: TrainSettings, seed: int = 0) -> nn.Module:
    """A generator in training mode."""
    torch.manual_seed(seed)
    method = build_method(settings)
    side = max(2 * method.multiple, 16)
    with torch.no_grad():
        for _ in range(ITERATIONS if settings.generator.spectral or settings.generator.attention.spectral else 0):
            method.generator(torch.rand(1, 3, side, side) * 2 - 1)
        for norm in method.generator.modules():
            if isinstance(norm, nn.BatchNorm2d):
                assert norm.running_mean is not None
                norm.running_mean.normal_(std=0.1)
                norm.weight.normal_(1, 0.2)
                norm.bias.normal_(std=0.2)
    return method.generator


def settings_of(method: str, *overrides: str) -> TrainSettings:
    """A method as published, but narrow."""
    return load_recipe([], [f"method={method}", "generator.base=4", *overrides])


def save(file: Path, settings: TrainSettings, seed: int = 0) -> Path:
    """Such a generator as a file."""
    header = GeneratorHeader(
        version=FORMAT, method=settings.method, settings=settings, seal="ab" * 32, step=8, pairs_seen=8,
        view_side=64, mpp={settings.data.views[0]: 0.46},
    )  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    save_generator(file, settled(settings, seed), header)
    return file
