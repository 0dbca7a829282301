"""Pictures through a network in batches on a device: u8 RGB in and out; what half precision spoils is made in fp32.

The network computes in [0,1]; its output is clamped, times 255, rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from prep.settings import Kernels, Precision, how_to_set
from store.images import PictureU8
from store.process import device_memory
from store.schema import WeightsError

VARIED = 16  # grey levels between darkest and lightest; a picture that varies less is flat: empty glass in JPEG does
DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


class Network(Protocol):
    """A network for one factor, on the CPU in fp32, or as it was prepared; `remedy` is what to do if it fails."""

    factor: int
    title: str
    remedy: str
    alone: bool  # it takes one picture at a time, whatever the batch

    def prepared(self, precision: Precision, kernels: Kernels, device: torch.device) -> Network:
        """A copy on the device that computes in this precision and way, for inference."""

    def __call__(self, picture: Tensor) -> Tensor:
        """fp32 [B,3,h,w] in [0,1] to fp32 [B,3,h x factor,w x factor]; what is not finite stays so."""


class NetworkUpscaler:
    """Enlarges batches of patches by 2 or 4 on a device; one network for each factor."""

    def __init__(
        self,
        networks: Mapping[int, Network],
        precision: Precision,
        batch: int,
        device: torch.device,
        kernels: Kernels = Kernels.PLAIN,
    ) -> None:
        self._device, self._precision, self._batch, self._kernels = device, precision, batch, kernels
        self._exact = networks
        self._networks = {factor: net.prepared(precision, kernels, device) for factor, net in networks.items()}

    @torch.inference_mode()
    def enlarge(self, pictures: PictureU8, factor: int, names: Sequence[str] = ()) -> PictureU8:
        """u8 [B,h,w,3] to u8 [B,h x factor,w x factor,3], in batches; clamped to [0,1], times 255, rounded.

        A result that is not finite, or is one colour where the picture is not, is computed again in fp32. Raises
        WeightsError with the picture's name (of `names`, one each) if that is no better, DeviceMemoryError if the
        device has too little memory.
        """
        given, network = torch.from_numpy(pictures), self._networks[factor]
        single = network.alone or self._kernels is Kernels.SINGLE
        enlarged, sound = self._run(network, given, 1 if single else self._batch)
        if not sound.all():
            doubtful = (~sound).nonzero().flatten()
            exact = self._exact[factor].prepared(Precision.FP32, Kernels.PLAIN, self._device)
            # in fp32 a GPU is slower with more
            together = self._batch if self._kernels is Kernels.PLAIN and not network.alone else 1
            enlarged[doubtful], better = self._run(exact, given[doubtful], together)
            if not better.all():
                index = int(doubtful[~better][0])
                raise WeightsError(
                    f"{names[index] if names else f'picture {index}'}: {network.title} made numbers that are not "
                    f"finite, or one flat colour, of it, in {self._precision} and again in fp32; {network.remedy}, "
                    "then the device; nothing of its unit was written"
                )
        return enlarged.numpy()

    def _run(self, network: Network, pictures: Tensor, together: int) -> tuple[Tensor, Tensor]:
        """The enlarged pictures, and which of them are sound; waits for the device once, at the end.

        Algorithms are chosen by shape and never by timing, and fp32 is never TF32: the same batch gives the same bytes.
        From a GPU each batch is copied while the next one is computed, which takes page-locked memory.
        """
        count, height, width, _ = pictures.shape
        shape, locked = (count, network.factor * height, network.factor * width, 3), self._device.type == "cuda"
        lower = f", or build another store with {how_to_set(f'batch={together // 2}')}" if together > 1 else ""
        with (
            device_memory(f"{together} windows of {pictures.shape[1]} px", f"stop other programs on the device{lower}"),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            given = pictures.pin_memory() if locked else pictures
            enlarged, sound = torch.empty(shape, dtype=torch.uint8, pin_memory=locked), list[Tensor]()
            for batch, place in zip(torch.split(given, together), torch.split(enlarged, together), strict=True):
                made, good = self._run_batch(network, batch)
                place.copy_(made, non_blocking=locked)
                sound.append(good)
            return enlarged, torch.cat(sound).cpu()  # after this on the stream nothing is on its way

    def _run_batch(self, network: Network, batch: Tensor) -> tuple[Tensor, Tensor]:
        given = batch.to(self._device, non_blocking=True)  # u8 [B,h,w,3]
        planes = given.permute(0, 3, 1, 2).float() / 255  # [B,3,h,w], channels last
        exact = network(planes)
        enlarged = exact.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
        flat = (_range(enlarged) == 0) & (_range(given) >= VARIED)
        return enlarged, exact.isfinite().flatten(1).all(1) & ~flat


def _range(pictures: Tensor) -> Tensor:
    """Grey levels between the darkest and the lightest pixel, the largest over the channels; u8 [B,h,w,3] to [B]."""
    return (pictures.amax((1, 2)) - pictures.amin((1, 2))).amax(1)
