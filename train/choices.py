"""What a setting can be chosen from. G numbers are the open questions listed in `train/README.md`."""

from __future__ import annotations

from enum import StrEnum


class Norm(StrEnum):
    """A normalisation layer."""

    INSTANCE = "instance"
    BATCH = "batch"
    NONE = "none"


class Network(StrEnum):
    """A generator's architecture."""

    RESNET = "resnet"
    UNET = "unet"


class Resampling(StrEnum):
    """How sides are halved and doubled: blurred, as in CUT and ASP, or by strided and transposed convolutions."""

    BLURRED = "blurred"
    STRIDED = "strided"


class Initial(StrEnum):
    """Initial weights of generators and discriminators: PyTorch's, or normal or Xavier normal, gain 0.02 (L10)."""

    PYTORCH = "pytorch"
    NORMAL = "normal"
    XAVIER = "xavier"


class AtTest(StrEnum):
    """How a generator translates when it is trained: in evaluation mode, or as the published test scripts leave it.

    Left in training mode batch norm takes the statistics of the one picture, and dropout goes on (E6).
    """

    EVALUATION = "evaluation"
    TRAINING = "training"


class Objective(StrEnum):
    """The adversarial objective (L1)."""

    LEAST_SQUARES = "least_squares"
    CROSS_ENTROPY = "cross_entropy"


class UnitLength(StrEnum):
    """How projected patches get unit length: CUT divides by length + 1e-7, ASP adds 1e-7 to every component before."""

    ASP = "asp"
    CUT = "cut"


class RateStep(StrEnum):
    """When the learning rate steps: behind an epoch (CUT, ASP), or before it, so that decay begins one earlier."""

    AFTER = "after"
    BEFORE = "before"


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
    """Arithmetic of the networks; `auto` is bf16 where the device computes it natively, else fp32.

    `tf32` is float32 whose products are rounded to ten bits, on NVIDIA GPUs from Ampere on.
    """

    AUTO = "auto"
    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
