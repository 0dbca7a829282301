"""A pool of earlier fakes, so that a discriminator also sees pictures that the generator no longer makes.

Sources: Shrivastava et al., Learning from Simulated and Unsupervised Images through Adversarial Training, CVPR 2017;
the CycleGAN repository, ImagePool.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from store.schema import RunError
from train.runtime.distributed import count_of_all, gather_rows, local_rows

CAPACITY = 50  # CycleGAN: pool_size


class ImagePool(nn.Module):
    """Up to `capacity` fakes. It is a module so that its state is saved with the run.

    They lie in one buffer, a row each as it lies in memory, whose address stays. One more row is what is offered: a
    fake that is not kept goes there, and one that is returned at once comes from there, so that every exchange is the
    same two copies, which wait for no device.
    """

    rows: Tensor

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.capacity = capacity
        self.held = 0
        """Pictures that the pool has."""
        self.chosen = 0
        """Those that it has after the exchanges that were chosen."""
        self.loaded: list[Tensor] = []
        """The pictures of a checkpoint, until the first exchange shows how they lie in memory."""
        self.like = torch.empty(1, 3, 0, 0, device="meta")
        """A picture without numbers that lies in memory as the fakes do."""
        self.overwritten: list[tuple[Tensor, Tensor]] = []
        """Places, and what was there before, of each exchange since `begin`."""
        self.register_buffer("rows", torch.empty(0, 0), persistent=False)

    def choose(self, rows: int, generator: torch.Generator) -> Tensor:
        """Which row each of so many fakes of this process, in all processes, is stored in and answered from, [2,N].

        Until the pool is full, a fake is stored and returned. After that, with probability one half, a stored fake is
        returned and the new one takes its place. `generator` is on the CPU. Every choice must be followed by `exchange`
        and `settle`.
        """
        return torch.tensor([self._choose(generator) for _ in range(count_of_all(rows))]).T

    def _choose(self, generator: torch.Generator) -> tuple[int, int]:
        offered = self.capacity
        if self.chosen < self.capacity:
            self.chosen += 1
            return self.chosen - 1, offered
        if torch.rand((), generator=generator).item() < 0.5:
            return offered, offered
        place = int(torch.randint(self.capacity, (), generator=generator))
        return place, place

    def exchange(self, fakes: Tensor, choice: Tensor) -> Tensor:
        """New fakes [B,3,S,S] in, fakes for the discriminator out, [B,3,S,S], as chosen; no gradient passes.

        With several processes there is one pool, of the fakes of all: each process holds a copy and returns its own
        rows.
        """
        all_fakes = gather_rows(fakes.detach())
        if self.loaded or not self.rows.numel():
            self._allocate(all_fakes)
        places = choice.to(self.rows.device)
        pairs = zip(torch.split(all_fakes, 1), *(torch.split(each, 1) for each in places), strict=True)
        return local_rows(torch.cat([self._exchange(*pair) for pair in pairs]))

    def _exchange(self, fake: Tensor, stored_in: Tensor, answered_from: Tensor) -> Tensor:
        row = _row_of(fake)
        self.rows[self.capacity :] = row
        answer = self.rows.index_select(0, answered_from)
        self.overwritten.append((stored_in, self.rows.index_select(0, stored_in)))
        self.rows.index_copy_(0, stored_in, row)
        return _picture_of(answer, fake)

    def _allocate(self, fakes: Tensor) -> None:
        """Make the buffer for pictures such as `fakes`, with those of a checkpoint in it."""
        self.rows = fakes.new_zeros(self.capacity + 1, fakes[:1].numel())
        for place, picture in enumerate(self.loaded):
            if picture.shape != fakes[:1].shape:
                raise RunError(
                    f"the checkpoint has a picture {list(picture.shape)} in its pool of fakes, where this run has "
                    f"{list(fakes[:1].shape)}; remove it from the run's checkpoints, to resume from the one before"
                )
            self.rows[place : place + 1] = _row_of(torch.empty_like(fakes[:1]).copy_(picture))
        self.like, self.loaded = torch.empty_like(fakes[:1], device="meta"), []

    def begin(self) -> None:
        """Forget what earlier steps overwrote."""
        self.overwritten = []

    def put_back_if(self, broken: Tensor) -> None:
        """Hold again what was held at `begin`, if `broken`, bool []."""
        for places, before in reversed(self.overwritten):
            self.rows.index_copy_(0, places, torch.where(broken, before, self.rows.index_select(0, places)))

    def settle(self, broken: Tensor) -> None:
        """After a step: count what it added unless it was `broken`, bool [].

        Only while the pool fills, in a run's first steps, does this wait for the device.
        """
        if self.chosen != self.held and not broken:
            self.held = self.chosen
        self.chosen = self.held

    @property
    def pictures(self) -> list[Tensor]:
        """Copies of the pictures held, [1,3,S,S] each."""
        rows = (self.rows[place : place + 1] for place in range(self.held))
        return self.loaded or [_picture_of(row, self.like).clone() for row in rows]

    def get_extra_state(self) -> list[Tensor]:
        """What `state_dict` saves."""
        return self.pictures

    def set_extra_state(self, state: Any) -> None:
        """What `load_state_dict` restores: at most `capacity` pictures [1,3,S,S]. Raises RunError for anything else."""
        if not isinstance(state, list) or len(state) > self.capacity or not all(map(_is_picture, state)):
            raise RunError(f"has a pool of fakes that is no list of at most {self.capacity} pictures")
        self.loaded = list(state)
        self.held = self.chosen = len(state)


def _row_of(picture: Tensor) -> Tensor:
    """A picture [1,3,S,S] as a row [1,N], in the order in which it lies in memory."""
    if picture.is_contiguous(memory_format=torch.channels_last):
        return picture.permute(0, 2, 3, 1).reshape(1, -1)
    return picture.reshape(1, -1)


def _picture_of(row: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_row_of`, for a picture that lies as `like` does."""
    if like.is_contiguous(memory_format=torch.channels_last):
        return row.view(1, *like.shape[2:], like.shape[1]).permute(0, 3, 1, 2)
    return row.view(like.shape)


def _is_picture(held: object) -> bool:
    return (
        isinstance(held, Tensor)
        and held.layout is torch.strided
        and held.shape[:2] == (1, 3)
        and held.dim() == 4
        and held.is_floating_point()
        and bool(held.isfinite().all())
    )
