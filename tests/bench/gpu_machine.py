"""What the parts of the page for a GPU share: the device, the time that is left, clocks, rows of a table; ceilings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

ROUNDS = 5
MATRIX, COPIED = 8192, 1 << 30  # rows; bytes


def one_line(error: BaseException) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0][:300]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A device, whether sizes are tiny, and seconds of the clock: when the process began, until when to measure."""

    device: torch.device
    dry: bool
    began: float
    until: float

    @property
    def cuda(self) -> bool:
        """Whether this is a GPU."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Return when the device is done."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object]) -> float:
        """How long a call takes until the device is done."""
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - start

    def median(self, call: Callable[[], object], repeats: int = 5) -> float:
        """Seconds of a call, the median of some rounds of `repeats` calls that nobody waits between; one warms up."""
        if self.dry:
            return self.seconds(call)
        self.seconds(call)

        def several() -> None:
            for _ in range(repeats):
                call()

        return statistics.median(self.seconds(several) / repeats for _ in range(ROUNDS))

    def row(self, cells: Sequence[object], measure: Callable[[], Sequence[object]]) -> None:
        """Print a row that begins with `cells`; where it cannot be measured, why."""
        if time.time() > self.until:
            made: Sequence[object] = ["not measured: the time was up"]
        else:
            try:
                made = measure()
            except Exception as error:  # whatever a card, a driver or a compiler cannot do: the next row may
                if self.dry:
                    raise
                made = [one_line(error)]
        print(f"| {' | '.join(map(str, [*cells, *made]))} |", flush=True)

    def peak(self) -> str:
        """GiB of tensors at the peak since the last `forget_peak`, and GiB that were taken from the card for them."""
        if not self.cuda:
            return "- | -"
        held, taken = torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
        return f"{held / 2**30:.1f} | {taken / 2**30:.1f}"

    def forget_peak(self) -> None:
        """Give back what is not used, and begin to watch for a peak."""
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def kernels(self, call: Callable[[], object], repeats: int = 2) -> tuple[float, float]:
        """Kernels of a call on the GPU, and the seconds that they take."""
        if not self.cuda:
            return 0.0, 0.0
        self.wait()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            for _ in range(repeats):
                call()
            self.wait()
        events = [event for event in seen.events() or () if event.device_type.name == "CUDA"]
        on_card = [event for event in events if not event.is_user_annotation]
        return len(on_card) / repeats, sum(event.time_range.elapsed_us() for event in on_card) / repeats / 1e6


def table(heads: Sequence[str], text: int = 1) -> None:
    """Print the head of a table whose first `text` columns are words."""
    print(f"| {' | '.join(heads)} |\n|{'---|' * text}{'--:|' * (len(heads) - text)}", flush=True)


def measure_ceilings(machine: Machine) -> None:
    """The product of two matrices by dtype, and a copy in memory."""
    table(["", "reached"])
    side, copied = (64, 1 << 16) if machine.dry else (MATRIX, COPIED)
    for name, dtype, tf32 in (("bf16", torch.bfloat16, False), ("fp16", torch.float16, False),
                              ("tf32", torch.float32, True), ("fp32", torch.float32, False)):  # fmt: skip
        torch.backends.cuda.matmul.allow_tf32 = tf32
        matrix = torch.rand(side, side, device=machine.device).to(dtype)
        seconds = machine.median(lambda matrix=matrix: matrix @ matrix)  # type: ignore[misc]  # bound now
        print(f"| matrix product, {name} | {2 * side**3 / seconds / 1e12:.1f} TFLOP/s |", flush=True)
    source = torch.zeros(copied, dtype=torch.uint8, device=machine.device)
    target = torch.empty_like(source)
    seconds = machine.median(lambda: target.copy_(source))
    print(f"| copy, read and written | {2 * copied / seconds / 1e12:.2f} TB/s |", flush=True)
