"""Pictures of one tile, in memory from their file to their translation: read ahead, drawn, written behind.

What does not fit into one tile, or already has a spool, is left to `translate_picture`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from store.images import stored_size
from store.records.translated_file import publish
from store.records.translation import Translation
from store.schema import MagstainError, PictureError, SchemaError, SettingsError
from store.slides.reading.whole import BYTES
from store.slides.writing.flat import flat_bytes
from store.slides.writing.labels import Label, one_line
from train.run.inference import Levels, batches_change_nothing, translate, translate_batch
from train.translate.engine import Stream
from train.translate.job import Done, begin, description_of, held, spool_folder
from train.translate.model import Model
from train.translate.names import Item
from train.translate.passes import Input, given, needs_to_be_alone, to_numpy
from train.translate.picture import Request, opened

SHARE = 8  # of the memory for pictures, what those that are read ahead, and those that wait to be written, may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A picture of one tile that goes through the generator, and what its record will say."""

    item: Item
    record: Translation
    input: Input


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A sheet with its translation, u8 [h,w,3] on the device."""

    sheet: Sheet
    pixels: Tensor


Read = Sheet | Done | MagstainError | None
"""What came of reading: a sheet, what is there already, why there is none; None for what is no sheet."""
Made = Drawn | Done | MagstainError | None


@dataclass(slots=True, kw_only=True)
class Sheets:
    """How sheets are translated; each holds the lock of its output from when it is read until it is written."""

    model: Model
    request: Request
    memory: int
    overwrite: bool
    _locks: dict[Item, ExitStack] = field(default_factory=dict)
    _may_share: dict[tuple[int, ...], bool] = field(default_factory=dict)

    @property
    def ahead(self) -> int:
        """How many may be read ahead, and how many may wait to be written, so that memory is bounded."""
        return max(1, self.memory // (SHARE * BYTES * self.model.settings.tile**2))

    def stream(self) -> Stream[Item, Read, Made]:
        """All items; those that are no sheets come out as they were read."""
        network = self.model.network
        return Stream(
            read=self._read,
            draw=self._draw,
            batch=1 if needs_to_be_alone(network.generator) else self.model.settings.batch,
            stop=network.stop,
            kept="what is finished is kept",
            alike=_kind,
            ahead=self.ahead,
        )

    def _read(self, item: Item) -> Read:
        header, tile = self.model.trained.header, self.model.settings.tile
        try:
            size = stored_size(item.source) if item.source.is_file() and not item.kind.has_levels else None
            if size is None or max(size) > tile:
                return None
            with ExitStack() as lock, opened(item.source, self.request, header.mpp, tile, self.memory) as picture:
                if not picture.is_one_tile:
                    return None
                lock.enter_context(held(item, briefly=True))
                if spool_folder(item.output).exists() or item.output.is_dir():
                    return None
                begun = begin(item, picture, self.model, self.request, overwrite=self.overwrite)
                if isinstance(begun, Done):
                    return begun
                window = picture.window((0, 0), self.model.settings.overlap, self.model.sides)
                sheet = Sheet(item=item, record=begun, input=Input(window=window, pixels=picture.read(window)))
                self._locks[item] = lock.pop_all()
                return sheet
        except (PictureError, SchemaError, SettingsError) as error:
            return error

    def _draw(self, group: list[tuple[Item, Read]]) -> Sequence[Made]:
        sheets = [read for _, read in group if isinstance(read, Sheet)]
        if not sheets:
            return [read for _, read in group if not isinstance(read, Sheet)]
        network, settings = self.model.network, self.model.settings
        generator, device = given(network, []), network.compute.device
        pixels = [sheet.input.pixels for sheet in sheets]
        if 1 < len(sheets) == settings.batch and self._change_nothing(pixels[0].shape):
            signed = translate_batch(generator, pixels, device)
        else:
            signed = [translate(generator, one, device, seed=settings.seed) for one in pixels]
        return [
            Drawn(sheet=sheet, pixels=Levels.of(one[sheet.input.window.kept]).rounded)
            for sheet, one in zip(sheets, signed, strict=True)
        ]

    def _change_nothing(self, shape: tuple[int, ...]) -> bool:
        """Whether a full batch of this shape comes out as its pictures one by one; tried once."""
        if shape not in self._may_share:
            network = self.model.network
            self._may_share[shape] = batches_change_nothing(
                given(network, []), self.model.settings.batch, (shape[0], shape[1]), network.compute.device
            )
        return self._may_share[shape]

    def finish(self, made: Drawn | Done | MagstainError) -> Done | MagstainError:
        """Write what was drawn; waits for the device. Raises StoreError."""
        if not isinstance(made, Drawn):
            return made
        item, record, settings = made.sheet.item, made.sheet.record, self.model.settings
        with self._locks.pop(item):
            label = Label(name=one_line(item.output.name), mpp=record.mpp, description=one_line(description_of(record)))
            data = flat_bytes(item.kind, to_numpy(made.pixels), settings.tile, label, settings.quality)
            return Done(item=item, record=publish(item.output, data, record), kept=False)

    def release(self) -> None:
        """Give back the locks of what was read and is not written."""
        while self._locks:
            self._locks.popitem()[1].close()


@contextmanager
def sheets_of(model: Model, request: Request, memory: int, *, overwrite: bool) -> Iterator[Sheets]:
    """The sheets of a command for a block; at its end no output is locked."""
    sheets = Sheets(model=model, request=request, memory=memory, overwrite=overwrite)
    try:
        yield sheets
    finally:
        sheets.release()


def _kind(pair: tuple[Item, Read]) -> Hashable:
    """Equal for what is drawn at once."""
    return pair[1].input.shape if isinstance(pair[1], Sheet) else None
