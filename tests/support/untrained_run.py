"""A finished run whose generator learned nothing: what prediction needs, without training."""

from __future__ import annotations

from pathlib import Path

import torch

from store.reader import Store
from store.run_files import RunFolder
from tests.support.records import write_facts
from train.methods.registry import build_method
from train.run.generator_file import FORMAT, GeneratorHeader, save_generator
from train.settings import DiscriminatorSettings, GeneratorSettings, TrainSettings

SETTINGS = TrainSettings(generator=GeneratorSettings(base=4), discriminator=DiscriminatorSettings(base=4))


def make_generator(
    run: RunFolder, settings: TrainSettings = SETTINGS, seed: int = 0, mpp: dict[str, float] | None = None
) -> RunFolder:
    """A generator file as training leaves it, which learned nothing, at a known magnification if `mpp` is given."""
    torch.manual_seed(seed)
    header = GeneratorHeader(
        version=FORMAT, method=settings.method, settings=settings, seal="s" * 64, step=80, pairs_seen=80, mpp=mpp or {}
    )
    run.path.mkdir(parents=True, exist_ok=True)
    save_generator(run.generator, build_method(settings).generator, header)
    return run


def make_run(folder: Path, store: Store, seed: int = 0) -> RunFolder:
    """A run as training leaves it, with a generator that learned nothing."""
    run = RunFolder(folder)
    write_facts(run, store, pairs_seen=80)
    torch.manual_seed(seed)
    header = GeneratorHeader(
        version=FORMAT, method="attention_gan", settings=SETTINGS, seal=store.manifest.seal, step=80, pairs_seen=80
    )
    save_generator(run.generator, build_method(SETTINGS).generator, header)
    return run
