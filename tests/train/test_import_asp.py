"""A published ASP generator becomes a run that translates as the published network does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from store.reader import TILE, Store
from store.records.facts import open_store_of
from store.run_files import RunFolder
from store.schema import RunError, Split
from tests.support.places import GOLDEN
from train.import_asp import import_generator
from train.loop.fit import fit
from train.methods.recipes import load_recipe
from train.predict import predict
from train.run.generator_file import load_generator

NUMBERS = GOLDEN / "generator_resnet6.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(NUMBERS) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture
def published(golden: dict[str, Tensor], tmp_path: Path) -> Path:
    """A file in the layout of the published `latest_net_G.pth`: a bare state dict, blur filters included."""
    state = {name.removeprefix("state/"): tensor for name, tensor in golden.items() if name.startswith("state/")}
    for layer, channels, side in ((7, 16, 3), (11, 32, 3), (18, 32, 4), (22, 16, 4)):
        state[f"model.{layer}.filt"] = torch.ones(channels, 1, side, side)
    torch.save(state, tmp_path / "latest_net_G.pth")
    return tmp_path / "latest_net_G.pth"


def test_an_imported_generator_is_the_published_network(
    published: Path, golden: dict[str, Tensor], tmp_path: Path
) -> None:
    header = import_generator(published, RunFolder(tmp_path / "run"), 185_680)
    assert (header.method, header.pairs_seen) == ("asp", 185_680)
    assert (header.settings.generator.base, header.settings.generator.blocks) == (8, 6)
    trained = load_generator(RunFolder(tmp_path / "run").generator)
    with torch.no_grad():
        torch.testing.assert_close(trained.generator(golden["input"]), golden["output"], rtol=0, atol=1e-4)


def test_it_translates_a_store_that_is_named_and_is_not_trained_on(
    published: Path, small_store: Store, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    import_generator(published, folder, 0)
    with pytest.raises(RunError, match=r"was imported, not trained on a store; name the store with --store"):
        open_store_of(folder)
    assert predict(folder, small_store, Split.TEST, TILE, "cpu").pictures == 4
    with pytest.raises(RunError, match=r"is an imported generator, which cannot be trained further; choose another"):
        fit(folder, small_store, load_recipe([], ["method=cut", "data.views=['x1']"]))
    with pytest.raises(RunError, match=r"already has a generator"):
        import_generator(published, folder, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.13.conv_block.1.bias"), "missing: model.13.conv_block.1.bias; unexpected: none"),
        (lambda s: s.update({"model.40.weight": torch.ones(1)}), "missing: none; unexpected: model.40.weight"),
        (lambda s: s.pop("model.1.weight_orig"), "is not a generator of the ASP repository"),
        (lambda s: s.update({"model.4.bias": torch.ones(3)}), "does not fit the generator of ASP"),
        (lambda s: s.update({"epoch": 3}), "is not a bare state dict"),
    ],
)
def test_other_files_are_refused(published: Path, tmp_path: Path, change: object, message: str) -> None:
    assert callable(change)
    state = torch.load(published, weights_only=True)
    change(state)
    torch.save(state, published)
    with pytest.raises(RunError, match=message):
        import_generator(published, RunFolder(tmp_path / "run"), 0)
    assert not (tmp_path / "run").exists()


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("run",)


def test_a_file_that_wants_code_or_is_damaged_or_missing_is_refused(published: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    torch.save({"model.1.weight_orig": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(RunError, match="cannot be read as plain tensors"):
        import_generator(tmp_path / "evil.pth", folder, 0)
    published.write_bytes(published.read_bytes()[:1000])
    with pytest.raises(RunError, match="cannot be read as plain tensors"):
        import_generator(published, folder, 0)
    with pytest.raises(RunError, match="no file"):
        import_generator(tmp_path / "none.pth", folder, 0)
    assert not folder.path.exists()
