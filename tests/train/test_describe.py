"""What a step and a pass cost, against the counts that were made of the published networks."""

from __future__ import annotations

import pytest

from train.describe import describe_method, measure_step
from train.methods.recipes import load_recipe
from train.settings import Precision

TERA, GIB = 1e12, 2**30


def test_a_step_of_asp_costs_what_was_counted_and_sharing_passes_costs_less() -> None:
    """At 512 px: 2.69 TFLOP as published, of which one encoding of three in a forward direction is saved."""
    published = measure_step(load_recipe([], ["method=asp", "contrast.share_passes=false"]), 512)
    shared = measure_step(load_recipe([], ["method=asp"]), 512)
    assert published.flops / TERA == pytest.approx(2.69, rel=0.005)
    assert (published.flops - shared.flops) / TERA == pytest.approx(0.827 / 3, rel=0.01)
    assert shared.saved_bytes < 0.6 * published.saved_bytes  # keys keep nothing


def test_attention_makes_a_step_as_much_dearer_as_was_counted() -> None:
    settings = load_recipe([], ["contrast.share_passes=false", "generator.attention.norm=none"])
    assert measure_step(settings, 512).flops / TERA == pytest.approx(3.16, rel=0.015)


@pytest.mark.parametrize(("method", "measured"), [("asp", 1.8), ("attention_gan", 2.1)])
def test_the_memory_of_a_step_is_near_what_a_gpu_took(method: str, measured: float) -> None:
    """GiB at the peak, on an H200 in bf16 at 512 px, where cuDNN takes almost nothing besides."""
    cost = measure_step(load_recipe([], [f"method={method}"]), 512, Precision.BF16)
    assert cost.peak_bytes / GIB == pytest.approx(measured, rel=0.1)
    assert cost.peak_bytes > cost.saved_bytes + 4 * cost.trained_bytes


@pytest.mark.parametrize("method", ["pix2pix", "pyramid_p2p", "cyclegan", "cut_paired", "fastcut"])
def test_every_method_can_be_measured_and_costs_grow_with_the_area(method: str) -> None:
    small, large = (measure_step(load_recipe([], [f"method={method}"]), side) for side in (256, 512))
    assert large.flops == pytest.approx(4 * small.flops, rel=0.03)
    assert large.saved_bytes == pytest.approx(4 * small.saved_bytes, rel=0.05)


@pytest.mark.parametrize(
    ("overrides", "passes"),
    [
        (["method=asp"], ["generator: 7,837,699 parameters, 396.", "discriminator: 2,791,905 parameters, 15."]),
        (["generator.attention.norm=none"], ["generator: 9,684,831 parameters, 547."]),
        (["method=pix2pix"], ["generator: 54,413,955 parameters, ", "6x512x512"]),
        (["method=cyclegan"], ["generator_he: 11,378,179 parameters, ", "5 x identity_he"]),
    ],
)
def test_describe_says_parameters_operations_and_terms(overrides: list[str], passes: list[str]) -> None:
    """198.2 GMAC of the backbone and 273.5 with AMMFI are 396 and 547 GFLOP."""
    said = describe_method(load_recipe([], overrides), 512)
    for expected in [
        *passes,
        "memory of a GPU for it, computed and not measured: ",
        "an output pixel depends on ",
        "a training step at batch 1: ",
        "the generator's terms: ",
    ]:
        assert expected in said


def test_describe_says_every_stage() -> None:
    said = describe_method(load_recipe([], []), 512)
    for stage in ("stem", "encoder.0", "encoder.1", "blocks.5", "attention.level2", "decoder.0", "decoder.1", "output"):
        assert f"\n  {stage} " in said
    assert "128x512x512" in said  # the tapped convolution, before its blur
    rows = [line.split() for line in said.splitlines()]
    made = [(row[0], row[row.index("->") + 1]) for row in rows if "->" in row]
    for level, channels, side in ((2, 256, 128), (1, 128, 256)):  # the tensors of AMMFI at both levels
        place = made.index((f"attention.level{level}", f"{2 * channels}x{side}x{side}"))
        assert made[place - 5 : place] == [
            ("encoder_projection", f"{channels // 2}x{side}x{side}"),
            ("decoder_projection", f"{channels // 2}x{side}x{side}"),
            ("channel_attention", f"{channels}x1x1"),
            ("spatial_attention", f"1x{side}x{side}"),
            ("gate_conv", f"{channels}x{side}x{side}"),
        ]
