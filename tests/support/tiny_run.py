"""Small settings and the plainest device: what tests of training share."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from train.methods.registry import find_method
from train.runtime.device import Compute
from train.settings import (
    AspSettings,
    ContrastSettings,
    DataSettings,
    DiscriminatorSettings,
    GeneratorSettings,
    OptimiserSettings,
    Precision,
    Schedule,
    TrainSettings,
)

CPU = Compute(device=torch.device("cpu"), precision=Precision.FP32)
NARROW = ("precision=fp32", "device=cpu", "data.workers=0", "generator.base=4", "discriminator.base=4")
"""Narrow networks on a CPU, for any method."""
NARROW_CONTRAST = ("contrast.width=8", "contrast.patches=16")
"""The same for projection heads; only contrastive methods read these."""
ONE_EPOCH = ("optimiser.constant_epochs=1", "optimiser.decay_epochs=0")
TINY = TrainSettings(
    device="cpu",
    precision=Precision.FP32,
    checkpoint_every=10,
    sample_every=100,
    data=DataSettings(workers=0),
    generator=GeneratorSettings(base=4, blocks=5),
    discriminator=DiscriminatorSettings(base=4, layers=3),
    contrast=ContrastSettings(patches=16, width=8),
    asp=AspSettings(schedule=Schedule.LINEAR),
    optimiser=OptimiserSettings(constant_epochs=3, decay_epochs=1),
)
"""A run of 4 epochs of 8 steps on the small store; a line of metrics after 25 and after 32."""


def read_by(method: str, overrides: Sequence[str]) -> list[str]:
    """Those of `key=value` that a method reads: a method without a discriminator refuses its width."""
    return [override for override in overrides if find_method(method).reads_setting(override.partition("=")[0])]
