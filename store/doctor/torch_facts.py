"""What PyTorch says of itself and of each GPU, printed as JSON: run by the doctor, in a process that may crash."""

from __future__ import annotations

import json
import warnings
from typing import TypedDict

import torch

from store.machine.gpus import check_gpus, refusal_of, start_gpu, unused_gpu

ASKED = ("device = auto", "--set device=cpu")  # by what a GPU is asked for, and what is said to do without


class Gpu(TypedDict):
    """One GPU, memory in bytes; `fault` says why it cannot be used."""

    name: str
    capability: str
    memory: int
    fault: str


def look_at_gpu(number: int) -> Gpu:
    """A GPU by its number; whatever PyTorch raises is its fault."""
    found = Gpu(name="unknown", capability="unknown", memory=0, fault="")
    try:
        found["name"] = torch.cuda.get_device_name(number)
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability(number)))
        check_gpus(torch.cuda, [number], *ASKED)
        start_gpu(torch.cuda, number, *ASKED)
        found["memory"] = torch.cuda.get_device_properties(number).total_memory
    except Exception as error:
        found["fault"] = str(error).splitlines()[0] if str(error) else type(error).__name__
    return found


def torchvision_fault() -> str:
    """Why torchvision cannot be loaded beside this PyTorch; empty if it can."""
    try:
        import torchvision  # noqa: F401 - only whether it loads
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def main() -> None:
    """Print what the doctor asks for."""
    warnings.simplefilter("ignore")
    usable = not refusal_of(torch.cuda)
    facts = {
        "version": torch.__version__,
        "built": torch.version.cuda or "",
        "archs": torch.cuda.get_arch_list() if torch.version.cuda else [],
        "threads": torch.get_num_threads(),
        "torchvision": torchvision_fault(),
        "unused": unused_gpu(torch.cuda, torch.version.cuda),
        "gpus": [look_at_gpu(number) for number in range(torch.cuda.device_count())] if usable else [],
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
