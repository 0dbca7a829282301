"""The statistics of a picture, as `translate` with `norm_statistics = global` has them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from store.machine.memory import spare_memory
from store.schema import SettingsError
from train.export.frozen import Frozen
from train.run.generator_file import Trained
from train.run.inference import to_input
from train.settings import Precision
from train.translate.engine import ready
from train.translate.model import Model
from train.translate.moments.collect import collect
from train.translate.picture import Request, opened
from train.translate.plan import Window
from train.translate.settings import NormStatistics, TranslateSettings
from train.translate.statistics import Measuring, measure


def statistics_of(path: Path, trained: Trained) -> Frozen:
    """What a generator takes from a picture or slide: of a sample of tissue, or of all of it where it fits into a tile.

    Raises SettingsError for a generator that takes nothing, and PictureError, SchemaError and SettingsError as
    `translate` does.
    """
    settings = TranslateSettings(norm_statistics=NormStatistics.GLOBAL)
    memory = spare_memory() // 4 or 1 << 31
    with (
        ready(trained, "cpu", Precision.FP32) as network,
        opened(path, Request(), trained.header.mpp, settings.tile, memory) as picture,
        TemporaryDirectory() as folder,
    ):
        model = Model.of(trained, network, settings)
        if not model.layout.size:
            raise SettingsError(
                "--statistics-from: the generator takes no statistics from pictures, so that its tiles fit together as "
                "they are; leave the option out"
            )
        whole = Window.whole(picture.grid.height, picture.grid.width, model.sides)
        if picture.is_one_tile:
            moments = collect(network.generator, to_input([picture.read(whole)], network.compute.device))[0]
        else:
            work = Measuring(
                picture=picture.lending(),
                units=(),
                network=network,
                layout=model.layout,
                sides=model.sides,
                settings=model.settings,
                folder=Path(folder),
                name=path.name,
            )
            field = measure(work)((0, 0), whole)
            assert field is not None, "a picture of several tiles is given its statistics"
            moments = field.nodes[0, :, 0, 0]
        return Frozen(moments=moments, layout=model.layout, source=picture.source.digest())
