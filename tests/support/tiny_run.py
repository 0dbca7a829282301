"""The settings of a short run on a small store."""

from __future__ import annotations

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

TINY = TrainSettings(  # of the 8 pairs of `store`: 4 epochs of 8 steps; a line of metrics after 25 and after 32
    device="cpu",
    precision=Precision.FP32,
    checkpoint_every=10,
    sample_every=100,
    data=DataSettings(workers=0),
    generator=GeneratorSettings(base=4),
    discriminator=DiscriminatorSettings(base=4),
    contrast=ContrastSettings(patches=16, width=8),
    asp=AspSettings(schedule=Schedule.LINEAR),
    optimiser=OptimiserSettings(constant_epochs=3, decay_epochs=1),
)
