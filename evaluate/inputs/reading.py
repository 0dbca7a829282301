"""Pictures read in threads, and the sha256 of their pixels, by which features are found again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from store.cli import track
from store.images import PictureU8, load_picture
from store.schema import RunError

AGAIN = "predict again, then score again"
THREADS = 4  # pictures at the same time: decoding, sha256 and SSIM release the interpreter
Item = TypeVar("Item")
Result = TypeVar("Result")


def digest_pixels(picture_u8: PictureU8) -> str:
    """The sha256 of a picture's size and pixels, the same whatever file format holds them."""
    return hashlib.sha256(repr(picture_u8.shape).encode() + np.ascontiguousarray(picture_u8).tobytes()).hexdigest()


def read_exact(file: Path, digest: str) -> PictureU8:
    """The picture in a file, u8 [H,W,3]. RunError unless the bytes that were decoded have this sha256."""
    picture = load_picture(file)
    if picture.digest != digest:
        raise RunError(f"{file} was changed or exchanged: it is not the picture that was predicted and scored; {AGAIN}")
    return picture.pixels


def digest_set(digests: Sequence[str]) -> str:
    """The sha256 of a set of pictures in their order, from the sha256 of each."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, threads: int = THREADS
) -> list[Result]:
    """The result of `work` for each item, in the order of the items; progress is counted in pictures."""
    with ThreadPoolExecutor(threads) as pool:
        return list(track(pool.map(work, items), what=what, unit="picture", total=len(items)))
