"""Generators that learned nothing, with weights of spectral norm and running statistics as training leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from store.images import PictureU8
from tests.support.stores import draw_tile
from train.export.frozen import Frozen
from train.export.networks import INPUT, translation
from train.export.onnx_file import encode
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.run.generator_file import FORMAT, GeneratorHeader, save_generator
from train.settings import TrainSettings

FACTS = {"layout": "l", "range": "r"}  # what every file says
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


def without_dropout(generator: nn.Module) -> nn.Module:
    """The generator, its dropout off."""
    for module in generator.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return generator


def exported(generator: nn.Module, frozen: Frozen | None = None) -> bytes:
    """A file of the generator in the mode it is in."""
    return encode(translation(generator, frozen), FACTS, ("magstain", "0"))


def run(model: bytes, *pictures: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Pictures through a file, signed [B,3,H,W]."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [session.run(None, {INPUT: he})[0] for he in pictures]


def signed(picture: PictureU8) -> NDArray[np.float32]:
    """A picture u8 [H,W,3] as a file takes it, signed [1,3,H,W]."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / np.float32(127.5) - np.float32(1)


def drawn(batch: int, height: int, width: int) -> NDArray[np.float32]:
    """Tissue that is drawn, signed [B,3,H,W]."""
    tiles = [draw_tile(max(height, width), key)[:height, :width] for key in range(batch)]
    return np.concatenate([signed(tile) for tile in tiles])
