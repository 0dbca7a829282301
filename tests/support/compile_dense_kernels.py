"""`python -m tests.support.compile_dense_kernels 90 fp16`: compile the convolutions of a dense block for sm_90.

No GPU is needed: see `tests/support/compile_kernels.py`. Prints a JSON line per compiled kernel.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from prep.settings import Kernels
from prep.upscaling.bsrgan import RrdbEnlarger
from prep.upscaling.ways import make_blocks
from tests.support.compile_kernels import Compiled, compile_call, specialise


@torch.inference_mode()
def main(capability: int, dtype: torch.dtype) -> None:
    """Every convolution of a block of the published width; one with the same arguments is compiled once."""
    seen: dict[tuple[object, ...], Compiled] = {}
    target = GPUTarget("cuda", capability, 32)

    def run(self: Any, *arguments: object, grid: Any, warmup: bool, **named: Any) -> None:
        named["WIDEN"] = False  # as on a GPU
        key = (named["INPUTS"], named["OUTPUTS"], named["ADDED"])
        if key not in seen:
            seen[key] = compile_call(self, target, specialise(self, arguments, named))
            sys.stdout.write(json.dumps([key, asdict(seen[key])]) + "\n")

    JITFunction.run = run
    blocks = make_blocks(Kernels.TRITON, RrdbEnlarger(4, blocks=1).to(dtype).net.body)
    blocks(torch.zeros(1, 64, 16, 16).contiguous(memory_format=torch.channels_last))


if __name__ == "__main__":
    main(int(sys.argv[1]), {"bf16": torch.bfloat16, "fp16": torch.float16}[sys.argv[2]])
