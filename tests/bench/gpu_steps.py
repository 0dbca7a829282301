"""Training steps on a GPU: every method and precision, replayed or not, with fused kernels or without, as published."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial

import torch

from tests.bench.gpu_machine import Machine, table
from tests.bench.plain import PlainAsp
from tests.bench.step import CONTRASTIVE
from tests.support.tiny_run import NARROW_CONTRAST
from train.data.batch import RawBatch
from train.kernels.launching import choose, settle
from train.loop.captured import WARM_UP, Captured, CudaRecorder, Uncaptured
from train.loop.step import OptimisationStep, make_optimisers, seed_layers, step_generator
from train.methods.recipes import load_recipe
from train.methods.registry import METHODS, build_method
from train.runtime.device import resolve
from train.settings import Precision, TrainSettings, Use

SIDE, TINY = 512, 96  # px
HEADS = ["ms", "kernels", "GPU busy", "GiB of tensors", "GiB taken"]
SETS = [(512, kind) for kind in (Precision.BF16, Precision.FP32, Precision.TF32)]  # the most wanted first
SETS += [(256, kind) for kind in (Precision.BF16, Precision.FP32)]
FIRST = ("asp", "attention_gan")  # the methods that are measured way by way


def recipe(machine: Machine, method: str) -> TrainSettings:
    """A method as published; in a dry run with narrow networks."""
    tiny = ["generator.base=4", "discriminator.base=4", *NARROW_CONTRAST * (method in CONTRASTIVE)]
    tiny += ["generator.depth=5"] * (method == "pix2pix")
    return load_recipe([], [f"method={method}", *tiny * machine.dry])


def make_step(
    machine: Machine, method: str, precision: Precision, *, side: int = SIDE, graph: bool = True, fused: bool = True
) -> Callable[[], object]:
    """The step of `train fit` at batch 1 on a pair of noise, as a run takes it; on a CPU neither graph nor kernels."""
    settings, side = recipe(machine, method), TINY if machine.dry else side
    compute = resolve(str(machine.device), precision)
    compute.configure()
    choose((Use.ON if fused else Use.OFF) if machine.cuda else Use.AUTO, Use.AUTO, machine.device)
    torch.manual_seed(0)
    built = build_method(settings)
    for module in built.modules().values():
        compute.place(module)
    step = OptimisationStep(built, make_optimisers(built, settings.optimiser, fused=True), compute)
    says = list[str]()
    take = Captured(step, CudaRecorder(machine.device), says.append) if graph and machine.cuda else Uncaptured(step)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 1, side, side, 3), dtype=torch.uint8, generator=generator)
    flips = torch.zeros(2, 1, dtype=torch.bool)
    raw = RawBatch(*(tensor.pin_memory() if machine.cuda else tensor for tensor in (pixels, flips)))
    numbers = iter(range(1, 1_000_000))

    def run() -> object:
        number = next(numbers)
        decisions = [built.decide(1, side, 0.5, step_generator(0, number))]
        terms = take([raw], decisions, partial(seed_layers, 0, number, 0))
        if says:
            raise RuntimeError(says[0])
        return terms

    return run


def measure(machine: Machine, make: Callable[[], Callable[[], object]]) -> list[str]:
    """Milliseconds, kernels, the share of the time in which the GPU works, and memory of a step."""
    gc.collect()
    machine.forget_peak()
    step = make()
    for _ in range(0 if machine.dry else 4 * WARM_UP):  # both branches of FastCUT
        step()
    seconds = machine.median(step)
    kernels, busy = machine.kernels(step)
    return [f"{seconds * 1000:.1f}", f"{kernels:.0f}", f"{busy / seconds:.0%}", machine.peak()]


def make_published(machine: Machine) -> Callable[[], object]:
    """ASP written plainly: stock layers, contiguous, every picture encoded anew."""
    side = TINY if machine.dry else SIDE
    with torch.device(machine.device):
        plain = PlainAsp(recipe(machine, "asp"))
        he, ihc = torch.rand(2, 1, 3, side, side).mul(2).sub(1)
        generator = torch.Generator(machine.device).manual_seed(0)

    def run() -> object:
        with torch.device(machine.device):
            return plain.step(he, ihc, 0.5, generator)

    return run


def measure_ways(machine: Machine) -> None:
    """ASP and the paper's method in bf16 with and without graph and fused kernels; ASP as it is published."""
    print(f"{TINY if machine.dry else SIDE} px, batch 1.\n")
    table(["method", "precision", "graph", "fused", *HEADS], text=4)
    ways = [(graph, fused) for graph in (True, False) for fused in (True, False)]
    _rows(machine, ways[:1])
    _published_row(machine, tf32=False)
    if machine.cuda:
        _rows(machine, ways[1:])
        _published_row(machine, tf32=True)


def _rows(machine: Machine, ways: list[tuple[bool, bool]]) -> None:
    for graph, fused in ways:
        for method in FIRST:
            make = partial(make_step, machine, method, Precision.BF16, graph=graph, fused=fused)
            cells = [method, "bf16", *("on" if use else "off" for use in (graph, fused))]
            machine.row(cells, partial(measure, machine, make))


def _published_row(machine: Machine, *, tf32: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False  # as PyTorch begins
    cells = ["asp, as published", "tf32" if tf32 else "fp32", "-", "-"]
    machine.row(cells, partial(measure, machine, partial(make_published, machine)))


def measure_steps(machine: Machine) -> None:
    """Every method in every precision, as a run takes its steps by default; CycleGAN's pools are still filling up."""
    reason = settle(machine.device) if machine.cuda else "this is no GPU"
    kernels = f"plain kernels, as fused ones do not run ({reason})" if reason else "fused kernels"
    print(f"Batch 1, replayed as a graph, {kernels}.\n")
    table(["method", "precision", "px", *HEADS], text=2)
    for side, precision in SETS if machine.cuda else SETS[:1]:
        for method in METHODS:
            make = partial(make_step, machine, method, precision, side=side, fused=not reason)
            machine.row([method, precision, side], partial(measure, machine, make))


def measure_start(machine: Machine) -> None:
    """Seconds since the process began: imports, the first step with its search, the first replayed step."""
    table(["until", "s"])

    def say(what: str) -> None:
        print(f"| {what} | {time.time() - machine.began:.1f} |", flush=True)

    say("imported")
    fused = not (machine.cuda and settle(machine.device))
    step = make_step(machine, FIRST[1], Precision.BF16, fused=fused)
    say(f"{FIRST[1]} built")
    for number in range(1, WARM_UP + 2):
        step()
        machine.wait()
        if number in (1, WARM_UP, WARM_UP + 1):
            say("the first replayed one" if number > WARM_UP else f"step {number}")
