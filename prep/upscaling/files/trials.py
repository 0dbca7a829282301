"""How networks that were given as files are computed here: tried, because nobody has measured them beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log10

import numpy as np
import torch
import torch.nn.functional as F

from prep.settings import BATCH, Device, Kernels, Precision, how_to_set
from prep.upscaling.devices import best_precision
from prep.upscaling.files.given import GivenNetwork
from prep.upscaling.files.spandrel_network import FileUpscaler, load_network
from prep.upscaling.memory import MOST, SHARE
from store.cli import say
from store.images import PictureU8
from store.schema import SettingsError

CLOSE = 46.0  # dB of half precision against fp32, as of BSRGAN (`prep/README.md`)
EXACT = 40.0  # dB of compiled code against plain operations in the same precision: both round
SIDE = 64  # px of the picture that is tried
TEXTURES = ((6, 0.4), (20, 0.5), (40, 0.3))  # cells along a side, and their contrast
GRAIN = 0.02


def choose_precision(networks: Sequence[GivenNetwork], device: Device) -> Precision:
    """The fastest precision of a device if all networks compute in it, close enough to fp32 on a picture; else fp32."""
    half = best_precision(device)
    for network in networks:
        if half is Precision.FP32:
            break
        if half not in network.halves:
            reason = f"spandrel runs {network.record.architecture} in no {half}"
        elif (close := closeness(network, half, Kernels.PLAIN, device)) < CLOSE:
            reason = f"its {half} is {close:.1f} dB from fp32 on a trial picture, less than {CLOSE:.0f}"
        else:
            continue
        say(f"{network.title} runs in fp32, slower: {reason}; the store records it")
        return Precision.FP32
    return half


def check_precision(networks: Sequence[GivenNetwork], precision: Precision) -> None:
    """Raise SettingsError if a network does not compute in a half precision."""
    for network in networks:
        if precision is not Precision.FP32 and precision not in network.halves:
            others = " or ".join(sorted(network.halves | {Precision.FP32}))
            raise SettingsError(
                f"precision = {precision}: {network.title} does not compute in it, as spandrel says of "
                f"{network.record.architecture}, only in {others}; set {how_to_set('precision=fp32')}"
            )


def choose_kernels(precision: Precision, device: Device) -> Kernels:
    """In fp32 a GPU is fastest one window after the other; compiling is left to those who ask for it."""
    return Kernels.SINGLE if device is Device.CUDA and precision is Precision.FP32 else Kernels.PLAIN


def check_file_kernels(
    networks: Sequence[GivenNetwork], kernels: Kernels, precision: Precision, device: Device
) -> None:
    """Raise SettingsError if the networks cannot be computed in a way on this device."""
    reason = ""
    if kernels is Kernels.TRITON:
        reason = "it computes the blocks of BSRGAN only, and upscaler = file"
    elif kernels is Kernels.COMPILED and device is Device.CPU:
        reason = "it is for a GPU, and device = cpu"
    elif kernels is Kernels.COMPILED:
        reason = next(filter(None, (_compiling_fails(network, precision, device) for network in networks)), "")
    if reason:
        raise SettingsError(
            f"kernels = {kernels}: this cannot run here: {reason}; run it where it can, or build another store with "
            f"{how_to_set('kernels=plain')} (all of a store is made in one way)"
        )


def choose_batch(
    networks: Sequence[GivenNetwork],
    view_side: int,
    margin: int,
    precision: Precision,
    kernels: Kernels,
    device: Device,
) -> int:
    """Windows a batch, a power of 2, of which each takes what one took on this GPU; on a CPU as for BSRGAN."""
    if device is Device.CPU:
        return BATCH
    if kernels is Kernels.SINGLE:
        return 1
    needed = max(_bytes_of_window(network, view_side // 2 + 2 * margin, precision, device) for network in networks)
    free, _ = torch.cuda.mem_get_info()
    return 1 << (max(1, min(MOST, int(SHARE * free) // max(1, needed))).bit_length() - 1)


def closeness(network: GivenNetwork, precision: Precision, kernels: Kernels, device: Device) -> float:
    """PSNR, dB, of a drawn picture enlarged in a precision and way against the same in fp32; inf if they are equal."""
    exact = _enlarge(network, Precision.FP32, Kernels.PLAIN, device)
    return _psnr(exact, _enlarge(network, precision, kernels, device))


def _compiling_fails(network: GivenNetwork, precision: Precision, device: Device) -> str:
    """Why torch.compile cannot be used, in one line; compilers fail in many ways."""
    try:
        plain, fast = (_enlarge(network, precision, way, device) for way in (Kernels.PLAIN, Kernels.COMPILED))
    except Exception as error:
        return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
    off = _psnr(plain, fast)
    return "" if off >= EXACT else f"its result is {off:.1f} dB from that of plain operations"


def _enlarge(network: GivenNetwork, precision: Precision, kernels: Kernels, device: Device) -> PictureU8:
    loaded = {network.scale: load_network(network, network.scale)}
    return FileUpscaler(loaded, precision, 1, torch.device(device), kernels).enlarge(trial_picture(), network.scale)


def trial_picture() -> PictureU8:
    """Coloured textures of three sizes, with edges as sharp as of nuclei; u8 [1,SIDE,SIDE,3], always the same.

    Real-ESRGAN's bf16 is 42.1 dB from fp32 on it, and 42.4 dB on the worst of ten pieces of real tissue.
    """
    generator = torch.Generator().manual_seed(1)
    unit = torch.full((1, 3, SIDE, SIDE), 0.6)
    for cells, strength in TEXTURES:
        layer = torch.rand(1, 1, cells, cells, generator=generator)
        tint = 0.4 + 0.6 * torch.rand(1, 3, 1, 1, generator=generator)
        unit = unit + strength * tint * (F.interpolate(layer, (SIDE, SIDE), mode="bicubic") - 0.5)
    unit = (unit + GRAIN * torch.randn(1, 3, SIDE, SIDE, generator=generator)).clamp(0, 1)
    return np.ascontiguousarray(unit.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def _psnr(one: PictureU8, other: PictureU8) -> float:
    error = float(np.square(one.astype(np.float64) - other).mean())
    return 10 * log10(255**2 / error) if error else inf


@torch.inference_mode()
def _bytes_of_window(network: GivenNetwork, side: int, precision: Precision, device: Device) -> int:
    """The most memory that one window takes on a GPU beside the weights, measured."""
    ready = load_network(network, network.scale).prepared(precision, Kernels.PLAIN, torch.device(device))
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    ready(torch.zeros(1, 3, side, side, device=torch.device(device)))
    return torch.cuda.max_memory_allocated() - before
