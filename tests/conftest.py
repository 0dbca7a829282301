"""Fixtures that tests of several packages share: drawn with numpy, small, no downloads."""

from __future__ import annotations

import gc
import http.client
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from store.__main__ import app
from store.location.open import locate
from store.reader import Store
from tests.support.command_line import CommandLine
from tests.support.disks import mounted
from tests.support.slow import mark_slow, slow_modules_first
from tests.support.stores import build_small_store
from tests.support.tiles import TILES, write_tiles

if TYPE_CHECKING:
    import torch  # it takes seconds to import, and the process that hands out the tests does without it


def pytest_configure(config: pytest.Config) -> None:
    """Threads of the workers (`pytest -n 2`), which inherit the environment of this process, and interpreted kernels.

    Where there is a GPU, tests of kernels run on it.
    """
    if not Path("/dev/nvidiactl").exists():
        os.environ["TRITON_INTERPRET"] = "1"
    if config.getoption("numprocesses", None):
        from tests.support.parallel import limit_threads

        limit_threads()


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Nothing that is collected becomes garbage: to look for some took 4 of 14 seconds, in each worker."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Nor is it looked through again in the middle of tests."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_slow(items)
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow_modules_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.support.parallel import ByModule

    config.option.loadscopereorder = False  # the order of collection is the right one
    return ByModule(config, log)


@pytest.fixture(scope="session", autouse=True)
def no_sync() -> Iterator[None]:
    """Nothing is synced in tests: that took 1.4 s of the 2.0 s of a small store, and more to remove it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A small store of 12 pairs, shared by all tests: read-only."""
    return build_small_store(tmp_path_factory.mktemp("store") / "small.zarr")


@pytest.fixture
def copied(small_store: Store, tmp_path: Path) -> Path:
    """A copy of the small store that a test may damage."""
    path = tmp_path / "s.zarr"
    shutil.copytree(small_store.path, path)
    return path


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """`python -m store` in this process."""
    return CommandLine("store", app, monkeypatch, capsys)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Host and port of an S3 server on loopback, in a thread of this process; each worker has its own."""
    pytest.importorskip("obstore", reason="needs the extra cloud")
    server = pytest.importorskip("moto.moto_server.threaded_moto_server", reason="needs moto[server]")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    yield moto.get_host_and_port()
    moto.stop()


@pytest.fixture
def bucket(s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new bucket; the environment of the process leads to its server."""
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
    with mounted(tmp_path / "small-disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as disk:
        yield disk


@pytest.fixture
def mist(tmp_path: Path) -> Path:
    """Nine pairs in MIST layout, the third slide held out."""
    data = tmp_path / "tiles"
    for part, names in (("train", TILES[:6]), ("val", TILES[6:])):
        for key, stain in enumerate("AB"):
            write_tiles(data / f"{part}{stain}", names, key + 10 * (part == "val"))
    return data


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where tests of device code run: a GPU if there is one, else the CPU, which takes the same path."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The small store with views of 96 px, the least for a 5-layer PatchGAN; each module has its own."""
    return build_small_store(tmp_path_factory.mktemp("store") / "s.zarr", tile_side=192, view_side=96)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch uses one thread: small networks gain nothing from more, and numbers are then repeatable."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
