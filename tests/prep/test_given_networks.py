"""Networks that are given as files: which are taken, what they compute, and what is refused by which words."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from prep.settings import Device, Enlarger, Kernels, Precision, PrepSettings, recorded
from prep.upscaling.bsrgan import Bsrgan, load_enlarger
from prep.upscaling.choosing import choose
from prep.upscaling.files.given import GivenNetwork, as_recorded, by_factor, record_networks, split_paths
from prep.upscaling.files.spandrel_network import FileUpscaler, SpandrelNetwork, inspect_network, load_network
from prep.upscaling.files.trials import CLOSE, trial_picture
from prep.upscaling.upscale import Enlarges, UpscalerChoice, make_upscaler, read_networks
from store.files import digest_file
from store.images import read_picture
from store.schema import NetworkFile, SettingsError, WeightsError
from tests.bench.networks import TRAINED
from tests.bench.pictures import SHARED
from tests.support.networks import ARCHITECTURES, compact, drawn_state, seemore, write_network, write_state

PICTURES = np.random.default_rng(3).integers(0, 256, (5, 13, 13, 3), dtype=np.uint8)


def enlarger(*files: Path, factors: frozenset[int], batch: int = 4, precision: Precision = Precision.FP32) -> Enlarges:
    """What a build makes of these files."""
    return make_upscaler(
        UpscalerChoice(
            enlarger=Enlarger.FILE,
            device=Device.CPU,
            precision=precision,
            kernels=Kernels.PLAIN,
            batch=batch,
            factors=factors,
            networks=tuple(inspect_network(file) for file in files),
        )
    )


def directly(state: dict[str, torch.Tensor], picture: np.ndarray) -> np.ndarray:
    """What spandrel makes of one picture u8 [h,w,3]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from spandrel import ModelLoader

        network = ModelLoader().load_from_state_dict(state)
        unit = network(torch.from_numpy(picture / np.float32(255)).permute(2, 0, 1)[None])
    return np.asarray(unit.mul(255).round()[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_enlarges_as_its_network_does(tmp_path: Path, architecture: str, scale: int, suffix: str) -> None:
    """One by one and in batches; sides of 13 px are no multiple of SwinIR's 8."""
    file = write_network(tmp_path / f"own.{suffix}", architecture, scale)
    given = inspect_network(file)
    assert (given.record.architecture, given.record.file, given.scale) == (architecture, file.name, scale)
    assert given.digest == digest_file(file)
    assert not given.alone
    together = enlarger(file, factors=frozenset({scale})).enlarge(PICTURES, scale)
    assert together.shape == (5, 13 * scale, 13 * scale, 3)
    assert together.dtype == np.uint8
    for picture, enlarged in zip(PICTURES, together, strict=True):
        expected = directly(drawn_state(architecture, scale), picture)
        assert np.abs(enlarged - expected).max() <= 1
        assert (enlarged != expected).mean() < 0.01
    assert together.std() > 1


def test_work_is_counted_per_pixel_that_a_network_computes(tmp_path: Path) -> None:
    """Layer by layer: 3 to 8 channels, two of 8 to 8, 8 to 48, each 3 x 3."""
    given = inspect_network(write_network(tmp_path / "own.pth", "RealESRGAN Compact", 4))
    assert given.macs == 9 * (3 * 8 + 2 * 8 * 8 + 8 * 48)


def test_a_network_of_4_makes_views_of_2_by_the_mean_of_its_result(tmp_path: Path) -> None:
    file = write_network(tmp_path / "own.pth", "RealESRGAN Compact", 4)
    both = enlarger(file, factors=frozenset({2, 4}))
    large = np.stack([directly(drawn_state("RealESRGAN Compact", 4), picture) for picture in PICTURES])
    means = large.reshape(5, 26, 2, 26, 2, 3).mean((2, 4))
    assert np.abs(both.enlarge(PICTURES, 2) - means).max() <= 1  # rounded once, not twice
    assert np.abs(both.enlarge(PICTURES, 4) - large).max() <= 1


def given_network(scale: int, name: str = "", **changes: object) -> GivenNetwork:
    """The facts of a network without a file."""
    network = GivenNetwork(
        path=f"/weights/{name or f'x{scale}'}.pth",
        digest=f"{scale}" * 64,
        record=inspect_record(scale, name or f"x{scale}"),
        halves=frozenset(),
        alone=False,
        macs=1,
    )
    return replace(network, **changes)  # type: ignore[arg-type] # a test names its changes


def inspect_record(scale: int, name: str, licence: str = "MIT") -> NetworkFile:
    """What a manifest says of a network."""
    return NetworkFile(architecture="SPAN", file=f"{name}.pth", scale=scale, licence=licence)


def test_each_factor_has_its_network_and_a_missing_one_is_named_with_its_view() -> None:
    two, four = given_network(2), given_network(4)
    assert by_factor([two, four], {2, 4}) == {2: two, 4: four}
    assert by_factor([four], {2, 4}) == {2: four, 4: four}
    assert by_factor([two], {2}) == {2: two}
    assert by_factor([four], set()) == {}
    with pytest.raises(
        SettingsError,
        match=r"^view x8 is enlarged by 4, and no network of upscaler_file does that: SPAN x2\.pth enlarges by 2; add",
    ):
        by_factor([two], {2, 4}, {2: "x4", 4: "x8"})


def test_the_record_names_what_it_is_and_not_where_it_lies() -> None:
    two, four = given_network(2), given_network(4)
    one = record_networks({2: four, 4: four}, "fp32", 4, "")
    assert one.name == "SPAN x4.pth (sha256 444444444444, licence MIT)"
    assert one.digests == {"x2": "4" * 64, "x4": "4" * 64}
    assert record_networks({2: two, 4: four}, "fp32", 4, "").name == (
        "x2 SPAN x2.pth (sha256 222222222222, licence MIT), x4 SPAN x4.pth (sha256 444444444444, licence MIT)"
    )
    assert "/weights" not in repr(one)
    settings = PrepSettings(upscaler=Enlarger.FILE, upscaler_file="/weights/x4.pth", upscaler_licence="MIT")
    assert recorded(settings)["upscaler_licence"] == "MIT"
    assert "upscaler_file" not in recorded(settings)


def test_a_store_keeps_the_names_and_terms_that_it_was_started_with() -> None:
    four = given_network(4)
    stored = record_networks({2: four, 4: four}, "fp32", 4, "")
    moved = given_network(4, "copy", record=inspect_record(4, "copy", "unknown"))
    assert as_recorded([moved], stored, "")[0].record == four.record
    assert as_recorded([moved], stored, "BSD-3-Clause") == (moved,)
    for others in ([given_network(4, digest="5" * 64)], [given_network(2), given_network(4)]):
        with pytest.raises(WeightsError, match=r"^the x[24] views of this store are made by SPAN x4\.pth with"):
            as_recorded(others, stored, "")


def test_settings_of_a_file_go_with_it_alone(tmp_path: Path) -> None:
    for settings in ({"upscaler_file": "a.pth"}, {"upscaler_licence": "MIT", "upscaler": Enlarger.LANCZOS}):
        with pytest.raises(SettingsError, match=r"^upscaler_(file|licence) = .*: this goes with upscaler = file, and "):
            PrepSettings(**settings)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"^upscaler = file names no file; give the path of a super-resolution"):
        read_networks(PrepSettings(upscaler=Enlarger.FILE))
    assert read_networks(PrepSettings()) == ()
    one, other, odd = (write_network(tmp_path / name, scale=4) for name in ("a.pth", "b.pth", "c,d.pth"))
    with pytest.raises(
        SettingsError, match=r"^upscaler_file names two networks of scale 4 \(a\.pth, b\.pth\); give one"
    ):
        read_networks(PrepSettings(upscaler=Enlarger.FILE, upscaler_file=f"{one},{other}"))
    assert split_paths(str(odd)) == [odd]  # a comma of its own
    for path, told in (
        ("~nobody-here/x.pth", "does not exist"),
        ("x" * 300, "cannot be read"),
        ("\0", "cannot be read"),
    ):
        with pytest.raises(WeightsError, match=told):
            read_networks(PrepSettings(upscaler=Enlarger.FILE, upscaler_file=path))


def _page(file: Path) -> None:
    file.write_text("<!DOCTYPE html><title>Sign in</title>")


def _pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 67040989\n")


def _half(file: Path) -> None:
    whole = write_network(file).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])


def _half_tensors(file: Path) -> None:
    whole = write_network(file.with_suffix(".safetensors")).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])


class Harmful:
    """Asks for code when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Path.unlink, ("x",)  # type: ignore[return-value]


def _code(file: Path) -> None:
    file.write_bytes(pickle.dumps({"weight": Harmful()}))


def _another(file: Path) -> None:
    torch.save({"classifier.weight": torch.zeros(10, 4), "classifier.bias": torch.zeros(10)}, file)


def _almost(file: Path) -> None:
    state = drawn_state("ESRGAN", 4)
    state["RRDB_trunk.1.RDB3.conv5.weight"] = torch.zeros(3, 3, 3, 3)
    torch.save(state, file)


def _huge(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate((1 << 33) + 1)  # without a byte on the disk


def _list(file: Path) -> None:
    torch.save([torch.zeros(1)], file)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_page, r"is a web page \('Sign in'\)"),
        (_pointer, r"is a Git LFS pointer, which only names the real file of 67,040,989 bytes"),
        (_half, r"is cut off after [\d,]+ bytes"),
        (_half_tensors, r"is a safetensors file that is damaged or cut off"),
        (_code, r"asks for code \('.*unlink'\), which was not run"),
        (_another, r"holds 2 entries \('classifier\.weight', 'classifier\.bias', …\), and spandrel knows no network"),
        (_almost, r"looks like a network that spandrel knows, but does not fit it \(RuntimeError: "),
        (_list, r"holds a list, not named tensors"),
        (lambda file: file.write_bytes(b""), r"is empty \(0 bytes\)"),
        (lambda file: file.mkdir(), r"is a folder; give"),
        (lambda file: file.symlink_to("/dev/zero"), r"is a device; give"),
        (lambda file: os.mkfifo(file), r"is a device; give"),
        (_huge, r"has 8,589,934,593 bytes, more than any such network; give"),
        (lambda _: None, r"does not exist on this machine; correct the path"),
        (
            lambda file: torch.save(compact(1, 3), file),
            r"is RealESRGAN Compact, .* Restoration with scale 1: ",
        ),
        (lambda file: torch.save(compact(3, 3), file), r"is RealESRGAN Compact, .* SR with scale 3: views "),
        (lambda file: torch.save(compact(8, 3), file), r"is RealESRGAN Compact, .* SR with scale 8: views "),
        (
            lambda file: torch.save(compact(2, 1), file),
            r".* scale 2 that takes 1 channels and makes 1, and views have 3",
        ),
    ],
)
def test_a_file_that_is_no_such_network_is_told_what_it_is(
    tmp_path: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(tmp_path / "own.pth")
    with pytest.raises(WeightsError, match=rf"^(upscaler_file )?{tmp_path / 'own.pth'} {told}") as caught:
        inspect_network(tmp_path / "own.pth")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_a_worker_refuses_another_file_under_the_same_path(tmp_path: Path) -> None:
    file = write_network(tmp_path / "own.pth")
    given = inspect_network(file)
    write_network(file, seed=1)
    with pytest.raises(WeightsError, match=rf"has sha256 {digest_file(file)}, .* planned with {given.digest}"):
        load_network(given, 4)
    file.unlink()
    with pytest.raises(WeightsError, match=r"does not exist on this machine; .*the workers of a cluster need"):
        load_network(given, 4)


def choice(file: Path, **settings: object) -> PrepSettings:
    """Settings of a file, on the CPU, with what this machine chooses."""
    asked = PrepSettings(upscaler=Enlarger.FILE, upscaler_file=str(file), device=Device.CPU, **settings)  # type: ignore[arg-type]
    return choose(asked, read_networks(asked))


def test_what_a_network_does_not_compute_in_is_refused_with_the_reason(tmp_path: Path) -> None:
    file = write_network(tmp_path / "own.pth", "SwinIR", 2)
    with pytest.raises(
        SettingsError,
        match=r"^precision = fp16: SwinIR own\.pth does not compute in it, as spandrel says of SwinIR, only in bf16 or",
    ):
        choice(file, precision=Precision.FP16)
    with pytest.raises(SettingsError, match=r"^kernels = triton: .*: it computes the blocks of BSRGAN only, "):
        choice(file, kernels=Kernels.TRITON, precision=Precision.FP32)
    with pytest.raises(SettingsError, match=r"^kernels = compiled: .*: it is for a GPU, and device = cpu; "):
        choice(file, kernels=Kernels.COMPILED, precision=Precision.FP32)
    settled = choice(file, precision=Precision.BF16)
    assert (settled.kernels, settled.batch) == (Kernels.PLAIN, 4)


@pytest.mark.parametrize("decibel", [CLOSE - 1, CLOSE + 1])
def test_half_precision_is_chosen_only_where_a_trial_is_close_to_fp32(
    tmp_path: Path, decibel: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prep.upscaling.files.trials.best_precision", lambda _: Precision.BF16)
    monkeypatch.setattr("prep.upscaling.files.trials.closeness", lambda *_: decibel)
    chosen = choice(write_network(tmp_path / "own.pth")).precision
    assert chosen is (Precision.BF16 if decibel > CLOSE else Precision.FP32)
    assert ("its bf16 is 45.0 dB from fp32" in capsys.readouterr().err) == (decibel < CLOSE)
    monkeypatch.setattr("prep.upscaling.files.trials.best_precision", lambda _: Precision.FP16)
    assert choice(write_network(tmp_path / "swin.pth", "SwinIR", 4)).precision is Precision.FP32
    assert "spandrel runs SwinIR in no fp16" in capsys.readouterr().err


def test_what_half_precision_cannot_hold_is_made_in_fp32_and_nonsense_is_refused(tmp_path: Path) -> None:
    """Infinity would become white where a network's own code clamps it."""
    huge = drawn_state("RealESRGAN Compact", 4)
    huge["body.4.weight"] *= 1e6  # fp16 ends at 65504
    huge["body.4.bias"] *= 1e6
    huge["body.6.weight"] /= 1e6
    file = write_state(tmp_path / "huge.pth", huge)
    exact, half = (
        enlarger(file, factors=frozenset({4}), precision=p).enlarge(PICTURES, 4)
        for p in (Precision.FP32, Precision.FP16)
    )
    assert np.array_equal(exact, half)
    for level, name in ((torch.inf, "infinite"), (torch.nan, "undefined")):
        broken = drawn_state("RealESRGAN Compact", 4)
        broken["body.6.bias"] = broken["body.6.bias"] + level
        write_state(tmp_path / f"{name}.pth", broken)
        with pytest.raises(
            WeightsError, match=rf"^pair 1: RealESRGAN Compact {name}\.pth x4 made numbers that are not"
        ):
            enlarger(tmp_path / f"{name}.pth", factors=frozenset({4})).enlarge(PICTURES[:1], 4, ["pair 1"])


def test_a_grey_picture_is_a_picture(tmp_path: Path) -> None:
    grey = np.repeat(PICTURES[..., :1], 3, axis=3)
    enlarged = enlarger(write_network(tmp_path / "own.pth"), factors=frozenset({4})).enlarge(grey, 4)
    assert np.abs(enlarged[0] - directly(drawn_state("RealESRGAN Compact", 4), grey[0])).max() <= 1


def test_a_network_that_mixes_the_windows_of_a_batch_gets_them_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = SpandrelNetwork.__call__
    monkeypatch.setattr(SpandrelNetwork, "__call__", lambda self, given: own(self, given) + 0.1 * (len(given) - 1))
    file = write_network(tmp_path / "own.pth")
    given = inspect_network(file)
    assert given.alone
    upscaler = FileUpscaler({4: load_network(given, 4)}, Precision.FP32, 4, torch.device("cpu"))
    one_by_one = np.concatenate([upscaler.enlarge(PICTURES[n : n + 1], 4) for n in range(5)])
    assert np.array_equal(upscaler.enlarge(PICTURES, 4), one_by_one)


def test_a_network_that_takes_one_picture_gets_one(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        file = write_state(tmp_path / "own.pth", seemore(4))
    assert inspect_network(file).alone
    together = enlarger(file, factors=frozenset({4})).enlarge(PICTURES, 4)
    for picture, enlarged in zip(PICTURES, together, strict=True):
        assert np.abs(enlarged - directly(torch.load(file, weights_only=True), picture)).max() <= 1


def test_other_rounding_while_operations_are_counted_is_no_randomness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operations that are taken apart to be counted round otherwise; seen with SeemoRe of full size."""
    own = SpandrelNetwork.__call__

    def apart(self: SpandrelNetwork, given: torch.Tensor) -> torch.Tensor:
        counting = _get_current_dispatch_mode() is not None
        return own(self, given) + (1e-7 if counting else 0)

    monkeypatch.setattr(SpandrelNetwork, "__call__", apart)
    assert inspect_network(write_network(tmp_path / "own.pth")).macs > 0


def test_a_network_that_draws_random_numbers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = SpandrelNetwork.__call__
    monkeypatch.setattr(SpandrelNetwork, "__call__", lambda self, given: own(self, given) + torch.rand(1))
    with pytest.raises(WeightsError, match="and makes another picture each time; give the file of a super-resolution"):
        inspect_network(write_network(tmp_path / "own.pth"))


def test_the_terms_are_those_that_are_given_or_found(tmp_path: Path) -> None:
    state = drawn_state("RealESRGAN Compact", 4)
    file = write_state(tmp_path / "own.pth", state)
    assert inspect_network(file).record.licence == "unknown"
    inside = write_state(tmp_path / "own.safetensors", state, {"modelspec.license": "CC-BY-4.0"})
    (tmp_path / "LICENCE.txt").write_text("MIT License\n\nPermission is hereby granted, free of charge, to any person")
    assert inspect_network(file).record.licence == "MIT"
    assert inspect_network(inside).record.licence == "CC-BY-4.0"
    assert inspect_network(inside, "BSD-3-Clause").record.licence == "BSD-3-Clause"


def test_the_picture_of_a_trial_is_always_the_same_and_fills_the_range() -> None:
    assert np.array_equal(trial_picture(), trial_picture())
    assert trial_picture().min() < 64
    assert trial_picture().max() > 224


@pytest.mark.skipif(not TRAINED.is_file(), reason="needs the trained weights beside the project")
def test_a_trained_network_enlarges_as_through_basicsr() -> None:
    """Real-ESRGAN under BSRGAN's names is recognised as ESRGAN; both programs compute one picture."""
    tile = read_picture(SHARED / "derived-pairs256/HE/lesion-prospc_y110_x317.png")
    window = tile[None, 100:132, 100:132].copy()
    given = inspect_network(TRAINED)
    assert (given.record.architecture, given.macs) == ("ESRGAN", 17_926_848)
    ours = enlarger(TRAINED, factors=frozenset({4})).enlarge(window, 4).astype(int)
    theirs = Bsrgan({4: load_enlarger(TRAINED, 4)}, Precision.FP32, 1, torch.device("cpu")).enlarge(window, 4)
    assert np.abs(ours - theirs).max() <= 1
