"""TensorBoard's event files in a run's folder: scalars of each line of metrics, validation, contact sheets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter


class Board:
    """Event files in `folder`, or none unless `wanted`. What was told of steps after `done` is no longer shown."""

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
        """Onto the disk."""
        for writer in self._writers:
            writer.flush()

    def close(self) -> None:
        """No more comes."""
        for writer in self._writers:
            writer.close()
