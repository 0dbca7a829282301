"""`python -m tests.support.compile_kernels 90 bf16`: compile what `CALLS` launch for sm_90; no GPU is needed.

Prints a JSON line per compiled kernel. It runs in a process of its own, because Triton decides at its import whether it
interprets. Instead of launching, a kernel is compiled for its arguments as Triton would specialise it on a GPU: numbers
that are 1 become constants, and of numbers and addresses it is known whether 16 divides them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from train.kernels import launching

POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.bool: "*i1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What came of a kernel."""

    module: str
    kernel: str
    arguments: str
    shared: int
    """Bytes of shared memory of a program."""
    registers: int
    """Of a thread; 255 at most."""
    stack: int
    """Bytes of a thread that did not fit into its registers and go through memory."""
    widest: int
    """Bytes that a thread reads from memory at once."""
    products: int
    """Instructions of tensor cores."""
    copies: int
    """Instructions that copy 16 bytes into shared memory while others compute."""


def signature_of(value: object) -> tuple[str, bool]:
    """The type of an argument, and whether 16 is known to divide it."""
    if isinstance(value, Tensor):
        return POINTERS[value.dtype], value.data_ptr() % 16 == 0
    if isinstance(value, bool):
        return "i1", False
    if isinstance(value, int):
        if value == 1:
            return "constexpr", False
        return ("i32" if -(2**31) <= value < 2**31 else "i64"), value % 16 == 0
    if isinstance(value, float):
        return "fp32", False
    assert value is None, f"an argument of type {type(value)}"
    return "constexpr", False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a kernel is compiled for: types, constants and divisible arguments by their place, and options."""

    signature: dict[str, str]
    constants: dict[tuple[int], object]
    attributes: dict[tuple[int], list[list[object]]]
    options: dict[str, object]


def specialise(function: Any, arguments: tuple[object, ...], named: dict[str, Any]) -> Call:
    """What Triton would compile for this call."""
    names = list(function.arg_names)
    values = dict(zip(names, arguments, strict=False)) | {name: named[name] for name in names if name in named}
    values = {p.name: p.default for p in function.params if p.has_default} | values
    call = Call(signature={}, constants={}, attributes={}, options={n: v for n, v in named.items() if n not in names})
    for place, parameter in enumerate(function.params):
        value = values[parameter.name]
        kind, divides = ("constexpr", False) if parameter.is_constexpr else signature_of(value)
        if parameter.do_not_specialize:
            kind, divides = "i32", False
        call.signature[parameter.name] = kind
        if kind == "constexpr":
            call.constants[place,] = value
        elif divides:
            call.attributes[place,] = [["tt.divisibility", 16]]
    return call


def compile_call(function: Any, target: GPUTarget, call: Call) -> Compiled:
    """Compile a kernel for a call."""
    source = ASTSource(fn=function, signature=call.signature, constexprs=call.constants, attrs=call.attributes)
    made = triton.compile(source, target=target, options=call.options)
    usage = resources(made.asm["cubin"])
    return Compiled(
        module=function.fn.__module__,
        kernel=function.fn.__name__,
        arguments=" ".join(call.signature.values()),
        shared=made.metadata.shared,
        registers=_used("REG", usage),
        stack=_used("STACK", usage) + _used("LOCAL", usage),
        widest=max((_width(load) for load in re.findall(r"ld\.global\S*", made.asm["ptx"])), default=0),
        products=len(re.findall(r"wgmma\.mma_async|mma\.sync", made.asm["ptx"])),
        copies=len(re.findall(r"cp\.async\.cg", made.asm["ptx"])),
    )


def resources(cubin: bytes) -> str:
    """What NVIDIA's tool, which comes with Triton, says about a compiled kernel: `REG:32 STACK:0 SHARED:0 LOCAL:0`."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout


def _used(what: str, usage: str) -> int:
    return int(re.findall(rf"{what}:(\d+)", usage)[-1])


def _width(load: str) -> int:
    """The bytes of a PTX instruction such as ld.global.v4.b32."""
    count, bits = re.search(r"\.v(\d)", load), re.search(r"\.[bfus](\d+)", load)
    return (int(count[1]) if count else 1) * (int(bits[1]) // 8 if bits else 0)


def main(capability: int, dtype: torch.dtype) -> None:
    """Call everything; a kernel with the same arguments is compiled once."""
    from tests.train.kernels.calls import CALLS

    seen: set[str] = set()
    target = GPUTarget("cuda", capability, 32)

    def run(self: Any, *arguments: object, grid: Any, warmup: bool, **named: Any) -> None:
        call = specialise(self, arguments, named)
        key = f"{self.fn.__module__}.{self.fn.__name__} {call}"
        if key not in seen:
            seen.add(key)
            sys.stdout.write(json.dumps(asdict(compile_call(self, target, call))) + "\n")

    JITFunction.run = run
    launching._switch.interpreted = True  # CPU tensors are taken; nothing is interpreted here
    for call in CALLS.values():
        call(dtype)


if __name__ == "__main__":
    main(int(sys.argv[1]), {"fp32": torch.float32, "bf16": torch.bfloat16}[sys.argv[2]])
