"""Pictures that are kept for the next network: read once while they fit into memory, and the same ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluate.inputs.image_set import REAL, ImageSet, SetName
from evaluate.inputs.kept import keep_pictures
from evaluate.inputs.reading import Read
from evaluate.protocol import FAKE, ProtocolName
from store.images import PictureU8
from tests.support.image_sets import images_of

PROTOCOL = ProtocolName.CORRECTED
BYTES = 8 * 8 * 3  # of a picture


def draw_counted() -> tuple[ImageSet, list[tuple[str, int]]]:
    """Two sets of three pictures, the first of each equal, and what was read of them so far."""
    rng = np.random.default_rng(0)
    real, fake = (list(rng.integers(0, 256, (3, 8, 8, 3), np.uint8)) for _ in range(2))
    fake[0] = real[0].copy()
    images, seen = images_of(PROTOCOL, {REAL: real, FAKE: fake}), list[tuple[str, int]]()

    def counting(name: SetName, read: Read) -> Read:
        def note(place: int) -> PictureU8:
            seen.append((name[1], place))
            return read(place)

        return note

    return replace(images, reads={name: counting(name, read) for name, read in images.reads.items()}), seen


@pytest.mark.parametrize(("limit", "reads"), [(5 * BYTES, 5), (3 * BYTES, 3 + 2 * 2), (BYTES - 1, 2 * 6), (0, 2 * 6)])
def test_pictures_that_fit_are_read_once_and_equal_ones_together(limit: int, reads: int) -> None:
    images, seen = draw_counted()
    kept = keep_pictures(images, limit)
    for _network in range(2):
        for place in range(3):
            for name in images.reads:
                assert np.array_equal(kept.reads[name](place), images.reads[name](place))
                seen.pop()  # what the comparison read
    assert len(seen) == reads
