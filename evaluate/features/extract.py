"""Sets of pictures through feature networks: vectors of each picture, LPIPS of pairs of pictures.

Each picture goes through a network once, however many others it is compared with, and equal pictures go through it
once; what was computed before is read from the cache. One network at a time, kept when it is done: a scoring that was
cut off goes on with the next.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from evaluate.features.lpips import Perceptual, Trunk
from evaluate.features.networks import Pooled
from evaluate.protocol import Reading
from store.files import disk_errors, write_whole
from store.images import PictureU8

PIXELS = 1 << 20  # of the pictures that go through a network together
WHITE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSet:
    """Pictures in the order of the store: how to get one, u8 [H,W,3], and the sha256 of each one's pixels."""

    read: Callable[[int], PictureU8]
    digests: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The sha256 of the set."""
        return hashlib.sha256("".join(self.digests).encode()).hexdigest()


def digest_pixels(picture_u8: PictureU8) -> str:
    """The sha256 of a picture's size and pixels, whatever file it stands in."""
    return hashlib.sha256(repr(picture_u8.shape).encode() + np.ascontiguousarray(picture_u8).tobytes()).hexdigest()


def to_unit(pictures_u8: Sequence[PictureU8], device: torch.device) -> Tensor:
    """Pictures of one size as unit [B,3,H,W] float32."""
    stacked = torch.from_numpy(np.stack(pictures_u8)).to(device)  # [B,H,W,3]
    return stacked.permute(0, 3, 1, 2).float() / WHITE


def vectors(
    reading: Reading,
    pooled: Callable[[], Pooled],
    weights: str,
    sets: Sequence[PictureSet],
    folder: Path,
    device: torch.device,
) -> list[Arrays]:
    """The pooled features of every picture of every set: for each set [N,C] of each stage.

    `pooled` is called only if something is missing in the cache `folder`; `weights` is the sha256 of its weights.
    """
    keys = [features_key(reading, weights, one.digest) for one in sets]
    held = {key: load_features(folder, key, len(one.digests)) for key, one in zip(keys, sets, strict=True)}
    wanted = {key: one for key, one in zip(keys, sets, strict=True) if held[key] is None}
    if wanted:
        seen = _see(pooled(), list(wanted.values()), device, reading)
        for key, one in wanted.items():
            rows = [seen[digest] for digest in one.digests]
            held[key] = tuple(np.stack(stage) for stage in zip(*rows, strict=True))
            save_features(folder, key, held[key] or ())
    return [found for key in keys if (found := held[key]) is not None]


def _see(pooled: Pooled, sets: Sequence[PictureSet], device: torch.device, what: str) -> dict[str, Arrays]:
    """The features of all different pictures of the sets by their digests, [C] of each stage."""
    seen: dict[str, Arrays] = {}
    for place in tqdm(range(len(sets[0].digests)), desc=what.partition(",")[0], unit="picture", file=sys.stderr):
        new = {one.digests[place]: one for one in sets if one.digests[place] not in seen}
        pictures = {digest: one.read(place) for digest, one in new.items()}
        batch = max(1, PIXELS // max((p.shape[0] * p.shape[1] for p in pictures.values()), default=1))
        names = list(pictures)
        for start in range(0, len(names), batch):
            some = names[start : start + batch]
            stages = [stage.cpu().numpy() for stage in pooled(to_unit([pictures[name] for name in some], device))]
            for row, name in enumerate(some):
                seen[name] = tuple(stage[row] for stage in stages)
    return seen


def distances(
    trunk: Trunk,
    perceptual: Callable[[], Perceptual],
    weights: str,
    pairs: Sequence[tuple[PictureSet, PictureSet]],
    folder: Path,
    device: torch.device,
) -> list[NDArray[np.floating]]:
    """LPIPS of pairs of sets, picture by picture, [N] each. Arguments as in `vectors`."""
    keys = [features_key("lpips 0.1", trunk, weights, one.digest, two.digest) for one, two in pairs]
    held = {key: load_features(folder, key, len(one.digests)) for key, (one, _) in zip(keys, pairs, strict=True)}
    wanted = {key: pair for key, pair in zip(keys, pairs, strict=True) if held[key] is None}
    if wanted:
        found = _compare(perceptual(), list(wanted.values()), device, trunk)
        for key, column in zip(wanted, found.T, strict=True):
            held[key] = (column,)
            save_features(folder, key, (column,))
    return [arrays[0] for key in keys if (arrays := held[key]) is not None]


def _compare(
    perceptual: Perceptual, pairs: Sequence[tuple[PictureSet, PictureSet]], device: torch.device, trunk: Trunk
) -> NDArray[np.floating]:
    """Distances [N,pair]. Taps are large: they stay only while one of the next pairs needs the same picture."""
    steps = [(place, pair) for place in range(len(pairs[0][0].digests)) for pair in pairs]
    taps: dict[str, tuple[Tensor, ...]] = {}
    found = []
    bar = tqdm(steps, desc=f"LPIPS {trunk}", unit="pair", file=sys.stderr)
    for step, (place, pair) in enumerate(bar):
        soon = {one.digests[at] for at, both in steps[step : step + len(pairs) + 1] for one in both}
        taps = {digest: held for digest, held in taps.items() if digest in soon}
        for one in pair:
            if one.digests[place] not in taps:
                taps[one.digests[place]] = perceptual.taps(to_unit([one.read(place)], device))
        first, second = (taps[one.digests[place]] for one in pair)
        found.append(float(perceptual.distance(first, second)[0]))
    return np.array(found).reshape(-1, len(pairs))


FOLDER_VARIABLE = "MAGSTAIN_FEATURES"
Arrays = tuple[NDArray[np.floating], ...]


def features_folder() -> Path:
    """The one cache folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    return (
        Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "magstain/features"
    )


def features_key(*parts: str) -> str:
    """The name of what was made from these: the way, the digest of the weights, the digests of the pictures."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def load_features(folder: Path, key: str, rows: int) -> Arrays | None:
    """The arrays of a key, all of `rows` rows; None if they are not there, or not whole."""
    try:
        with np.load(io.BytesIO((folder / f"{key}.npz").read_bytes())) as held:
            arrays = tuple(held[f"arr_{place}"] for place in range(len(held.files)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return arrays if all(len(array) == rows for array in arrays) else None


def save_features(folder: Path, key: str, arrays: Sequence[NDArray[np.floating]]) -> None:
    """Keep the arrays of a key, whole or not at all."""
    data = io.BytesIO()
    np.savez(data, *arrays)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{key}.npz", data.getvalue())
