"""Stores and tiles that tests share: drawn with numpy, small, no downloads."""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from prep.settings import Recipe
from prep.upscale import Lanczos
from prep.views import Geometry, cut_source, cut_window, finish_view, plan_boxes, plan_views
from store.arrays import Unit
from store.location import locate
from store.reader import Store
from store.schema import Box, Manifest, Pair, Split, Stain, Table, Upscaler
from store.writer import open_writer

SHARED = Path(__file__).parents[2] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the real pictures in ../shared are not here")


def draw_tile(side: int, *key: int) -> NDArray[np.uint8]:
    """Smooth coloured blobs with fine grain, u8 [side,side,3]; a function of the key."""
    generator = np.random.default_rng(key)
    coarse = generator.integers(40, 230, (6, 6, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    noisy = np.asarray(smooth + generator.normal(0, 6, smooth.shape))
    return np.clip(noisy, 0, 255).astype(np.uint8)


Ids = Mapping[Split, list[str]]
IDS: Ids = {Split.TRAIN: [f"s{s}_{t}_0" for s in (1, 2) for t in range(4)], Split.TEST: [f"s3_{t}_0" for t in range(4)]}


def small_manifest(
    *, tile_side: int = 128, view_side: int = 64, boxes: int = 1, unit: int = 3, ids: Ids = IDS
) -> Manifest:
    """The manifest of the small store: 3 slides x 4 tiles, two slides in train, one in test; enlarged by Lanczos."""
    return Manifest(
        format=1,
        name="small",
        stain="test",
        synthetic=True,
        tile_side=tile_side,
        view_side=view_side,
        recipe=Recipe.PAPER,
        views=plan_views(Recipe.PAPER, boxes),
        keep_tiles=True,
        margin=4,
        mpp={},
        upscaler=Upscaler(name="lanczos", digests={}, precision="u8", batch=4),
        unit=unit,
        counts={split: len(names) for split, names in ids.items()},
        skipped=0,
        split="published",
        seed=0,
        settings={"seed": 0},
        software={"test": "1"},
    )


def small_table(ids: Ids = IDS) -> Table:
    """The pair tables of the small store."""
    return Table(
        pairs={
            split: tuple(
                Pair(id=i, slide=i[:2], he=f"he/{i}.png", ihc=f"ihc/{i}.png", he_digest="00" * 32, ihc_digest="11" * 32)
                for i in names
            )
            for split, names in ids.items()
        }
    )


def small_blocks(manifest: Manifest, unit: Unit, ids: Ids = IDS) -> dict[str, NDArray[np.generic]]:
    """The rows of one unit of the small store by array path; a function of its arguments."""
    blocks: dict[str, NDArray[np.generic]] = {}
    side, view_side, margin = manifest.tile_side, manifest.view_side, manifest.margin
    for stain_index, stain in enumerate(Stain):
        tiles = [draw_tile(side, unit.split is Split.TEST, row, stain_index) for row in unit.pairs]
        blocks[f"{unit.split}/tile/{stain}"] = np.stack(tiles)
        for view in manifest.views:
            geometry = Geometry(view=view, tile_side=side, view_side=view_side, margin=margin)
            boxes_of = [plan_boxes(geometry, 0, ids[unit.split][row]) for row in unit.pairs]
            name = f"{unit.split}/{view.name}"
            blocks[f"{name}/{stain}"] = np.stack(
                [[_cut(t, b, geometry) for b in bs] for t, bs in zip(tiles, boxes_of, strict=True)]
            )
            blocks[f"{name}/box"] = np.array([[(b.top, b.left, b.side) for b in bs] for bs in boxes_of], np.int32)
    return blocks


def build_small_store(
    path: Path | str, *, tile_side: int = 128, view_side: int = 64, boxes: int = 1, unit: int = 3, ids: Ids = IDS
) -> Store:
    """Build or go on with the small store, and seal it."""
    manifest = small_manifest(tile_side=tile_side, view_side=view_side, boxes=boxes, unit=unit, ids=ids)
    with open_writer(path, manifest, small_table(ids)) as writer:
        for pending in writer.pending():
            writer.write(pending, small_blocks(manifest, pending, ids))
        writer.seal()
    return Store.open(path)


def _cut(tile: NDArray[np.uint8], box: Box, geometry: Geometry) -> NDArray[np.uint8]:
    window = cut_window(cut_source(tile, geometry), box, geometry)
    if geometry.enlarged:
        window = Lanczos().enlarge(window[None], int(geometry.factor), ["window"])[0]
    return finish_view(window, box, geometry)


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in a folder: every file by its name and every folder, whose name ends in a slash."""
    found = {place.relative_to(folder).as_posix(): place for place in folder.rglob("*")}
    return {f"{name}/" if p.is_dir() else name: b"" if p.is_dir() else p.read_bytes() for name, p in found.items()}


@pytest.fixture(scope="session", autouse=True)
def spared_disk() -> Iterator[None]:
    """Nothing is synced in tests: it took 1.4 s of the 2.0 s that a small store takes, and more to remove it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Read-only, shared by all tests of a session."""
    return build_small_store(tmp_path_factory.mktemp("store") / "small.zarr")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where tests of device code run: a GPU if there is one, else the CPU, which takes the same path."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def copied(small_store: Store, tmp_path: Path) -> Path:
    """A copy of the small store that a test may damage."""
    path = tmp_path / "s.zarr"
    shutil.copytree(small_store.path, path)
    return path


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server on loopback, which lives in this process."""
    pytest.importorskip("obstore", reason="needs the extra cloud")
    server = pytest.importorskip("moto.moto_server.threaded_moto_server", reason="needs moto[server]")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    yield moto.get_host_and_port()
    moto.stop()


@pytest.fixture
def bucket(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new bucket, and the environment that leads to its server."""
    name, endpoint = f"bucket-{os.urandom(4).hex()}", f"http://{s3_server[0]}:{s3_server[1]}"
    for variable in [variable for variable in os.environ if variable.startswith("AWS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    connection = http.client.HTTPConnection(*s3_server)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    connection.close()
    return f"s3://{name}"


@pytest.fixture
def stored(bucket: str, small_store: Store) -> str:
    """The address of a copy of the small store in a bucket, which a test may damage."""
    there = locate(f"{bucket}/small.zarr")
    for name in small_store.location.names():
        there.write(name, small_store.location.read(name))
    return str(there)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 256 KiB."""
    with _mounted(tmp_path / "small-disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as disk:
        yield disk


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount a folder onto itself, read-only: unlike a mode it stops root as well."""
    with _mounted(folder, "--bind", "-o", "ro", str(folder)):
        yield


@contextmanager
def _mounted(place: Path, *words: str) -> Iterator[Path]:
    """Mount at `place` for a while; mounting needs rights that not every machine gives."""
    if shutil.which("mount") is None:
        pytest.skip("this machine has no mount command")
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *words, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let tests mount: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The small store with views of 96 px, the least that a 5-layer PatchGAN takes; a module's own."""
    return build_small_store(tmp_path_factory.mktemp("store") / "s.zarr", tile_side=192, view_side=96)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from more, and lose much where cores are shared; and numbers are then repeatable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
