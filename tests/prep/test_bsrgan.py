"""BSRGAN's network against golden numbers, the checks of its files by message, and its enlarged pictures."""

from __future__ import annotations

import pickle
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from prep.settings import Device, Enlarger, Kernels, Precision, PrepSettings
from prep.upscaling.batches import VARIED
from prep.upscaling.blocks import run_plain
from prep.upscaling.bsrgan import Bsrgan, RrdbEnlarger, _import_rrdbnet, load_enlarger
from prep.upscaling.choosing import choose
from prep.upscaling.upscale import UpscalerChoice, make_upscaler
from prep.views import MAC_PER_PIXEL
from store.files import digest_file
from store.images import read_picture
from store.process import DeviceMemoryError
from store.reader import Store
from store.schema import SettingsError, Split, Stain, WeightsError
from store.weights import BSRGAN_FILES, FOLDER_VARIABLE
from tests.bench.networks import TRAINED, published_names, write_seeded
from tests.bench.pictures import SHARED
from tests.support.gpus import H100, forget, hide, pretend
from tests.support.places import GOLDEN
from tests.support.tiles import run

TOLERANCE = 1e-4  # absolute, for outputs of networks: golden files of the BSRGAN repository, float32 on a CPU
SMALL = {"features": 8, "blocks": 2, "growth": 4}
HALVES = (Precision.BF16, Precision.FP16)
HUGE = 1e7  # more than fp16 can hold
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


def small_bsrgan(
    batch: int = 4,
    precision: Precision = Precision.FP32,
    device: torch.device | None = None,
    kernels: Kernels = Kernels.PLAIN,
    **networks: RrdbEnlarger,
) -> Bsrgan:
    """The golden networks, or others given as x2 and x4."""
    made = {factor: networks.get(f"x{factor}") or golden_network(factor) for factor in (2, 4)}
    return Bsrgan(made, precision, batch, device or torch.device("cpu"), kernels)


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


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Both published files, of full size and in their key layout, with seeded weights."""
    folder = tmp_path_factory.mktemp("weights")
    return {factor: write_seeded(folder, factor) for factor in (2, 4)}


@pytest.mark.parametrize("factor", [2, 4])
def test_a_full_size_file_is_loaded_and_enlarges(full_size: dict[int, Path], factor: int) -> None:
    state = torch.load(full_size[factor], weights_only=True)
    assert [*state][:2] == ["conv_first.weight", "conv_first.bias"]
    assert "RRDB_trunk.22.RDB3.conv5.weight" in state
    loaded = load_enlarger(full_size[factor], factor)
    again = published_names(loaded)
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], value) for name, value in state.items())
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        enlarged = loaded(picture)
    assert enlarged.shape == (1, 3, 8 * factor, 8 * factor)
    assert enlarged.isfinite().all()


def test_a_file_is_refused_for_the_other_factor(full_size: dict[int, Path]) -> None:
    message = refusal(full_size[2], 4)
    assert "does not fit BSRGAN x4 (2 tensors differ: conv_up2.bias is missing, should be [64]" in message
    assert "does not fit BSRGAN x2 (2 tensors differ: conv_up2.bias is [64], should be absent" in refusal(full_size[4])


@pytest.mark.parametrize("names", ["basicsr", "bsrgan"])
def test_basicsrs_own_network_for_factor_2_is_refused_as_the_wrong_one(tmp_path: Path, names: str) -> None:
    """It unshuffles pixels first; completed and loaded without strict checks it would enlarge wrongly."""
    network = RrdbEnlarger(4)
    network.net = _import_rrdbnet()(3, 3, scale=2, num_feat=64, num_block=23, num_grow_ch=32)
    state = network.net.state_dict() if names == "basicsr" else published_names(network)
    torch.save(dict(state), tmp_path / "other_x2.pth")
    message = refusal(tmp_path / "other_x2.pth")
    assert "does not fit BSRGAN x2 (3 tensors differ: conv_first.weight is [64, 12, 3, 3], should be [64, 3, 3, 3]" in (
        message
    )
    assert message.endswith("basicsr's own scale=2 network is a different one")


def test_a_store_is_built_through_the_public_path(
    full_size: dict[int, Path], mist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are verified by size and digest, loaded, and run over windows with margins of real pixels."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(full_size[2].parent))
    for factor, file in full_size.items():
        known = replace(BSRGAN_FILES[factor], size=file.stat().st_size, sha256=digest_file(file))
        monkeypatch.setitem(BSRGAN_FILES, factor, known)
    settings = PrepSettings(view_side=32, margin=4, unit=5, precision=Precision.FP32)
    run(settings, mist, tmp_path / "s.zarr")
    store = Store.open(tmp_path / "s.zarr")
    assert store.manifest.upscaler.precision == store.manifest.settings["precision"] == Precision.FP32
    assert store.manifest.settings["device"] == choose(settings).device
    assert store.manifest.upscaler.digests == {f"x{factor}": digest_file(file) for factor, file in full_size.items()}
    for zoom in (2, 4):
        network = load_enlarger(full_size[zoom], zoom)
        for row, stain in ((0, Stain.HE), (5, Stain.IHC)):
            box = store.box(Split.TRAIN, f"x{zoom}", row)
            top, left, side = box.top // 4, box.left // 4, 32 // zoom
            start = [min(max(edge - 4, 0), 32 - (side + 8)) for edge in (top, left)]
            field = store.picture(Split.TRAIN, "x1", stain, row)
            window = field[start[0] : start[0] + side + 8, start[1] : start[1] + side + 8]
            with torch.inference_mode():
                unit = network(torch.from_numpy(window / np.float32(255)).permute(2, 0, 1)[None])
            whole = unit.clamp(0, 1).mul(255).round()[0].permute(1, 2, 0).numpy()
            down, right = zoom * (top - start[0]), zoom * (left - start[1])
            view = store.picture(Split.TRAIN, f"x{zoom}", stain, row)
            assert np.abs(view - whole[down : down + 32, right : right + 32]).max() <= 1
            assert view.std() > 1


@pytest.mark.parametrize("factor", [2, 4])
def test_the_networks_sums_are_basicsrs(factor: int) -> None:
    """The forward pass is written here, so that sums can stay in fp32; in fp32 it equals basicsr's x4 network."""
    network = golden_network(factor)
    picture = torch.rand(2, 3, 11, 13, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        if factor == 4:
            torch.testing.assert_close(network(picture), network.net(picture), rtol=0, atol=1e-5)
        feature = network.net.conv_first(picture)
        plain = feature + network.net.conv_body(network.net.body(feature))
        for up in ("conv_up1", "conv_up2")[: factor // 2]:
            plain = network.net.lrelu(getattr(network.net, up)(F.interpolate(plain, scale_factor=2, mode="nearest")))
        plain = network.net.conv_last(network.net.lrelu(network.net.conv_hr(plain)))
        torch.testing.assert_close(network(picture), plain, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("factor", [2, 4])
def test_enlarging_is_scaling_clamping_and_rounding_of_rgb(factor: int, device: torch.device) -> None:
    network = golden_network(factor)
    with torch.inference_mode():
        unit = torch.cat([network(torch.from_numpy(p / np.float32(255)).permute(2, 0, 1)[None]) for p in PICTURES])
    plain = np.rint(np.clip(unit.permute(0, 2, 3, 1).numpy(), 0, 1) * 255)
    assert (unit.min() < 0) or (unit.max() > 1)  # else the clamp is not tested
    enlarged = small_bsrgan(device=device).enlarge(PICTURES, factor)
    assert enlarged.dtype == np.uint8
    assert enlarged.shape == (5, factor * 12, factor * 16, 3)
    assert enlarged.flags.c_contiguous
    assert np.abs(enlarged - plain).max() <= 1  # a value near .5 may round either way
    assert (enlarged != plain).mean() < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("factor", [2, 4])
def test_a_batch_is_enlarged_as_its_pictures_are_one_by_one(factor: int, device: torch.device) -> None:
    one_by_one = np.concatenate([small_bsrgan(1, device=device).enlarge(PICTURES[n : n + 1], factor) for n in range(5)])
    for batch in (1, 2, 5, 8):
        together = small_bsrgan(batch, device=device).enlarge(PICTURES, factor)
        assert np.abs(together.astype(int) - one_by_one).max() <= 1
        assert (together != one_by_one).mean() < 1e-3


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [*HALVES, Precision.FP32])
def test_the_same_batch_gives_the_same_bytes_every_time(precision: Precision, device: torch.device) -> None:
    """A resumed build depends on it; on a CPU with any number of threads."""
    first, threads = small_bsrgan(2, precision, device).enlarge(PICTURES, 4), torch.get_num_threads()
    try:
        for number in (1, 2, 3, 5):
            torch.set_num_threads(number)
            assert np.array_equal(small_bsrgan(2, precision, device).enlarge(PICTURES, 4), first)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.gpu
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("precision", HALVES)
def test_half_precision_is_close_to_fp32_and_is_not_the_same(
    factor: int, precision: Precision, device: torch.device
) -> None:
    """Twice the spacing of its numbers at 1, times the deviation of the result before clipping.

    24 drawn networks of this size are within 1.7 times. Pixels that fp32 clips say nothing: there both are 0 or 255.
    """
    full, half = (small_bsrgan(4, p, device).enlarge(PICTURES, factor).astype(int) for p in (Precision.FP32, precision))
    assert (full != half).any()
    with torch.inference_mode():
        deviation = golden_network(factor)(torch.from_numpy(PICTURES).permute(0, 3, 1, 2) / 255).std().item()
    spacing = torch.finfo(torch.float16 if precision is Precision.FP16 else torch.bfloat16).eps
    inside = (full > 0) & (full < 255)
    assert inside.mean() > 0.05
    assert np.square((full - half)[inside]).mean() ** 0.5 < 255 * 2 * spacing * deviation + 0.41  # both are rounded


@pytest.mark.skipif(not TRAINED.is_file(), reason="needs the trained weights beside the project")
@pytest.mark.parametrize(
    "picture", ["derived-pairs256/HE/lesion-prospc_y110_x317.png", "restained-he-ihc/split_IHC.png"]
)
def test_bf16_of_a_trained_network_is_as_close_to_fp32_as_promised(picture: str) -> None:
    """46 dB on every real picture (prep/README.md); the first is among the worst of those that were measured."""
    tile = read_picture(SHARED / picture)
    top, left = (side // 2 - 24 for side in tile.shape[:2])
    window = tile[None, top : top + 48, left : left + 48].copy()
    network = load_enlarger(TRAINED, 4)
    exact, half = (
        Bsrgan({4: network}, precision, 1, torch.device("cpu")).enlarge(window, 4).astype(int)
        for precision in (Precision.FP32, Precision.BF16)
    )
    psnr = 10 * np.log10(255**2 / np.square(exact - half).mean())
    assert 46 < psnr < 60


def test_sums_in_fp32_bring_bf16_closer_to_fp32() -> None:
    """Against everything in bf16; the golden weights are drawn and large, trained ones come closer still."""
    network, picture = golden_network(4), torch.from_numpy(PICTURES).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        exact, mixed = network(picture), deepcopy(network).lower(torch.bfloat16)(picture)
        naive = network.net.bfloat16()(picture.bfloat16()).float()
    error, before = ((other - exact).square().mean().sqrt().item() for other in (mixed, naive))
    assert error < 0.9 * before  # with 23 blocks of trained weights less than 0.7


def test_sums_and_the_outer_layers_stay_in_fp32() -> None:
    network = golden_network(4).lower(torch.bfloat16).net
    dtypes = {name: {value.dtype for value in part.state_dict().values()} for name, part in network.named_children()}
    outer, inner = {"conv_first", "conv_last"}, {"body", "conv_body", "conv_up1", "conv_up2", "conv_hr"}
    assert {name: kinds for name, kinds in dtypes.items() if kinds} == (
        {name: {torch.float32} for name in outer} | {name: {torch.bfloat16} for name in inner}
    )


@pytest.mark.gpu
def test_a_picture_that_half_precision_cannot_hold_is_computed_again_in_fp32(device: torch.device) -> None:
    """A factor that fp16 cannot carry stands between two layers; fp32 carries it."""
    network = golden_network(2)
    with torch.no_grad():
        network.net.conv_hr.weight.mul_(HUGE)
        network.net.conv_hr.bias.mul_(HUGE)
        network.net.conv_last.weight.div_(HUGE)
    sure = small_bsrgan(2, Precision.FP32, device, x2=network).enlarge(PICTURES, 2)
    assert np.array_equal(small_bsrgan(2, Precision.FP16, device, x2=network).enlarge(PICTURES, 2), sure)
    plain = small_bsrgan(2, Precision.FP16, device).enlarge(PICTURES, 2)
    assert (sure != plain).any()  # without that factor fp16 is trusted, and is not fp32


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [*HALVES, Precision.FP32])
def test_numbers_that_are_not_finite_are_refused_with_the_pairs_name(
    precision: Precision, device: torch.device
) -> None:
    network = golden_network(2)
    with torch.no_grad():
        network.net.conv_last.bias.fill_(torch.nan)
    with pytest.raises(
        WeightsError,
        match=rf"^train 'a' he x2: BSRGAN x2 made numbers .* in {precision} and again in fp32; check the w",
    ):
        small_bsrgan(4, precision, device, x2=network).enlarge(PICTURES[:2], 2, ["train 'a' he x2", "train 'a' ihc x2"])


@pytest.mark.gpu
@pytest.mark.parametrize("level", [-1.0, 0.5, 2.0])
def test_a_flat_result_is_refused_unless_the_picture_is_flat(level: float, device: torch.device) -> None:
    network = golden_network(4)
    with torch.no_grad():
        network.net.conv_last.weight.zero_()
        network.net.conv_last.bias.fill_(level)
    flat = np.broadcast_to(np.array([240, 238, 241], np.uint8), (3, 12, 16, 3)).copy()
    bsrgan = small_bsrgan(4, device=device, x4=network)
    assert len({*bsrgan.enlarge(flat, 4).flatten()}) == 1
    glass = flat - np.random.default_rng(0).integers(0, VARIED, flat.shape, dtype=np.uint8)
    assert len({*bsrgan.enlarge(glass, 4).flatten()}) == 1  # the noise of JPEG on bare glass
    mixed = np.concatenate([flat, PICTURES[:1], flat])
    with pytest.raises(WeightsError, match=r"^fourth: BSRGAN x4 made .*one flat colour"):
        bsrgan.enlarge(mixed, 4, ["first", "second", "third", "fourth", *"56 7"])


@pytest.mark.gpu
def test_triton_enlarges_as_plain_operations_do_and_repeats_itself(device: torch.device) -> None:
    """Whole pictures: to a grey level where fp16 rounds. Under the interpreter a small one, once."""
    pictures = PICTURES if device.type == "cuda" else PICTURES[:1, :5, :6]
    plain = small_bsrgan(2, Precision.FP16, device).enlarge(pictures, 2)
    fast = small_bsrgan(2, Precision.FP16, device, Kernels.TRITON).enlarge(pictures, 2)
    assert np.abs(fast.astype(int) - plain).max() <= 2
    if device.type == "cuda":
        assert np.array_equal(fast, small_bsrgan(2, Precision.FP16, device, Kernels.TRITON).enlarge(pictures, 2))
    assert plain.std() > 10


@pytest.mark.parametrize("kernels", Kernels)
def test_in_fp32_a_gpu_gets_one_window_at_a_time(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """What half precision cannot hold too; only the plain way, as stores before had it, takes them together."""
    seen: list[int] = []
    forward = RrdbEnlarger.forward

    def count(network: RrdbEnlarger, pictures: torch.Tensor) -> torch.Tensor:
        seen.append(len(pictures))
        answer = forward(network, pictures)
        half = network.net.conv_body.weight.dtype != torch.float32
        return answer * torch.nan if half else answer

    monkeypatch.setattr(RrdbEnlarger, "forward", count)
    monkeypatch.setattr("prep.upscaling.bsrgan.make_blocks", lambda _, body: partial(run_plain, body))
    small_bsrgan(3, Precision.BF16, kernels=kernels).enlarge(PICTURES, 2)
    first = [1] * 5 if kernels is Kernels.SINGLE else [3, 2]
    assert seen == first + ([3, 2] if kernels is Kernels.PLAIN else [1] * 5)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory\nand a page of advice"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=lambda error: str(error)[:12],
)
@pytest.mark.parametrize("where", [(RrdbEnlarger, "forward"), (torch, "empty")], ids=["network", "results"])
def test_too_little_memory_is_an_error_with_the_setting_to_change(
    error: RuntimeError, where: tuple[object, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it lacks, and in the words of whichever allocator; one window alone is not told to become fewer."""
    enlargers = {batch: small_bsrgan(batch) for batch in (1, 3)}

    def exhausted(*_: object, **__: object) -> torch.Tensor:
        raise error

    monkeypatch.setattr(*where, exhausted)
    with pytest.raises(
        DeviceMemoryError, match=r"^not enough memory for 3 windows of 12 px \(.*; stop other .*batch=1"
    ):
        enlargers[3].enlarge(PICTURES, 2)
    with pytest.raises(
        DeviceMemoryError, match=r"^not enough memory for 1 windows of 12 px \(.*; stop other programs on the device$"
    ):
        enlargers[1].enlarge(PICTURES, 2)


def test_a_missing_device_is_refused_before_a_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch, tmp_path)
    hide(monkeypatch)
    with pytest.raises(SettingsError, match="device = cuda: this machine shows no NVIDIA GPU"):
        Bsrgan.from_weights(Precision.FP16, 4, Device.CUDA, (2, 4), folder=tmp_path)


def test_a_store_begun_with_kernels_that_cannot_run_here_is_refused_before_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, H100)
    monkeypatch.setattr("prep.upscaling.ways.fault", lambda *_: "RuntimeError: no compiler")
    choice = UpscalerChoice(
        enlarger=Enlarger.BSRGAN,
        device=Device.CUDA,
        precision=Precision.FP16,
        kernels=Kernels.COMPILED,
        batch=16,
        factors=frozenset({4}),
    )
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(SettingsError, match=r"^kernels = compiled: this cannot run here: RuntimeError: no compiler; "):
        make_upscaler(choice)


def test_names_and_shapes_that_do_not_fit_are_listed() -> None:
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
    message = refusal(tmp_path / "trap.pth")
    assert "asks for code (" in message
    assert "'pathlib" in message
    assert "which was not run" in message
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert "asks for code (" in refusal(tmp_path / "bare.pth")
    assert not (tmp_path / "sprung").exists()


def test_a_damaged_weight_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "BSRGANx2.pth"
    torch.save(golden(2)[0], file)
    whole = file.read_bytes()
    for data, words in (
        (b"", "is empty"),
        (whole[: len(whole) // 2], "is cut off after"),
        (whole[:-50], "is cut off after"),
        (b"hello world\n", "is a text ('hello world')"),
        (b"<!DOCTYPE html>", "is a web page"),
    ):
        file.write_bytes(data)
        assert words in refusal(file)


@pytest.mark.parametrize(
    "content", [[torch.zeros(2)], {"params": {"conv_first.bias": torch.zeros(64)}}, {1: torch.zeros(2)}]
)
def test_what_is_no_bare_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "wrapped.pth")
    assert "holds no bare state dict" in refusal(tmp_path / "wrapped.pth")
