"""A stand-in for CUDA graphs on a CPU, which replays recorded operations, and runs that take their steps through it."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from train.data.batch import RawBatch
from train.loop.captured import Captured, Recorder, Take, Uncaptured
from train.loop.ema import Ema
from train.loop.freezing import freeze
from train.loop.schedule import set_learning_rate
from train.loop.step import OptimisationStep, make_optimisers, seed_layers, step_generator
from train.methods.image_pool import ImagePool
from train.methods.registry import build_method
from train.run.metrics import Terms
from train.runtime.device import Compute
from train.settings import TrainSettings

SIDE = 64  # px
READS = ("_local_scalar_dense", "is_nonzero", "item", "nonzero", "masked_select", "lift_fresh", "unique", "equal")
"""Operations that read a value back to the host, or bring one from it."""


class Log(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Every operation with its arguments and results, and the files that read a value from the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self.calls: list[tuple[Any, Sequence[Any], Mapping[str, Any], Any]] = []
        self.reads: set[tuple[str, str]] = set()

    def __torch_dispatch__(self, function: Any, _types: Any, words: Any = (), named: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in READS or name.startswith("index_put") or "index.Tensor" in str(function):
            files = [Path(frame.filename) for frame in traceback.extract_stack()]
            ours = [file.name for file in files if "train" in file.parts[-3:-1] or "train" in file.parts[-2:-1]]
            self.reads.add((name, ours[-1] if ours else "?"))
        made = function(*words, **(named or {}))
        self.calls.append((function, words, named or {}, made))
        return made

    def replay(self) -> None:
        """Compute everything again, from and into the same memory."""
        with torch.no_grad():
            for function, words, named, made in self.calls:
                again = function(*words, **named)
                given = {x.untyped_storage().data_ptr() for x in tree_leaves((words, named)) if isinstance(x, Tensor)}
                for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.untyped_storage().data_ptr() not in given:
                        old.copy_(new)


class StandIn:
    """Records the operations of a step, and replays nothing else: what Python decided meanwhile stays as it was.

    As a capture does, recording changes nothing: what `held` gives is put back. With `refuses` it fails half way.
    """

    def __init__(self, held: Callable[[], list[Tensor]], *, refuses: bool = False) -> None:
        self.held, self.refuses = held, refuses
        self.logs: list[Log] = []

    def ordered(self) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, take: Take) -> Take:
        before = [(tensor, tensor.detach().clone()) for tensor in self.held()]
        log = Log()
        with log:
            made = take()
        with torch.no_grad():
            for tensor, value in before:
                tensor.copy_(value)
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be")
        self.logs.append(log)

        def replay() -> Terms:
            log.replay()
            return made

        return replay


@dataclass
class Trained:
    """Everything of a run that takes steps."""

    settings: TrainSettings
    step: OptimisationStep
    optimisers: dict[str, Optimizer]
    ema: Ema
    accumulate: int
    said: list[str] = field(default_factory=list)
    take: Captured | Uncaptured = field(init=False)

    def __post_init__(self) -> None:
        self.take = Uncaptured(self.step)

    def capture(self, recorder: Recorder | None = None) -> StandIn | Recorder:
        """Let the steps be captured from now on."""
        found = recorder or StandIn(self.tensors)
        self.take = Captured(self.step, found, self.said.append)
        return found

    def tensors(self) -> list[Tensor]:
        """What stays from step to step."""
        modules = [*self.step.method.modules().values(), self.ema.network]
        held = [x for module in modules for x in (*module.parameters(), *module.buffers())]
        rates = [g["lr"] for o in self.optimisers.values() for g in o.param_groups]
        moments = [x for o in self.optimisers.values() for state in o.state.values() for x in state.values()]
        return [*held, *rates, *moments]

    def run(self, steps: Sequence[int]) -> list[Tensor]:
        """Take these steps; returns the terms of each."""
        return [self._take(step) for step in steps]

    def _take(self, step: int) -> Tensor:
        optimiser, method = self.settings.optimiser, self.step.method
        set_learning_rate(self.optimisers, optimiser, 1 if step < 3 else optimiser.constant_epochs + 2)
        parts = range(self.accumulate)
        decisions = [method.decide(1, SIDE, min(0.8 + step / 100, 0.99), step_generator(0, step, n)) for n in parts]
        raws = [draw_bytes(10 * step + n, pinned=self.step.compute.cuda) for n in parts]
        return self.take(raws, decisions, partial(seed_layers, 0, step, 0)).values

    def state(self) -> dict[str, Any]:
        """A copy of all that a checkpoint holds."""
        modules = {name: module.state_dict() for name, module in self.step.method.modules().items()}
        moments = {name: optimiser.state_dict()["state"] for name, optimiser in self.optimisers.items()}
        held: dict[str, Any] = {"modules": modules, "moments": moments, "ema": self.ema.network.state_dict()}
        return copy.deepcopy(held)


def draw_bytes(seed: int, *, pinned: bool = False) -> RawBatch:
    """A pair as the loader gives it, flipped or not."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bicubic").clamp(0, 1).mul(255).byte()
    pixels = smooth.permute(0, 2, 3, 1).contiguous()[:, None]  # [2,B,S,S,3]
    flips = torch.rand(2, 1, generator=generator) < 0.5
    return RawBatch(pixels.pin_memory(), flips.pin_memory()) if pinned else RawBatch(pixels, flips)


def start(settings: TrainSettings, compute: Compute, state: dict[str, Any] | None = None, parts: int = 1) -> Trained:
    """A run at its start, or after a checkpoint. Rates are tensors, as on a GPU, and pools are full after two steps."""
    torch.manual_seed(0)
    method = build_method(settings)
    for module in method.modules().values():
        compute.place(module)
        if isinstance(module, ImagePool):
            module.capacity = 2
    freeze(method, settings.freeze, settings.generator.at_test)
    optimisers = make_optimisers(method, settings.optimiser, fused=True)
    ema = Ema(method.generator, 0.9)
    if state:
        for name, module in method.modules().items():
            module.load_state_dict(copy.deepcopy(state["modules"][name]))
        ema.network.load_state_dict(state["ema"])
        for name, optimiser in optimisers.items():
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": copy.deepcopy(state["moments"][name]), "param_groups": groups})
    for group in _groups(optimisers):
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=compute.device)
    step = OptimisationStep(method, optimisers, compute, clip=1.0, emas=[ema])
    return Trained(settings, step, optimisers, ema, parts)


def _groups(optimisers: Mapping[str, Optimizer]) -> Iterator[dict[str, Any]]:
    for optimiser in optimisers.values():
        yield from optimiser.param_groups


class OnDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Notes operations on tensors that are not on a GPU; reading the value of a fake one is an error anyway."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self.elsewhere: set[str] = set()

    def __torch_dispatch__(self, function: Any, _types: Any, words: Any = (), named: Any = None) -> Any:
        made = function(*words, **(named or {}))
        tensors = [x for x in tree_leaves((words, named, made)) if isinstance(x, Tensor)]
        if any(x.device.type == "cpu" for x in tensors):
            self.elsewhere.add(str(function))
        return made


def move_without_values(modules: Mapping[str, torch.nn.Module], device: torch.device) -> None:
    """Within a fake mode: put networks on a device that need not exist."""
    for part in (part for module in modules.values() for part in module.modules()):
        for name, parameter in list(part.named_parameters(recurse=False)):
            setattr(part, name, torch.nn.Parameter(torch.empty(parameter.shape, device=device)))
        for name, buffer in list(part.named_buffers(recurse=False)):
            setattr(part, name, torch.empty(buffer.shape, dtype=buffer.dtype, device=device))
