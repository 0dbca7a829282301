"""Event files of TensorBoard: the curves of a run, and its contact sheets.

They are written here and not by SummaryWriter, whose own thread prints a trace when the disk is full and goes on.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from torch.utils.tensorboard.summary import image

from store.files import disk_errors

VERSION = "brain.Event:2"  # of the format; the first record of every file


class EventFiles:
    """An event file in `folder`, if `wanted`, else none. Values of steps after `done`, from earlier, are hidden.

    Every method raises StoreError if the disk refuses.
    """

    def __init__(self, folder: Path, *, done: int, wanted: bool) -> None:
        self._folder, self._files = folder, [_open(folder)] if wanted else []
        self._write(Event(file_version=VERSION))
        self._write(Event(step=done + 1, session_log=SessionLog(status=SessionLog.START)))
        self.flush()

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Numbers, shown as `group/name`."""
        shown = [Summary.Value(tag=f"{group}/{name}", simple_value=value) for name, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=shown)))

    def picture(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """A picture, u8 [H,W,3]."""
        summary = image(name, pixels, dataformats="HWC")  # type: ignore[no-untyped-call]  # torch
        self._write(Event(step=step, summary=summary))

    def flush(self) -> None:
        """Write everything to disk."""
        for file in self._files:
            with disk_errors(self._folder):
                file.flush()

    def close(self) -> None:
        """Write everything to disk and close the file."""
        with disk_errors(self._folder), ExitStack() as stack:
            for file in self._files:
                stack.callback(file.close)

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        record = io.BytesIO()
        RecordWriter(record).write(event.SerializeToString())
        for file in self._files:
            with disk_errors(self._folder):
                file.write(record.getvalue())  # in one piece: two threads report


def _open(folder: Path) -> BinaryIO:
    name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / name).open("wb")
