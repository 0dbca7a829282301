"""BSRGAN: the published network from basicsr's modules, verified weights, batched `enlarge` on a device.

Output is clamped and rounded as in the published script. In half precision only the convolutions between the first and
the last layer are half: the sums that run through the whole network stay fp32, which raises the PSNR of bf16 against
fp32 by 6 dB at no cost in time.
Source: Zhang et al., Designing a Practical Degradation Model for Deep Blind Image Super-Resolution (ICCV 2021).
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prep.settings import Device, Kernels, Precision
from prep.upscaling.batches import DTYPES, NetworkUpscaler
from prep.upscaling.blocks import Blocks, activate, run_plain
from prep.upscaling.devices import start_device
from prep.upscaling.ways import check_kernels, make_blocks
from store.foreign.kinds import read_plain
from store.schema import WeightsError
from store.weights import BSRGAN_FILES, locate, weights_folder

NAMES = {  # BSRGAN's names to basicsr's; all others are the same
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
    """RRDBNet of basicsr. Its package imports a module that torchvision has removed, and raises warnings."""
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
    """BSRGAN's network for one factor: fp32 [B,3,h,w] in [0,1] to fp32 [B,3,h x factor,w x factor].

    For factor 2 it has one upsampling step instead of two. basicsr's own `scale=2` is another network: it unshuffles
    pixels first and runs at half the resolution.
    """

    remedy = "check the weights with `python -m store weights`"
    alone = False

    def __init__(self, factor: int, features: int = 64, blocks: int = 23, growth: int = 32) -> None:
        super().__init__()
        self.factor, self.title = factor, f"BSRGAN x{factor}"
        self.net = _import_rrdbnet()(3, 3, scale=4, num_feat=features, num_block=blocks, num_grow_ch=growth)
        if factor == 2:
            del self.net.conv_up2
        self.blocks: Blocks = partial(run_plain, self.net.body)

    def prepared(self, precision: Precision, kernels: Kernels, device: torch.device) -> RrdbEnlarger:
        """A copy on the device that computes in this precision and way, for inference."""
        copy = deepcopy(self).float().eval().requires_grad_(False).lower(DTYPES[precision])
        copy = copy.to(device).to(memory_format=torch.channels_last)
        copy.blocks = make_blocks(kernels, copy.net.body)
        return copy

    def lower(self, dtype: torch.dtype) -> RrdbEnlarger:
        """Compute in `dtype` from now on, except the first and the last layer and the sums."""
        for name, part in self.net.named_children():
            if name not in ("conv_first", "conv_last"):
                part.to(dtype)
        return self

    def forward(self, picture: Tensor) -> Tensor:
        """Enlarge; the result is not clamped."""
        net, dtype = self.net, self.net.conv_body.weight.dtype
        shallow = net.conv_first(picture)  # [B,64,h,w], as every sum of the trunk
        deep = self.blocks(shallow)
        feature = (shallow + net.conv_body(deep.to(dtype))).to(dtype)
        for up in (net.conv_up1,) if self.factor == 2 else (net.conv_up1, net.conv_up2):
            feature = activate(up(F.interpolate(feature, scale_factor=2, mode="nearest")))
        enlarged: Tensor = net.conv_last(activate(net.conv_hr(feature)).float())
        return enlarged

    def load_published(self, state: Mapping[str, Tensor], origin: str) -> None:
        """Load a state dict with BSRGAN's key names; WeightsError unless every name and shape fits."""
        renamed = {".".join(NAMES.get(part, part) for part in key.split(".")): value for key, value in state.items()}
        expected = self.net.state_dict()
        wrong = [
            f"{key} is {list(renamed[key].shape) if key in renamed else 'missing'}, should be "
            f"{list(expected[key].shape) if key in expected else 'absent'}"
            for key in sorted({*expected, *renamed})
            if key not in expected or key not in renamed or expected[key].shape != renamed[key].shape
        ]
        if wrong:
            raise WeightsError(
                f"{origin} does not fit BSRGAN x{self.factor} ({len(wrong)} tensors differ: {'; '.join(wrong[:3])}); "
                "take the published file (`make weights`). basicsr's own scale=2 network is a different one"
            )
        self.net.load_state_dict(renamed, strict=True)


def load_enlarger(file: Path, factor: int) -> RrdbEnlarger:
    """The full-size network with the weights of `file`; code in the file is never run. Raises WeightsError."""
    load = partial(torch.load, map_location="cpu", weights_only=True)
    state = read_plain(file, file, load, WeightsError, "fetch it again with `make weights`")
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise WeightsError(f"{file} holds no bare state dict; fetch it again with `make weights`")
    enlarger = RrdbEnlarger(factor)
    enlarger.load_published(state, str(file))
    return enlarger


class Bsrgan(NetworkUpscaler):
    """Enlarges batches of patches by 2 or 4 on a device by the published networks."""

    @classmethod
    def from_weights(
        cls,
        precision: Precision,
        batch: int,
        device: Device,
        factors: Collection[int],
        kernels: Kernels = Kernels.PLAIN,
        folder: Path | None = None,
    ) -> Bsrgan:
        """The published networks for these factors from verified files of the weights folder.

        Raises SettingsError if this machine lacks the device or cannot run the kernels, WeightsError if a file is
        missing or damaged.
        """
        start_device(device)
        check_kernels(kernels, DTYPES[precision], device)
        wanted = {factor: weight for factor, weight in BSRGAN_FILES.items() if factor in factors}
        files = {factor: locate(weight, folder or weights_folder()) for factor, weight in wanted.items()}
        networks = {factor: load_enlarger(file, factor) for factor, file in files.items()}
        return cls(networks, precision, batch, torch.device(device), kernels)
