"""Seeded parameters of the published architectures: real weights are a download, which tests do without."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from evaluate.features.networks import BUILT
from evaluate.protocol import Network


def seeded(shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters that keep activations in range, each a function of its name: no torch generator has a hand in it."""
    made = {}
    for name, value in shapes.items():
        generator, shape = np.random.default_rng(zlib.crc32(name.encode())), tuple(value.shape)
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_var"):
            drawn = generator.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            drawn = generator.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        else:
            drawn = generator.uniform(0.8, 1.2, shape) if name.endswith("weight") else generator.normal(0, 0.1, shape)
        made[name] = torch.tensor(drawn, dtype=torch.float32)
    return made


def published(network: Network) -> nn.Module:
    """The whole network whose file is published; of pytorch-fid's only the pooled part, of LPIPS the trunk."""
    if network is Network.PORTED_INCEPTION:
        return BUILT[network]().stages[0]
    whole: nn.Module
    if network is Network.INCEPTION:
        whole = torchvision.models.inception_v3(weights=None, init_weights=False)
        return whole
    if network is Network.RESNET:
        whole = torchvision.models.resnet50(weights=None)
        return whole
    build = torchvision.models.alexnet if network is Network.ALEX else torchvision.models.vgg16
    return nn.ModuleDict({"features": build(weights=None).features})


def parameters(network: Network) -> dict[str, Tensor]:
    """Seeded parameters under the names of the published file."""
    return seeded(published(network).state_dict())


def loaded(network: Network) -> nn.Module:
    """The published module itself with the seeded parameters, untouched by what `evaluate` does for speed."""
    module = published(network)
    module.load_state_dict(parameters(network), strict=False)  # all but the counters of batch norms
    return module.eval().requires_grad_(False)
