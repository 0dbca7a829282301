"""What a training step costs: floating point operations, and bytes kept for the backward pass. Nothing is computed.

An operation is a multiplication or an addition of a convolution or matrix product; other layers are not counted. Bytes
are those of different storages that autograd keeps, parameters left out, in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from train.data import Batch
from train.methods import build_method
from train.players import frozen_except, step_generator
from train.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Of one step at batch 1: operations, and the most bytes that are kept at once."""

    flops: int
    kept_bytes: int


def measure_step(settings: TrainSettings, side: int) -> StepCost:
    """The cost of a step of a method on a picture of `side` px that is not mirrored."""
    settings = replace(settings, contrast=replace(settings.contrast, flip_equivariance=False))
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        method = build_method(settings)
        batch = Batch(he=torch.empty(1, 3, side, side), ihc=torch.empty(1, 3, side, side))
        generator = step_generator(settings.seed, 1)
        modules = list(method.modules().values())
        with keeping(modules) as shared:
            outputs = method.generate(batch, generator)
        most = 0
        for player in method.players:
            with frozen_except(method, player), keeping(modules) as own:
                terms = method.terms(player, batch, outputs, 0.5, generator)
            most = max(most, kept_bytes(shared + own))
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch
    return StepCost(flops=counter.get_total_flops(), kept_bytes=most)


@contextmanager
def keeping(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what autograd keeps, but for parameters and buffers."""
    known = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    places = {_place(tensor) for tensor in known}  # of these very tensors, which `known` keeps from being freed
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if _place(tensor) not in places:
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
    del known


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def kept_bytes(tensors: list[Tensor]) -> int:
    """Bytes of the different storages of tensors."""
    storages = {_place(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
