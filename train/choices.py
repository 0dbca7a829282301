"""What a setting can be chosen from. G numbers are the open questions listed in `train/README.md`."""

from __future__ import annotations

from enum import StrEnum


class Norm(StrEnum):
    """A normalisation layer."""

    INSTANCE = "instance"
    BATCH = "batch"
    NONE = "none"


class Levels(StrEnum):
    """Which encoder and decoder levels AMMFI joins: the two deepest, the two a U-Net would take, or all three (G7)."""

    P1 = "p1"
    P2 = "p2"
    P3 = "p3"


class Width(StrEnum):
    """Channels of each AMMFI projection: half of the level's, or all of them (G9)."""

    HALF = "half"
    FULL = "full"


class Gate(StrEnum):
    """One gate value per channel and position, or one per position as in Attention U-Net (G11)."""

    ELEMENTWISE = "elementwise"
    SINGLE = "single"


class Order(StrEnum):
    """Eq. (3): spatial attention on f'', or on f'' weighted by channel attention once more (G10, readings A and B)."""

    ONCE = "once"
    TWICE = "twice"


class Join(StrEnum):
    """How the gated encoder feature meets the decoder feature (G12)."""

    CONCAT = "concat"
    ADD = "add"
    MULTIPLY = "multiply"


class Schedule(StrEnum):
    """g(t) of the adaptive supervised loss."""

    ZERO = "zero"
    LINEAR = "linear"
    SIGMOID = "sigmoid"
    LAMBDA = "lambda"


class Lookup(StrEnum):
    """h(x) of the adaptive supervised loss."""

    UNIFORM = "uniform"
    LINEAR = "linear"
    TOP = "top"
    BELL = "bell"


class Sampling(StrEnum):
    """How an epoch draws its pairs: with replacement, as the ASP repository does, or each once."""

    REPLACEMENT = "replacement"
    SHUFFLED = "shuffled"


class Precision(StrEnum):
    """Arithmetic of the networks; `auto` is bf16 where the device computes it natively, else fp32."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
