"""Stores whose views are enlarged by networks that are given as files: built, resumed, repaired, told what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import prep.build.cluster as room
from evaluate.report.captions import upscaler_label
from prep.__main__ import app as prep
from prep.build.plan import make_plan
from prep.build.settle import settle
from prep.build.units import Loaded, enlarge_unit
from prep.settings import Device, Enlarger, Precision, PrepSettings
from prep.upscaling.files.spandrel_network import FileUpscaler, inspect_network
from prep.upscaling.upscale import Enlarges
from store.__main__ import app as store_app
from store.files import digest_file
from store.format.manifest import all_units, read_root
from store.location.local import Folder
from store.reader import Store
from store.schema import Split, Stain, StoreError
from store.writing.writer import open_writer
from tests.support.command_line import CommandLine, Outcome
from tests.support.disks import contents
from tests.support.networks import write_network
from tests.support.tiles import single

Command = Callable[..., Outcome]
SETTINGS = ("view_side=64", "margin=4", "unit=5", "device=cpu", "precision=fp32", "stain=IHC")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`python -m prep build` of a store from tiles with a network, and more settings and options."""

    def run(tiles: Path, store: Path, network: Path | str, *more: str, options: tuple[str, ...] = ()) -> Outcome:
        settings = ("upscaler=file", f"upscaler_file={network}", *SETTINGS, *more)
        words = [word for setting in settings for word in ("--set", setting)]
        line = CommandLine("prep", prep, monkeypatch, capsys)
        return line("build", "--data", tiles, "--store", store, "--threads", "2", *words, *options)

    return run


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A network of scale 4 with its terms beside it."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "LICENSE").write_text("Apache License\nVersion 2.0, January 2004")
    return write_network(tmp_path / "weights" / "own-x4.pth")


def test_a_store_says_everywhere_which_network_made_it(
    mist: Path, tmp_path: Path, network: Path, command: Command, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    done = command(mist, tmp_path / "s.zarr", network)
    assert done.code == 0, done.err
    digest, words = digest_file(network), " ".join(done.err.split())
    name = f"RealESRGAN Compact own-x4.pth (sha256 {digest[:12]}, licence Apache-2.0)"
    assert f"upscaler {name}, its x4 result averaged where views are enlarged by 2, fp32, batches of 4" in words
    assert "TFLOP of super-resolution" in words
    manifest = Store.open(tmp_path / "s.zarr").manifest
    assert manifest.upscaler.name == name
    assert manifest.upscaler.digests == {"x2": digest, "x4": digest}
    (record,) = {*map(repr, manifest.upscaler.networks.values())}
    assert "scale=4" in record
    assert "spandrel" in manifest.software
    assert "basicsr" not in manifest.software
    assert not [file for file, data in contents(tmp_path / "s.zarr").items() if str(network.parent).encode() in data]
    line = CommandLine("store", store_app, monkeypatch, capsys)
    said = " ".join(line("info", tmp_path / "s.zarr").out.split())
    assert (
        f"upscaler {name}, fp32, batches of 4; x2 by RealESRGAN Compact own-x4.pth, its x4 result averaged, licence "
        in said
    )
    assert f"enlarged 2x by {name}" in said
    assert line("show", tmp_path / "s.zarr", "--out", tmp_path / "sheet.png").code == 0
    assert upscaler_label(manifest.upscaler.name) == f"{name} (instead of BSRGAN)"
    fidelity = CommandLine("prep", prep, monkeypatch, capsys)
    assert fidelity("fidelity", tmp_path / "s.zarr", "--split", "test", "--out", tmp_path / "f").code == 0
    assert f"- enlarged by {name}" in (tmp_path / "f" / "fidelity.md").read_text()


def test_a_view_is_what_the_network_makes_of_its_window(
    mist: Path, tmp_path: Path, network: Path, command: Command
) -> None:
    assert command(mist, tmp_path / "s.zarr", network, "margin=0").code == 0
    store, row = Store.open(tmp_path / "s.zarr"), 4
    box = store.box(Split.TRAIN, "x4", row)
    top, left, side = box.top // 2, box.left // 2, 16
    patch = store.picture(Split.TRAIN, "x1", Stain.IHC, row)[top : top + side, left : left + side]
    upscaler = FileUpscaler.from_files(Precision.FP32, 1, Device.CPU, (4,), [inspect_network(network)])
    expected = upscaler.enlarge(patch[None].copy(), 4)[0]
    assert np.abs(store.picture(Split.TRAIN, "x4", Stain.IHC, row).astype(int) - expected).max() <= 1


def test_a_finished_store_is_kept_and_another_network_is_refused_with_both_digests(
    mist: Path, tmp_path: Path, network: Path, command: Command
) -> None:
    store = tmp_path / "s.zarr"
    assert command(mist, store, network).code == 0
    before = contents(store)
    copy = tmp_path / "elsewhere" / "renamed.pth"
    copy.parent.mkdir()
    copy.write_bytes(network.read_bytes())
    assert "already exists, finished and with these settings" in command(mist, store, copy).err
    other = write_network(tmp_path / "other.pth", seed=1)
    for options in ((), ("--repair",), ("--dry-run",)):
        done = command(mist, store, other, options=options)
        assert done.code == 2
        assert (
            f"with sha256 {digest_file(network)}, and {other} has sha256 {digest_file(other)}; give the file"
            in done.err
        )
    for wrong in ("", tmp_path / "none.pth"):
        assert command(mist, store, wrong).code == 2
    assert contents(store) == before


def test_a_damaged_store_is_repaired_with_the_file_alone(
    mist: Path, tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    command: Command,
) -> None:  # fmt: skip
    store = tmp_path / "s.zarr"
    assert command(mist, store, network).code == 0
    before = contents(store)
    shard = next(
        file for file in sorted((store / "train" / "x4" / "ihc").rglob("*")) if file.is_file() and "c" in file.parts
    )
    shard.chmod(0o600)
    shard.write_bytes(b"damage")
    line, words = (
        CommandLine("prep", prep, monkeypatch, capsys),
        ("build", "--repair", "--data", mist, "--store", store),
    )
    told = line(*words)
    assert told.code == 2
    assert "upscaler = file names no file; give the path of a super-resolution network" in told.err
    done = line(*words, "--set", "upscaler=file", "--set", f"upscaler_file={network}")
    assert done.code == 0, done.err
    assert contents(store) == before


def test_a_build_that_was_stopped_is_resumed_by_a_copy_of_its_network(
    mist: Path, tmp_path: Path, network: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(mist, tmp_path / "whole.zarr", network).code == 0
    left = iter(range(1))

    def enlarge_once(loaded: Loaded, upscaler: Enlarges) -> Loaded:
        if next(left, -1) < 0:
            raise StoreError("stopped")
        return enlarge_unit(loaded, upscaler)

    with monkeypatch.context() as patched:
        patched.setattr("prep.build.pipeline.enlarge_unit", enlarge_once)
        assert command(mist, tmp_path / "s.zarr", network).code == 2
    copy = tmp_path / "renamed.safetensors"
    copy.write_bytes(network.read_bytes())  # told by its bytes, whatever its name says
    other = write_network(tmp_path / "other.pth", seed=1)
    assert "has sha256" in command(mist, tmp_path / "s.zarr", other).err
    assert command(mist, tmp_path / "s.zarr", copy).code == 0
    assert contents(tmp_path / "s.zarr") == contents(tmp_path / "whole.zarr")


def test_what_is_missing_is_refused_before_all_pictures_are_read(
    mist: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    own = Store.picture
    two = write_network(tmp_path / "own-x2.pth", "RealESRGAN Compact", 2)
    monkeypatch.setattr("prep.build.plan.plan_build", lambda *_, **__: read.append(own))
    monkeypatch.setattr("prep.build.run.plan_build", lambda *_, **__: read.append(own))
    for options in ((), ("--dry-run",)):
        done = command(mist, tmp_path / "s.zarr", two, options=options)
        assert done.code == 2
        assert (
            "error: view x4 is enlarged by 4, and no network of upscaler_file does that: RealESRGAN Compact own-x2.pth "
            in (done.err)
        )
    assert read == []
    assert not (tmp_path / "s.zarr").exists()


def test_two_files_make_the_views_of_their_factors(mist: Path, tmp_path: Path, network: Path, command: Command) -> None:
    two = write_network(tmp_path / "own-x2.pth", "SPAN", 2)
    done = command(mist, tmp_path / "s.zarr", f"{network},{two}", "upscaler_licence=CC0-1.0")
    assert done.code == 0, done.err
    upscaler = Store.open(tmp_path / "s.zarr").manifest.upscaler
    assert upscaler.digests == {"x2": digest_file(two), "x4": digest_file(network)}
    assert upscaler.name.startswith("x2 SPAN own-x2.pth (sha256 ")
    assert [record.licence for record in upscaler.networks.values()] == ["CC0-1.0", "CC0-1.0"]


def test_workers_load_the_file_and_check_its_digest(
    mist: Path, tmp_path: Path, network: Path, command: Command
) -> None:
    assert command(mist, tmp_path / "here.zarr", network).code == 0
    settings = PrepSettings(
        name="tiles", upscaler=Enlarger.FILE, upscaler_file=str(network), view_side=64, margin=4, unit=5,
        device=Device.CPU, precision=Precision.FP32,
    )  # fmt: skip
    plan = make_plan(settings, single(mist), threads=1)
    settled = settle(settings, Folder(tmp_path / "there.zarr"), networks=plan.networks)
    plan = make_plan(settled, single(mist), threads=1)
    with open_writer(tmp_path / "there.zarr", plan.manifest, plan.table) as writer:
        for unit in all_units(plan.manifest):
            pairs = plan.table.pairs[unit.split][unit.first : unit.stop]
            room.run_unit(room.Task(work=plan.work, unit=unit, pairs=pairs, location=writer.location, threads=1))
        writer.seal()
    room._loaded.cache_clear()
    assert read_root(tmp_path / "there.zarr").manifest.seal == read_root(tmp_path / "here.zarr").manifest.seal
