"""A published ASP generator becomes a run that translates as the published network does."""

from __future__ import annotations

from collections.abc import Callable
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
from tests.support.published import published_blur
from train.importing.publications import Published
from train.importing.run import Stated, import_generator
from train.loop.fit import fit
from train.methods.recipes import load_recipe
from train.predict import predict
from train.run.generator_file import GeneratorHeader, load_generator

NUMBERS = GOLDEN / "generator_resnet6.npz"


def import_asp(
    file: Path, folder: RunFolder, pairs_seen: int, tell: Callable[[str], object] = lambda _: None
) -> GeneratorHeader:
    return import_generator(file, Published.ASP, folder, Stated(pairs_seen=pairs_seen), tell)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(NUMBERS) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture
def published(golden: dict[str, Tensor], tmp_path: Path) -> Path:
    """A file in the layout of the published `latest_net_G.pth`: a bare state dict, blur filters included."""
    state = {name.removeprefix("state/"): tensor for name, tensor in golden.items() if name.startswith("state/")}
    for layer, channels in ((7, 16), (11, 32)):
        state[f"model.{layer}.filt"] = published_blur([1, 2, 1], 1, channels)
    for layer, channels in ((18, 32), (22, 16)):
        state[f"model.{layer}.filt"] = published_blur([1, 3, 3, 1], 2, channels)
    torch.save(state, tmp_path / "latest_net_G.pth")
    return tmp_path / "latest_net_G.pth"


def test_an_imported_generator_is_the_published_network(
    published: Path, golden: dict[str, Tensor], tmp_path: Path
) -> None:
    header = import_asp(published, RunFolder(tmp_path / "run"), 185_680)
    assert (header.method, header.pairs_seen) == ("asp", 185_680)
    assert (header.settings.generator.base, header.settings.generator.blocks) == (8, 6)
    trained = load_generator(RunFolder(tmp_path / "run").generator)
    with torch.no_grad():
        torch.testing.assert_close(trained.generator(golden["input"]), golden["output"], rtol=0, atol=1e-4)


def test_it_translates_a_store_that_is_named_and_is_not_trained_on(
    published: Path, small_store: Store, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    import_asp(published, folder, 0)
    with pytest.raises(RunError, match=r"was imported, not trained on a store; name the store with --store"):
        open_store_of(folder)
    assert predict(folder, small_store, Split.TEST, TILE, "cpu").pictures == 4
    with pytest.raises(RunError, match=r"is an imported generator, which cannot be trained further; choose another"):
        fit(folder, small_store, load_recipe([], ["method=cut", "data.views=['x1']"]))
    with pytest.raises(RunError, match=r"already has a generator"):
        import_asp(published, folder, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.13.conv_block.1.bias"), "missing: model.13.conv_block.1.bias; unexpected: none"),
        (lambda s: s.update({"model.40.weight": torch.ones(1)}), "missing: none; unexpected: model.40.weight"),
        (lambda s: s.pop("model.1.weight_orig"), "is not a generator of the ASP repository"),
        (lambda s: s.update({"model.4.bias": torch.ones(3)}), "does not fit the generator of ASP"),
        (lambda s: s.update({"epoch": 3}), "is not a bare state dict: epoch is no plain tensor"),
    ],
)
def test_other_files_are_refused(published: Path, tmp_path: Path, change: object, message: str) -> None:
    assert callable(change)
    state = torch.load(published, weights_only=True)
    change(state)
    torch.save(state, published)
    with pytest.raises(RunError, match=message):
        import_asp(published, RunFolder(tmp_path / "run"), 0)
    assert not (tmp_path / "run").exists()


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("run",)


def test_a_file_that_wants_code_or_is_damaged_or_missing_is_refused(published: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    torch.save({"model.1.weight_orig": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(RunError, match=r"evil\.pth asks for code \('__builtin__\.print'\), which was not run"):
        import_asp(tmp_path / "evil.pth", folder, 0)
    published.write_bytes(published.read_bytes()[:1000])
    with pytest.raises(RunError, match="is cut off after 1,000 bytes"):
        import_asp(published, folder, 0)
    with pytest.raises(RunError, match="no file"):
        import_asp(tmp_path / "none.pth", folder, 0)
    assert not folder.path.exists()


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def parametrized(state: dict[str, Tensor]) -> dict[str, Tensor]:
    newer = {
        kind: f"parametrizations.weight.{new}" for kind, new in (("orig", "original"), ("u", "0._u"), ("v", "0._v"))
    }
    return {
        name if not (stem := name.rpartition(".weight_"))[0] else f"{stem[0]}.{newer[stem[2]]}": value
        for name, value in state.items()
    }


OTHER = {"model.0.weight": torch.ones(4), "model.2.bias": torch.ones(2)}
WRAPPINGS = {
    "module": (lambda s: prefixed(s, "module."), "the prefix 'module.'"),
    "compiled": (lambda s: prefixed(s, "_orig_mod.module."), "the prefix '_orig_mod.module.'"),
    "state_dict": (lambda s: {"state_dict": s}, "the dictionary 'state_dict'"),
    "netG": (lambda s: {"netG": s, "epoch": 7}, "the dictionary 'netG'"),
    "with optimiser": (lambda s: {"netG": s, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, "'netG'"),
    "both": (lambda s: {"netG": prefixed(s, "module."), "netD": OTHER}, "the dictionary 'netG', the prefix 'module.'"),
    "deep": (lambda s: {"a": {"b": {"c": s}}}, "the dictionary 'a.b.c'"),
    "lightning": (
        lambda s: {"state_dict": prefixed(s, "netG.") | prefixed(OTHER, "netD.")},
        "the prefix 'netG.', 2 entries of other parts, such as 'netD.model.0.weight'",
    ),
    "parametrized": (parametrized, "the names of parametrized spectral norm"),
    "all": (
        lambda s: {"state_dict": prefixed(parametrized(s), "module.")},
        "the dictionary 'state_dict', the prefix 'module.', the names of parametrized spectral norm",
    ),
    "bare": (dict, None),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings_are_taken_off_and_said(published: Path, tmp_path: Path, wrapping: str) -> None:
    wrap, said = WRAPPINGS[wrapping]
    bare, told = RunFolder(tmp_path / "bare"), list[str]()
    import_asp(published, bare, 0)
    torch.save(wrap(torch.load(published, weights_only=True)), published)
    import_asp(published, RunFolder(tmp_path / "run"), 0, told.append)
    assert [line.endswith(str(said)) or str(said) in line for line in told] == ([True] if said else [])
    assert RunFolder(tmp_path / "run").generator.read_bytes() == bare.generator.read_bytes()


def half(state: dict[str, Tensor], changed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first half of the tensors of one, the second of the other."""
    place = len(state) // 2
    return dict([*list(state.items())[:place], *list(changed.items())[place:]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"netG": s, "netG_ema": s}, "holds 2 generators, in netG, netG_ema; save the one that is meant"),
        (lambda s: s | {"netG": s}, "holds 2 generators, in the outermost, netG"),
        (lambda s: prefixed(s, "netG.") | prefixed(s, "ema."), "with the prefixes 'ema.' and 'netG.'"),
        (lambda s: s | prefixed(s, "module."), "with the prefixes '' and 'module.'"),
        (lambda s: half(prefixed(s, "module."), s), "mixes names with a prefix and without one, such as"),
        (lambda s: half(s, prefixed(s, "module.")), "mixes names with a prefix and without one, such as module"),
        (lambda s: half(s, parametrized(s)), "mixes two forms of spectral norm"),
        (lambda s: s | parametrized(s), "mixes two forms of spectral norm"),
        (lambda s: {"netD": OTHER}, "has no model.1.weight_orig; it has 'netD'"),
        (lambda s: [s], "is not a generator .* it holds a list"),
        (lambda s: None, "it holds a NoneType"),
        (lambda s: {}, "it has nothing"),
        (lambda s: s | {"model.1.weight_orig": torch.tensor(1.0)}, "with 0 base channels"),
        (lambda s: s | {"model.1.weight_orig": torch.ones(9, 3, 7, 7)}, r"each residual block has \[36, 36, 3, 3\]"),
        (lambda s: s | {"model.1.weight_orig": torch.ones(1).expand(10**12, 1)}, "claims tensors of 4,000,00.* bytes"),
        (lambda s: s | {"model.1.bias": torch.full_like(s["model.1.bias"], torch.nan)}, "has 1 tensors .* not finite"),
        (lambda s: s | {"model.1.bias": s["model.1.bias"].long()}, "has 1 tensors .* no numbers with a point"),
        (lambda s: s | {"model.1.weight_orig": torch.ones(8, 3, 7, 7).to_sparse()}, "is no plain tensor"),
        (lambda s: s | {"model.1.weight_orig": torch.ones(8, 3, 7, 7, device="meta")}, "is no plain tensor"),
    ],
)
def test_what_is_ambiguous_or_no_generator_is_refused_with_the_reason(
    published: Path, tmp_path: Path, change: object, message: str
) -> None:
    assert callable(change)
    torch.save(change(torch.load(published, weights_only=True)), published)
    with pytest.raises(RunError, match=message):
        import_asp(published, RunFolder(tmp_path / "run"), 0)
    assert not (tmp_path / "run").exists()
