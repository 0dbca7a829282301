"""BSRGAN: its authors' network from basicsr's modules, verified weights, batched `enlarge` on a device.

Pictures are u8 RGB in and out; the network sees [0,1], its output is clamped and rounded as in the published script.
Source: Zhang et al., Designing a Practical Degradation Model for Deep Blind Image Super-Resolution (ICCV 2021).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from prep.settings import Precision
from store.schema import WeightsError
from store.weights import BSRGAN_FILES, locate, weights_folder

DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
NAMES = {  # BSRGAN's names to basicsr's; the rest agree
    "RRDB_trunk": "body",
    "RDB1": "rdb1",
    "RDB2": "rdb2",
    "RDB3": "rdb3",
    "trunk_conv": "conv_body",
    "upconv1": "conv_up1",
    "upconv2": "conv_up2",
    "HRconv": "conv_hr",
}


def _import_rrdbnet() -> Any:
    """RRDBNet of basicsr. Its package imports a module that torchvision has dropped, and warns of its own age."""
    name = "torchvision.transforms.functional_tensor"
    if name not in sys.modules:
        from torchvision.transforms.functional import rgb_to_grayscale

        sys.modules[name] = ModuleType(name)
        sys.modules[name].__dict__["rgb_to_grayscale"] = rgb_to_grayscale
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from basicsr.archs.rrdbnet_arch import RRDBNet
    return RRDBNet


class RrdbEnlarger(nn.Module):
    """BSRGAN's network for one factor: [B,3,h,w] in [0,1] to [B,3,h x factor,w x factor].

    For factor 2 it takes one upsampling step and leaves the second out. basicsr's own `scale=2` is another network: it
    unshuffles pixels first and runs at half the resolution.
    """

    def __init__(self, factor: int, features: int = 64, blocks: int = 23, growth: int = 32) -> None:
        super().__init__()
        self.factor = factor
        self.net = _import_rrdbnet()(3, 3, scale=4, num_feat=features, num_block=blocks, num_grow_ch=growth)
        if factor == 2:
            del self.net.conv_up2

    def forward(self, picture: Tensor) -> Tensor:
        """Enlarge; the result is not clamped."""
        net = self.net
        feature = net.conv_first(picture)
        feature = feature + net.conv_body(net.body(feature))
        for up in (net.conv_up1,) if self.factor == 2 else (net.conv_up1, net.conv_up2):
            feature = net.lrelu(up(F.interpolate(feature, scale_factor=2, mode="nearest")))
        enlarged: Tensor = net.conv_last(net.lrelu(net.conv_hr(feature)))
        return enlarged

    def load_published(self, state: Mapping[str, Tensor], origin: str) -> None:
        """Load a state dict with BSRGAN's key names; WeightsError unless every name and shape fits."""
        renamed = {".".join(NAMES.get(part, part) for part in key.split(".")): value for key, value in state.items()}
        own = self.net.state_dict()
        wrong = [
            f"{key} is {list(renamed[key].shape) if key in renamed else 'missing'}, should be "
            f"{list(own[key].shape) if key in own else 'absent'}"
            for key in sorted({*own, *renamed})
            if key not in own or key not in renamed or own[key].shape != renamed[key].shape
        ]
        if wrong:
            raise WeightsError(
                f"{origin} does not fit BSRGAN x{self.factor} ({len(wrong)} tensors differ: {'; '.join(wrong[:3])}); "
                "take the published file (`make weights`). basicsr's own scale=2 network is a different one"
            )
        self.net.load_state_dict(renamed, strict=True)


def load_enlarger(file: Path, factor: int) -> RrdbEnlarger:
    """The full-size network with the weights of `file`; nothing in the file is run. Raises WeightsError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a pickle that torch did not write
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damage raises anything from EOFError to KeyError, and torch's own text is a page long
        raise WeightsError(
            f"{file} is no file of plain tensors: it is damaged or holds code ({type(error).__name__}), and nothing in "
            "it was run; fetch it again with `make weights`"
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise WeightsError(f"{file} holds no bare state dict; fetch it again with `make weights`")
    enlarger = RrdbEnlarger(factor)
    enlarger.load_published(state, str(file))
    return enlarger


def count_gpus() -> int:
    """How many GPUs this process sees."""
    return torch.cuda.device_count()


class Bsrgan:
    """Enlarges batches of patches by 2 or 4 on a device; one network for each factor."""

    def __init__(
        self, networks: Mapping[int, RrdbEnlarger], precision: Precision, batch: int, device: torch.device
    ) -> None:
        self._device = device
        self._dtype = DTYPES[precision]
        self._batch = batch
        self._networks = {
            factor: network.eval().requires_grad_(False).to(device, self._dtype).to(memory_format=torch.channels_last)
            for factor, network in networks.items()
        }

    @classmethod
    def from_weights(cls, precision: Precision, batch: int, folder: Path | None = None) -> Bsrgan:
        """The published networks from verified files of the weights folder, on the GPU if there is one."""
        files = {factor: locate(weight, folder or weights_folder()) for factor, weight in BSRGAN_FILES.items()}
        networks = {factor: load_enlarger(file, factor) for factor, file in files.items()}
        return cls(networks, precision, batch, torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @torch.inference_mode()
    def enlarge(self, pictures: NDArray[np.uint8], factor: int, names: Sequence[str]) -> NDArray[np.uint8]:
        """u8 [B,h,w,3] to u8 [B,h x factor,w x factor,3], in batches; clamped to [0,1], times 255, rounded."""
        parts = [self._enlarge_batch(batch, factor) for batch in torch.split(torch.from_numpy(pictures), self._batch)]
        return torch.cat(parts).cpu().numpy()

    def _enlarge_batch(self, pictures: Tensor, factor: int) -> Tensor:
        planes = pictures.to(self._device).permute(0, 3, 1, 2)  # [B,3,h,w], channels last
        enlarged: Tensor = self._networks[factor](planes.to(self._dtype) / 255).float()
        if not enlarged.isfinite().all():
            raise WeightsError(
                f"BSRGAN x{factor} gave numbers that are not finite in {self._dtype}; set precision=fp32, "
                "and check the weights with `python -m store weights`"
            )
        return enlarged.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
