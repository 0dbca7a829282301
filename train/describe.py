"""What a method is and costs: its settings, tensor shapes stage by stage, parameter counts, operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from store.cli import wrapped
from store.process import WORKSPACE_MIB
from store.settings import to_toml
from train.data.batch import Batch
from train.loop.step import frozen_except, step_generator
from train.methods.registry import build_method, check_multiple, find_method
from train.networks.ammfi import AMMFI
from train.networks.reach import reach_of
from train.networks.resnet import ResnetGenerator
from train.networks.unet import UnetGenerator
from train.runtime.device import Compute
from train.settings import Precision, TrainSettings

TRAINED_COPIES = 5  # parameters, gradients, two moments of Adam; what undoes a step is three copies of the smaller half
WORKING = 2  # tensors as large as the largest: the gradient of an activation, and that of what it was made from


@dataclass(frozen=True, slots=True, kw_only=True)
class StageShapes:
    """A stage in one forward pass. Shapes are C x H x W; `given` has one for each input. A MAC counts as 2 `flops`.

    `inner` stages are parts of the stage that follows them.
    """

    name: str
    given: tuple[str, ...]
    made: str
    parameters: int
    flops: int
    inner: bool


def describe_method(settings: TrainSettings, side: int) -> str:
    """Settings, stages, parameters and operations of a method for pictures of `side` px; nothing is computed.

    Raises SettingsError for settings or a side that cannot be trained.
    """
    entry = find_method(settings.method)
    lines = [to_toml(settings), f"{settings.method}: {entry.title}", wrapped(f"source: {entry.source}", indent="  ")]
    if entry.paper_row is not None:
        lines.append(f"row in the tables of the target paper: {entry.paper_row}")
    lines.append(wrapped(f"settings it reads besides those of the loop: {', '.join(entry.reads)}", indent="  "))
    with FakeTensorMode():
        method = build_method(settings)
        check_multiple(side, method.multiple, "pictures of --side")
        method.check_side(side)
        for name, module in method.modules().items():
            if channels := method.input_channels.get(name, 0):
                lines += _describe_network(name, module, torch.empty(1, channels, side, side))
                if isinstance(module, ResnetGenerator | UnetGenerator):
                    lines.append(f"  an output pixel depends on {reach_of(module)} px to each side, norms left aside")
            elif parameters := _count(module):
                lines.append(f"{name}: {parameters:,} parameters")
    cost, in_bf16 = (measure_step(settings, side, precision) for precision in (Precision.FP32, Precision.BF16))
    weights = ", ".join(f"{weight:g} x {name}" for name, weight in method.weights.items())
    lines.append(wrapped(f"the generator's terms: {weights}", indent="  "))
    lines.append(
        f"a training step at batch 1: {cost.flops / 1e12:.3f} TFLOP, {cost.saved_bytes / 2**30:.2f} GiB saved for the "
        "backward pass in fp32"
    )
    lines.append(
        wrapped(
            f"memory of a GPU for it, computed and not measured: {cost.peak_bytes / 2**30:.1f} GiB in fp32 and tf32, "
            f"{in_bf16.peak_bytes / 2**30:.1f} GiB in bf16; besides, at most {WORKSPACE_MIB / 1024:g} GiB for cuDNN's "
            "workspaces and about 0.5 GiB for CUDA",
            indent="  ",
        )
    )
    return "\n".join(lines)


def _describe_network(name: str, network: nn.Module, picture: Tensor) -> list[str]:
    stages = trace_stages(network, picture)
    operations = sum(stage.flops for stage in stages if not stage.inner)
    head = f"{name}: {_count(network):,} parameters, {operations / 1e9:.1f} GFLOP per pass"
    return [head, *(_line(stage) for stage in stages)]


def trace_stages(network: nn.Module, picture: Tensor) -> list[StageShapes]:
    """The stages of a network in the order in which a forward pass of `picture`, [1,C,H,W], completes them."""
    traced: list[StageShapes] = []
    counter = FlopCounterMode(display=False)

    def watch(name: str, stage: nn.Module, inner: bool) -> list[torch.utils.hooks.RemovableHandle]:
        before: list[int] = []

        def start(_stage: nn.Module, _given: tuple[Tensor, ...]) -> None:
            before.append(counter.get_total_flops())

        def end(_stage: nn.Module, given: tuple[Tensor, ...], made: Tensor | tuple[Tensor, ...]) -> None:
            first = made if isinstance(made, Tensor) else made[0]
            traced.append(
                StageShapes(
                    name=name,
                    given=tuple(_shape(tensor) for tensor in given),
                    made=_shape(first),
                    parameters=_count(stage),
                    flops=counter.get_total_flops() - before[-1],
                    inner=inner,
                )
            )

        return [stage.register_forward_pre_hook(start), stage.register_forward_hook(end)]

    handles = [handle for name, stage, inner in _stages(network) for handle in watch(name, stage, inner)]
    with torch.no_grad(), counter:
        network(picture)
    for handle in handles:
        handle.remove()
    return traced


def _stages(network: nn.Module) -> Iterator[tuple[str, nn.Module, bool]]:
    """The network's children, or the members of a child that is a list or dict; parts of AMMFI as inner stages."""
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            for key, member in child.named_children():
                yield f"{name}.{key}", member, False
                if isinstance(member, AMMFI):
                    yield from ((part, module, True) for part, module in member.named_children())
        else:
            yield name, child, False


def _line(stage: StageShapes) -> str:
    shapes = f"{' + '.join(stage.given):<28} -> {stage.made:<14}"
    name = "  " * stage.inner + stage.name
    return f"  {name:<20} {shapes} {stage.parameters:>12,} {stage.flops / 1e9:>8.2f} GFLOP"


def _shape(tensor: Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape[1:])


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """The cost of a step: operations, and the most bytes saved for a backward pass at once.

    `trained_bytes` are those of the parameters, `largest_bytes` those of the largest tensor that is saved.
    """

    flops: int
    saved_bytes: int
    trained_bytes: int
    largest_bytes: int

    @property
    def peak_bytes(self) -> int:
        """An estimate of the memory of a step on a GPU, without cuDNN's workspaces and the CUDA context.

        Besides what is saved: parameters, gradients, both moments of Adam, what undoes a step; and the working tensors
        of a backward pass. Measured on an H200 at 512 px in bf16: 1.8 GiB for ASP, 2.1 for attention_gan.
        """
        return TRAINED_COPIES * self.trained_bytes + self.grown_bytes

    @property
    def grown_bytes(self) -> int:
        """The part of it that grows with the batch."""
        return self.saved_bytes + WORKING * self.largest_bytes


def measure_step(settings: TrainSettings, side: int, precision: Precision = Precision.FP32) -> StepCost:
    """The cost of a step at batch 1 of a method on a picture of `side` px that is not mirrored."""
    settings = replace(settings, contrast=replace(settings.contrast, flip_equivariance=False))
    compute = Compute(device=torch.device("cpu"), precision=precision)
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        method = build_method(settings)
        batch = Batch(he=torch.empty(1, 3, side, side), ihc=torch.empty(1, 3, side, side))
        decisions = method.decide(1, side, 0.5, step_generator(settings.seed, 1))
        modules = list(method.modules().values())
        with saved_tensors(modules) as shared, compute.autocast():
            outputs = method.generate(batch, decisions)
        most = largest = 0
        for player in method.players:
            with frozen_except(method, player), saved_tensors(modules) as own, compute.autocast():
                terms = method.terms(player, batch, outputs, decisions)
            most = max(most, storage_bytes(shared + own))
            largest = max(largest, *(tensor.untyped_storage().nbytes() for tensor in shared + own))
            torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch
        trained = sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
    return StepCost(flops=counter.get_total_flops(), saved_bytes=most, trained_bytes=trained, largest_bytes=largest)


@contextmanager
def saved_tensors(modules: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what autograd saves in the block, without parameters and buffers of `modules`."""
    state = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    excluded = {_storage(tensor) for tensor in state}  # valid while `state` keeps these tensors from being freed
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in excluded:
            saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved
    del state


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def storage_bytes(tensors: list[Tensor]) -> int:
    """Bytes of the different storages of tensors."""
    storages = {_storage(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
