"""Training's settings: published defaults, what is refused and how, and the files that come with the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.schema import SettingsError
from store.settings import load, plain, to_toml
from train.choices import Lookup, Norm, Precision, Sampling, Schedule
from train.settings import TrainSettings

PRESETS = sorted((Path(__file__).parents[1] / "train" / "presets").glob("*.toml"))


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
    assert plain(settings.weights) == {"adversarial": 1, "nce": 10, "asp": 10, "pyramid": 10}
    assert plain(settings.contrast) == {"patches": 256, "width": 256, "temperature": 0.07}
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
        ("generator.stem=5", "generator.stem = 5: must be 3 or 7"),
        ("contrast.temperature=0", "temperature = 0.* above 0"),
        ("contrast.patches=1", "patches = 1.*at least 2"),
        ("weights.nce=-1", "weights.nce = -1.*: a weight is a number >= 0"),
        ("weights.nce=nan", "nan is no setting: use a finite number"),
        ("data.views=[]", "name at least one view"),
        ('data.views=["x1", "x1"]', "each once"),
        ("data.view_weights=[1, 2]", "a number above 0 for each of the 3 views"),
        ("data.view_weights=[1, 2, 0]", "a number above 0 for each of the 3 views"),
        ("data.batch=0", "batch must be >= 1"),
        ("optimiser.learning_rate=0", "the rate must be above 0"),
        ("optimiser.beta1=1", "the betas in"),
        ("optimiser.constant_epochs=-1", "neither may be negative"),
        ("seed=-1", "the seed must be in"),
        ("seed=1.5", "setting seed = 1.5"),
        ("generator.bas=32", "unknown setting 'generator.bas'; did you mean 'base'"),
        ("asp.schedule=cosine", "setting asp.schedule = \"cosine\".*'lambda'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_its_rule(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(TrainSettings, None, [override])


@pytest.mark.parametrize("preset", PRESETS, ids=lambda file: file.stem)
def test_presets_load_and_are_read_back_equal(preset: Path, tmp_path: Path) -> None:
    settings = load(TrainSettings, preset)
    assert settings != TrainSettings()
    (tmp_path / "again.toml").write_text(to_toml(settings))
    assert load(TrainSettings, tmp_path / "again.toml") == settings


def test_the_demo_preset_is_here() -> None:
    assert [file.name for file in PRESETS] == ["demo.toml"]
