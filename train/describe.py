"""What a method's networks look like for one picture: tensor shapes stage by stage, and parameter counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from store.settings import to_toml
from train.methods import build_method, check_multiple
from train.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StageShapes:
    """A stage as one forward pass met it. Shapes are C x H x W; `given` has one for each input."""

    name: str
    given: tuple[str, ...]
    made: str
    parameters: int


def describe_method(settings: TrainSettings, side: int) -> str:
    """Settings, stages and parameter counts of a method for pictures of `side` px; nothing is computed."""
    with FakeTensorMode():
        method = build_method(settings)
        check_multiple(side, method.multiple, "pictures of --side")
        method.check_side(side)
        lines = [to_toml(settings)]
        for name, module in method.modules().items():
            lines.append(f"{name}: {_count(module):,} parameters")
            if name != "heads":
                lines += [_line(stage) for stage in trace_stages(module, torch.empty(1, 3, side, side))]
    return "\n".join(lines)


def trace_stages(network: nn.Module, picture: Tensor) -> list[StageShapes]:
    """The stages of a network in the order in which a forward pass of `picture`, [1,C,H,W], reaches their ends."""
    traced: list[StageShapes] = []

    def watch(name: str, stage: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def note(_stage: nn.Module, given: tuple[Tensor, ...], made: Tensor | tuple[Tensor, ...]) -> None:
            first = made if isinstance(made, Tensor) else made[0]
            shapes = tuple(_shape(tensor) for tensor in given)
            traced.append(StageShapes(name=name, given=shapes, made=_shape(first), parameters=_count(stage)))

        return stage.register_forward_hook(note)

    handles = [watch(name, stage) for name, stage in _stages(network)]
    with torch.no_grad():
        network(picture)
    for handle in handles:
        handle.remove()
    return traced


def _stages(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The network's children; of a list or table of modules, its members."""
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from ((f"{name}.{key}", member) for key, member in child.named_children())
        else:
            yield name, child


def _line(stage: StageShapes) -> str:
    return f"  {stage.name:<18} {' + '.join(stage.given):<32} -> {stage.made:<14} {stage.parameters:>12,}"


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape[1:])


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
