"""Every way through the network's blocks against the plain one, and how a build takes one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prep.settings import Device, Kernels
from prep.upscaling import ways
from prep.upscaling.blocks import run_plain
from prep.upscaling.bsrgan import RrdbEnlarger
from prep.upscaling.ways import best_kernels, check_kernels, fault, make_blocks
from store.schema import SettingsError

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
FAST = (Kernels.COMPILED, Kernels.TRITON)


@pytest.fixture
def captured(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """On a CPU blocks are captured as for a compiler and run by PyTorch's own kernels; the size of each graph."""
    graphs: list[int] = []
    compile_ = torch.compile

    def count(graph: torch.fx.GraphModule, _: Any, **__: Any) -> Callable[..., Any]:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    if device.type == "cpu":
        monkeypatch.setattr(torch, "compile", lambda function, **how: compile_(function, backend=count, **how))
    ways.fault.cache_clear()
    torch._dynamo.reset()
    yield graphs
    ways.fault.cache_clear()
    torch._dynamo.reset()


def draw_body(
    features: int, growth: int, blocks: int, dtype: torch.dtype, device: torch.device
) -> tuple[nn.Module, nn.Module]:
    """Blocks with drawn weights: in fp32 with the values that `dtype` holds, and in `dtype` on the device."""
    generator = torch.Generator().manual_seed(features)
    exact = RrdbEnlarger(4, features=features, blocks=blocks, growth=growth).net.body.requires_grad_(False)
    for parameter in exact.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * (9 * features) ** -0.5)
    lowered = RrdbEnlarger(4, features=features, blocks=blocks, growth=growth).net.body.requires_grad_(False)
    lowered.load_state_dict(exact.to(dtype).state_dict())
    return exact.float(), lowered.to(device, dtype).to(memory_format=torch.channels_last)


def draw_map(*shape: int, device: torch.device) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return drawn.to(device).contiguous(memory_format=torch.channels_last)


@pytest.mark.gpu
@pytest.mark.parametrize("kernels", FAST)
@pytest.mark.parametrize(
    ("dtype", "features", "growth", "blocks", "shape"),
    [
        (torch.float32, 8, 4, 2, (1, 5, 7)),
        (torch.bfloat16, 8, 4, 1, (1, 1, 3)),
        (torch.float16, 8, 4, 1, (3, 7, 7)),  # more than one tile of pixels
        (torch.float16, 20, 17, 1, (2, 1, 3)),  # channels that no tile divides
        (torch.bfloat16, 64, 32, 1, (1, 3, 5)),  # as published
    ],
    ids=lambda value: str(value).removeprefix("torch."),
)
def test_each_way_computes_the_plain_one(
    kernels: Kernels,
    dtype: torch.dtype,
    features: int,
    growth: int,
    blocks: int,
    shape: tuple[int, int, int],
    captured: list[int],
    device: torch.device,
) -> None:
    """No further from the exact result than the plain way is, but for a rounding; what enters is not changed."""
    exact, body = draw_body(features, growth, blocks, dtype, device)
    given = draw_map(shape[0], features, *shape[1:], device=device)
    before = given.clone()
    with torch.inference_mode():
        wanted = run_plain(exact, given.cpu()).double()
        plain = run_plain(body, given).cpu().double()
        found = make_blocks(kernels, body)(given)
    assert found.dtype == torch.float32
    assert found.shape == given.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(given, before)
    scale = (wanted - given.cpu()).norm()
    error, allowed = (((each.cpu() - wanted).norm() / scale).item() for each in (found, plain))
    cut = dtype is torch.bfloat16 and kernels is Kernels.TRITON and device.type == "cpu"
    assert error < (2.2 if cut else 1.1) * allowed + 1e-6  # Triton's interpreter cuts off the bits that bf16 lacks
    assert scale > 0.1 * given.norm().cpu()  # the blocks change what enters


@pytest.mark.gpu
def test_a_slice_of_a_batch_is_computed_as_the_slice_alone(device: torch.device) -> None:
    """A picture does not see its neighbours in the batch, at its edges neither."""
    _, body = draw_body(8, 4, 1, torch.float16, device)
    given = draw_map(3, 8, 5, 6, device=device)
    together = make_blocks(Kernels.TRITON, body)(given)
    for number in (0, 1, 2) if device.type == "cuda" else (1,):
        assert torch.equal(make_blocks(Kernels.TRITON, body)(given[number : number + 1]), together[number : number + 1])


def test_one_compiled_dense_block_serves_all_blocks_and_every_batch(captured: list[int]) -> None:
    _, body = draw_body(8, 4, 3, torch.bfloat16, torch.device("cpu"))
    run = make_blocks(Kernels.COMPILED, body)
    with torch.inference_mode():
        for batch in (16, 3, 7, 2, 16):
            run(draw_map(batch, 8, 5, 6, device=torch.device("cpu")))
        assert len(captured) == 1
        run(draw_map(1, 8, 5, 6, device=torch.device("cpu")))
        run(draw_map(4, 8, 9, 9, device=torch.device("cpu")))
    assert len(captured) == 3  # a batch of one and another size of windows are other programs


def test_no_convolution_is_chosen_by_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inductor times them where the environment says TORCHINDUCTOR_MAX_AUTOTUNE=1."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(torch, "compile", lambda _, **how: given.update(how) or (lambda inner, _: inner))
    _, body = draw_body(8, 4, 1, torch.bfloat16, torch.device("cpu"))
    make_blocks(Kernels.COMPILED, body)(draw_map(1, 8, 5, 6, device=torch.device("cpu")))
    chosen = [value for name, value in given["options"].items() if name.startswith("max_autotune")]
    assert chosen == [False, False]


@pytest.mark.gpu
@pytest.mark.parametrize(("kernels", "dtype"), [(Kernels.COMPILED, torch.float16), (Kernels.TRITON, torch.bfloat16)])
def test_a_way_that_computes_is_found_to(
    kernels: Kernels, dtype: torch.dtype, captured: list[int], device: torch.device
) -> None:
    assert fault(kernels, dtype, device) == ""


def test_a_compiler_that_fails_or_computes_something_else_is_found(
    captured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Callable[..., Tensor]:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one via CC")

    monkeypatch.setattr(torch, "compile", broken)
    assert fault(Kernels.COMPILED, torch.bfloat16, torch.device("cpu")) == "RuntimeError: Failed to find C compiler."
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda inner, layers: inner + 1)
    ways.fault.cache_clear()
    assert "% off" in fault(Kernels.COMPILED, torch.bfloat16, torch.device("cpu"))


def test_a_gpu_gets_what_was_measured_to_be_fast_and_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = dict.fromkeys(FAST, "")
    monkeypatch.setattr(ways, "fault", lambda kernels, *_: reasons[kernels])
    for dtype in DTYPES:
        assert best_kernels(dtype, Device.CPU) is Kernels.PLAIN
    assert best_kernels(torch.float32, Device.CUDA) is Kernels.SINGLE
    assert best_kernels(torch.float16, Device.CUDA) is Kernels.COMPILED
    assert capsys.readouterr().err == ""
    reasons[Kernels.COMPILED] = "RuntimeError: no compiler"
    assert best_kernels(torch.bfloat16, Device.CUDA) is Kernels.PLAIN
    (said,) = capsys.readouterr().err.splitlines()
    assert "without torch.compile, slower: it failed here (RuntimeError: no compiler)" in said
    with pytest.raises(SettingsError, match=r"^kernels = compiled: .*here: RuntimeError: no compiler; .*kernels=plain"):
        check_kernels(Kernels.COMPILED, torch.float16, Device.CUDA)
    check_kernels(Kernels.TRITON, torch.float16, Device.CUDA)
    with pytest.raises(SettingsError, match="it is for half precision, and precision = fp32"):
        check_kernels(Kernels.TRITON, torch.float32, Device.CUDA)
    for kernels in FAST:
        with pytest.raises(SettingsError, match=f"^kernels = {kernels}: .*it is for a GPU, and device = cpu"):
            check_kernels(kernels, torch.bfloat16, Device.CPU)
    for kernels in (Kernels.PLAIN, Kernels.SINGLE):
        for device in (Device.CPU, Device.CUDA):
            check_kernels(kernels, torch.float32, device)
