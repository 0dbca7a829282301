"""Every knob of training on one page. A default is the published value or the recommended reading, with its source.

Those of the networks are in `train/network_settings.py`. L and M numbers are the open questions of the paper's text as
listed in `train/README.md`. Weights are plain factors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from store.schema import FORBID_UNKNOWN, SettingsError
from train.choices import Initial, Lookup, Objective, Precision, RateStep, Sampling, Schedule, UnitLength
from train.network_settings import DiscriminatorSettings, GeneratorSettings


@dataclass(frozen=True, kw_only=True)
class ContrastSettings:
    """What PatchNCE and ASP share: sampled patches, projection heads, temperature."""

    __pydantic_config__ = FORBID_UNKNOWN

    patches: int = 256  # ASP launcher: num_patches
    width: int = 256  # CUT: netF_nc
    temperature: float = 0.07  # CUT: nce_T
    unit_length: UnitLength = UnitLength.ASP
    flip_equivariance: bool = False  # ASP launcher; FastCUT: translate mirrored pictures every second time
    share_passes: bool = True  # features of `he` come from its translation; false encodes them anew, as published

    def __post_init__(self) -> None:
        if self.patches < 2 or self.width < 1 or not 0 < self.temperature < inf:
            raise SettingsError(
                f"contrast.patches = {self.patches}, width = {self.width}, temperature = {self.temperature}: at "
                "least 2 patches to tell apart, a width of at least 1, a temperature above 0, e.g. 256, 256 and 0.07"
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

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < inf:
                raise SettingsError(f"weights.{name} = {value}: a weight is a number >= 0; 0 silences the term")


@dataclass(frozen=True, kw_only=True)
class AspSettings:
    """Adaptive supervised PatchNCE, ASP launcher: lambda_linear (L4)."""

    __pydantic_config__ = FORBID_UNKNOWN

    schedule: Schedule = Schedule.LAMBDA
    lookup: Lookup = Lookup.LINEAR


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What a draw is: a pair, then one of `views`, then one of its pictures, then a flip."""

    __pydantic_config__ = FORBID_UNKNOWN

    views: tuple[str, ...] = ("x1", "x2", "x4")  # "tile" is a random crop of the tile at the view side, as in ASP
    view_weights: tuple[float, ...] = ()  # M8: none, all views alike; else one for each, e.g. 2, 1, 1
    batch: int = 1  # ASP launcher; of each process
    accumulate: int = 1  # batches of each process that one step adds up, for an effective batch that memory cannot hold
    block: int = 0  # neighbouring pairs that are read at once and then shuffled, for object storage; 0 reads one by one
    buffer: int = 256  # pairs among which blocks are shuffled, per process
    paired: bool = True  # false: each picture goes with the IHC of any pair, as CUT and CycleGAN are published
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
                f"{len(self.views)} views {list(self.views)}, e.g. {[1] * len(self.views)}, or none for all alike"
            )
        if self.batch < 1 or self.accumulate < 1 or self.workers < 0:
            raise SettingsError(
                f"data.batch = {self.batch}, accumulate = {self.accumulate}, workers = {self.workers}: batch must "
                "be >= 1, accumulate >= 1, workers >= 0"
            )
        if self.block < 0 or self.buffer < max(1, self.block):
            raise SettingsError(
                f"data.block = {self.block}, buffer = {self.buffer}: a block is >= 0 pairs (0: none), and the buffer "
                "holds at least one block, e.g. 16 and 256"
            )


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings:
    """Adam and its schedule: constant, then linear decay, in epochs of as many draws as there are pairs."""

    __pydantic_config__ = FORBID_UNKNOWN

    learning_rate: float = 2e-4  # ASP launcher: lr, for all players alike
    beta1: float = 0.5  # ASP launcher
    beta2: float = 0.999  # ASP launcher
    constant_epochs: int = 30  # ASP launcher: n_epochs
    decay_epochs: int = 10  # ASP launcher: n_epochs_decay
    rate_step: RateStep = RateStep.AFTER  # ASP repository: train.py
    clip: float = 0.0  # longest gradient of a player (2-norm) that is not shortened; 0, as published, shortens none

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


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """A run."""

    __pydantic_config__ = FORBID_UNKNOWN

    method: str = "attention_gan"
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1, …; of several processes, each takes a GPU of its own
    precision: Precision = Precision.AUTO
    deterministic: bool = False  # on a GPU: only kernels that repeat bit for bit, which are slower; a CPU always does
    compile: bool = False  # torch.compile: a minute or two at the start, then shorter steps
    initial: Initial = Initial.PYTORCH  # L10: under spectral norm, what the published runs on a GPU had
    objective: Objective = Objective.LEAST_SQUARES  # L1: ASP launcher: gan_mode lsgan
    ema: float = (
        0.0  # share that a moving average of the generator keeps in a step, e.g. 0.999; 0, as published, is none
    )
    checkpoint_every: int = 500  # steps
    keep_every: int = 0  # steps; checkpoints at its multiples stay when newer ones push the others out; 0: none stays
    sample_every: int = 250  # steps
    validate_every: int = 1000  # steps; of val, which is held out by slide; 0 is never
    tensorboard: bool = True  # scalars and contact sheets as event files in the run's folder
    time_limit: float = 0.0  # minutes after which a run saves and leaves with exit code 3; 0 is none
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
                "[0, 2^63), minutes >= 0, the share in [0, 1), e.g. 0.999"
            )
        if self.checkpoint_every < 1 or self.sample_every < 1 or self.keep_every < 0 or self.validate_every < 0:
            raise SettingsError(
                f"checkpoint_every = {self.checkpoint_every}, sample_every = {self.sample_every} must be >= 1 step; "
                f"keep_every = {self.keep_every}, validate_every = {self.validate_every} >= 0 steps"
            )
