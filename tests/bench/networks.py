"""BSRGAN's networks of full size for measurements and tests: the published files where they are, else seeded weights.

Seeded weights are PyTorch's default draw. Of a tissue patch they make no picture of tissue, but one of its contrast:
the last layer is scaled so that mean and deviation are those of stained tissue, for an error counts against these.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from prep.superres import NAMES, RrdbEnlarger, load_enlarger
from store.weights import BSRGAN_FILES, weights_folder

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


def find_networks() -> tuple[dict[int, RrdbEnlarger], str]:
    """Both networks, and which weights they have."""
    files = {factor: weights_folder() / weight.name for factor, weight in BSRGAN_FILES.items()}
    if all(file.is_file() for file in files.values()):
        return {factor: load_enlarger(file, factor) for factor, file in files.items()}, "the published weights"
    return {factor: seeded(factor) for factor in files}, "seeded weights (the published files are not here)"
