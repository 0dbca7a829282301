"""From a table of tiles to the moments of a window: as published, as a plain loop has it, and with tiles left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from store.slides.geometry import Rect
from tests.support.places import GOLDEN
from train.networks.norms import InstanceNorm
from train.translate.moments.field import Field
from train.translate.moments.given import Given, weights_of
from train.translate.moments.layout import Layout
from train.translate.moments.table import kernel_field, kernel_weights, local_field, nearest, node, pooled
from train.translate.settings import Kernel

SIDE = 64  # px of a tile
LAYOUT = Layout(norms=2, gates=1)  # means 0 and 1, deviations 2 and 3, a mean and a maximum
NAN = np.float32(np.nan)


def drawn_table(rows: int = 4, columns: int = 5, layout: Layout = LAYOUT) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0.5, 2, (rows, columns, layout.size)).astype(np.float32)


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[np.float32]]:
    """Computed by the KIN repository (MIT, commit c464433), evaluated on drawn features of 4 x 5 tiles."""
    with np.load(GOLDEN / "kernelized_norm.npz") as file:
        return dict(file)


def normalised(golden: dict[str, NDArray[np.float32]], tile: NDArray[np.float32], field: Field) -> Tensor:
    """A tile through our instance norm with its moments given."""
    norm = InstanceNorm(tile.shape[1], affine=True)
    with torch.no_grad():
        norm.weight.copy_(torch.from_numpy(golden["weight"]).flatten())
        norm.bias.copy_(torch.from_numpy(golden["bias"]).flatten())
        norm.moments = Given(field, (tile.shape[2], tile.shape[3]))
        made: Tensor = norm(torch.from_numpy(tile))
    return made


@pytest.mark.parametrize(
    ("name", "kernel", "side"),
    [("constant3", Kernel.CONSTANT, 3), ("gaussian3", Kernel.GAUSSIAN, 3), ("gaussian5", Kernel.GAUSSIAN, 5)],
)
def test_kernel_is_the_published_one(
    golden: dict[str, NDArray[np.float32]], name: str, kernel: Kernel, side: int
) -> None:
    """The published table has unbiased deviations without epsilon, so it is given here; ours is `collect`'s."""
    table = np.concatenate((golden["mean_table"], golden["std_table"]), axis=2)
    weights = kernel_weights(kernel, side)
    np.testing.assert_allclose(weights, golden[f"kernel_{name}"], atol=1e-7)
    for row in range(4):
        for column in range(5):
            field = kernel_field(table, Layout(norms=6, gates=0), row, column, weights)
            made = normalised(golden, golden["tiles"][row, column], field)
            np.testing.assert_allclose(made, golden[f"kin_{name}"][row, column], rtol=0, atol=1e-5)


def test_thumbnail_is_the_published_one(golden: dict[str, NDArray[np.float32]]) -> None:
    """Published: the unbiased variance of the thumbnail plus 1e-5; ours is biased, as our norms are."""
    variance, mean = torch.var_mean(torch.from_numpy(golden["thumbnail"]), dim=(0, 2, 3), correction=1)
    field = Field.everywhere(torch.cat((mean, (variance + 1e-5).sqrt())), Layout(norms=6, gates=0))
    for row in range(4):
        for column in range(5):
            made = normalised(golden, golden["tiles"][row, column], field)
            np.testing.assert_allclose(made, golden["tin"][row, column], rtol=0, atol=1e-5)
    np.testing.assert_allclose(
        normalised(golden, golden["thumbnail"], field), golden["thumbnail_out"], rtol=0, atol=1e-5
    )


def test_skipped_tiles_are_left_out_of_a_kernel() -> None:
    table, weights = drawn_table(), kernel_weights(Kernel.GAUSSIAN, 3)
    table[1, 1] = table[0, 2] = NAN
    shares = weights.copy()
    shares[0, 0] = 0  # of tile (1, 1), seen from (2, 2)
    around = table[1:4, 1:4].astype(np.float64)
    around[0, 0] = 0
    expected = (shares[..., None] * around).sum(axis=(0, 1)) / shares.sum()
    np.testing.assert_allclose(kernel_field(table, LAYOUT, 2, 2, weights).nodes[0, :, 0, 0], expected, rtol=1e-6)


def test_without_a_tile_around_it_is_the_nearest() -> None:
    table = np.full((5, 7, LAYOUT.size), NAN)
    table[4, 1], table[0, 6] = 1, 2
    weights = kernel_weights(Kernel.CONSTANT, 3)
    for place, value in (((0, 0), 1), ((0, 5), 2), ((0, 3), 2), ((4, 2), 1), ((2, 2), 1)):
        assert (nearest(table, *place) == value).all()
        assert (kernel_field(table, LAYOUT, *place, weights).nodes == value).all()
        assert (node(table, LAYOUT, *place) == value).all()
    table[:] = NAN
    with pytest.raises(AssertionError, match="every tile was skipped"):
        nearest(table, 0, 0)


def test_pooled_moments_are_those_of_all_pixels_together() -> None:
    draw = np.random.default_rng(0)
    maps = draw.normal(draw.uniform(-3, 3, (6, 2, 1)), draw.uniform(0, 2, (6, 2, 1)), (6, 2, 500))
    epsilon = 1e-5
    deviations = np.sqrt(maps.var(axis=2) + epsilon)
    gates = draw.uniform(size=(6, 2))
    rows = np.concatenate((maps.mean(axis=2), deviations, gates), axis=1).astype(np.float32)
    together = maps.transpose(1, 0, 2).reshape(2, -1)
    expected = [*together.mean(axis=1), *np.sqrt(together.var(axis=1) + epsilon), *gates.mean(axis=0)]
    np.testing.assert_allclose(pooled(rows, LAYOUT), expected, rtol=1e-5)
    with_skipped = np.concatenate((rows, np.full((1, LAYOUT.size), NAN)))
    np.testing.assert_array_equal(pooled(with_skipped, LAYOUT), pooled(rows, LAYOUT))


def at_each_pixel(field: Field, height: int, width: int) -> NDArray[np.float32]:
    """A field at the pixels of its window, [K,height,width]."""
    at, (rows, columns) = field.geometry, field.nodes.shape[2:]
    down = weights_of(height, height, at.top, at.spacing, rows)
    across = weights_of(width, width, at.left, at.spacing, columns)
    return torch.einsum("hr,wc,krc->khw", down, across, field.nodes[0]).numpy()


def plain_local(table: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float64]:
    """Bilinear between centres, clamped outside, for a whole picture, [K,rows,columns]: first down, then across."""
    centres = [(np.arange(count) + 0.5) * SIDE for count in table.shape[:2]]
    places = [np.arange(count) + 0.5 for count in (rows, columns)]
    down = np.apply_along_axis(lambda line: np.interp(places[0], centres[0], line), 0, table)
    return np.apply_along_axis(lambda line: np.interp(places[1], centres[1], line), 1, down).transpose(2, 0, 1)


@pytest.mark.parametrize(
    "window",
    [
        Rect(top=0, left=0, height=256, width=320),  # all
        Rect(top=0, left=0, height=70, width=90),
        Rect(top=28, left=36, height=40, width=8),  # between the first two centres, and around one
        Rect(top=100, left=100, height=150, width=132),
        Rect(top=200, left=280, height=60, width=44),  # beyond the picture, where it was filled
        Rect(top=0, left=4, height=8, width=8),
        Rect(top=32, left=32, height=64, width=64),  # from centre to centre
    ],
)
def test_local_is_bilinear_between_centres_whatever_the_window(window: Rect) -> None:
    table = drawn_table()
    whole = plain_local(table, 260, 324)
    field = local_field(table, LAYOUT, SIDE, window)
    expected = whole[:, window.top : window.bottom, window.left : window.right]
    np.testing.assert_allclose(at_each_pixel(field, window.height, window.width), expected, rtol=1e-5)


def test_a_skipped_tile_has_the_mean_of_those_around_it() -> None:
    table = drawn_table()
    table[1, 1] = table[1, 2] = NAN
    known = np.delete(table[0:3, 0:3].reshape(9, -1), [4, 5], axis=0)
    np.testing.assert_allclose(node(table, LAYOUT, 1, 1), known.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(node(table, LAYOUT, 0, 0), table[0, 0])


def test_a_map_without_variance_has_the_moments_of_those_around_it_if_they_vary() -> None:
    table = drawn_table(1, 3)
    mean, deviation = 0, 2  # of the first map
    table[0, 1, deviation] = 0
    found = node(table, LAYOUT, 0, 1)
    assert found[[mean, deviation]] == pytest.approx(table[0, [0, 2]][:, [mean, deviation]].mean(axis=0))
    np.testing.assert_array_equal(found[[1, 3, 4, 5]], table[0, 1, [1, 3, 4, 5]])
    table[0, :, deviation] = 0
    np.testing.assert_array_equal(node(table, LAYOUT, 0, 1), table[0, 1])
