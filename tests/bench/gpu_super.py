"""Super-resolution on a GPU: milliseconds and TFLOP/s of a view by factor, precision, way through the blocks, batch."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from prep.settings import Kernels, Precision
from prep.upscaling.bsrgan import Bsrgan, RrdbEnlarger
from tests.bench.gpu_machine import Machine, table
from tests.bench.networks import seeded

WINDOWS = {4: 160, 2: 288}  # px, by the factor


def measure_super_resolution(machine: Machine) -> None:
    """Milliseconds and TFLOP/s of a view by factor, precision, way through the blocks, and batch."""
    table(["factor", "precision", "kernels", "batch", "ms a view", "TFLOP/s", "GiB of tensors", "GiB taken"], text=3)
    half, single = Precision.FP16, Precision.FP32
    ways = [(half, way, size) for way in (Kernels.COMPILED, Kernels.PLAIN, Kernels.TRITON) for size in (16, 4)]
    ways += [(Precision.BF16, Kernels.COMPILED, 16), (single, Kernels.SINGLE, 4), (single, Kernels.PLAIN, 4)]
    for factor, window in WINDOWS.items():
        network = RrdbEnlarger(factor, blocks=1).eval() if machine.dry else seeded(factor)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(torch.zeros(1, 3, 16, 16))
        for precision, kernels, batch in [(Precision.FP32, Kernels.PLAIN, 2)] if machine.dry else ways:
            side = 16 if machine.dry else window
            views = np.random.default_rng(0).integers(0, 256, (2 * batch, side, side, 3), np.uint8)

            def measure(
                precision: Precision = precision, kernels: Kernels = kernels, batch: int = batch,
                factor: int = factor, views: np.ndarray = views, network: RrdbEnlarger = network,
            ) -> list[str]:  # fmt: skip
                machine.forget_peak()
                bsrgan = Bsrgan({factor: network}, precision, batch, machine.device, kernels)
                seconds = machine.median(lambda: bsrgan.enlarge(views, factor), repeats=1) / len(views)
                rate = counter.get_total_flops() * (views.shape[1] / 16) ** 2 / seconds / 1e12
                return [f"{seconds * 1000:.1f}", f"{rate:.0f}", machine.peak()]

            machine.row([f"x{factor}", precision, kernels, batch], measure)
    print("\nSeeded weights of full size, noise of the sides of windows.")
