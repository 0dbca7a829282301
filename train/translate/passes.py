"""Tiles of a picture through a generator, unit by unit: a unit is what is written, resumed and shared out at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from torch import Tensor, nn

from store.images import PictureU8
from store.slides.seams import Place
from store.slides.writing.plan import Unit
from train.run.inference import Levels, Pass, translate, translate_batch
from train.runtime.beside import write_behind
from train.translate.engine import Network, Stream
from train.translate.moments.field import Field
from train.translate.moments.given import translate_given
from train.translate.picture import Picture
from train.translate.plan import Sides, Window

KEPT = "what is finished of it is kept"

FieldOf = Callable[[Place, Window], Field | None]
"""The moments that a window is translated with, None for its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A tile of a picture and the unit that it belongs to."""

    unit: Unit
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What goes through the generator for a tile: u8 [H,W,3] of a window, and the moments that are given."""

    window: Window
    pixels: PictureU8
    field: Field | None = None

    @property
    def shape(self) -> Hashable:
        """Equal for those that go through in one batch."""
        if self.field is None:
            return self.pixels.shape
        nodes = self.field.nodes.shape
        return self.pixels.shape, nodes, self.field.geometry if nodes[2:] != (1, 1) else None


Write = Callable[[Unit, dict[Place, Tensor]], None]
"""What is done in a thread with what was made of the tiles of a unit that are not skipped."""


def run_units(
    picture: Picture, units: Sequence[Unit], stream: Stream[Tile, Input, Tensor], what: str, done: int, write: Write
) -> None:
    """Each tile of the units through the stream; a unit is written as soon as all its tiles are made.

    `done` counts the tiles of other units, which are made. Raises Interrupted when it was stopped.
    """
    tiles = [Tile(unit=unit, place=place) for unit in units for place in unit.places() if place not in picture.skipped]
    busy = {tile.unit for tile in tiles}
    with (
        write_behind(list[None]().append) as behind,
        closing(stream.each(tiles, what, "tile", done, hidden=picture.is_one_tile)) as drawn,
    ):
        for unit in units:
            if unit not in busy:
                behind.submit(partial(write, unit, {}))
        for unit, made in groupby(drawn, lambda pair: pair[0].unit):
            behind.submit(partial(write, unit, {tile.place: tensor for tile, tensor in made}))


def count_tiles(picture: Picture, units: Sequence[Unit]) -> int:
    """The tiles of units that are not skipped."""
    return sum(place not in picture.skipped for unit in units for place in unit.places())


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How tiles are translated: each with `overlap` px around it, the moments of `field_of`, up to `batch` at once."""

    picture: Picture
    network: Network
    sides: Sides
    overlap: int
    field_of: FieldOf
    batch: int
    seed: int

    def stream(self) -> Stream[Tile, Input, Tensor]:
        """The tiles, each as what is kept of it, u8 [h,w,3] on the device.

        Dropout is seeded by the place of a tile. A batch does not cross units, so that what is resumed is the same.
        """
        alone = needs_to_be_alone(self.network.generator)
        return Stream(
            read=self._read,
            draw=self._draw,
            batch=1 if alone else self.batch,
            stop=self.network.stop,
            kept=KEPT,
            alike=lambda pair: (pair[0].unit, pair[1].shape),
        )

    def _read(self, tile: Tile) -> Input:
        window = self.picture.window(tile.place, self.overlap, self.sides)
        return Input(window=window, pixels=self.picture.read(window), field=self.field_of(tile.place, window))

    def _draw(self, group: list[tuple[Tile, Input]]) -> list[Tensor]:
        device, inputs = self.network.compute.device, [one for _, one in group]
        generator = given(self.network, [one.field for one in inputs if one.field is not None])
        if len(group) == 1:
            row, column = group[0][0].place
            seed = self.seed + row * self.picture.grid.columns + column
            signed = [translate(generator, inputs[0].pixels, device, seed=seed)]
        else:
            signed = translate_batch(generator, [one.pixels for one in inputs], device)
        return [Levels.of(one[each.window.kept]).rounded for one, each in zip(signed, inputs, strict=True)]


def given(network: Network, fields: Sequence[Field]) -> Pass:
    """The generator of a network in its precision, with the moments of fields, or each picture with its own."""
    field = on_device(Field.stack(fields), network) if fields else None

    def run(batch: Tensor) -> Tensor:
        with network.compute.autocast():
            made: Tensor = (
                network.generator(batch) if field is None else translate_given(network.generator, batch, field)
            )
            return made

    return run


def on_device(field: Field, network: Network) -> Field:
    """A field on the device of a network; nothing waits for it."""
    nodes = field.nodes
    if network.compute.cuda and not nodes.is_cuda:
        nodes = nodes.pin_memory().to(network.compute.device, non_blocking=True)
    return replace(field, nodes=nodes)


def needs_to_be_alone(generator: nn.Module) -> bool:
    """Whether a picture would come out otherwise in a batch: dropout and batch norm in training mode see all of it."""
    return any(isinstance(module, nn.BatchNorm2d | nn.Dropout) and module.training for module in generator.modules())


def to_numpy(tensor: Tensor) -> PictureU8:
    """What a device computed, once it has."""
    pixels: PictureU8 = tensor.cpu().numpy()
    return pixels
