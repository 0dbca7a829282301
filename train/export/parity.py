"""Whether an exported file translates as the generator does: drawn pictures through onnxruntime and through PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from train.export.frozen import Frozen
from train.export.networks import INPUT, OUTPUT, least_side
from train.translate.moments.given import translate_given

ALIKE = 1e-4
"""Pictures in [-1, 1] that differ by no more are the same: an eightieth of a grey level."""
GRAIN = 8  # px, of drawn pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """The largest difference in [-1, 1], in this version of onnxruntime, and what rounding alone makes of it.

    `rounding` is how far PyTorch is from itself when channels lie otherwise in memory; 0 where it was not needed.
    """

    worst: float
    rounding: float
    version: str

    @property
    def holds(self) -> bool:
        """Whether the file is the generator; one that is hardly trained can enlarge rounding a thousand times."""
        return self.worst <= max(ALIKE, self.rounding)


def compare(model: bytes, generator: nn.Module, multiple: int, frozen: Frozen | None = None) -> Parity | None:
    """A file beside the generator, in the mode it is in, on a CPU; None where onnxruntime is not installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    pictures = drawn_pictures(multiple)
    made = [session.run([OUTPUT], {INPUT: picture})[0] for picture in pictures]
    wanted = [translated(generator, picture, multiple, frozen) for picture in pictures]
    worst, rounding = _furthest(made, wanted), 0.0
    if not worst <= ALIKE:
        others = [translated(generator, picture, multiple, frozen, last=True) for picture in pictures]
        rounding = _furthest(others, wanted)
    return Parity(worst=worst, rounding=rounding, version=onnxruntime.__version__)


def drawn_pictures(multiple: int) -> list[NDArray[np.float32]]:
    """Blobs with grain, signed [B,3,H,W]: three of sides that are no multiples, and one of two multiples."""
    random = np.random.default_rng(0)

    def draw(batch: int, height: int, width: int) -> NDArray[np.float32]:
        coarse = random.uniform(-1, 1, (batch, 3, height // GRAIN + 1, width // GRAIN + 1))
        fine = random.normal(0, 0.1, (batch, 3, height, width))
        blobs = coarse.repeat(GRAIN, axis=2).repeat(GRAIN, axis=3)[:, :, :height, :width]
        return (blobs + fine).clip(-1, 1).astype(np.float32)

    return [draw(3, 37, 58), draw(1, 2 * max(multiple, 32), max(multiple, 32))]


@torch.inference_mode()
def translated(
    generator: nn.Module,
    pictures: NDArray[np.float32],
    multiple: int,
    frozen: Frozen | None = None,
    *,
    last: bool = False,
) -> NDArray[np.float32]:
    """What the generator makes of pictures of any sides, signed [B,3,H,W], one by one; channels `last` in memory."""
    height, width = pictures.shape[2:]
    more = [max(-side % multiple, least_side(generator) - side) for side in (height, width)]
    whole = np.pad(pictures, ((0, 0), (0, 0), (0, more[0]), (0, more[1])), mode="reflect")
    layout = torch.channels_last if last else torch.contiguous_format
    windows = [picture[None].contiguous(memory_format=layout) for picture in torch.from_numpy(whole)]
    made = [generator(one) if frozen is None else translate_given(generator, one, frozen.field) for one in windows]
    fakes: NDArray[np.float32] = torch.cat(made)[:, :, :height, :width].numpy()
    return fakes


def _furthest(ones: list[NDArray[np.float32]], others: list[NDArray[np.float32]]) -> float:
    """The largest difference; NaN where one is not a number."""
    return float(np.max([np.abs(one - other).max() for one, other in zip(ones, others, strict=True)]))
