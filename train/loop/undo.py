"""A step whose terms or gradients are not finite moves nobody, and no step waits for its device to find out.

Adam itself leaves out such a step of a player. What was changed before, by the forward passes and by players that
stepped earlier, is copied before and put back: 33 MB for ASP, whose discriminator steps first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from train.kernels import launching
from train.methods.base import Method
from train.methods.image_pool import ImagePool
from train.runtime.distributed import mean_of_all


def is_broken(values: Tensor) -> Tensor:
    """Whether one of the values [n] is not finite in any process; bool []. All processes must call it together."""
    finite = values.isfinite().all()
    return mean_of_all((~finite).float()) > 0


def step_unless(broken: Tensor, optimiser: Optimizer) -> None:
    """A step of an Adam, unless `broken`, bool []: then it changes neither parameters nor moments nor its count.

    A fused one looks at the flag on its device, as it does for gradient scaling; for the others this waits.
    """
    if optimiser.defaults["fused"]:
        optimiser.found_inf = broken.float()  # type: ignore[attr-defined]  # what torch.amp.GradScaler sets
        try:
            optimiser.step()
        finally:
            del optimiser.found_inf  # type: ignore[attr-defined]
    elif not broken:
        optimiser.step()


class Backup:
    """A copy of tensors that is made again and again in the same place, and put back where a flag says so."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)
        self.copies = [torch.empty_like(tensor) for tensor in tensors]
        self._put_back = _copier(self.tensors, self.copies)

    @torch.no_grad()
    def keep(self) -> None:
        """Copy the tensors as they are."""
        copy_all(self.copies, self.tensors)

    @torch.no_grad()
    def put_back_if(self, broken: Tensor) -> None:
        """Overwrite the tensors with the last copy if `broken`, bool []; else they stay as they are, bit for bit."""
        self._put_back(broken)


class Undo:
    """What a step may have changed by the time that it proves broken, as it was before.

    It knows the tensors that networks and optimisers have when it is made: load a checkpoint before.
    """

    def __init__(self, method: Method[Any], optimisers: Mapping[str, Optimizer]) -> None:
        modules = method.modules()
        self.pools = pools_of(modules)
        self.buffers = Backup(_buffers(modules))
        moving = [player for player in method.players[:-1] if player in optimisers]
        self.moved = {player: Backup(_moved_by(optimisers[player])) for player in moving}

    def begin(self) -> None:
        """Before a step: copy what its forward passes change."""
        self.buffers.keep()
        for pool in self.pools:
            pool.begin()

    def keep(self, player: str) -> None:
        """Copy what a player's optimiser changes next. After the last player's step nothing can break."""
        if player in self.moved:
            self.moved[player].keep()

    @torch.no_grad()
    def undo_if(self, broken: Tensor) -> None:
        """Put all of it back if `broken`, bool []; else everything stays as it is, bit for bit."""
        for backup in (self.buffers, *self.moved.values()):
            backup.put_back_if(broken)
        for pool in self.pools:
            pool.put_back_if(broken)


def pools_of(modules: Mapping[str, nn.Module]) -> list[ImagePool]:
    """The image pools among a method's modules."""
    return [pool for pool in modules.values() if isinstance(pool, ImagePool)]


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each of `sources` to that of `targets`: on a GPU a launch for each dtype, which must not be mixed in one."""
    for dtype in dict.fromkeys(target.dtype for target in targets):
        chosen = [n for n, target in enumerate(targets) if target.dtype == dtype]
        torch._foreach_copy_([targets[n] for n in chosen], [sources[n] for n in chosen])


def put_back_if(broken: Tensor, now: Sequence[Tensor], before: Sequence[Tensor]) -> None:
    """Overwrite each of `now` with that of `before`, of the same shape, if `broken`, bool []."""
    for held, kept in zip(now, before, strict=True):
        torch.where(broken.to(held.device), kept, held, out=held)


def _copier(now: list[Tensor], before: list[Tensor]) -> Callable[[Tensor], None]:
    """`put_back_if` for these tensors: in one launch where there are fused kernels."""
    if now and launching.takes(*now):
        from train.kernels import copying

        if copying.fits(now, before):
            return copying.ConditionalCopy(now, before)
    return lambda broken: put_back_if(broken, now, before)


def _buffers(modules: Mapping[str, nn.Module]) -> list[Tensor]:
    """What checkpoints hold beside parameters, in a fixed order."""
    held = [value for module in modules.values() for value in module.state_dict(keep_vars=True).values()]
    return [value for value in held if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)]


def _moved_by(optimiser: Optimizer) -> list[Tensor]:
    """What a step of an Adam changes. Moments that it has not yet are made, as its first step would make them."""
    moved = []
    for parameter in (p for group in optimiser.param_groups for p in group["params"]):
        state = optimiser.state[parameter]
        if not state:
            place = parameter.device if optimiser.defaults["fused"] else torch.device("cpu")
            state["step"] = torch.zeros((), dtype=torch.float32, device=place)
            state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter).detach() for _ in range(2))
        moved += [parameter.detach(), *state.values()]
    return moved
