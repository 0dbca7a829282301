"""Small generators of each method, and pictures for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tests.support.places import ROOT
from train.methods.recipes import load_recipe
from train.networks.build import make_generator
from train.networks.resnet import ResnetGenerator
from train.networks.unet import UnetGenerator
from train.settings import GeneratorSettings, Order, TrainSettings


def small_settings(method: str) -> GeneratorSettings:
    """The generator of a preset with 4 base channels and without dropout; a U-Net has 5 levels.

    `twice` is the other reading of the paper, which asks each channel attention twice.
    """
    preset = "attention_gan" if method == "twice" else method
    found = load_recipe([ROOT / "train" / "presets" / f"{preset}.toml"], []).generator
    order = replace(found.attention, order=Order.TWICE) if method == "twice" else found.attention
    return replace(found, base=4, depth=5, dropout=False, attention=order)


def drawn_generator(settings: GeneratorSettings) -> ResnetGenerator | UnetGenerator:
    """A generator whose weights were drawn, after enough passes for its spectral norms to have settled."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        generator = make_generator(TrainSettings(generator=settings))
        for _ in range(10 * settings.spectral):
            generator(torch.zeros(1, 3, 8, 8))
        return generator


def drawn_picture(height: int, width: int, batch: int = 1, seed: int = 0) -> Tensor:
    """Pictures whose colours differ from place to place, signed [B,3,H,W]."""
    draw = np.random.default_rng(seed)
    coarse = torch.from_numpy(draw.uniform(-0.8, 0.8, (batch, 3, -(-height // 48), -(-width // 48))))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    fine = torch.from_numpy(draw.uniform(-0.3, 0.3, (batch, 3, height, width)))
    return (smooth + fine).clamp(-1, 1).float()
