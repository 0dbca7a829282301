"""Generators and discriminators by their settings, with initial weights."""

from __future__ import annotations

from store.schema import SettingsError
from train.networks.layers import initialise
from train.networks.patchgan import PatchDiscriminator
from train.networks.resnet import ResnetGenerator
from train.networks.unet import UnetGenerator
from train.settings import Network, Resampling, TrainSettings


def make_generator(settings: TrainSettings) -> ResnetGenerator | UnetGenerator:
    """A new generator with its initial weights. Raises SettingsError where its settings do not go together."""
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
    """A new discriminator with its initial weights."""
    network = PatchDiscriminator(settings.discriminator)
    initialise(network, settings.initial)
    return network
