"""State that is not finite is neither saved nor used, be it a parameter or a buffer, and the error names it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from store.run_files import RunFolder
from store.schema import RunError
from tests.support.tiny_run import TINY
from train.importing.publications import Published
from train.importing.run import Stated, import_generator
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.networks.resnet import published_names
from train.run import generator_file
from train.run.checkpoint import check_finite
from train.run.generator_file import FORMAT, GeneratorHeader, load_generator, save_generator

PLACES = ("stem.conv.weight_orig", "stem.conv.weight_u", "blocks.4.second.weight_v", "output.bias")
SETTINGS = replace(TINY, method="asp", generator=load_recipe([], ["method=asp", "generator.base=4"]).generator)
HEADER = GeneratorHeader(version=FORMAT, method="asp", settings=SETTINGS, seal=None, step=1, pairs_seen=1)


def broken(place: str, value: float) -> nn.Module:
    generator = build_method(SETTINGS).generator
    with torch.no_grad():
        generator.state_dict()[place].view(-1)[-1] = value
    return generator


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", PLACES)
def test_a_generator_that_is_not_finite_is_neither_saved_nor_written_nor_loaded_nor_imported(
    place: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, file = broken(place, value), tmp_path / "generator.safetensors"
    with pytest.raises(RunError, match=rf"^{place} of the generator is not finite after step 7; nothing was saved"):
        check_finite({"generator": generator}, 7)
    with pytest.raises(RunError, match=rf"{place} of the generator is not finite, so it is not written"):
        save_generator(file, generator, HEADER)
    assert not file.exists()

    theirs = published_names(SETTINGS.generator)
    published = tmp_path / "latest_net_G.pth"
    torch.save({theirs[name]: tensor for name, tensor in generator.state_dict().items()}, published)
    with pytest.raises(RunError, match=rf"not finite.* such as {theirs[place]}"):
        import_generator(published, Published.ASP, RunFolder(tmp_path / "run"), Stated())
    assert not (tmp_path / "run").exists()

    with monkeypatch.context() as earlier:  # a version that did not look
        earlier.setattr(generator_file, "first_not_finite", lambda _: None)
        save_generator(file, generator, HEADER)
    with pytest.raises(RunError, match=rf"values that are not finite, such as {place}"):
        load_generator(file)


def test_the_running_variance_of_batch_norm_is_checked_too() -> None:
    norm = nn.BatchNorm2d(4)
    check_finite({"generator": norm}, 1)
    assert norm.running_var is not None
    norm.running_var[2] = float("inf")
    with pytest.raises(RunError, match="running_var of the generator is not finite after step 1"):
        check_finite({"generator": norm}, 1)
