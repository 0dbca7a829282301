"""The fused loss of PatchNCE against its formula."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.support.kernels import DEVICE, agree, count_interpreted, draw, kernels
from train.losses import patch_nce


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 5, 4), (2, 1, 193, 2)], ids=str)
def test_patch_nce_is_its_formula_with_its_gradient(shape: tuple[int, ...]) -> None:
    """Of one patch, whose loss is 0, of few and of many; of all taps at once."""
    key = F.normalize(draw(*shape, seed=1), dim=-1)
    agree(
        lambda query: patch_nce(query, key, 0.07),
        lambda query: -(query @ key.double().mT / 0.07).log_softmax(dim=-1).diagonal(dim1=-2, dim2=-1),
        F.normalize(draw(*shape), dim=-1),
        tolerance=1e-5,
    )


def test_the_loss_of_patches_that_all_agree_is_not_lost_in_rounding() -> None:
    vectors = torch.eye(4, device=DEVICE)[None]
    with kernels():
        made = patch_nce(vectors, vectors, 0.07)
    torch.testing.assert_close(made.cpu(), torch.full((1, 4), 1.874e-6), rtol=0, atol=1.5e-7)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy, which interprets, warns of such numbers
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_seen(broken: float) -> None:
    query = F.normalize(draw(1, 4, 3), dim=-1)
    query[0, 1, 2] = broken
    with kernels():
        assert not patch_nce(query, query, 0.07).isfinite().all()


@pytest.mark.skipif(DEVICE.type == "cuda", reason="counts interpreted kernels")
def test_it_is_one_kernel_forward_and_one_backward() -> None:
    query = draw(3, 2, 4, 3).requires_grad_()
    with kernels():
        assert count_interpreted(lambda: patch_nce(query, query, 0.07)) == 1
        assert count_interpreted(lambda: torch.autograd.backward(patch_nce(query, query, 0.07).mean())) == 2
