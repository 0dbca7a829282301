"""Event files of TensorBoard: the curves of a run, and its contact sheets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter


class EventFiles:
    """Event files in `folder`, if `wanted`, else none. Values of steps after `done`, from earlier, are hidden."""

    def __init__(self, folder: Path, *, done: int, wanted: bool) -> None:
        self._writers = [SummaryWriter(str(folder), purge_step=done + 1)] if wanted else []

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Numbers, shown as `group/name`."""
        for writer in self._writers:
            for name, value in values.items():
                writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """A picture, u8 [H,W,3]."""
        for writer in self._writers:
            writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Write everything to disk."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """Write everything to disk and close the files."""
        for writer in self._writers:
            writer.close()
