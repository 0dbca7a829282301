"""A pool of earlier fakes, so that a discriminator also sees pictures that the generator no longer makes.

Sources: Shrivastava et al., Learning from Simulated and Unsupervised Images through Adversarial Training, CVPR 2017;
the CycleGAN repository, ImagePool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from store.schema import RunError
from train.runtime.distributed import gather_rows, local_rows

CAPACITY = 50  # CycleGAN: pool_size


class ImagePool(nn.Module):
    """Up to `capacity` fakes. It is a module so that its state is saved with the run."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.capacity = capacity
        self.pictures: list[Tensor] = []

    def exchange(self, fakes: Tensor, generator: torch.Generator) -> Tensor:
        """New fakes [B,3,S,S] in, fakes for the discriminator out, [B,3,S,S]; no gradient passes.

        Until the pool is full, a fake is stored and returned. After that, with probability one half, a stored fake is
        returned and the new one takes its place. `generator` is on the CPU, so that choosing waits for no device. With
        several processes there is one pool, of the fakes of all: each process holds a copy and returns its own rows.
        """
        all_fakes = gather_rows(fakes.detach())
        return local_rows(torch.cat([self._exchange(fake, generator) for fake in torch.split(all_fakes, 1)]))

    def _exchange(self, fake: Tensor, generator: torch.Generator) -> Tensor:
        if len(self.pictures) < self.capacity:
            self.pictures.append(fake.clone())
            return fake
        if torch.rand((), generator=generator).item() < 0.5:
            return fake
        place = int(torch.randint(self.capacity, (), generator=generator))
        if self.pictures[place].shape != fake.shape:
            raise RunError(
                f"the checkpoint has a picture {list(self.pictures[place].shape)} in its pool of fakes, where this run "
                f"has {list(fake.shape)}; remove it from the run's checkpoints, to resume from the one before"
            )
        stored, self.pictures[place] = self.pictures[place], fake.clone()
        return stored.to(fake.device)

    def put_back_if(self, broken: Tensor, before: Sequence[Tensor]) -> None:
        """Hold the pictures that were held `before` an exchange again if `broken`, bool [].

        Only while the pool fills, in a run's first steps, does this wait for the device: there a picture has to go.
        """
        if len(before) == len(self.pictures):
            held = zip(self.pictures, before, strict=True)
            self.pictures = [now if now is old else torch.where(broken, old.to(now.device), now) for now, old in held]
        elif broken:
            self.pictures = list(before)

    def get_extra_state(self) -> list[Tensor]:
        """What `state_dict` saves."""
        return self.pictures

    def set_extra_state(self, state: Any) -> None:
        """What `load_state_dict` restores: at most `capacity` pictures [1,3,S,S]. Raises RunError for anything else."""
        if not isinstance(state, list) or len(state) > self.capacity or not all(map(_is_picture, state)):
            raise RunError(f"has a pool of fakes that is no list of at most {self.capacity} pictures")
        self.pictures = list(state)


def _is_picture(held: object) -> bool:
    return (
        isinstance(held, Tensor)
        and held.layout is torch.strided
        and held.shape[:2] == (1, 3)
        and held.dim() == 4
        and held.is_floating_point()
        and bool(held.isfinite().all())
    )
