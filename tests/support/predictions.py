"""Runs that were never trained (the real IHC pictures with noise), and feature networks with seeded weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.models import squeezenet1_0

from evaluate.features.extract import FeatureSource
from evaluate.features.lpips import Perceptual, Trunk
from evaluate.features.networks import Pooled, Stages, to_imagenet
from evaluate.features.weights import WeightsFolder
from evaluate.protocol import FeatureSpec, Network
from evaluate.scores_file import Scores
from evaluate.scoring.score import score_run
from store.images import write_png
from store.reader import Store
from store.run_files import RunFolder
from store.schema import Split, Stain
from store.untrusted.names import picture_name
from tests.support.records import write_facts

BASELINES = ["copy H&E", "constant colour", "affine colour map"]


def fabricate(run: Path, store: Store, view: str = "tile", noise: float = 8.0, seed: int = 0) -> Path:
    """Write the predictions of a run and what training says of them; returns their folder."""
    folder, rng, count = (
        RunFolder(run).predictions(Split.TEST, view).path,
        np.random.default_rng(seed),
        store.count(view),
    )
    names = []
    for row, pair in enumerate(store.pairs(Split.TEST)):
        for index in range(count):
            ihc = store.picture(Split.TEST, view, Stain.IHC, row, index)
            levels = np.clip(ihc + rng.normal(0, noise, ihc.shape), 0, 255) if noise else ihc
            names.append(picture_name(pair.id, index, count))
            write_png(folder / "fake" / names[-1], np.rint(levels).astype(np.uint8))
            write_png(folder / "fake_truncated" / names[-1], levels.astype(np.uint8))
    record = {"method": "attention_gan", "seal": store.manifest.seal, "split": "test", "view": view, "pairs_seen": 6000}
    record |= {"step": 6000, "upscaler": "lanczos", "synthetic": True, "generator": "ab" * 32, "pictures": names}
    (folder / "predictions.json").write_text(json.dumps(record))
    write_facts(RunFolder(run), store, pairs_seen=6000)
    return folder


def scored_run(run: Path, store: Store, view: str = "tile") -> Scores:
    """The scores of a run's test predictions without any network."""
    return score_run(run, None, store, Split.TEST, view, without_weights(run.parent))


def of_the_paper(scores: Scores) -> Scores:
    """The same scores, said to be of the paper's data set."""
    return replace(scores, store="mist-her2", stain="HER2", synthetic=False)


def of_slides(scores: Scores) -> Scores:
    """The same scores, each picture said to be of a slide of its own."""
    pictures = tuple(replace(picture, slide=f"slide {n}") for n, picture in enumerate(scores.pictures))
    return replace(scores, pictures=pictures)


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def without_weights(folder: Path) -> FeatureSource:
    """No network at all: the folder of weights is empty."""
    return FeatureSource(networks=WeightsFolder(folder / "no weights", torch.device("cpu")), cache=folder / "features")


class Seeded:
    """A SqueezeNet 1.0 instead of every network: seeded, or with the parameters that are given.

    `runs` counts the batches that went through it.
    """

    def __init__(self, parameters: dict[str, torch.Tensor] | None = None, digest: str = "seeded") -> None:
        self.device = torch.device("cpu")
        self.runs = 0
        self._digest = digest
        with torch.random.fork_rng():
            torch.manual_seed(0)
            whole = squeezenet1_0(weights=None)
        if parameters is not None:
            whole.load_state_dict(parameters)
        layers = list(whole.eval().requires_grad_(False).features)
        self.maps = Stages([nn.Sequential(*layers[:4]), nn.Sequential(*layers[4:7]), nn.Sequential(*layers[7:10]),
                            nn.Sequential(*layers[10:])])  # fmt: skip
        self.maps.register_forward_hook(lambda *_: setattr(self, "runs", self.runs + 1))

    def digest(self, network: Network) -> str | None:
        return f"{self._digest} for {network}"

    def pooled(self, spec: FeatureSpec) -> Pooled:
        return Pooled(maps=self.maps, prepare=to_imagenet, digest=self._digest)

    def perceptual(self, trunk: Trunk) -> Perceptual:
        widths = (128, 256, 384, 512)
        return Perceptual(
            scale=_ToImagenet(),
            trunk=self.maps,
            heads=tuple(torch.ones(1, width, 1, 1) for width in widths),
            digest=self._digest,
        )


class _ToImagenet(nn.Module):
    def forward(self, signed: torch.Tensor) -> torch.Tensor:
        return to_imagenet((signed + 1) / 2)
