"""BSRGAN's network against golden numbers, its file checks by message, and what each upscaler does to a picture."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from prep.settings import Enlarger, Precision, PrepSettings
from prep.superres import NAMES, Bsrgan, RrdbEnlarger, load_enlarger
from prep.upscale import Lanczos, describe_upscaler, make_upscaler
from prep.views import MAC_PER_PIXEL
from store.schema import WeightsError
from store.weights import BSRGAN_FILES, FOLDER_VARIABLE

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-4  # absolute, for outputs of networks: golden files of the BSRGAN repository, float32 on a CPU
SMALL = {"features": 8, "blocks": 2, "growth": 4}
PICTURES = np.random.default_rng(3).integers(0, 256, (5, 12, 16, 3), dtype=np.uint8)


def golden(factor: int) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """State, input and output of the published network with 8 features, 2 blocks and growth 4."""
    with np.load(GOLDEN / f"rrdbnet_x{factor}.npz") as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    state = {name.removeprefix("state/"): value for name, value in arrays.items() if name.startswith("state/")}
    return state, arrays["input"], arrays["output"]


def golden_network(factor: int) -> RrdbEnlarger:
    network = RrdbEnlarger(factor, **SMALL)
    network.load_published(golden(factor)[0], "golden")
    return network


def small_bsrgan(batch: int = 4, precision: Precision = Precision.FP32) -> Bsrgan:
    networks = {factor: golden_network(factor) for factor in (2, 4)}
    return Bsrgan(networks, precision, batch, torch.device("cpu"))


def published_names(network: RrdbEnlarger) -> dict[str, torch.Tensor]:
    """A network's state under BSRGAN's names, by the table read backwards."""
    back = {ours: theirs for theirs, ours in NAMES.items()}
    state = network.net.state_dict()
    return {".".join(back.get(part, part) for part in key.split(".")): value for key, value in state.items()}


def refusal(file: Path, factor: int = 2) -> str:
    with pytest.raises(WeightsError) as caught:
        load_enlarger(file, factor)
    message = str(caught.value)
    assert str(file) in message
    assert "`make weights`" in message
    assert "\n" not in message
    assert "weights_only" not in message  # torch's own text says how to run what is in a file
    return message


@pytest.mark.parametrize("factor", [2, 4])
def test_the_network_computes_the_published_one(factor: int) -> None:
    _, picture, expected = golden(factor)
    with torch.inference_mode():
        enlarged = golden_network(factor)(picture)
    assert enlarged.shape == (1, 3, factor * 24, factor * 20)
    assert (enlarged - expected).abs().max() <= TOLERANCE
    assert expected.std() > 100 * TOLERANCE  # the tolerance would not let a flat picture through
    assert (golden_network(factor)(picture.flip(1)) - expected).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("factor", [2, 4])
def test_the_full_network_has_the_published_names_parameters_and_cost(factor: int) -> None:
    """Origin: the class of the BSRGAN repository counted; multiply-adds per input pixel by its layers."""
    with torch.device("meta"):
        network = RrdbEnlarger(factor)
    state = published_names(network)
    assert sum(value.numel() for value in state.values()) == {2: 16_661_059, 4: 16_697_987}[factor]
    assert len(state) == {2: 700, 4: 702}[factor]
    blocks = {f"RRDB_trunk.{i}.RDB{j}.conv{k}" for i in range(23) for j in (1, 2, 3) for k in range(1, 6)}
    head = {"conv_first", "trunk_conv", "upconv1", "HRconv", "conv_last"} | ({"upconv2"} if factor == 4 else set())
    assert state.keys() == {f"{name}.{kind}" for name in blocks | head for kind in ("weight", "bias")}
    area = {"upconv1": 4, "upconv2": 16, "HRconv": factor**2, "conv_last": factor**2}  # of a layer's map, in input px
    cost = {name: state[f"{name}.weight"].numel() * area.get(name, 1) for name in blocks | head}
    assert sum(cost.values()) == MAC_PER_PIXEL[factor]


def test_a_full_size_file_is_loaded_and_enlarges(tmp_path: Path) -> None:
    network = RrdbEnlarger(2)
    torch.save(published_names(network), tmp_path / "x2.pth")
    loaded = load_enlarger(tmp_path / "x2.pth", 2)
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(picture), network(picture), rtol=0, atol=0)
    message = refusal(tmp_path / "x2.pth", 4)
    assert "does not fit BSRGAN x4 (2 tensors differ: conv_up2.bias is missing, should be [64]" in message


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarging_is_scaling_clamping_and_rounding_of_rgb(factor: int) -> None:
    network = golden_network(factor)
    with torch.inference_mode():
        unit = torch.cat([network(torch.from_numpy(p / np.float32(255)).permute(2, 0, 1)[None]) for p in PICTURES])
    plain = np.rint(np.clip(unit.permute(0, 2, 3, 1).numpy(), 0, 1) * 255)
    assert (unit.min() < 0) or (unit.max() > 1)  # so that the clamp is seen
    enlarged = small_bsrgan().enlarge(PICTURES, factor)
    assert enlarged.dtype == np.uint8
    assert enlarged.shape == (5, factor * 12, factor * 16, 3)
    assert np.abs(enlarged - plain).max() <= 1  # a value beside .5 may fall to either side
    assert (enlarged != plain).mean() < 1e-3


@pytest.mark.parametrize("factor", [2, 4])
def test_a_batch_is_enlarged_as_its_pictures_are_one_by_one(factor: int) -> None:
    one_by_one = np.concatenate([small_bsrgan(1).enlarge(PICTURES[n : n + 1], factor) for n in range(5)])
    for batch in (1, 2, 5, 8):
        together = small_bsrgan(batch).enlarge(PICTURES, factor)
        assert np.abs(together.astype(int) - one_by_one).max() <= 1
        assert (together != one_by_one).mean() < 1e-3
    assert np.array_equal(small_bsrgan(2).enlarge(PICTURES, factor), small_bsrgan(2).enlarge(PICTURES, factor))


def test_half_precision_is_close_and_is_not_the_same() -> None:
    full, half = (
        small_bsrgan(4, precision).enlarge(PICTURES, 4).astype(int)
        for precision in Precision
        if precision is not Precision.FP16
    )
    assert 0 < np.abs(full - half).mean() < 2


def test_numbers_that_are_not_finite_are_refused_and_not_rounded_to_black() -> None:
    network = golden_network(2)
    with torch.no_grad():
        network.net.conv_last.bias.fill_(torch.inf)
    with pytest.raises(WeightsError, match=r"BSRGAN x2 gave numbers that are not finite .*set precision=fp32"):
        Bsrgan({2: network}, Precision.FP32, 4, torch.device("cpu")).enlarge(PICTURES, 2)


def test_names_and_shapes_that_do_not_fit_are_told() -> None:
    state = golden(4)[0]
    with pytest.raises(WeightsError) as caught:
        RrdbEnlarger(2, **SMALL).load_published(state, "BSRGAN.pth")
    assert str(caught.value).startswith(
        "BSRGAN.pth does not fit BSRGAN x2 (2 tensors differ: conv_up2.bias is [8], should be absent; "
    )
    with pytest.raises(WeightsError, match=r"conv_up2\.bias is missing, should be \[8\].*make weights"):
        RrdbEnlarger(4, **SMALL).load_published(golden(2)[0], "BSRGANx2.pth")
    narrow = state | {"trunk_conv.weight": torch.zeros(4, 8, 3, 3)}
    with pytest.raises(WeightsError, match=r"1 tensors differ: conv_body\.weight is \[4, 8, 3, 3\], should be \[8, 8"):
        RrdbEnlarger(4, **SMALL).load_published(narrow, "narrow.pth")
    unshuffled = state | {"conv_first.weight": torch.zeros(8, 12, 3, 3)}  # as in basicsr's own network for factor 2
    with pytest.raises(WeightsError, match=r"basicsr's own scale=2 network is a different one"):
        RrdbEnlarger(4, **SMALL).load_published(unshuffled, "RealESRGAN_x2plus.pth")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return Path.write_text, (self.sprung, "run")


@pytest.mark.parametrize("modern", [True, False])
def test_code_in_a_weight_file_is_refused_and_never_run(tmp_path: Path, modern: bool) -> None:
    trap = {"conv_first.bias": torch.zeros(64), "note": Trap(tmp_path / "sprung")}
    torch.save(trap, tmp_path / "trap.pth", _use_new_zipfile_serialization=modern)
    assert "holds code (UnpicklingError), and nothing in it was run" in refusal(tmp_path / "trap.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert "holds code" in refusal(tmp_path / "bare.pth")
    assert not (tmp_path / "sprung").exists()


def test_a_damaged_weight_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "BSRGANx2.pth"
    torch.save(golden(2)[0], file)
    whole = file.read_bytes()
    for data in (b"", whole[:100], whole[: len(whole) // 2], whole[:-50], b"hello world\n", b"<!DOCTYPE html>"):
        file.write_bytes(data)
        assert "it is damaged or holds code" in refusal(file)


@pytest.mark.parametrize(
    "content", [[torch.zeros(2)], {"params": {"conv_first.bias": torch.zeros(64)}}, {1: torch.zeros(2)}]
)
def test_what_is_no_bare_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "wrapped.pth")
    assert "holds no bare state dict" in refusal(tmp_path / "wrapped.pth")


def test_missing_and_wrong_files_stop_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    file, weight = tmp_path / BSRGAN_FILES[4].name, BSRGAN_FILES[4]
    for damage, told in (
        (None, f"BSRGAN.pth ({weight.what}) is not in {tmp_path}; fetch it with `make weights`"),
        (1000, f"{file} is not {weight.what}: it has 1,000 bytes, the right file has 67,046,751 bytes"),
        (weight.size, f"and sha256 {weight.sha256}; remove it and fetch the right one from {weight.address}"),
    ):
        if damage is not None:
            with file.open("wb") as handle:
                handle.truncate(damage)  # zeros: the right length has the wrong digest
        with pytest.raises(WeightsError) as caught:
            make_upscaler(PrepSettings())
        assert told in str(caught.value)
        assert "SET=upscaler=lanczos" in str(caught.value)


def test_the_upscaler_is_described_without_its_weights() -> None:
    plain = describe_upscaler(PrepSettings(upscaler=Enlarger.LANCZOS, precision=Precision.BF16))
    assert (plain.name, plain.digests, plain.precision) == ("lanczos", {}, "u8")
    bsrgan = describe_upscaler(PrepSettings(precision=Precision.BF16, batch=3))
    assert (bsrgan.name, bsrgan.precision, bsrgan.batch) == ("bsrgan", "bf16", 3)
    assert bsrgan.digests == {"x2": BSRGAN_FILES[2].sha256, "x4": BSRGAN_FILES[4].sha256}


@pytest.mark.parametrize("factor", [2, 4])
def test_lanczos_keeps_flat_areas_places_and_pictures_apart(factor: int) -> None:
    lanczos = make_upscaler(PrepSettings(upscaler=Enlarger.LANCZOS))
    assert isinstance(lanczos, Lanczos)
    together = lanczos.enlarge(PICTURES, factor)
    assert together.shape == (5, factor * 12, factor * 16, 3)
    for picture, enlarged in zip(PICTURES, together, strict=True):
        assert np.array_equal(lanczos.enlarge(picture[None], factor)[0], enlarged)
    flat = np.full((1, 8, 8, 3), (10, 200, 90), np.uint8)
    assert np.array_equal(lanczos.enlarge(flat, factor), np.full((1, 8 * factor, 8 * factor, 3), (10, 200, 90)))
    smooth = cv2.resize(PICTURES[0], (64, 64), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    back = cv2.resize(lanczos.enlarge(smooth[None], factor)[0], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(back.astype(int) - smooth).mean() < 1.5  # nothing is shifted: half a pixel would cost over 5


def test_planning_and_lanczos_never_import_the_network() -> None:
    """basicsr takes seconds to import, torch more; `plan` and `--help` need neither."""
    script = (
        "import sys, prep.upscale, prep.views, prep.pairs, prep.checking\n"
        "from prep.settings import Enlarger, PrepSettings\n"
        "prep.upscale.make_upscaler(PrepSettings(upscaler=Enlarger.LANCZOS))\n"
        "prep.upscale.describe_upscaler(PrepSettings())\n"
        "print(sorted({'torch', 'torchvision', 'basicsr'} & sys.modules.keys()))\n"
        "import prep.superres\n"
        "print(sorted({'torch', 'torchvision', 'basicsr'} & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['torch']"]
