"""How batches reach the training process: a shared memory that is too small changes nothing but the way."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from store.machine import shared_memory
from store.machine.shared_memory import free_shared, processes_fault, semaphore_bytes
from store.reader import Store
from store.run_files import RunFolder
from store.schema import Interrupted, RunError, StoreError
from tests.support.places import ROOT
from tests.support.tiny_run import TINY
from train.data.batch import RawBatch
from train.data.loader import bytes_of_batch, read_batches
from train.data.sampling import plan_order
from train.data.transport import PackedBatch, Readers, Unpacker, pack, plan_readers
from train.loop.fit import fit
from train.settings import DataSettings

SETTINGS = DataSettings(views=("x1",), batch=4)
READ = """
import hashlib, sys
from store.reader import Store
from train.data.loader import bytes_of_batch, read_batches
from train.data.sampling import plan_order
from train.data.transport import plan_readers
from train.settings import DataSettings

if __name__ == "__main__":
    store = Store.open(sys.argv[1])
    order = plan_order(store, DataSettings(views=("x1",), batch=4), seed=0, epochs=2)
    readers = plan_readers(2, bytes_of_batch(store, order))
    print(readers.processes, readers.note)
    digest = hashlib.sha256()
    for raw in read_batches(store, order, done=0, workers=readers.processes, pin=False):
        digest.update(raw.pixels.numpy().tobytes() + raw.flips.numpy().tobytes())
    print(digest.hexdigest())
"""


def batch() -> RawBatch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 8, 8, 3), dtype=torch.uint8, generator=generator)
    return RawBatch(pixels, torch.tensor([[True, False, True], [False, False, True]]))


def room(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    """Shared memory with so many bytes free."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2 * free, free, free))


def digest_of(store: Store) -> str:
    digest = hashlib.sha256()
    for raw in read_batches(store, plan_order(store, SETTINGS, seed=0, epochs=2), done=0, workers=0, pin=False):
        digest.update(raw.pixels.numpy().tobytes() + raw.flips.numpy().tobytes())
    return digest.hexdigest()


def test_a_batch_that_finds_no_room_goes_through_the_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    given, unpack = batch(), Unpacker(pin=False)
    shared = pack(batch())
    assert isinstance(shared, PackedBatch)
    assert isinstance(shared.pixels, torch.Tensor)
    assert shared.pixels.is_shared()  # type: ignore[no-untyped-call]  # torch
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    piped = pack(batch())
    assert isinstance(piped, PackedBatch)
    assert isinstance(piped.pixels, np.ndarray)
    for packed in (shared, piped, piped):
        one = unpack(packed)
        assert torch.equal(one.pixels, given.pixels)
        assert torch.equal(one.flips, given.flips)
    assert capsys.readouterr().err.count("/dev/shm has no room for a batch") == 1
    error = StoreError("damaged")
    assert pack(error) is error


@pytest.mark.parametrize(
    ("workers", "free", "processes", "told"),
    [
        (0, 0, 0, ""),
        (2, 64e6, 2, ""),
        (
            2,
            semaphore_bytes(2) - 1,
            0,
            "warning: the training process reads the store itself, as with data.workers=0, ",
        ),
        (2, 5.9e6, 2, r"has 5\.9 MB free, and the batches of data\.workers=2 need up to 6\.0 MB: .*--shm-size.*fewer"),
        (2, 6.0e6, 2, ""),
        (16, 6.0e6, 16, r"data\.workers=16 need up to 34\.0 MB"),
    ],
)
def test_readers_are_planned_by_the_room_that_is_there(
    workers: int, free: float, processes: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    room(monkeypatch, free)
    readers = plan_readers(workers, 1_000_000)
    assert readers.processes == processes
    assert re.search(told or "^$", readers.note)
    assert "\n" not in readers.note


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
def test_readers_that_cannot_be_started_after_all_are_one_line(
    number: int, small_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(type(multiprocessing.get_context("spawn"))):  # type: ignore[misc]  # mypy takes no such bases
        def Queue(self, maxsize: int = 0) -> None:  # noqa: N802 - as multiprocessing's
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("train.data.loader._clean_processes", Full)
    order = plan_order(small_store, SETTINGS, seed=0, epochs=1)
    with pytest.raises(RunError, match=rf"{os.strerror(number)}\): usually memory ran out, .*fewer data.workers"):
        next(read_batches(small_store, order, done=0, workers=1, pin=False))


def test_without_semaphores_there_are_no_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        def Lock(self) -> None:  # noqa: N802 - as multiprocessing's
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: Context())
    assert processes_fault(1).startswith("this system gives no semaphores in /dev/shm ([Errno 13] Permission denied); ")
    assert plan_readers(2, 1).processes == 0


def test_a_system_that_shares_memory_elsewhere_has_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory, "SHARED", tmp_path / "none")
    assert free_shared() == float("inf")
    assert plan_readers(2, 10**9) == Readers(processes=2)


def test_what_a_batch_takes_is_what_is_read_at_once(small_store: Store) -> None:
    order = plan_order(small_store, SETTINGS, seed=0, epochs=1)
    (raw, *_) = read_batches(small_store, order, done=0, workers=0, pin=False)
    assert bytes_of_batch(small_store, order) == raw.pixels.nbytes
    assert bytes_of_batch(small_store, replace(order, block=16)) == 4 * raw.pixels.nbytes


@pytest.mark.usefixtures("one_thread")
def test_a_run_says_it_before_its_first_step(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    room(monkeypatch, 1000)
    with pytest.raises(Interrupted):
        fit(RunFolder(tmp_path / "run"), store, replace(TINY, data=replace(TINY.data, workers=2), time_limit=1e-6))
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert told.startswith("warning: the training process reads the store itself, as with data.workers=0, slower: /dev")


def test_in_a_shared_memory_of_128_kb_the_same_batches_are_read(small_store: Store, tmp_path: Path) -> None:
    """The whole of it, in a mount of its own; before, the readers died with traces, and the run waited for ever."""
    script = tmp_path / "read.py"
    script.write_text(READ)
    inner = 'mount -t tmpfs -o size=128k tmpfs /dev/shm && exec "$@"'
    words = ["unshare", "-m", "sh", "-c", inner, "sh", sys.executable, str(script), str(small_store.path)]
    if shutil.which("unshare") is None or subprocess.run([*words[:-3], "true"], capture_output=True).returncode:
        pytest.skip("this machine does not allow tests to mount")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    plan, digest = done.stdout.splitlines()
    assert plan.startswith("2 warning: /dev/shm has 0.1 MB free, and the batches of data.workers=2 need up to 0.6 MB")
    assert digest == digest_of(small_store)
    assert "Traceback" not in done.stderr
    assert "Bus error" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
