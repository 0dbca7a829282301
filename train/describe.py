"""What a method's networks look like for one picture: tensor shapes stage by stage, parameter counts, operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from store.settings import to_toml
from train.data.batch import Batch
from train.loop.step import frozen_except, step_generator
from train.methods.registry import build_method, check_multiple
from train.networks.ammfi import AMMFI
from train.networks.patchgan import PatchDiscriminator
from train.settings import TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StageShapes:
    """A stage as one forward pass met it. Shapes are C x H x W; `given` has one for each input, `flops` are 2 a MAC.

    `inner` ones are parts of the stage that follows them.
    """

    name: str
    given: tuple[str, ...]
    made: str
    parameters: int
    flops: int
    inner: bool


def describe_method(settings: TrainSettings, side: int) -> str:
    """Settings, stages, parameters and operations of a method for pictures of `side` px; nothing is computed."""
    with FakeTensorMode():
        method = build_method(settings)
        check_multiple(side, method.multiple, "pictures of --side")
        method.check_side(side)
        lines = [to_toml(settings)]
        for name, module in method.modules().items():
            if not any(True for _ in module.parameters()):
                continue  # an image history
            if name == "heads":
                lines.append(f"{name}: {_count(module):,} parameters")
                continue
            conditional = isinstance(module, PatchDiscriminator) and module.conditional
            stages = trace_stages(module, torch.empty(1, 6 if conditional else 3, side, side))
            operations = sum(stage.flops for stage in stages if not stage.inner)
            lines.append(f"{name}: {_count(module):,} parameters, {operations / 1e9:.1f} GFLOP a pass")
            lines += [_line(stage) for stage in stages]
    cost = measure_step(settings, side)
    weights = ", ".join(f"{weight:g} x {name}" for name, weight in method.weights.items())
    lines.append(f"the generator's terms: {weights}")
    lines.append(
        f"a training step at batch 1: {cost.flops / 1e12:.3f} TFLOP, {cost.kept_bytes / 2**30:.2f} GiB kept for the "
        "backward pass in fp32"
    )
    return "\n".join(lines)


def trace_stages(network: nn.Module, picture: Tensor) -> list[StageShapes]:
    """The stages of a network in the order in which a forward pass of `picture`, [1,C,H,W], reaches their ends."""
    traced: list[StageShapes] = []
    counter = FlopCounterMode(display=False)

    def watch(name: str, stage: nn.Module, inner: bool) -> list[torch.utils.hooks.RemovableHandle]:
        begun: list[int] = []

        def begin(_stage: nn.Module, _given: tuple[Tensor, ...]) -> None:
            begun.append(counter.get_total_flops())

        def note(_stage: nn.Module, given: tuple[Tensor, ...], made: Tensor | tuple[Tensor, ...]) -> None:
            first = made if isinstance(made, Tensor) else made[0]
            traced.append(
                StageShapes(
                    name=name,
                    given=tuple(_shape(tensor) for tensor in given),
                    made=_shape(first),
                    parameters=_count(stage),
                    flops=counter.get_total_flops() - begun[-1],
                    inner=inner,
                )
            )

        return [stage.register_forward_pre_hook(begin), stage.register_forward_hook(note)]

    handles = [handle for name, stage, inner in _stages(network) for handle in watch(name, stage, inner)]
    with torch.no_grad(), counter:
        network(picture)
    for handle in handles:
        handle.remove()
    return traced


def _stages(network: nn.Module) -> Iterator[tuple[str, nn.Module, bool]]:
    """The network's children; of a list or table of modules, its members; and the parts of AMMFI, as inner ones."""
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            for key, member in child.named_children():
                yield f"{name}.{key}", member, False
                if isinstance(member, AMMFI):
                    yield from ((part, module, True) for part, module in member.named_children())
        else:
            yield name, child, False


def _line(stage: StageShapes) -> str:
    shapes = f"{' + '.join(stage.given):<32} -> {stage.made:<14}"
    name = "  " * stage.inner + stage.name
    return f"  {name:<20} {shapes} {stage.parameters:>12,} {stage.flops / 1e9:>8.2f} GFLOP"


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape[1:])


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


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
