"""A generator with what a translation needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from train.networks.reach import reach_of
from train.networks.resnet import ResnetGenerator
from train.networks.unet import UnetGenerator
from train.run.generator_file import Trained
from train.translate.engine import Network
from train.translate.moments.collect import layout_of
from train.translate.moments.layout import Layout
from train.translate.moments.telling import about_tiles
from train.translate.plan import Sides
from train.translate.settings import TranslateSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained generator that is ready to translate, and what is computed from it once.

    `settings` are complete: the overlap and the precision are numbers and words that say what is done. `notes`: what
    holds for pictures of several tiles.
    """

    trained: Trained
    network: Network
    sides: Sides
    layout: Layout
    settings: TranslateSettings
    notes: tuple[str, ...]

    @classmethod
    def of(cls, trained: Trained, network: Network, settings: TranslateSettings) -> Model:
        """What a generator needs to translate with these settings."""
        generator = network.generator
        assert isinstance(generator, ResnetGenerator | UnetGenerator)
        multiple = trained.multiple
        least = multiple if isinstance(generator, UnetGenerator) else 2 * multiple
        overlap = reach_of(generator) if settings.overlap < 0 else settings.overlap
        complete = replace(
            settings, overlap=-(-overlap // multiple) * multiple, precision=network.compute.precision, memory=0.0
        )
        sides, layout = Sides(multiple=multiple, least=least), layout_of(generator)
        notes = tuple(about_tiles(generator, layout, complete))
        return cls(trained=trained, network=network, sides=sides, layout=layout, settings=complete, notes=notes)
