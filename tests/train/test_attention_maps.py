"""Attention maps over the H&E: the numbers of eq. (3) reach the picture, and a set is complete or absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from store.images import read_picture
from store.reader import TILE, Store
from store.run_files import RunFolder
from store.schema import RunError, Split, Stain
from tests.support.tiny_run import NARROW, NARROW_CONTRAST, ONE_EPOCH
from train.attention_maps import attention_maps_of, draw_attention_maps, heat_over
from train.loop.fit import fit
from train.methods.recipes import load_recipe
from train.networks.resnet import ResnetGenerator
from train.predict import predict
from train.run.generator_file import load_generator

SHORT = [*NARROW, *NARROW_CONTRAST, *ONE_EPOCH]


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "gated")
    fit(folder, store, load_recipe([], SHORT))
    predict(folder, store, Split.TEST, TILE, "cpu")
    return folder


def test_each_picture_has_a_map_for_each_level_and_the_sheet_shows_some(run: RunFolder, store: Store) -> None:
    place = draw_attention_maps(run, store, Split.TEST, TILE, "cpu")
    names = [f"{pair.id}.png" for pair in store.pairs(Split.TEST)]
    for level in ("level1", "level2"):
        assert sorted(file.name for file in (place / level).iterdir()) == sorted(names)
        assert read_picture(place / level / names[0]).shape == (192, 192, 3)
    said = json.loads((place / "gates.json").read_text())["levels"]
    assert list(said) == names
    assert all(0 < low < mean < high < 1 for levels in said.values() for mean, low, high in levels.values())
    assert read_picture(place / "gates.png").std() > 10
    before = {file: file.stat().st_mtime_ns for file in place.rglob("*.png")}
    assert draw_attention_maps(run, store, Split.TEST, TILE, "cpu") == place
    assert {file: file.stat().st_mtime_ns for file in place.rglob("*.png")} == before
    assert not place.with_name("gates.partial").exists()


def test_maps_are_the_gates_of_the_generator(run: RunFolder, store: Store) -> None:
    generator = load_generator(run.generator).generator
    assert isinstance(generator, ResnetGenerator)
    he = store.picture(Split.TEST, TILE, Stain.HE, 0)
    maps = attention_maps_of(generator, he, torch.device("cpu"))
    assert {level: gate.shape for level, gate in maps.items()} == {"level2": (48, 48), "level1": (96, 96)}
    with torch.no_grad():
        _, gates = generator.forward_with_gates(torch.from_numpy(he).permute(2, 0, 1)[None] / 127.5 - 1)
    for level, gate in gates.items():
        np.testing.assert_allclose(maps[level], gate[0].mean(dim=0).numpy(), atol=1e-6)


def test_colours_grow_with_the_gate_and_the_picture_shows_through() -> None:
    he = np.zeros((8, 8, 3), np.uint8)
    he[:4] = 200
    gate = np.tile(np.linspace(0.4, 0.6, 8, dtype=np.float32), (8, 1))
    made = heat_over(he, gate, 0.4, 0.6).astype(int)
    assert made[0, 0, 2] > made[0, 0, 0]  # dark blue
    assert made[0, 7, 0] > 200 > made[0, 7, 2]  # yellow
    assert (np.diff(made[0, :, 1]) > 0).all()
    assert (abs(made[0] - made[7] - 90) <= 1).all()  # 45 % of 200


def test_a_generator_without_attention_is_refused(store: Store, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    fit(folder, store, load_recipe([], ["method=asp", *SHORT]))
    predict(folder, store, Split.TEST, TILE, "cpu")
    with pytest.raises(RunError, match=r"has no attention maps to draw: its method is asp"):
        draw_attention_maps(folder, store, Split.TEST, TILE, "cpu")
