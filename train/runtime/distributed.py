"""Several processes that train one run, as torchrun starts them: which process this is, and what all of them agree on.

Every process holds the same networks and optimisers, sees its own pictures of a batch, and steps with the mean of all
gradients; only rank 0 writes files. In a single process every function here returns its input. Collectives use NCCL
for tensors on a GPU and gloo for the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed.nn  # before a group exists: its defaults would hold the group, and gloo's threads, until exit
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from store.machine.gpus import refusal_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Which process this is of how many (`rank` of `count`), and which on its machine (`local`)."""

    rank: int
    count: int
    local: int

    @property
    def first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0


ALONE = Ranks(rank=0, count=1, local=0)


@contextmanager
def join() -> Iterator[Ranks]:
    """Join the other processes that torchrun started, if any; leave them at the end.

    torchrun's store survives a restart. Without a prefix for each restart a process may find the address of one that
    was killed, and wait for it.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    backend = "gloo" if refusal_of(torch.cuda) else "cpu:gloo,cuda:nccl"
    shared, rank, count = next(rendezvous("env://"))
    store = PrefixStore(f"restart{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", shared)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    try:
        yield Ranks(rank=rank, count=count, local=int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()


def is_distributed() -> bool:
    """Whether there are other processes."""
    return dist.is_available() and dist.is_initialized()


def count_of_all(rows: int) -> int:
    """How many rows there are in all processes, if there are so many in each."""
    return rows * dist.get_world_size() if is_distributed() else rows


def average_(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in one collective: 40 MB for ASP."""
    if not is_distributed() or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)])


def mean_of_all(value: Tensor) -> Tensor:
    """The mean of `value` over all processes, element by element; no gradient passes."""
    if not is_distributed():
        return value
    mean = value.clone()
    dist.all_reduce(mean)
    return mean / dist.get_world_size()


def global_mean(values: Tensor) -> Tensor:
    """The mean of all elements of `values` in all processes, []; no gradient passes."""
    return mean_of_all(values.mean())


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of ranks: [B,...] -> [count x B,...]; no gradient passes."""
    if not is_distributed():
        return rows
    contiguous = rows.contiguous()
    gathered = [torch.empty_like(contiguous) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, contiguous)
    return torch.cat(gathered)


def local_rows(rows: Tensor) -> Tensor:
    """The rows of this process among those of all, the inverse of `gather_rows`: [count x B,...] -> [B,...]."""
    return rows.chunk(dist.get_world_size())[dist.get_rank()] if is_distributed() else rows


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in any process. Every process must call it at the same point."""
    if not is_distributed():
        return flag
    flags = torch.tensor(int(flag))  # on the CPU, so that no process waits for its device
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags.item())


def broadcast(data: bytes) -> bytes:
    """The bytes that rank 0 passes, in every process."""
    if not is_distributed():
        return data
    length = torch.tensor(len(data))
    dist.broadcast(length, 0)
    buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data and dist.get_rank() == 0 else None
    received = torch.empty(int(length.item()), dtype=torch.uint8) if buffer is None else buffer
    if len(received):
        dist.broadcast(received, 0)
    return received.numpy().tobytes()


def wait_for_all() -> None:
    """Return when every process has called it."""
    any_process(False)
