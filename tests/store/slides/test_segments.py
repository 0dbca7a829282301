"""What is kept of a picture that is read in segments: enough for neighbouring windows, whatever the picture's size."""

from __future__ import annotations

import numpy as np
import pytest

from store.slides.reading.segments import KEPT, Cache


@pytest.mark.parametrize(
    ("memory", "width", "side", "kept"),
    [
        (1 << 30, 10**6, 256, KEPT),  # tiles: what neighbours share
        (1 << 20, 10**6, 256, 1 << 20),  # less is allowed
        (1 << 30, 10**6, 2048, 16 * 3 * 2048**2),  # large tiles, of which one window touches several
        (1 << 27, 256, 256, 1 << 27),  # from side to side: the next window needs all of them again
    ],
)
def test_as_much_is_kept_as_windows_share(memory: int, width: int, side: int, kept: int) -> None:
    cache = Cache.of(memory, width, side, side)
    segment = np.empty((1 << 20,), np.uint8)
    for number in range(300):
        cache.put((0, 0, number), segment)
    found = sum(cache.get((0, 0, number)) is not None for number in range(300))
    assert found == min(300, kept >> 20)
