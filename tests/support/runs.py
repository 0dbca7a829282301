"""The state of a run on disk, to be compared bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from store.run_files import RunFolder


def newest(folder: RunFolder) -> Path:
    """The newest checkpoint."""
    return max(folder.checkpoints.glob("*.pt"))


def state(folder: RunFolder) -> dict[str, Any]:
    """Everything in the newest checkpoint except the time it took, which lines of metrics have too."""
    held: dict[str, Any] = torch.load(newest(folder), weights_only=True)
    return held | {"seconds": 0.0, "metrics": None, "validation": None}


def assert_equal(one: Any, two: Any) -> None:
    """Both are equal, bit for bit, in every nested value."""
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_equal(a, b)
    elif isinstance(one, Tensor):
        assert torch.equal(one, two)
    else:
        assert one == two
