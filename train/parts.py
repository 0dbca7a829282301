"""What methods are put together from: players' names, networks by settings, and the discriminator's two terms."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from store.schema import SettingsError
from train.choices import Network, Resampling
from train.discriminators import PatchDiscriminator
from train.generators import ResnetGenerator
from train.layers import initialise
from train.settings import TrainSettings
from train.unet import UnetGenerator

DISCRIMINATOR, GENERATOR = "discriminator", "generator"


def make_generator(settings: TrainSettings) -> ResnetGenerator | UnetGenerator:
    """A fresh generator with its initial weights. Raises SettingsError where its settings do not go together."""
    wanted = settings.generator
    unet = wanted.network is Network.UNET
    if unet and wanted.attention.enabled:
        raise SettingsError(
            "generator.network = unet with generator.attention.enabled = true: AMMFI joins the levels of a ResNet; set "
            "generator.attention.enabled=false, or generator.network=resnet"
        )
    if wanted.spectral and (unet or wanted.resampling is Resampling.STRIDED):
        raise SettingsError(
            "generator.spectral = true with transposed convolutions: spectral norm is published for the blurred ResNet "
            "only; set generator.spectral=false"
        )
    network = UnetGenerator(wanted) if unet else ResnetGenerator(wanted)
    initialise(network, settings.initial)
    return network


def make_discriminator(settings: TrainSettings) -> PatchDiscriminator:
    """A fresh discriminator with its initial weights."""
    network = PatchDiscriminator(settings.discriminator)
    initialise(network, settings.initial)
    return network


def adversarial_pair(
    objective: Callable[[Tensor, float], Tensor], *, fake: Tensor, real: Tensor, of: str = DISCRIMINATOR
) -> dict[str, Tensor]:
    """A discriminator's terms: half of each verdict's distance, 0 asked of fakes and 1 of real pictures.

    Verdicts [B,1,h,w]. Source: all repositories compared here.
    """
    return {
        f"{of}_fake": 0.5 * objective(fake, 0.0).mean(),
        f"{of}_real": 0.5 * objective(real, 1.0).mean(),
    }
