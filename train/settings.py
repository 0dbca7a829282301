"""Every setting of training on one page. A default is the published value or our reading of the paper, with its source.

Letters with numbers (G1, L4, M8, E6) are the open questions of the paper's text, listed in `train/README.md`. "ASP
launcher" is experiments/mist_launcher.py of the ASP repository.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from store.schema import FORBID_UNKNOWN, SettingsError


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
    """How sides are halved and doubled: with blurs, as in CUT and ASP, or by strided and transposed convolutions."""

    BLURRED = "blurred"
    STRIDED = "strided"


class Initial(StrEnum):
    """Initial weights of generators and discriminators: PyTorch's, or normal or Xavier normal, gain 0.02 (L10)."""

    PYTORCH = "pytorch"
    NORMAL = "normal"
    XAVIER = "xavier"


class AtTest(StrEnum):
    """The mode in which a trained generator translates: evaluation, or training as in the published test scripts (E6).

    In training mode batch norm uses the statistics of the picture itself, and dropout is active.
    """

    EVALUATION = "evaluation"
    TRAINING = "training"


class Objective(StrEnum):
    """The adversarial objective (L1)."""

    LEAST_SQUARES = "least_squares"
    CROSS_ENTROPY = "cross_entropy"


class UnitLength(StrEnum):
    """How projected patches get unit length: CUT divides by length + 1e-7, ASP first adds 1e-7 to every component."""

    ASP = "asp"
    CUT = "cut"


class RateStep(StrEnum):
    """When the learning rate steps: after an epoch (CUT, ASP), or before it, so that decay starts one epoch earlier."""

    AFTER = "after"
    BEFORE = "before"


class Levels(StrEnum):
    """Which encoder and decoder levels AMMFI joins: the two lowest, the two that a U-Net would join, or all (G7)."""

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
    """Eq. (3): spatial attention on f'', or on f'' with channel attention a second time (G10, readings A and B)."""

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
    """How an epoch samples its pairs: with replacement, as in the ASP repository, or each pair once."""

    REPLACEMENT = "replacement"
    SHUFFLED = "shuffled"


class Precision(StrEnum):
    """Precision of the networks; `auto` is bf16 where the device has native support for it, else fp32.

    `tf32` is float32 with products rounded to ten bits, on NVIDIA GPUs from Ampere on.
    """

    AUTO = "auto"
    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"


class Use(StrEnum):
    """Whether something is used that not every machine can do; `auto` is on where it works."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """The attention-based multi-magnification feature interaction module (AMMFI)."""

    __pydantic_config__ = FORBID_UNKNOWN

    enabled: bool = True
    levels: Levels = Levels.P1  # G7
    kernel: int = 3  # G6: the figure's caption; 1 as in Attention U-Net
    width: Width = Width.HALF  # G9
    gate: Gate = Gate.ELEMENTWISE  # G11
    order: Order = Order.ONCE  # G10
    join: Join = Join.CONCAT  # G12
    norm: Norm = Norm.INSTANCE  # G4: at batch 1 equal to the caption's batch norm in training mode
    spectral: bool = False  # G5
    relu: bool = False  # G14: eq. (1) is affine
    reduction: int = 16  # G15: CBAM
    spatial_kernel: int = 7  # G15: CBAM

    def __post_init__(self) -> None:
        if self.kernel not in (1, 3):
            raise SettingsError(f"generator.attention.kernel = {self.kernel}: must be 1 or 3")
        if self.spatial_kernel % 2 == 0 or self.spatial_kernel < 1:
            raise SettingsError(f"generator.attention.spatial_kernel = {self.spatial_kernel}: must be odd, e.g. 7")
        if self.reduction < 1:
            raise SettingsError(
                f"generator.attention.reduction = {self.reduction}: channels are divided by it, so at least 1, e.g. 16"
            )


SMALLEST_DEPTH = 5  # of a U-Net: the published one has five fixed levels and depth - 5 more


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings:
    """The ResNet of the ASP launcher with the paper's stem, or the U-Net of pix2pix, which has `depth` halvings."""

    __pydantic_config__ = FORBID_UNKNOWN

    network: Network = Network.RESNET
    base: int = 64  # ASP launcher: ngf
    blocks: int = 6  # ASP launcher: resnet_6blocks
    depth: int = 8  # pix2pix: unet_256; 7 for 128 px
    stem: int = 3  # G1: the paper's text; 7 is the published ResNet
    output: int = 7  # G2
    resampling: Resampling = Resampling.BLURRED  # ASP launcher: no_antialias false
    norm: Norm = Norm.INSTANCE  # G3
    spectral: bool = True  # ASP launcher: weight_norm spectral
    dropout: bool = False  # ASP launcher: no_dropout
    at_test: AtTest = AtTest.EVALUATION  # E6: no difference with instance norm and without dropout
    attention: AttentionSettings = field(default_factory=AttentionSettings)

    def __post_init__(self) -> None:
        for name, value in (("stem", self.stem), ("output", self.output)):
            if value not in (3, 7):
                raise SettingsError(f"generator.{name} = {value}: must be 3 or 7")
        if self.base < 4 or self.blocks < 5:
            raise SettingsError(
                f"generator.base = {self.base}, blocks = {self.blocks}: base must be at least 4, and blocks at least 5 "
                "because PatchNCE taps the fifth"
            )
        if self.depth < SMALLEST_DEPTH:
            raise SettingsError(
                f"generator.depth = {self.depth}: the U-Net has at least {SMALLEST_DEPTH} levels; 8 as published"
            )


@dataclass(frozen=True, kw_only=True)
class DiscriminatorSettings:
    """PatchGAN of the ASP launcher."""

    __pydantic_config__ = FORBID_UNKNOWN

    base: int = 32  # ASP launcher: ndf
    layers: int = 5  # L3
    resampling: Resampling = Resampling.BLURRED  # ASP launcher: no_antialias false
    norm: Norm = Norm.INSTANCE  # ASP launcher: normD
    spectral: bool = True  # ASP launcher: weight_norm spectral
    conditional: bool = False  # L2: that of ASP sees the IHC only, that of pix2pix H&E and IHC

    def __post_init__(self) -> None:
        if self.base < 1 or self.layers < 1:
            raise SettingsError(
                f"discriminator.base = {self.base}, layers = {self.layers}: both must be at least 1, e.g. 32 and 5"
            )


@dataclass(frozen=True, kw_only=True)
class ContrastSettings:
    """What PatchNCE and ASP share: sampled patches, projection heads, temperature."""

    __pydantic_config__ = FORBID_UNKNOWN

    patches: int = 256  # ASP launcher: num_patches
    width: int = 256  # CUT: netF_nc
    temperature: float = 0.07  # CUT: nce_T
    unit_length: UnitLength = UnitLength.ASP
    flip_equivariance: bool = False  # ASP launcher; FastCUT: in half of the steps translate mirrored pictures
    share_passes: bool = True  # features of `he` come from its translation; false encodes it again, as published

    def __post_init__(self) -> None:
        if self.patches < 2 or self.width < 1 or not 0 < self.temperature < inf:
            raise SettingsError(
                f"contrast.patches = {self.patches}, width = {self.width}, temperature = {self.temperature}: "
                "needs at least 2 patches, a width of at least 1 and a temperature above 0, e.g. 256, 256 and 0.07"
            )


@dataclass(frozen=True, kw_only=True)
class WeightSettings:
    """Weights of the losses: the four of eq. (7), then those of other methods. A method reads those of its terms."""

    __pydantic_config__ = FORBID_UNKNOWN

    adversarial: float = 1.0  # ASP launcher: lambda_GAN
    nce: float = 10.0  # ASP launcher: lambda_NCE
    asp: float = 10.0  # ASP launcher: lambda_asp
    pyramid: float = 10.0  # ASP launcher: lambda_gp
    l1: float = 100.0  # pix2pix: lambda_L1
    octaves: float = 25.0  # BCI repository: weight_L2, weight_L3, weight_L4
    cycle: float = 10.0  # CycleGAN: lambda_A, lambda_B
    identity: float = 0.5  # CycleGAN: lambda_identity, in units of the cycle weight
    halve_nce: bool = True  # CUT: with its identity term both NCE terms count half; false: in full, ASP's cpt_model.py

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < inf:
                raise SettingsError(f"weights.{name} = {value}: a weight is a number >= 0; 0 switches the term off")


@dataclass(frozen=True, kw_only=True)
class AspSettings:
    """Adaptive supervised PatchNCE, ASP launcher: lambda_linear (L4)."""

    __pydantic_config__ = FORBID_UNKNOWN

    schedule: Schedule = Schedule.LAMBDA
    lookup: Lookup = Lookup.LINEAR


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What is sampled for a step: a pair, then one of `views`, then one of its pictures, then a flip."""

    __pydantic_config__ = FORBID_UNKNOWN

    views: tuple[str, ...] = ("x1", "x2", "x4")  # "tile" is a random crop of the tile at the view side, as in ASP
    view_weights: tuple[float, ...] = ()  # M8: empty, all views equally often; else one for each, e.g. 2, 1, 1
    batch: int = 1  # ASP launcher; of each process
    accumulate: int = 1  # batches of each process per step, for an effective batch that does not fit into memory
    block: int = 0  # neighbouring pairs that are read in one request, for object storage; 0 reads one by one
    buffer: int = 256  # pairs in the buffer that shuffles blocks, per process
    paired: bool = True  # false: each H&E goes with the IHC of a random pair, as CUT and CycleGAN are published
    sampling: Sampling = Sampling.REPLACEMENT  # ASP repository: the loader's index is ignored
    flip: bool = True  # ASP repository: horizontal, p = 0.5
    workers: int = 2  # processes that read the store; 0 reads in the training process

    def __post_init__(self) -> None:
        if not self.views or len(set(self.views)) < len(self.views):
            raise SettingsError(
                f"data.views = {list(self.views)}: name at least one view, each once, e.g. x1, x2, x4 or tile"
            )
        if self.view_weights and (
            len(self.view_weights) != len(self.views) or not all(0 < w < inf for w in self.view_weights)
        ):
            raise SettingsError(
                f"data.view_weights = {list(self.view_weights)}: give a number above 0 for each of the "
                f"{len(self.views)} views {list(self.views)}, e.g. {[1] * len(self.views)}, or none: all equally often"
            )
        if self.batch < 1 or self.accumulate < 1 or self.workers < 0:
            raise SettingsError(
                f"data.batch = {self.batch}, accumulate = {self.accumulate}, workers = {self.workers}: batch must "
                "be >= 1, accumulate >= 1, workers >= 0"
            )
        if self.block < 0 or self.buffer < max(1, self.block):
            raise SettingsError(
                f"data.block = {self.block}, buffer = {self.buffer}: a block has >= 0 pairs (0: no blocks), and the "
                "buffer holds at least one block, e.g. 16 and 256"
            )


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings:
    """Adam and its schedule: constant, then linear decay. An epoch is as many pairs seen as the store has."""

    __pydantic_config__ = FORBID_UNKNOWN

    learning_rate: float = 2e-4  # ASP launcher: lr, the same for all players
    beta1: float = 0.5  # ASP launcher
    beta2: float = 0.999  # ASP launcher
    constant_epochs: int = 30  # ASP launcher: n_epochs
    decay_epochs: int = 10  # ASP launcher: n_epochs_decay
    rate_step: RateStep = RateStep.AFTER  # ASP repository: train.py
    clip: float = 0.0  # a player's gradient is shortened to this length (2-norm); 0, as published: never
    stop_after_skips: int = 10  # steps in a row that move nobody, as a term or gradient is not finite; 1: at the first

    @property
    def epochs(self) -> int:
        """Length of a run in epochs."""
        return self.constant_epochs + self.decay_epochs

    def __post_init__(self) -> None:
        if self.constant_epochs < 0 or self.decay_epochs < 0 or self.epochs < 1:
            raise SettingsError(
                f"optimiser.constant_epochs = {self.constant_epochs}, decay_epochs = {self.decay_epochs}: "
                "neither may be negative, and a run needs at least one epoch"
            )
        if not 0 < self.learning_rate < inf or not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise SettingsError(
                f"optimiser.learning_rate = {self.learning_rate}, beta1 = {self.beta1}, beta2 = {self.beta2}: "
                "the rate must be above 0, the betas in [0, 1), e.g. 2e-4, 0.5 and 0.999"
            )
        if not 0 <= self.clip < inf:
            raise SettingsError(f"optimiser.clip = {self.clip}: a length above 0, e.g. 1.0, or 0 for none")
        if self.stop_after_skips < 1:
            raise SettingsError(
                f"optimiser.stop_after_skips = {self.stop_after_skips}: at least 1, which stops at the first, e.g. 10"
            )


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """A run."""

    __pydantic_config__ = FORBID_UNKNOWN

    method: str = "attention_gan"
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1, …; each of several processes uses another GPU
    precision: Precision = Precision.AUTO
    deterministic: bool = (
        False  # on a GPU: only kernels that repeat bit for bit, which are slower; a CPU always repeats
    )
    fused: Use = Use.AUTO  # on a GPU: kernels in Triton, which are faster and round otherwise than PyTorch's
    threads: int = 0  # of each process, on the CPU; 0: one for each core at the first start. Rounding depends on it
    graph: Use = Use.AUTO  # on a GPU: a step is launched as a whole, not kernel by kernel; it computes the same
    compile: bool = False  # torch.compile: a minute or two at the start, then shorter steps
    initial: Initial = Initial.PYTORCH  # L10: under spectral norm, what the published runs on a GPU had
    objective: Objective = Objective.LEAST_SQUARES  # L1: ASP launcher: gan_mode lsgan
    init_from: str = ""  # a generator file, a checkpoint or a run whose weights a run starts from; empty: fresh ones
    freeze: tuple[str, ...] = ()  # networks, or modules in them, that stay as they start, e.g. "generator.encoder"
    ema: float = 0.0  # decay of an exponential moving average of the generator, e.g. 0.999; 0, as published: none
    checkpoint_every: int = 500  # steps
    keep_every: int = 0  # steps; the last two checkpoints and those at its multiples are kept; 0: only the last two
    sample_every: int = 250  # steps
    validate_every: int = 1000  # steps; on val, which is held out by slide; 0 is never
    tensorboard: bool = True  # curves and contact sheets as event files in the run's folder
    time_limit: float = 0.0  # minutes after which a run saves and exits with code 3; 0 is none
    data: DataSettings = field(default_factory=DataSettings)
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    discriminator: DiscriminatorSettings = field(default_factory=DiscriminatorSettings)
    contrast: ContrastSettings = field(default_factory=ContrastSettings)
    weights: WeightSettings = field(default_factory=WeightSettings)
    asp: AspSettings = field(default_factory=AspSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63 or self.time_limit < 0 or not 0 <= self.ema < 1:
            raise SettingsError(
                f"seed = {self.seed}, time_limit = {self.time_limit}, ema = {self.ema}: the seed must be in "
                "[0, 2^63), minutes >= 0, the decay in [0, 1), e.g. 0.999"
            )
        if self.threads < 0:
            raise SettingsError(f"threads = {self.threads}: at least 1, or 0 for one on each core")
        if self.checkpoint_every < 1 or self.sample_every < 1 or self.keep_every < 0 or self.validate_every < 0:
            raise SettingsError(
                f"checkpoint_every = {self.checkpoint_every}, sample_every = {self.sample_every} must be >= 1 step; "
                f"keep_every = {self.keep_every}, validate_every = {self.validate_every} >= 0 steps"
            )
        for (
            name,
            value,
            most,
        ) in (  # far above what trains: a file may ask for networks that no machine holds
            ("generator.base", self.generator.base, 1024),
            ("generator.blocks", self.generator.blocks, 64),
            ("generator.depth", self.generator.depth, 14),
            ("generator.attention.reduction", self.generator.attention.reduction, 4096),
            ("generator.attention.spatial_kernel", self.generator.attention.spatial_kernel, 63),
            ("discriminator.base", self.discriminator.base, 1024),
            ("discriminator.layers", self.discriminator.layers, 14),
            ("contrast.patches", self.contrast.patches, 1 << 20),
            ("contrast.width", self.contrast.width, 1 << 14),
            ("parts to freeze", len(self.freeze), 4096),
            ("data.views", len(self.data.views), 64),
            ("data.batch", self.data.batch, 1 << 16),
            ("data.accumulate", self.data.accumulate, 1 << 16),
            ("data.block", self.data.block, 1 << 20),
            ("data.buffer", self.data.buffer, 1 << 20),
            ("data.workers", self.data.workers, 1024),
            ("optimiser epochs", self.optimiser.epochs, 1_000_000),
        ):
            if value > most:
                raise SettingsError(f"{name} = {value}: must be at most {most:,}")
