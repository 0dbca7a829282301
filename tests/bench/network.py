"""The super-resolution network by itself: what each precision changes, and how fast it is beside the published script.

The published script runs pictures one by one in fp32, contiguous (BSRGAN, main_test_bsrgan.py). All ways take turns,
and each number is the best of its rounds, of one window as the network sees it, margin included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from prep.settings import Device, Kernels, Precision, PrepSettings
from prep.upscaling.batches import DTYPES
from prep.upscaling.bsrgan import Bsrgan, RrdbEnlarger, load_enlarger
from prep.upscaling.devices import best_precision
from prep.views import MAC_PER_PIXEL, plan_geometries, shrink
from store.process import keep_freed_memory
from tests.bench.networks import TRAINED, find_networks
from tests.bench.pictures import find_sets

JUDGED, PATCH = 8, 64  # tissue windows, px: by which precisions are judged
TISSUE, LARGE = 16, 128  # the same for a trained network, whose error depends on what it sees
WINDOWS = {"cuda": {4: 160, 2: 288}, "cpu": {4: 96, 2: 96}}  # px: on a GPU as recipe paper has them
ROUNDS = 2
BATCHES = {"cuda": (1, 4, 16), "cpu": (1, 4, 8)}
MATRIX, REPEATS = 4096, 5  # side of the matrices whose product tells what the device could do at best
GREY = 255


def device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cut_windows(count: int, side: int) -> NDArray[np.uint8]:
    """Windows of real tissue at the resolution of the field, u8 [count,side,side,3]."""
    generator, windows = np.random.default_rng(0), []
    for tile in find_sets(None).tiles[:count]:
        field = shrink(tile, tile.shape[0] // 2)
        top, left = generator.integers(0, field.shape[0] - side + 1, 2)
        windows.append(field[top : top + side, left : left + side])
    return np.stack(windows)


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes until the device is done."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def judge(networks: dict[int, RrdbEnlarger]) -> None:
    """Each precision against fp32 on tissue: bytes as they would be stored."""
    windows = cut_windows(JUDGED, PATCH)
    print("| factor | precision | PSNR, dB | worst picture, dB | largest difference, grey levels | bytes that differ |")
    print("|---|---|--:|--:|--:|--:|")
    for factor, network in networks.items():
        exact = judge_ways(f"x{factor}", network, windows, (Precision.BF16, Precision.FP16))
        print(row(f"x{factor}", "all of it in bf16", run_all_in_bf16(network, windows), exact))
    if TRAINED.is_file():
        trained = (
            (Precision.BF16, Precision.FP16) if device().type == "cuda" else (Precision.BF16,)
        )  # fp16 takes an hour
        judge_ways("x4, trained", load_enlarger(TRAINED, 4), cut_windows(TISSUE, LARGE), trained)


def judge_ways(
    name: str, network: RrdbEnlarger, windows: NDArray[np.uint8], precisions: tuple[Precision, ...]
) -> NDArray[np.int64]:
    """Print the rows of one network in some precisions, by all kernels of the device; returns the result of fp32."""
    exact = Bsrgan({network.factor: network}, Precision.FP32, 1, device()).enlarge(windows, network.factor).astype(int)
    print(f"| {name} | (contrast of fp32: deviation {exact.std():.0f} grey levels) | | | | |")
    for precision in precisions:
        for kernels in kernels_of(precision):
            made = Bsrgan({network.factor: network}, precision, 4, device(), kernels)
            label = f"{precision}, {kernels}" if device().type == "cuda" else f"{precision}"
            print(row(name, label, made.enlarge(windows, network.factor), exact))
    return exact


def kernels_of(precision: Precision) -> tuple[Kernels, ...]:
    """The kernels that there are for a precision on this device."""
    if device().type == "cpu":
        return (Kernels.PLAIN,)
    if precision is Precision.FP32:
        return (Kernels.PLAIN, Kernels.SINGLE)
    return (Kernels.PLAIN, Kernels.COMPILED, Kernels.TRITON)


def row(network: str, name: str, half: NDArray[np.uint8], exact: NDArray[np.int64]) -> str:
    """How far one way lies from fp32."""
    squares = np.square(half - exact).mean((1, 2, 3))
    return (
        f"| {network} | {name} | {psnr(squares.mean()):.1f} | {psnr(squares.max()):.1f} "
        f"| {np.abs(half - exact).max()} | {(half != exact).mean():.1%} |"
    )


@torch.inference_mode()
def run_all_in_bf16(network: RrdbEnlarger, windows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without sums in fp32, for comparison: what casting basicsr's modules does."""
    whole = published_network(network, torch.bfloat16)
    given = torch.from_numpy(windows).to(device()).permute(0, 3, 1, 2).to(torch.bfloat16) / GREY
    enlarged = whole(given.contiguous(memory_format=torch.channels_last)).float()
    return np.asarray(enlarged.clamp(0, 1).mul(GREY).round().permute(0, 2, 3, 1).cpu().numpy(), np.uint8)


def psnr(square: float) -> float:
    """Of a mean squared error in grey levels, dB."""
    return float(10 * np.log10(GREY**2 / square))


def published_network(network: RrdbEnlarger, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The forward pass of basicsr's modules, all in one precision."""
    net = deepcopy(network.net).to(device(), dtype)
    ups = (net.conv_up1,) if network.factor == 2 else (net.conv_up1, net.conv_up2)

    def run(picture: Tensor) -> Tensor:
        feature = net.conv_first(picture)
        feature = feature + net.conv_body(net.body(feature))
        for up in ups:
            feature = net.lrelu(up(F.interpolate(feature, scale_factor=2, mode="nearest")))
        enlarged: Tensor = net.conv_last(net.lrelu(net.conv_hr(feature)))
        return enlarged

    return run


def published_way(network: RrdbEnlarger, windows: NDArray[np.uint8]) -> Callable[[], object]:
    """One picture, fp32, contiguous: floats up, one forward pass, clamped floats down."""
    whole = published_network(network, torch.float32)
    picture = np.ascontiguousarray(windows[0].transpose(2, 0, 1), np.float32)[None] / GREY

    @torch.inference_mode()
    def run() -> Tensor:
        return whole(torch.from_numpy(picture).to(device())).clamp(0, 1).cpu()

    return run


def compare(networks: dict[int, RrdbEnlarger]) -> None:
    """Speed of every way, against the published one and against the device's rate for matrices."""
    chosen = best_precision(Device(device().type))
    halves = (Precision.BF16, Precision.FP16) if device().type == "cuda" else (chosen,)
    rate = matrix_rate(DTYPES[chosen])
    print(f"\nProduct of {MATRIX} x {MATRIX} matrices in {chosen}: {rate / 1e12:.2f} TFLOP/s\n")
    print("| factor, window | way | ms a window | windows/s | TFLOP/s | of the matrix rate | of the published way |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for factor, network in networks.items():
        side, batches = WINDOWS[device().type][factor], BATCHES[device().type]
        windows = cut_windows(max(batches), side)
        ways: dict[str, tuple[int, Callable[[], object]]] = {
            "as published: fp32, contiguous, one by one": (1, published_way(network, windows))
        }
        for precision in dict.fromkeys((Precision.FP32, *halves)):
            for kernels, batch in product(kernels_of(precision), batches if precision is chosen else batches[1:2]):
                bsrgan = Bsrgan({factor: network}, precision, batch, device(), kernels)
                way = partial(bsrgan.enlarge, windows[:batch], factor)
                ways[f"{precision}, {'channels last' if kernels is Kernels.PLAIN else kernels}, batch {batch}"] = (
                    batch,
                    way,
                )
        best = dict.fromkeys(ways, np.inf)
        for number in range(ROUNDS + 1):
            for name, (batch, call) in ways.items():
                took = seconds(call) / batch
                best[name] = min(best[name], took) if number else np.inf  # the first round only warms up
        flop = 2 * MAC_PER_PIXEL[factor] * side**2
        published = next(iter(best.values()))
        for name, took in best.items():
            print(
                f"| x{factor}, {side} px | {name} | {1e3 * took:.0f} | {1 / took:.2f} | {flop / took / 1e12:.2f} "
                f"| {flop / took / rate:.0%} | {published / took:.2f} |"
            )


def matrix_rate(dtype: torch.dtype) -> float:
    """FLOP/s of the device for products of large matrices."""
    one, other = (torch.randn(MATRIX, MATRIX, device=device()).to(dtype) for _ in range(2))
    best = min(seconds(lambda: one @ other) for _ in range(REPEATS))
    return float(2 * MATRIX**3 / best)


def margin_cost() -> None:
    """What the margin of real neighbours costs: input pixels with it and without."""
    print("\n| view | patch, px | window, px | cost of the margin |\n|---|--:|--:|--:|")
    enlarged = [geometry for geometry in plan_geometries(PrepSettings(), 1024) if geometry.enlarged]
    for geometry in enlarged:
        more = (geometry.window_side / geometry.patch_side) ** 2
        print(f"| {geometry.view.name} | {geometry.patch_side} | {geometry.window_side} | x{more:.3f} |")
    bare = plan_geometries(PrepSettings(margin=0), 1024)
    total = sum(g.flop() for g in enlarged) / sum(g.flop() for g in bare)
    print(f"| both, in operations | | | x{total:.3f} |")


def main() -> None:
    """Measure and print the tables."""
    keep_freed_memory()  # as the build command does; the published way has it as well
    networks, weights = find_networks()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}; {weights}; tissue of {find_sets(None).source}\n")
    judge(networks)
    compare(networks)
    margin_cost()


if __name__ == "__main__":
    main()
