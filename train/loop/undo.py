"""A step whose terms or gradients are not finite moves nobody, and no step waits for its device to find out.

Adam itself leaves out such a step of a player. What was changed before, by the forward passes and by players that
stepped earlier, is copied before and put back: 33 MB for ASP, whose discriminator steps first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from train.methods.image_pool import ImagePool
from train.runtime.distributed import mean_of_all


def is_broken(terms: Mapping[str, Tensor]) -> Tensor:
    """Whether a term, [] each, is not finite in any process; bool []. Every process must call it at the same point."""
    finite = torch.stack(list(terms.values())).isfinite().all()
    return mean_of_all((~finite).float()) > 0


def step_unless(broken: Tensor, optimiser: Optimizer) -> None:
    """A step of an Adam, unless `broken`, bool []: then it changes neither parameters nor moments nor its count.

    A fused one looks at the flag on its device, as it does for gradient scaling; for the others this waits.
    """
    if optimiser.defaults["fused"]:
        optimiser.found_inf = broken.float()  # type: ignore[attr-defined]  # what torch.amp.GradScaler sets
        optimiser.step()
        del optimiser.found_inf  # type: ignore[attr-defined]
    elif not broken:
        optimiser.step()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A parameter and its moments before a step of its optimiser; before its first one it has no moments."""

    optimiser: Optimizer
    parameter: nn.Parameter
    value: Tensor
    moments: dict[str, Tensor]


class Undo:
    """What a step may have changed by the time that it proves broken, as it was when this was made."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.modules = modules
        self.buffers = [buffer.clone() for buffer in _buffers(modules)]
        self.pools = [(pool, list(pool.pictures)) for pool in modules.values() if isinstance(pool, ImagePool)]
        self.moved: list[Moved] = []

    def keep(self, optimiser: Optimizer) -> None:
        """Copy what the next step of an Adam changes. Players after whose step nothing can break need none."""
        for parameter in (p for group in optimiser.param_groups for p in group["params"]):
            moments = {name: held.clone() for name, held in optimiser.state.get(parameter, {}).items()}
            value = parameter.detach().clone()
            self.moved.append(Moved(optimiser=optimiser, parameter=parameter, value=value, moments=moments))

    @torch.no_grad()
    def undo_if(self, broken: Tensor) -> None:
        """Put all of it back if `broken`, bool []; else everything stays as it is, bit for bit."""
        for now, before in zip(_buffers(self.modules), self.buffers, strict=True):
            put_back_if(broken, now, before)
        for moved in self.moved:
            put_back_if(broken, moved.parameter.detach(), moved.value)
            for name, now in moved.optimiser.state.get(moved.parameter, {}).items():
                before = moved.moments[name] if moved.moments else torch.zeros_like(now)  # Adam starts with zeros
                put_back_if(broken, now, before)
        for pool, pictures in self.pools:
            pool.put_back_if(broken, pictures)


def put_back_if(broken: Tensor, now: Tensor, before: Tensor) -> None:
    """Overwrite `now` with `before`, of the same shape, if `broken`, bool []."""
    torch.where(broken.to(now.device), before, now, out=now)


def _buffers(modules: Mapping[str, nn.Module]) -> list[Tensor]:
    """What checkpoints hold beside parameters, in a fixed order."""
    held = [value for module in modules.values() for value in module.state_dict(keep_vars=True).values()]
    return [value for value in held if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)]
