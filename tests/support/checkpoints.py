"""Checkpoints that were made to harm their reader: anything that PyTorch can save, under a digest that is right."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from store.run_files import RunFolder
from tests.support.runs import newest


def forge_newest(folder: RunFolder, change: Callable[[dict[str, Any]], object]) -> Path:
    """Replace the newest checkpoint by what `change` made of what it holds, or returned in its place."""
    file = newest(folder)
    held = torch.load(file, weights_only=True)
    instead = change(held)
    buffer = io.BytesIO()
    torch.save(held if instead is None else instead, buffer)
    step, digest = file.name.partition("-")[0], hashlib.sha256(buffer.getvalue()).hexdigest()
    file.unlink()
    forged = folder.checkpoints / f"{step}-{digest[:16]}.pt"
    forged.write_bytes(buffer.getvalue())
    return forged
