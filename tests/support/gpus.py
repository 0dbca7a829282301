"""A machine whose GPUs, and a PyTorch whose kernels, are those that a test names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from store.machine import gpus

V100 = ((7, 0), "Tesla V100-SXM2-16GB")
A100 = ((8, 0), "NVIDIA A100-SXM4-40GB")
H100 = ((9, 0), "NVIDIA H100 80GB HBM3")
KERNELS = ("sm_75", "sm_80", "sm_90")


def pretend(
    monkeypatch: pytest.MonkeyPatch, *cards: tuple[tuple[int, int], str], kernels: Sequence[str] = KERNELS
) -> None:
    """PyTorch finds these cards, and no others, and can start each of them."""
    for name, value in (
        ("is_available", lambda: bool(cards)),
        ("device_count", lambda: len(cards)),
        ("get_arch_list", lambda: list(kernels)),
        ("get_device_capability", lambda number: cards[number][0]),
        ("get_device_name", lambda number: cards[number][1]),
        ("synchronize", lambda number: None),
        ("is_bf16_supported", lambda **_: True),
    ):
        monkeypatch.setattr(torch.cuda, name, value)


def hide(
    monkeypatch: pytest.MonkeyPatch, words: str = "No CUDA GPUs are available", built: str | None = "13.0"
) -> None:
    """PyTorch finds no card, and says so in these words; it is built for this version of CUDA."""

    def refuse() -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", refuse)
    monkeypatch.setattr(torch.version, "cuda", built)


def forget(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """No variable names a GPU or a job, and the system is what lies in `root`."""
    for variable in (*gpus.GIVEN, gpus.JOB, gpus.VISIBLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(gpus.unused_gpu, "__defaults__", (root,))
