"""The conditional copy of many tensors at once against a loop over them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.kernels import DEVICE, count_launches, draw, kernels
from train.loop.undo import Backup, put_back_if


def tensors() -> list[Tensor]:
    """What networks and optimisers hold, and odder things: scalars, integers, halves, slices that start anywhere."""
    flat = draw(20)
    return [
        draw(1),
        draw(5, 3, 3, 3).contiguous(memory_format=torch.channels_last),
        draw(9000),
        draw(7, dtype=torch.bfloat16),
        draw(2, 2, dtype=torch.bfloat16),
        torch.tensor(3, device=DEVICE),
        torch.tensor(2.5, device=DEVICE),
        torch.tensor([True, False, True], device=DEVICE),
        flat[1:8],
        flat[8:],
        draw(0),
    ]


@pytest.mark.parametrize("broken", [True, False])
def test_a_backup_is_put_back_where_the_flag_says_so(broken: bool) -> None:
    held = tensors()
    flag = torch.tensor(broken, device=DEVICE)
    with kernels():
        backup = Backup(held)
    assert type(backup._put_back).__name__ == "ConditionalCopy"
    for seed in (1, 2):
        before = [tensor.clone() for tensor in held]
        backup.keep()
        for tensor in held:
            tensor.copy_(draw(*tensor.shape, seed=seed))
        changed = [tensor.clone() for tensor in held]
        expected = [tensor.clone() for tensor in held]
        put_back_if(flag, expected, before)
        backup.put_back_if(flag)
        assert all(map(torch.equal, held, expected))
        assert all(map(torch.equal, held, before if broken else changed))


def test_tensors_with_gaps_are_put_back_one_by_one() -> None:
    held = [draw(4, 6)[:, :3], draw(3)]
    with kernels():
        backup = Backup(held)
    assert type(backup._put_back).__name__ != "ConditionalCopy"
    before = [tensor.clone() for tensor in held]
    backup.keep()
    for tensor in held:
        tensor.zero_()
    backup.put_back_if(torch.tensor(True, device=DEVICE))
    assert all(map(torch.equal, held, before))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a GPU")
def test_a_backup_is_put_back_in_one_launch() -> None:
    backup = Backup([draw(100, seed=seed) for seed in range(50)])
    flag = torch.tensor(False, device=DEVICE)
    assert count_launches(lambda: backup.put_back_if(flag)) == 1
