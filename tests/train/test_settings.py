"""Training's settings: published defaults, what is refused and how, and the files that come with the program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from store.schema import SettingsError
from store.settings import load, plain, to_toml
from tests.support.places import ROOT
from train.methods.outline import build_outline
from train.methods.recipes import load_recipe, published
from train.methods.registry import METHODS, build_method
from train.settings import (
    Lookup,
    Network,
    Norm,
    Objective,
    Precision,
    RateStep,
    Sampling,
    Schedule,
    TrainSettings,
    WeightSettings,
)

PRESETS = sorted((ROOT / "train" / "presets").glob("*.toml"))


def test_the_defaults_are_the_published_run() -> None:
    """ASP launcher for MIST, effective values; the paper's stem."""
    settings = TrainSettings()
    assert (settings.data.batch, settings.data.flip, settings.data.sampling) == (1, True, Sampling.REPLACEMENT)
    generator, discriminator = settings.generator, settings.discriminator
    assert (generator.base, generator.blocks, generator.stem, generator.output) == (64, 6, 3, 7)
    assert (discriminator.base, discriminator.layers) == (32, 5)
    assert (generator.norm, discriminator.norm) == (Norm.INSTANCE, Norm.INSTANCE)
    assert generator.spectral
    assert discriminator.spectral
    weights = plain(settings.weights)
    assert (weights["adversarial"], weights["nce"], weights["asp"], weights["pyramid"]) == (1, 10, 10, 10)
    contrast = settings.contrast
    assert (contrast.patches, contrast.width, contrast.temperature) == (256, 256, 0.07)
    assert (settings.asp.schedule, settings.asp.lookup) == (Schedule.LAMBDA, Lookup.LINEAR)
    optimiser = settings.optimiser
    assert (optimiser.learning_rate, optimiser.beta1, optimiser.beta2) == (2e-4, 0.5, 0.999)
    assert (optimiser.constant_epochs, optimiser.decay_epochs) == (30, 10)
    assert settings.precision is Precision.AUTO


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("discriminator.layers=0", "layers = 0: both must be at least 1"),
        ("generator.attention.reduction=0", "reduction = 0: .* at least 1, e.g. 16"),
        ("generator.attention.kernel=2", "kernel = 2: must be 1 or 3"),
        ("generator.attention.spatial_kernel=4", "spatial_kernel = 4: must be odd"),
        ("generator.blocks=4", "blocks = 4: .* PatchNCE taps the fifth"),
        ("generator.depth=4", "generator.depth = 4: the U-Net has at least 5 levels"),
        ("generator.stem=5", "generator.stem = 5: must be 3 or 7"),
        ("contrast.temperature=0", "temperature = 0.* above 0"),
        ("contrast.patches=1", "patches = 1.*at least 2"),
        ("weights.nce=-1", "weights.nce = -1.*: a weight is a number >= 0"),
        ("weights.nce=nan", "--set 'weights.nce=nan': nan is not a finite number"),
        ("data.views=[]", "name at least one view"),
        ('data.views=["x1", "x1"]', "each once"),
        ("data.view_weights=[1, 2]", "a number above 0 for each of the 3 views"),
        ("data.view_weights=[1, 2, 0]", "a number above 0 for each of the 3 views"),
        ("data.batch=0", "batch must be >= 1"),
        ("optimiser.learning_rate=0", "the rate must be above 0"),
        ("optimiser.beta1=1", "the betas in"),
        ("optimiser.constant_epochs=-1", "neither may be negative"),
        ("seed=-1", "the seed must be in"),
        ("time_limit=-1", "time_limit = -1.*minutes >= 0"),
        ("seed=1.5", "setting seed = 1.5"),
        ("generator.bas=32", r"unknown setting 'generator.bas'; did you mean 'base'\?"),
        ("epochs=5", r"'epochs'; did you mean 'optimiser.constant_epochs' or 'optimiser.decay_epochs'\?"),
        ("optimiser.epochs=5", r"'optimiser.epochs'; did you mean 'constant_epochs' or 'decay_epochs'\?"),
        ("batch=2", r"unknown setting 'batch'; did you mean 'data.batch'\?"),
        ("generator.batch=2", r"unknown setting 'generator.batch'; did you mean 'data.batch'\?"),
        ("learningrate=1", r"unknown setting 'learningrate'; did you mean 'optimiser.learning_rate'\?"),
        (
            "data.views=[x1]",
            r"""data.views = "\[x1\]": a list .*: data.views=\["x1"\] \(make: SET="'data.views=\[\\"x1\\"\]'"\)""",
        ),
        ("data.view_weights=2", r"data.view_weights = 2: a list has words in quotes: data.view_weights=\[2\]"),
        ("asp.schedule=cosine", "setting asp.schedule = \"cosine\".*'lambda'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_its_rule(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(TrainSettings, None, [override])


@pytest.mark.parametrize("preset", PRESETS, ids=lambda file: file.stem)
def test_presets_load_and_are_read_back_equal(preset: Path, tmp_path: Path) -> None:
    settings = load_recipe([preset], [])
    (tmp_path / "again.toml").write_text(to_toml(settings))
    assert load(TrainSettings, tmp_path / "again.toml") == settings
    assert load_recipe([tmp_path / "again.toml"], []) == settings


def test_every_method_has_its_published_recipe_and_the_matched_one() -> None:
    expected = {"demo", "small", "ablation_baseline", "ablation_multi", "ablation_attention", "ablation_both"}
    expected |= {f"{method}{suffix}" for method in METHODS for suffix in ("", "_matched")}
    assert {file.stem for file in PRESETS} == expected


def test_the_papers_method_as_published_is_what_the_defaults_say() -> None:
    assert load_recipe([], []) == TrainSettings()


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_named_is_the_published_one_in_all_that_nobody_changes(method: str, tmp_path: Path) -> None:
    named = load_recipe([], [f"method={method}"])
    assert named == load_recipe([published(method)], [])
    (tmp_path / "mine.toml").write_text(f'method = "{method}"\nseed = 3\n[generator]\nbase = 16\n')
    mine = load_recipe([tmp_path / "mine.toml"], ["generator.base=24"])
    assert mine == replace(named, seed=3, generator=replace(named.generator, base=24))


def test_later_files_win() -> None:
    demo, cut = PRESETS[0].with_name("demo.toml"), published("cut")
    assert load_recipe([cut, demo], []).generator.base == 24
    assert load_recipe([demo, cut], []).generator.base == 64


def lengths(settings: TrainSettings) -> tuple[int, int, RateStep]:
    optimiser = settings.optimiser
    return optimiser.constant_epochs, optimiser.decay_epochs, optimiser.rate_step


def test_recipes_are_the_published_ones() -> None:
    """The table of repository defaults in the methods' own repositories."""
    before, after = RateStep.BEFORE, RateStep.AFTER
    published_lengths = {
        "pix2pix": (100, 100, before),
        "pyramid_p2p": (100, 100, before),
        "cyclegan": (100, 100, before),
        "cut": (200, 200, after),
        "cut_paired": (30, 10, after),
        "fastcut": (150, 50, after),
        "asp": (30, 10, after),
        "attention_gan": (30, 10, after),
    }
    recipes = {method: load_recipe([], [f"method={method}"]) for method in published_lengths}
    assert {method: lengths(recipe) for method, recipe in recipes.items()} == published_lengths
    assert [m for m, r in recipes.items() if not r.data.paired] == ["cyclegan", "cut", "fastcut"]
    assert [m for m, r in recipes.items() if r.objective is Objective.CROSS_ENTROPY] == ["pix2pix", "pyramid_p2p"]
    assert [m for m, r in recipes.items() if r.discriminator.conditional] == ["pix2pix", "pyramid_p2p"]
    assert [m for m, r in recipes.items() if r.data.batch == 2] == ["pyramid_p2p"]
    assert [m for m, r in recipes.items() if r.generator.spectral] == ["asp", "attention_gan"]
    assert [m for m, r in recipes.items() if r.generator.attention.enabled] == ["attention_gan"]
    assert [m for m, r in recipes.items() if r.contrast.flip_equivariance] == ["fastcut"]


def test_matched_recipes_differ_in_nothing_that_is_not_the_methods_own() -> None:
    for method in METHODS:
        recipe = load_recipe([published(f"{method}_matched")], [])
        assert lengths(recipe) == (30, 10, RateStep.AFTER)
        assert (recipe.data.paired, recipe.data.batch, recipe.data.sampling) == (True, 1, Sampling.SHUFFLED)
        assert recipe.data.views == (("x1", "x2", "x4") if method == "attention_gan" else ("tile",))
        assert (recipe.generator.blocks, recipe.generator.network is Network.UNET) == (6, method == "pix2pix")


def test_the_ablation_is_the_four_rows_of_table_ii() -> None:
    rows = {row: load_recipe([published(f"ablation_{row}")], []) for row in ("baseline", "multi", "attention", "both")}
    assert rows["baseline"] == load_recipe([], ["method=asp"])
    assert rows["both"] == load_recipe([], [])
    assert rows["multi"] == replace(rows["baseline"], data=rows["both"].data)
    assert rows["attention"] == replace(rows["both"], data=rows["baseline"].data)


def test_the_weights_that_a_method_reads_are_those_that_change_it() -> None:
    for method, entry in METHODS.items():
        plain_settings = load_recipe([], [f"method={method}"])
        weights = build_outline(plain_settings).weights
        for name, value in vars(WeightSettings()).items():
            other: dict[str, Any] = {name: not value if isinstance(value, bool) else 77.0}
            changed = replace(plain_settings, weights=replace(plain_settings.weights, **other))
            moved = build_outline(changed).weights != weights
            assert moved == entry.reads_setting(f"weights.{name}"), (method, name)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method=cut", "weights.l1=3"],
            r"weights.l1 \(--set\): method = cut does not read it; it reads .*weights.adversarial, contrast, "
            r"weights.nce, weights.halve_nce. Remove it, or use a method that reads it \(pix2pix, pyramid_p2p\)",
        ),
        (["method=pix2pix", "contrast.patches=64"], r"contrast.patches \(--set\): method = pix2pix does not read it"),
        (["method=cut_paired", "asp.lookup=top"], r"asp.lookup \(--set\): method = cut_paired does not read it"),
        (["method=gan"], "method = 'gan': no such method; did you mean 'cyclegan'"),
    ],
)
def test_what_a_method_does_not_read_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_recipe([], overrides)


@pytest.mark.parametrize("name", ["mine.toml", "demo.toml"])  # the name of a preset does not make it one
def test_what_a_method_does_not_read_is_refused_in_a_file_too(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text('method = "cyclegan"\n[contrast]\nwidth = 64\n')
    with pytest.raises(SettingsError, match=rf"contrast.width \(.*{name}\): method = cyclegan does not read it; it re"):
        load_recipe([file], [])
    assert load_recipe([file], ["method=cut"]).contrast.width == 64
    assert load_recipe([file], [], resumed=True).contrast.width == 64  # of a run that was started before the check
    file.write_text('method = "cyclegan"\n[data]\nbatch = 2\n[weights]\ncycle = 5\n[generator]\nbase = 8\n')
    assert load_recipe([file], []).weights.cycle == 5


def test_presets_serve_several_methods_and_the_settings_of_a_run_are_complete(tmp_path: Path) -> None:
    """`demo` sets the weight of the pyramid, which pix2pix does not read; so does the settings.toml of such a run."""
    settings = load_recipe([Path("demo")], ["method=pix2pix"])
    assert settings.weights.pyramid == 100
    (tmp_path / "settings.toml").write_text(to_toml(settings))
    assert load_recipe([tmp_path / "settings.toml"], []) == settings


def test_a_preset_is_named_without_its_path() -> None:
    assert load_recipe([Path("cut_matched")], []) == load_recipe([published("cut_matched")], [])
    with pytest.raises(SettingsError, match=r"no settings file cutt, and no preset of that name; .*asp, asp_matched"):
        load_recipe([Path("cutt")], [])


def test_the_rows_of_the_papers_tables_belong_to_the_same_methods_in_training_and_evaluation() -> None:
    from evaluate.report.paper_tables import TABLE_ONE

    rows = {method: entry.paper_row for method, entry in METHODS.items() if entry.paper_row}
    assert rows == {method: row.name for method, row in TABLE_ONE.items()}


def test_each_method_names_its_paper() -> None:
    for entry in METHODS.values():
        assert any(
            venue in entry.source for venue in ("CVPR", "ICCV", "ECCV", "MICCAI", "Multi-Magnification", "unpublished")
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=pix2pix", "generator.attention.enabled=true"], "unet with generator.attention.enabled = true"),
        (["method=cut", "generator.network=unet"], "unet with method = cut: PatchNCE taps a ResNet"),
        (["method=pix2pix", "generator.spectral=true"], "spectral = true with transposed convolutions"),
        (["method=cyclegan", "generator.spectral=true"], "spectral = true with transposed convolutions"),
        (["method=cyclegan", "discriminator.conditional=true"], "conditional = true with method = cyclegan"),
        (["method=pix2pix", "data.paired=false"], "data.paired = false with method = pix2pix: it compares"),
        (["method=asp", "data.paired=false"], "data.paired = false with method = asp"),
        (["method=cut_paired", "data.paired=false"], "data.paired = false with method = cut_paired"),
        (["method=cut", "discriminator.conditional=true"], "data.paired = false with method = cut"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides: list[str], message: str) -> None:
    settings = load_recipe([], overrides)
    with torch.device("meta"), pytest.raises(SettingsError, match=message):
        build_method(settings)
