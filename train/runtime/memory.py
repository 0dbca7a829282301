"""Too little memory on a device: what the computation was, and what to lower."""

from __future__ import annotations

from store.process import WORKSPACE_MIB
from train.settings import Precision, TrainSettings

FREE_SOME = "stop other programs on the device and run the same command again, which goes on from what is kept"


def step_of(settings: TrainSettings, side: int) -> str:
    """What a step is, for views of `side` px."""
    return f"a step of {settings.method} at {side} px, batch {settings.data.batch}, in precision {settings.precision}"


def smaller_step(settings: TrainSettings) -> str:
    """What takes less memory than a step with these settings, the gentlest first."""
    batch, generator = settings.data.batch, settings.generator
    ways = []
    if batch > 1:
        part = next(size for size in range(batch // 2, 0, -1) if batch % size == 0)
        ways.append(f"data.batch={part} and data.accumulate={settings.data.accumulate * batch // part}")
    if settings.precision in (Precision.FP32, Precision.TF32):
        ways.append("precision=bf16")
    ways += ["a store with a smaller view_side", f"generator.base={max(1, generator.base // 2)}"]
    return (
        f"{FREE_SOME}; or start a new run with {', or '.join(ways)}. `python -m train describe` estimates a step; "
        f"CUDNN_CONV_WSCAP_DBG, in MiB ({WORKSPACE_MIB} unless you set it), bounds what cuDNN takes besides"
    )


def smaller_pictures(batch: int) -> str:
    """What takes less memory than a translation of `batch` pictures at a time."""
    ways = [f"--batch {batch // 2}"] * (batch > 1) + ["a --view of smaller pictures", "--device cpu"]
    return f"{FREE_SOME}; or use {', or '.join(ways)}"


def smaller_tiles(tile: int, batch: int) -> str:
    """What takes less memory than a translation in tiles of `tile` px, `batch` at a time."""
    ways = [f"--set batch={batch // 2}"] * (batch > 1)
    ways += [f"--set tile={max(64, tile // 32 * 16)}"] * (tile > 64)
    return f"{FREE_SOME}; or use {', or '.join([*ways, '--device cpu'])}"
