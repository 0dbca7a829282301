"""How many windows a GPU enlarges at once, from a formula that is counted here."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from prep.settings import BATCH, Device, Kernels
from prep.upscaling.bsrgan import RrdbEnlarger
from prep.upscaling.memory import MOST, best_batch, bytes_of_window, fitting_batch

GIB = 2**30


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch does not say its types
    """Counts the bytes of all storages that operations made and that still exist, and keeps the most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self.now, self.most = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {id(leaf.untyped_storage()._cdata) for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)}
        for leaf in tree_leaves(result):
            if torch.is_tensor(leaf):
                storage = leaf.untyped_storage()
                if storage._cdata not in self._known and storage._cdata not in given:
                    self._known.add(storage._cdata)
                    self._count(storage.nbytes())
                    weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return result

    def _count(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_bytes_of_a_window_are_what_the_network_holds(factor: int, dtype: torch.dtype) -> None:
    """Two blocks hold as much at once as 23, and a batch holds its windows' sum."""
    with torch.device("meta"):
        network = RrdbEnlarger(factor, blocks=2).lower(dtype)
        pictures = torch.empty(3, 3, 20, 20)
    with torch.no_grad(), Held() as held:
        network(pictures)
    counted = held.most / 3
    assert counted <= bytes_of_window(20, factor, dtype) <= 1.02 * counted


@pytest.mark.parametrize(
    ("free", "view_side", "dtype", "batch"),
    [
        (139 * GIB, 512, torch.float16, 16),  # never more than helps
        (24 * GIB, 512, torch.bfloat16, 16),
        (6 * GIB, 512, torch.float16, 8),
        (7 * GIB, 1024, torch.float16, 4),
        (6 * GIB, 512, torch.float32, 8),
        (2**20, 512, torch.float16, 1),  # what is impossible is said when it is tried
        (0, 512, torch.float16, 1),
    ],
)
def test_a_batch_fits_half_of_the_free_memory(free: int, view_side: int, dtype: torch.dtype, batch: int) -> None:
    assert fitting_batch(free, view_side, 16, dtype) == batch
    bigger = 2 * batch * max(bytes_of_window(view_side // factor + 32, factor, dtype) for factor in (2, 4))
    assert batch == MOST or bigger > free / 2


def test_a_gpu_is_asked_and_a_cpu_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: pytest.fail("asked"))
    assert best_batch(512, 16, torch.bfloat16, Kernels.PLAIN, Device.CPU) == BATCH == 4
    assert best_batch(512, 16, torch.float32, Kernels.SINGLE, Device.CUDA) == 1
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 * GIB, 8 * GIB))
    assert best_batch(512, 16, torch.float16, Kernels.COMPILED, Device.CUDA) == 8
