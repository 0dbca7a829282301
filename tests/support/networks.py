"""Small super-resolution networks of several architectures, with drawn weights, as files that spandrel recognises."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from prep.upscaling.bsrgan import RrdbEnlarger
from tests.bench.networks import published_names


def _esrgan(scale: int) -> dict[str, Tensor]:
    """Under the key names of BSRGAN."""
    return published_names(RrdbEnlarger(scale, features=8, blocks=2, growth=32))


def _swinir(scale: int) -> dict[str, Tensor]:
    """Takes sides that are multiples of 8 px, and no fp16."""
    from spandrel.architectures.SwinIR import SwinIR

    options: dict[str, Any] = {"img_size": 16, "embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 8}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.meshgrid
        return _state(SwinIR(**options, mlp_ratio=2, upscale=scale, upsampler="pixelshuffle"))


def _hat(scale: int) -> dict[str, Tensor]:
    """As SwinIR."""
    from spandrel.architectures.HAT import HAT

    options: dict[str, Any] = {"img_size": 16, "embed_dim": 60, "depths": (2,), "num_heads": (2,), "window_size": 8}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.meshgrid
        return _state(HAT(**options, upscale=scale, upsampler="pixelshuffle"))


def seemore(scale: int) -> dict[str, Tensor]:
    """Takes one picture at a time."""
    from spandrel.architectures.SeemoRe import SeemoRe

    return _state(SeemoRe(scale=scale, num_layers=1, num_experts=2, embedding_dim=16))


def _span(scale: int) -> dict[str, Tensor]:
    from spandrel.architectures.SPAN import SPAN

    return _state(SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=scale))


def _compact(scale: int) -> dict[str, Tensor]:
    return compact(scale, 3)


def compact(scale: int, channels: int) -> dict[str, Tensor]:
    """The smallest: one that takes and makes so many channels."""
    from spandrel.architectures.Compact import Compact

    return _state(Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale))


ARCHITECTURES: dict[str, Callable[[int], dict[str, Tensor]]] = {
    "ESRGAN": _esrgan,
    "SwinIR": _swinir,
    "HAT": _hat,
    "SPAN": _span,
    "RealESRGAN Compact": _compact,
}


def drawn_state(architecture: str, scale: int, seed: int = 0) -> dict[str, Tensor]:
    """The state of a network; a function of its arguments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[architecture](scale)


def write_network(file: Path, architecture: str = "RealESRGAN Compact", scale: int = 4, seed: int = 0) -> Path:
    """A file of a network, in the format that its suffix names."""
    return write_state(file, drawn_state(architecture, scale, seed))


def write_state(file: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """A file of tensors, in the format that its suffix names."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".safetensors":
        save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, file, metadata)
    else:
        torch.save(state, file)
    return file


def _state(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.state_dict())
