"""The steps of a run, replayed as CUDA graphs: one launch instead of thousands, which a GPU waits for otherwise.

The first steps of a run are taken uncaptured, and so are kernels chosen and memory found. Then the step is captured,
which computes nothing, and replayed from that very step on: nothing is computed that is not a step of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from store.schema import SettingsError
from train.data.batch import RawBatch
from train.data.loader import to_batch
from train.loop.inputs import Branches, Inputs, branches_of
from train.loop.step import OptimisationStep
from train.loop.undo import is_broken, pools_of
from train.methods.decisions import Decisions
from train.run.metrics import Terms
from train.runtime.device import Compute
from train.runtime.distributed import Ranks
from train.settings import Use

WARM_UP = 3  # steps before a capture: cuDNN chooses algorithms, the second step is the first with all memory in place
MOST = 4  # graphs of a run: each keeps about as much memory as a step
Take = Callable[[], Terms]


class Recorder(Protocol):
    """What captures a step. Everything of a step happens within `ordered`."""

    def ordered(self) -> AbstractContextManager[None]:
        """Work in the block comes after what was queued before it, and before what is queued after it."""
        ...

    def record(self, take: Take) -> Take:
        """Capture a step without computing it; returns what computes it. Its terms are overwritten at every call."""
        ...


class CudaRecorder:
    """CUDA graphs on one stream, which share their memory: none of them runs while another does."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch
        self.pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def ordered(self) -> Iterator[None]:
        """On the stream of the graphs, also what is not captured: gradients must never have met another stream."""
        outer = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(outer)
        with torch.cuda.stream(self.stream):
            yield
        outer.wait_stream(self.stream)

    def record(self, take: Take) -> Take:
        """Capture a step. Threads of the loader may pin memory meanwhile."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                made = take()
        except BaseException:
            self._end_failed()
            raise

        def replay() -> Terms:
            graph.replay()
            return made

        return replay

    def _end_failed(self) -> None:
        """After a failed capture PyTorch goes on as if within it: memory would stay taken, and dropout would raise."""
        index = self.stream.device.index
        with suppress(RuntimeError):  # some failures do end it
            torch._C._cuda_endAllocateToPool(index, self.pool)
            torch._C._cuda_releasePool(index, self.pool)
        torch.cuda.default_generators[index].graphsafe_set_state(torch.Generator(self.stream.device))


class Uncaptured:
    """Takes each step kernel by kernel."""

    def __init__(self, step: OptimisationStep) -> None:
        self.step = step
        self.inputs: Inputs | None = None

    def __call__(self, raws: Sequence[RawBatch], decisions: Sequence[Decisions], seed: Callable[[], None]) -> Terms:
        """A step with these parts, on a GPU of the same shapes at every call; `seed` seeds what draws within it."""
        device = self.step.compute.device
        if self.step.compute.cuda:  # each number that crosses by itself would wait for all work before it
            self.inputs = self.inputs or Inputs(raws, decisions, device)
            self.inputs.fill(raws, decisions)
            parts = self.inputs.read(decisions)
        else:
            parts = [to_batch(raw, device) for raw in raws], list(decisions)
        seed()
        terms = self.step(*parts)
        settle(self.step, terms)
        return terms


@dataclass(slots=True)
class Branch:
    """One way through the step: how often it was taken uncaptured, and what takes it."""

    take: Take
    taken: int = 0
    captured: bool = False


class Captured:
    """Takes the first steps of each branch kernel by kernel, and then replays them.

    Where a capture fails, or there are more than MOST branches, the steps stay uncaptured, and one line says so.
    """

    def __init__(self, step: OptimisationStep, recorder: Recorder, say: Callable[[str], None]) -> None:
        self.step, self.recorder, self.say = step, recorder, say
        self.inputs: Inputs | None = None
        self.branches: dict[Branches, Branch] = {}
        self.capturing = True

    def __call__(self, raws: Sequence[RawBatch], decisions: Sequence[Decisions], seed: Callable[[], None]) -> Terms:
        """A step with these parts, of the same shapes at every call; `seed` seeds what draws within it."""
        with self.recorder.ordered():
            self.inputs = self.inputs or Inputs(raws, decisions, self.step.compute.device)
            self.inputs.fill(raws, decisions)
            branch = self._branch(self.inputs, decisions)
            if not branch.captured and self.capturing and branch.taken >= WARM_UP:
                self._capture(branch)
            seed()
            made = branch.take()
            branch.taken += 1
            terms = replace(made, values=made.values.clone())  # the next replay overwrites them
            settle(self.step, terms)
        return terms

    def _branch(self, inputs: Inputs, decisions: Sequence[Decisions]) -> Branch:
        way = branches_of(decisions)
        if way not in self.branches:
            self.branches[way] = Branch(take=lambda: self.step(*inputs.read(decisions)))
        return self.branches[way]

    def _capture(self, branch: Branch) -> None:
        """Let the branch be replayed from now on. A capture computes nothing, so a failed one has changed nothing."""
        if sum(other.captured for other in self.branches.values()) == MOST:
            self.capturing = False
            self.say(f"note: steps have more than {MOST} branches; those without a CUDA graph run uncaptured")
            return
        try:
            branch.take = self.recorder.record(branch.take)
            branch.captured = True
        except Exception as error:  # anything that the driver, or a kernel, cannot do within a capture
            self.capturing = False
            self.branches.clear()  # earlier graphs draw from the generator as it was before
            first = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            self.say(f"warning: steps run uncaptured, slower: capturing one as a CUDA graph failed here ({first})")


def settle(step: OptimisationStep, terms: Terms) -> None:
    """After a step: pools that still fill up count what it added, which waits for the device."""
    for pool in pools_of(step.method.modules()):
        if pool.chosen != pool.held:
            pool.settle(is_broken(terms.values))


def wants_graph(setting: Use, compute: Compute, ranks: Ranks) -> bool:
    """Whether a run captures its steps. Raises SettingsError for a graph without a GPU."""
    if setting is Use.ON and not compute.cuda:
        raise SettingsError(
            f"graph = on with device = {compute.device}: only NVIDIA GPUs have CUDA graphs; use graph=auto or graph=off"
        )
    return setting is not Use.OFF and compute.cuda and ranks.count == 1
