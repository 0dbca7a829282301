"""`generator.safetensors`: a changed bit is found, equal results are equal files, earlier versions are read."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from store.files import DIGEST, digest_tree
from store.reader import Store
from store.run_files import RunFolder
from store.schema import RunError
from store.settings import plain
from tests.support.tiny_run import TINY
from train.importing.publications import Published
from train.importing.run import Stated, import_generator
from train.loop.session import build, facts_of
from train.loop.session import header_of as header_of_run
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.networks.resnet import published_names
from train.run.console import Console
from train.run.folder import FREE
from train.run.generator_file import (
    FORMAT,
    HEADER,
    TENSORS,
    GeneratorHeader,
    digest_tensors,
    load_generator,
    load_header,
    save_generator,
)
from train.run.model_card import model_card
from train.runtime.distributed import ALONE
from train.settings import DataSettings, DiscriminatorSettings, GeneratorSettings, TrainSettings

SETTINGS = TrainSettings(generator=GeneratorSettings(base=4), discriminator=DiscriminatorSettings(base=4))


def header_of(settings: TrainSettings = SETTINGS) -> GeneratorHeader:
    return GeneratorHeader(
        version=FORMAT, method="attention_gan", settings=settings, seal="ab" * 32, step=8, pairs_seen=8
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("generator") / "generator.safetensors"
    save_generator(file, build_method(SETTINGS).generator, header_of())
    return file


def test_a_changed_bit_anywhere_is_found(saved: Path, tmp_path: Path) -> None:
    """In the length, the names, shapes and offsets of tensors, the header, its digests, and the tensors."""
    data, file = saved.read_bytes(), tmp_path / "generator.safetensors"
    rng, end = np.random.default_rng(0), 8 + int.from_bytes(saved.read_bytes()[:8], "little")
    text = data[:end].index(b"__metadata__")
    places = [*range(8), *rng.choice(end - 8, 60) + 8, *range(text, text + 60), *rng.choice(len(data) - end, 60) + end]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        with pytest.raises(RunError, match=r"generator\.safetensors"):
            load_header(file)
    assert load_header(saved) == header_of()


def test_tensors_of_another_file_under_this_header_are_found(saved: Path, tmp_path: Path) -> None:
    """What a library reads and writes again without knowing of the digest."""
    from safetensors import safe_open

    with safe_open(saved, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, tmp_path / "same.safetensors", metadata)
    assert load_header(tmp_path / "same.safetensors") == header_of()
    first = next(iter(tensors))
    for other in (tensors | {first: tensors[first] + 1}, tensors | {first: tensors[first].half()}):
        save_file(other, tmp_path / "other.safetensors", metadata)
        with pytest.raises(RunError, match=r"other\.safetensors is damaged: its tensors .*; bring back a copy"):
            load_generator(tmp_path / "other.safetensors")


def test_a_digest_is_of_names_kinds_shapes_and_bytes() -> None:
    tensor = torch.arange(6, dtype=torch.float32)
    digests = {
        digest_tensors(tensors)
        for tensors in (
            {"a": tensor},
            {"b": tensor},
            {"a": tensor.reshape(2, 3)},
            {"a": tensor.reshape(2, 3).T},
            {"a": tensor.view(torch.int32)},
            {"a": tensor.bfloat16()},
            {"a": tensor, "b": tensor},
            {"a": tensor[0]},
        )
    }
    assert len(digests) == 8
    assert digest_tensors({"a": tensor, "b": -tensor}) == digest_tensors({"b": -tensor, "a": tensor})


def test_equal_results_are_equal_files_whatever_changes_no_number(saved: Path, tmp_path: Path) -> None:
    other = replace(SETTINGS, data=DataSettings(workers=7), device="cpu", checkpoint_every=3, tensorboard=False)
    changed = {key for key, value in _flat(plain(other)).items() if value != _flat(plain(SETTINGS))[key]}
    assert {"data.workers", "device", "checkpoint_every", "tensorboard"} == changed <= FREE
    file = tmp_path / "generator.safetensors"
    save_generator(file, load_generator(saved).generator, header_of(other))
    assert file.read_bytes() == saved.read_bytes()
    save_generator(file, load_generator(saved).generator, header_of(replace(SETTINGS, seed=7)))
    assert file.read_bytes() != saved.read_bytes()


def _flat(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def test_a_file_of_version_2_has_no_digests_and_is_read(saved: Path, tmp_path: Path) -> None:
    tensors = load_generator(saved).generator.state_dict()
    header = {HEADER: json.dumps(plain(header_of()) | {"version": 2})}
    save_file(tensors, tmp_path / "old.safetensors", header)
    assert load_header(tmp_path / "old.safetensors") == replace(header_of(), version=2)


def test_a_file_of_version_3_does_not_know_what_it_was_trained_at(saved: Path, tmp_path: Path) -> None:
    tensors = load_generator(saved).generator.state_dict()
    later = {"view_side", "mpp", "started_from"}
    tree = {key: value for key, value in plain(header_of()).items() if key not in later}
    tree |= {"version": 3, TENSORS: digest_tensors(tensors)}
    save_file(tensors, tmp_path / "old.safetensors", {HEADER: json.dumps(tree | {DIGEST: digest_tree(tree)})})
    header = load_header(tmp_path / "old.safetensors")
    assert header == replace(header_of(), version=3)
    assert (header.view_side, header.mpp, header.started_from) == (None, {}, None)
    unsealed = {HEADER: json.dumps(tree)}
    save_file(tensors, tmp_path / "old.safetensors", unsealed)
    with pytest.raises(RunError, match="is damaged: its header has no sha256"):
        load_header(tmp_path / "old.safetensors")


def test_what_a_generator_was_trained_at_comes_back(saved: Path, tmp_path: Path) -> None:
    header = replace(header_of(), view_side=128, mpp={"x1": 0.9322, "x4": 1 / 3}, started_from="cd" * 32)
    save_generator(tmp_path / "g.safetensors", load_generator(saved).generator, header)
    assert load_header(tmp_path / "g.safetensors") == header


@pytest.mark.parametrize(
    ("views", "mpp", "known", "shown"),
    [
        (("x1", "x4"), {"tile": 0.4661, "x1": 0.9322, "x2": 0.4661}, {"x1": 0.9322}, "x1 (0.9322 um per pixel), x4 at"),
        (("tile",), {"tile": 0.25, "x1": 0.5}, {"tile": 0.25}, "tile (0.25 um per pixel) at"),
        (("x1",), {}, {}, "x1 at"),
    ],
)
def test_a_run_records_the_scale_of_its_views(
    store: Store, tmp_path: Path, views: tuple[str, ...], mpp: dict[str, float], known: dict[str, float], shown: str
) -> None:
    scaled = Store(store.path, replace(store.manifest, mpp=mpp))
    folder, settings = RunFolder(tmp_path / "run"), replace(TINY, data=replace(TINY.data, views=views))
    run = build(folder, scaled, settings, ALONE, Console(active=False))
    header = header_of_run(run)
    assert (header.version, header.view_side, header.mpp) == (4, 96, known)
    card = model_card(folder, scaled, header, facts_of(run), seconds=1.0, skipped=0)
    assert f"| trained on | 8 train pairs, views {shown} 96 px |" in card


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ({"view_side": 0}, "view_side = 0: must be at least 1 px"),
        ({"view_side": 1.5}, "view_side = 1.5"),
        ({"mpp": {"x1": 0.0}}, "mpp = 0 of view 'x1': a number above 0 of one of x1, x2, x4"),
        ({"mpp": {"x1": -1.0}}, "mpp = -1"),
        ({"mpp": {"x1": "0.5"}}, "mpp.x1"),
        ({"mpp": {"x8": 0.5}}, "mpp = 0.5 of view 'x8'"),
        ({"mpp": None}, "mpp = null"),
        ({"started_from": 3}, "started_from = 3"),
    ],
)
def test_a_header_with_a_scale_that_is_none_is_refused(
    saved: Path, tmp_path: Path, at: dict[str, object], words: str
) -> None:
    tensors = load_generator(saved).generator.state_dict()
    tree = plain(header_of()) | {TENSORS: digest_tensors(tensors)} | at
    save_file(tensors, tmp_path / "odd.safetensors", {HEADER: json.dumps(tree | {DIGEST: digest_tree(tree)})})
    with pytest.raises(RunError, match=rf"odd\.safetensors is not what it should be .*{re.escape(words)}"):
        load_header(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("text", ["[1]", "{", "3", '{"version": 3}', '{"version": 2}'])
def test_a_header_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", {HEADER: text})
    with pytest.raises(RunError, match=r"odd\.safetensors"):
        load_header(tmp_path / "odd.safetensors")


def test_an_import_has_digests_and_a_killed_one_is_finished_by_the_same_command(tmp_path: Path) -> None:
    recipe = load_recipe([], ["method=asp"])
    shape = replace(recipe.generator, base=4)
    network, names = build_method(replace(recipe, generator=shape)).generator, published_names(shape)
    state = {theirs: network.state_dict()[ours] for ours, theirs in names.items()}
    torch.save(state, tmp_path / "latest_net_G.pth")
    folder = RunFolder(tmp_path / "run")
    import_generator(tmp_path / "latest_net_G.pth", Published.ASP, folder, Stated())
    whole = folder.generator.read_bytes()
    folder.generator.unlink()  # as a kill leaves it
    import_generator(tmp_path / "latest_net_G.pth", Published.ASP, folder, Stated())
    assert folder.generator.read_bytes() == whole
    folder.generator.unlink()
    with pytest.raises(RunError, match="is another run; choose another folder"):
        import_generator(tmp_path / "latest_net_G.pth", Published.ASP, folder, Stated(pairs_seen=7))
    changed = bytearray(whole)
    changed[-1] ^= 1
    folder.generator.write_bytes(changed)
    with pytest.raises(RunError, match="is damaged: its tensors"):
        load_generator(folder.generator)
