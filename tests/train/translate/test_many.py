"""Many small pictures in one command: the files of each by itself, in few writes, whatever interrupts."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor

from store.disk.locks import locked
from store.images import read_picture, write_png
from store.records.translated_file import publish
from store.records.translation import read_translation
from tests.support.command_line import Outcome
from tests.support.disks import contents, full, mounted
from tests.support.stores import draw_tile
from train.run.inference import translate as translate_one
from train.run.inference import translate_batch
from train.translate.many import sheets
from train.translate.many.sheets import Made, Read, Sheets
from train.translate.names import Item

Translate: TypeAlias = Callable[..., Outcome]
pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = ((40, 40), (40, 40), (33, 64), (40, 40), (64, 9), (1, 1), (40, 40))


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Pictures of one tile in the folder `in` and one below it."""
    for number, (height, width) in enumerate(SIZES):
        folder = tmp_path / ("in/deep" if number % 2 else "in")
        write_png(folder / f"{number}.png", draw_tile(64, number)[:height, :width])
    return [file.relative_to(tmp_path / "in").as_posix() for file in sorted((tmp_path / "in").rglob("*.png"))]


@pytest.mark.parametrize("form", ["png", "jpeg", "tiff"])
def test_the_files_are_those_that_a_spool_makes(translate: Translate, pictures: list[str], form: str) -> None:
    assert translate("in", "--out", "out", "--format", form).code == 0
    for name in contents(Path("out")):
        if not name.endswith((".json", "/")):
            Path("spooled", f"{name}.partial").mkdir(parents=True)  # what is begun there goes on there
    assert translate("in", "--out", "spooled", "--format", form).code == 0
    assert contents(Path("spooled")) == contents(Path("out"))
    assert len(contents(Path("out"))) == 2 * len(pictures) + 1


def test_what_has_no_flat_file_keeps_its_spool(translate: Translate, pictures: list[str]) -> None:
    for form in ("ome-tiff", "ome-zarr"):
        assert translate(Path("in", pictures[0]), "--out", form, "--format", form).code == 0
        assert len(list(Path(form).iterdir())) == 2


@pytest.mark.parametrize("same", [True, False])
def test_pictures_share_a_batch_only_where_that_changes_nothing(
    translate: Translate, pictures: list[str], same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four pictures of one shape three are neighbours: two of them make a full batch."""
    assert translate("in", "--out", "alone").code == 0
    tried, real = list[tuple[int, int]](), translate_batch
    together = list[int]()

    def answer(_generator: object, _count: int, size: tuple[int, int], _device: object) -> bool:
        tried.append(size)
        return same

    def counted(generator: Callable[[Tensor], Tensor], pixels: list[object], device: torch.device) -> list[Tensor]:
        together.append(len(pixels))
        return real(generator, pixels, device)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(sheets, "batches_change_nothing", answer)
    monkeypatch.setattr(sheets, "translate_batch", counted)
    assert translate("in", "--out", "batch", "--set", "batch=2").code == 0
    assert tried == [(40, 40)]
    assert together == [2] * same
    for name in pictures:
        one, two = (read_picture(Path(folder, name)).astype(np.int16) for folder in ("alone", "batch"))
        assert np.abs(one - two).max() <= int(same)


class Stopped(BaseException):
    """A kill: nothing catches it."""


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("call", ["replace", "unlink", "fsync"])
def test_a_folder_killed_at_any_write_resumes_to_the_same_files(
    translate: Translate, pictures: list[str], call: str, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in pictures[2:]:
        Path("in", name).unlink()
    words = ("in", "--out", "out")
    assert translate(*words).code == 0
    whole = contents(Path("out"))
    for name in pictures[:2]:
        write_png(Path("in2", name), draw_tile(64, 99))
    assert translate("in2", "--out", "other").code == 0
    other = contents(Path("other"))
    owner = os if call == "fsync" else Path
    real, left = vars(owner)[call], [0]

    def counted(*values: object, **more: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            raise Stopped
        return real(*values, **more)

    monkeypatch.setattr(owner, call, counted)
    for dies_at in range(1, 40):
        for name, data in other.items():
            Path("out", name).unlink(missing_ok=True)
            if overwrite:
                Path("out", name).parent.mkdir(exist_ok=True)
                Path("out", name).write_bytes(data)
        left[0] = dies_at
        try:
            done = translate(*words, *["--overwrite"] * overwrite)
        except Stopped:
            left[0] = 0
            now = contents(Path("out"))
            for name in (name for name in pictures[:2] if name in now):
                assert now[name] in (whole[name], other[name]), "half a picture under its name"
            assert translate(*words, *["--overwrite"] * overwrite).code == 0
            assert contents(Path("out")) == whole
        else:
            assert done.code == 0
            assert dies_at > 2
            return
    raise AssertionError("it writes without end")


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    translate: Translate, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert translate("in", "--out", "whole").code == 0
    written = list[Path]()

    def stopping(output: Path, *more: object) -> object:
        written.append(output)
        if len(written) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return publish(output, *more)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(sheets, "publish", stopping)
    stopped = translate("in", "--out", "out", "--set", "memory=0.0001")  # one ahead, one behind
    assert stopped.code == 3
    assert "what is finished is kept; run the same command to resume" in stopped.err.splitlines()[-1]
    kept = contents(Path("out"))
    assert sorted(name for name in kept if name.endswith(".png")) == sorted(
        path.relative_to("out").as_posix() for path in written
    ), "whole pictures, and no lock of those that were read ahead"
    assert not [name for name in kept if name.endswith((".lock", ".partial"))]
    assert 0 < len(written) < len(pictures)
    assert translate("in", "--out", "out").code == 0
    assert len(written) == len(set(written)) == len(pictures), "none is translated twice"
    assert contents(Path("out")) == contents(Path("whole"))


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    translate: Translate, pictures: list[str], tmp_path: Path
) -> None:
    assert translate("in", "--out", "whole").code == 0
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as disk:
        (disk / "out/deep").mkdir(parents=True)
        with full(disk):
            refused = translate("in", "--out", disk / "out")
            assert refused.code == 2
            assert "the disk is full: free some space and run the same command again" in refused.err.splitlines()[-1]
            assert contents(disk / "out") == {"deep/": b""}
        assert translate("in", "--out", disk / "out").code == 0
        assert contents(disk / "out") == contents(Path("whole"))


def test_two_commands_on_one_output_are_refused(translate: Translate, pictures: list[str]) -> None:
    Path("out/deep").mkdir(parents=True)
    with locked(Path("out", pictures[3] + ".lock"), "it"):
        refused = translate("in", "--out", "out")
    assert refused.code == 2
    assert f"the translation out/{pictures[3]} is being written by another process" in refused.err
    assert {name for name in contents(Path("out")) if name.endswith("png")} == set(pictures[:3]), "others are kept"
    assert translate("in", "--out", "out").code == 0


def test_an_output_is_locked_from_when_its_picture_is_read(
    translate: Translate, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, real = list[bool](), translate_one

    def looking(*values: object, **more: object) -> object:
        seen.append(Path("out/0.png.lock").exists())
        return real(*values, **more)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(sheets, "translate", looking)
    assert translate("in/0.png", "--out", "out").code == 0
    assert seen == [True]
    assert sorted(contents(Path("out"))) == ["0.png", "0.png.json"]


def test_a_picture_costs_few_writes_that_are_waited_for(
    translate: Translate, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, list[int]()

    def counted(handle: int) -> None:
        synced.append(handle)
        real(handle)

    monkeypatch.setattr(os, "fsync", counted)
    assert translate("in", "--out", "out").code == 0
    assert len(synced) == 2 * len(pictures) + 2, "picture and record, and each folder once"


def test_pictures_are_read_ahead_while_the_network_works_as_memory_allows(
    translate: Translate, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, real, drawn = list[str](), Sheets._read, Sheets._draw
    second = threading.Event()
    ahead, locks = list[int](), list[int]()

    def reading(self: Sheets, item: Item) -> Read:
        read.append(item.source.name)
        if len(read) == 2:
            second.set()
        return real(self, item)

    def drawing(self: Sheets, group: Sequence[tuple[Item, Read]]) -> Sequence[Made]:
        if not ahead:
            assert second.wait(20), "nothing is read while the network works"
        ahead.append(len(read))
        locks.append(len([*Path("out").rglob("*.lock")]))
        return drawn(self, list(group))

    monkeypatch.setattr(Sheets, "_read", reading)
    monkeypatch.setattr(Sheets, "_draw", drawing)
    assert translate("in", "--out", "out", "--set", "memory=0.0001").code == 0
    assert all(count <= number + 3 for number, count in enumerate(ahead)), "a picture in the network, one read ahead"
    assert max(locks) <= 5 < len(pictures), "and one or two to be written: who is done holds nothing"


def test_what_is_said_of_thousands_is_said_once(translate: Translate, pictures: list[str]) -> None:
    first = translate("in", "--out", "out").err
    said = " ".join(first.split())
    assert "note: 7 pictures (0.png, 2.png, 4.png, …): the generator does not say at which micrometres" in said
    assert "7 of 7 pictures are translated in out" in said
    assert said.count("note:") == 2, "and what holds for pictures of several tiles"
    before = contents(Path("out"))
    again = " ".join(translate("in", "--out", "out").err.split())
    assert "7 outputs (out/0.png, out/2.png, out/4.png, …) already exist: the same translations, kept" in again
    assert contents(Path("out")) == before


def test_bad_and_large_pictures_between_small_ones_come_in_their_order(
    translate: Translate, pictures: list[str]
) -> None:
    for name in ("1a.png", "2a.png"):
        write_png(Path("in", name), draw_tile(130, 9))
    for name in ("0a.png", "3a.png"):
        Path("in", name).write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    translate("in/2.png", "--set", "seed=1", "--out", "out")
    done = translate("in", "--out", "out")
    assert done.code == 2
    assert "8 of 11 pictures are translated in out" in done.err
    told = [re.split(r"[: ]", line.strip())[0] for line in done.err.splitlines()]
    assert [name for name in told if name.startswith("out/")] == ["out/1a.png", "out/2a.png", "out/2.png"]
    assert [name for name in told if name.startswith("in/")] == ["in/0a.png", "in/3a.png"]
    assert read_translation(Path("out/1a.png")).tiles == ("###",) * 3
    assert read_picture(Path("out/deep/1.png")).shape == (40, 40, 3)
