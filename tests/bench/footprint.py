"""The memory of a training step on a GPU by method, side and precision: computed, so that a card is known to do or not.

At batch 1, without cuDNN's workspaces and CUDA's own memory (`StepCost.peak_bytes`); tf32 takes as much as fp32. The
last columns are the largest batch at 512 px for cards with 8, 12 and 24 GB, in bf16.
"""

from __future__ import annotations

from store.process import WORKSPACE_MIB
from train.describe import StepCost, measure_step
from train.methods.recipes import load_recipe
from train.methods.registry import METHODS
from train.settings import Precision

SIDES = (256, 512)  # px
CARDS = (8, 12, 24)  # GB
CONTEXT = 1 << 29  # bytes that CUDA and its libraries take
GIB = 2**30


def largest_batch(cost: StepCost, card: int) -> int:
    """Pictures of a step that a card of so many GB holds beside workspaces and CUDA."""
    fixed = cost.peak_bytes - cost.grown_bytes + CONTEXT + WORKSPACE_MIB * 2**20
    return max(0, (card * 10**9 - fixed) // cost.grown_bytes)


def main() -> None:
    """Print the table."""
    kinds = [(side, kind) for side in SIDES for kind in (Precision.FP32, Precision.BF16)]
    heads = [*(f"{side} px {kind}, GiB" for side, kind in kinds), *(f"batch on {card} GB" for card in CARDS)]
    print(f"| method | {' | '.join(heads)} |\n|---|{'--:|' * len(heads)}")
    for method in METHODS:
        costs = [measure_step(load_recipe([], [f"method={method}"]), side, kind) for side, kind in kinds]
        cells = [*(f"{cost.peak_bytes / GIB:.1f}" for cost in costs), *(largest_batch(costs[-1], n) for n in CARDS)]
        print(f"| {method} | {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
