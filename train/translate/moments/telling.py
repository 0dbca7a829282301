"""What a user should know before pictures go through a generator in tiles."""

from __future__ import annotations

from torch import nn

from train.networks.reach import reach_of
from train.translate.moments.collect import Generator
from train.translate.moments.layout import Layout
from train.translate.settings import NormStatistics, TranslateSettings

DEAR = 3.0  # times the area of a tile, from which on the cost of the overlap is told


def about_tiles(generator: Generator, layout: Layout, settings: TranslateSettings) -> list[str]:
    """Sentences on what the statistics, the reach and the noise of a generator mean for pictures of several tiles.

    The generator is in the mode in which it translates; `settings` are complete.
    """
    told: list[str] = []
    reach, overlap = reach_of(generator), settings.overlap
    if not layout.size and settings.norm_statistics is not NormStatistics.TILE:
        told.append(
            "this generator takes no statistics from a picture (batch norm in evaluation mode, or none, and no channel "
            "attention), so every norm_statistics is the same"
        )
    if overlap < reach:
        told.append(
            f"an output pixel depends on {reach} px around it, and overlap = {overlap}: what lies farther away differs "
            f"from tile to tile at their borders; overlap={-(-reach // generator.multiple) * generator.multiple} "
            "leaves no difference"
        )
    cost = ((settings.tile + 2 * overlap) / settings.tile) ** 2
    if cost >= DEAR:
        told.append(
            f"with overlap = {overlap} px each tile of {settings.tile} px costs {cost:.1f} times its area; a larger "
            "tile costs less, and so does a smaller overlap, at the price of seams"
        )
    if any(isinstance(module, nn.Dropout) and module.training for module in generator.modules()):
        told.append(
            "dropout is active at test (generator.at_test = training) and draws other noise for each tile, so borders "
            "may be seen in the noise whatever norm_statistics is"
        )
    return told
