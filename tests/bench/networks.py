"""BSRGAN's networks of full size for measurements and tests: the published files where they are, else seeded weights.

Seeded weights are PyTorch's default draw. Of a tissue patch they make no picture of tissue, but one of its contrast:
the last layer is scaled so that mean and deviation are those of stained tissue, for an error counts against these.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from prep.upscaling.bsrgan import NAMES, RrdbEnlarger, load_enlarger
from store.files import digest_file
from store.weights import BSRGAN_FILES, FOLDER_VARIABLE, weights_folder

TRAINED = Path(__file__).parents[3] / "shared" / "weights" / "realesrgan-x4plus" / "realesrgan_x4plus_bsrgan_names.pth"
PUBLISHED, SEEDED = "the published weights", "seeded weights of full size (the published files are not here)"
SEED = 0
MEAN, DEVIATION = 0.65, 0.2  # of unit tissue pictures, about
PROBE = 32  # px


def seeded(factor: int) -> RrdbEnlarger:
    """The full-size network with seeded weights; a function of the factor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED + factor)
        network = RrdbEnlarger(factor).eval().requires_grad_(False)
        probe = torch.rand(2, 3, PROBE, PROBE)
    with torch.inference_mode():
        answer = network(probe)
    mean, deviation = answer.mean((0, 2, 3)), answer.std((0, 2, 3))
    last, gain = network.net.conv_last, DEVIATION / deviation
    with torch.no_grad():
        last.weight.mul_(gain[:, None, None, None])
        last.bias.copy_((last.bias - mean) * gain + MEAN)
    return network


def published_names(network: RrdbEnlarger) -> dict[str, Tensor]:
    """A network's state under BSRGAN's names, by the table of names read backwards."""
    back = {ours: theirs for theirs, ours in NAMES.items()}
    state = network.net.state_dict()
    return {".".join(back.get(part, part) for part in key.split(".")): value for key, value in state.items()}


def write_seeded(folder: Path, factor: int) -> Path:
    """The file of a seeded network, under the published name and with the published keys."""
    file = folder / BSRGAN_FILES[factor].name
    torch.save(published_names(seeded(factor)), file)
    return file


@contextmanager
def installed() -> Iterator[str]:
    """Weight files that a build finds and verifies, for a while; yields what they are.

    They are the published files where they are in the cache folder, else seeded ones, whose digests the table then has.
    """
    if all((weights_folder() / weight.name).is_file() for weight in BSRGAN_FILES.values()):
        yield PUBLISHED
        return
    before, variable = dict(BSRGAN_FILES), os.environ.get(FOLDER_VARIABLE)
    with tempfile.TemporaryDirectory() as name:
        for factor in before:
            write_seeded(Path(name), factor)
        try:
            know(Path(name))
            yield SEEDED
        finally:
            BSRGAN_FILES.update(before)
            os.environ.pop(FOLDER_VARIABLE)
            if variable is not None:
                os.environ[FOLDER_VARIABLE] = variable


def know(folder: Path) -> None:
    """Let this process take the files in `folder` for BSRGAN's."""
    os.environ[FOLDER_VARIABLE] = str(folder)
    for factor, weight in BSRGAN_FILES.items():
        file = folder / weight.name
        BSRGAN_FILES[factor] = replace(weight, size=file.stat().st_size, sha256=digest_file(file))


def find_networks() -> tuple[dict[int, RrdbEnlarger], str]:
    """Both networks, and which weights they have."""
    files = {factor: weights_folder() / weight.name for factor, weight in BSRGAN_FILES.items()}
    if all(file.is_file() for file in files.values()):
        return {factor: load_enlarger(file, factor) for factor, file in files.items()}, PUBLISHED
    return {factor: seeded(factor) for factor in files}, SEEDED
