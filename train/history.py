"""The image history of CycleGAN: discriminators also see fakes that were made earlier."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from train.parallel import gather_rows, own_rows

CAPACITY = 50  # CycleGAN: pool_size


class ImageHistory(nn.Module):
    """Up to `capacity` fakes. It is a module for its state's sake, which is saved with the run.

    Sources: Shrivastava et al. (CVPR 2017); CycleGAN (ICCV 2017), ImagePool.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.capacity = capacity
        self.pictures: list[Tensor] = []

    def exchange(self, fakes: Tensor, generator: torch.Generator) -> Tensor:
        """New fakes [B,3,S,S] in, fakes to judge out, [B,3,S,S]; no gradient passes.

        Until it is full a fake is kept and given back. Then, with probability one half, a stored one is given instead
        and the new one takes its place. `generator` lives on the CPU: choosing waits for no device. Several processes
        keep one history, of the fakes of all: each holds a copy of it and gives back its own rows.
        """
        everyones = gather_rows(fakes.detach())
        return own_rows(torch.cat([self._exchange(fake, generator) for fake in torch.split(everyones, 1)]))

    def _exchange(self, fake: Tensor, generator: torch.Generator) -> Tensor:
        if len(self.pictures) < self.capacity:
            self.pictures.append(fake.clone())
            return fake
        if torch.rand((), generator=generator).item() < 0.5:
            return fake
        place = int(torch.randint(self.capacity, (), generator=generator))
        stored, self.pictures[place] = self.pictures[place], fake.clone()
        return stored.to(fake.device)

    def get_extra_state(self) -> list[Tensor]:
        """What `state_dict` keeps."""
        return self.pictures

    def set_extra_state(self, state: Any) -> None:
        """What `load_state_dict` brings back."""
        self.pictures = list(state)
