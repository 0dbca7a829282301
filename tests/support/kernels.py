"""Fused kernels beside their plain twins: on a GPU if there is one, else under Triton's interpreter, which is slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor

from train.kernels import launching

Fn: TypeAlias = "Callable[..., Tensor]"

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FORMATS = (torch.channels_last, torch.contiguous_format)
DTYPES = (torch.float32, torch.bfloat16)
SHAPES = ((1, 1, 5, 6), (3, 3, 4, 5), (1, 193, 5, 4))  # of feature maps: odd and even sides, few and many channels
ROUNDING = {torch.float32: 2**-21, torch.bfloat16: 2**-8, torch.float16: 2**-11}  # of a result: one; some in float32
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))


def draw(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Standard normal numbers on the device of the kernels, contiguous."""
    numbers = np.random.default_rng((seed, *shape)).standard_normal(shape)
    return torch.from_numpy(numbers).to(DEVICE, dtype)


@contextmanager
def kernels() -> Iterator[None]:
    """Fused kernels take the tensors of `DEVICE`."""
    if DEVICE.type == "cuda":
        yield
        return
    pytest.importorskip("triton", reason="Triton is on Linux only")
    with launching.interpreted():
        yield


def agree(fused: Fn, plain: Fn, *inputs: Tensor, tolerance: float | None = None, grad_fn: str = "") -> None:
    """Assert that both functions of `inputs` and their gradients for each input are equal to rounding.

    The plain one computes in float64. The fused one gets its maps (what has four axes) channels last and contiguous,
    and its incoming gradient in the other format. It must return the dtype of the first input, maps channels last,
    gradients of maps too, and the same bits when it runs again. `tolerance` is relative to the largest value, by
    default one rounding of the dtype. With `grad_fn` the result must come from the autograd function of this name.
    """
    exact = [x.double().requires_grad_() if x.is_floating_point() else x for x in inputs]
    wanted = plain(*exact)
    upstream = draw(*wanted.shape, dtype=inputs[0].dtype, seed=7)
    truths = (wanted, *_gradients(wanted, exact, upstream.double()))
    tolerance = ROUNDING[inputs[0].dtype] if tolerance is None else tolerance
    before: tuple[Tensor, ...] = ()
    for layout, other in (FORMATS, FORMATS[::-1]):
        leaves = [_laid(x, layout).requires_grad_(x.is_floating_point()) for x in inputs]
        with kernels():
            made = fused(*leaves)
            results = (made, *_gradients(made, leaves, _laid(upstream, other)))
        assert made.dtype == inputs[0].dtype
        assert not grad_fn or (made.grad_fn is not None and made.grad_fn.name() == grad_fn), made.grad_fn
        for ours, truth in zip(results, truths, strict=True):
            _close(ours, truth, tolerance)
            assert ours.dim() != 4 or ours.is_contiguous(memory_format=torch.channels_last)
        assert all(map(torch.equal, before, results)), "the second run gives other bits"
        before = results


def _laid(x: Tensor, layout: torch.memory_format) -> Tensor:
    """A copy of `x`, in this format if it is a map."""
    return x.detach().clone(memory_format=layout if x.dim() == 4 else torch.contiguous_format)


def _gradients(value: Tensor, inputs: Sequence[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, [x for x in inputs if x.requires_grad], upstream)


def _close(ours: Tensor, truth: Tensor, tolerance: float) -> None:
    largest = float(truth.detach().abs().max())
    torch.testing.assert_close(ours.double(), truth, rtol=tolerance, atol=tolerance * largest)


def count_launches(function: Callable[[], object]) -> int:
    """How many kernels and copies `function` puts on the GPU; its first call, which compiles, is not counted."""
    function()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        function()
        torch.cuda.synchronize()
    return sum(str(event.device_type).endswith("CUDA") for event in profile.events())


def count_interpreted(function: Callable[[], object]) -> int:
    """How many kernels of ours `function` launches under the interpreter."""
    from triton.runtime.interpreter import InterpretedFunction

    names: list[str] = []
    run = InterpretedFunction.run

    def count(kernel: Any, *arguments: object, **named: object) -> None:
        names.append(kernel.fn.__name__)
        run(kernel, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpretedFunction, "run", count)
        function()
    return len(names)
