"""The little that torchrun needs: who a process is, and what all processes settle together.

Every process holds the same networks and optimisers, sees its own pictures of a batch and moves by the mean of all
gradients; files are rank 0's business. Alone, everything here is the identity. Collectives go through NCCL where a
tensor is on a GPU, else through gloo.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed.nn  # before a group is made: its defaults would keep the group, and gloo's threads, to the end
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Which of how many processes this is, and which on its machine."""

    rank: int
    count: int
    local: int

    @property
    def first(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0


ALONE = Ranks(rank=0, count=1, local=0)


@contextmanager
def join() -> Iterator[Ranks]:
    """Meet the other processes that torchrun started, if it did; leave them at the end.

    torchrun's store outlives a restart: without a prefix of its own, a process may find the address that a killed one
    left there, and wait for it.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    shared, rank, count = next(rendezvous("env://"))
    store = PrefixStore(f"restart{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", shared)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    try:
        yield Ranks(rank=rank, count=count, local=int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()


def together() -> bool:
    """Whether there are other processes."""
    return dist.is_available() and dist.is_initialized()


def average_(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over all processes: one collective for all of them, 40 MB for ASP."""
    if not together() or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)])


def mean_of_all(value: Tensor) -> Tensor:
    """The mean over all processes of a value that carries no gradient."""
    if not together():
        return value
    mean = value.clone()
    dist.all_reduce(mean)
    return mean / dist.get_world_size()


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of ranks: [B,...] -> [count x B,...]; no gradient passes."""
    if not together():
        return rows
    mine = rows.contiguous()
    all_rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(all_rows, mine)
    return torch.cat(all_rows)


def own_rows(rows: Tensor) -> Tensor:
    """What `gather_rows` added of the other processes is taken away again."""
    return rows.chunk(dist.get_world_size())[dist.get_rank()] if together() else rows


def anyone(says: bool) -> bool:
    """Whether any process says so. Every process must ask, at the same place."""
    if not together():
        return says
    said = torch.tensor(int(says))  # on the CPU: nobody waits for a device
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return bool(said.item())


def share(data: bytes) -> bytes:
    """The bytes that rank 0 has, in every process."""
    if not together():
        return data
    length = torch.tensor(len(data))
    dist.broadcast(length, 0)
    buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data and dist.get_rank() == 0 else None
    held = torch.empty(int(length.item()), dtype=torch.uint8) if buffer is None else buffer
    if len(held):
        dist.broadcast(held, 0)
    return held.numpy().tobytes()


def wait() -> None:
    """Until every process is here."""
    anyone(False)
