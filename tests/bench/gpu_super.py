"""Super-resolution on a GPU: milliseconds and TFLOP/s of a view by factor, precision, way through the blocks, batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from prep.settings import Kernels, Precision
from prep.upscaling.bsrgan import Bsrgan, RrdbEnlarger
from tests.bench.gpu_machine import Machine, table
from tests.bench.networks import seeded

WINDOWS = {4: 160, 2: 288}  # px, by the factor
PROBE = 16  # px, of a picture whose operations are counted
HALF = [(Precision.FP16, way, size) for way in (Kernels.COMPILED, Kernels.PLAIN, Kernels.TRITON) for size in (16, 4)]
WAYS = [  # the most wanted first, the slowest last
    *HALF,
    (Precision.BF16, Kernels.COMPILED, 16),
    (Precision.FP32, Kernels.SINGLE, 4),
    (Precision.FP32, Kernels.PLAIN, 4),
]


def measure_super_resolution(machine: Machine) -> None:
    """Milliseconds and TFLOP/s of a view by factor, precision, way through the blocks, and batch."""
    networks = {factor: RrdbEnlarger(factor, blocks=1).eval() if machine.dry else seeded(factor) for factor in WINDOWS}
    table(["factor", "precision", "kernels", "batch", "ms a view", "TFLOP/s", "GiB of tensors", "GiB taken"], text=3)
    for precision, kernels, batch in [(Precision.FP32, Kernels.PLAIN, 2)] if machine.dry else WAYS:
        for factor, network in networks.items():
            make = partial(Bsrgan, {factor: network}, precision, batch, machine.device, kernels)
            machine.row([f"x{factor}", precision, kernels, batch], partial(measure, machine, network, make, batch))
    print("\nSeeded weights of full size, noise of the sides of windows.")


def measure(machine: Machine, network: RrdbEnlarger, make: Callable[[], Bsrgan], batch: int) -> list[str]:
    """Milliseconds and TFLOP/s of a view, two batches at a time, and memory."""
    machine.forget_peak()
    side = PROBE if machine.dry else WINDOWS[network.factor]
    views = np.random.default_rng(0).integers(0, 256, (2 * batch, side, side, 3), np.uint8)
    bsrgan = make()
    seconds = machine.median(lambda: bsrgan.enlarge(views, network.factor), repeats=1) / len(views)
    return [f"{seconds * 1000:.1f}", f"{operations(network, side) / seconds / 1e12:.0f}", machine.peak()]


def operations(network: RrdbEnlarger, side: int) -> float:
    """Operations of the convolutions for a picture of side x side px."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, PROBE, PROBE))
    return float(counter.get_total_flops()) * (side / PROBE) ** 2
