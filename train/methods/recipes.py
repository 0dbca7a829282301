"""From a method's name to its settings: its published recipe, then what a person asks for.

`presets/<method>.toml` is the recipe of a method as published, and lies below everything else that is given: a method
that is named is the published one in all that nobody changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from store.schema import SettingsError
from store.settings import layered, validate
from train.methods.registry import known
from train.settings import TrainSettings

PRESETS = Path(__file__).parents[1] / "presets"
NCE = ("adversarial", "nce")
READS: dict[str, tuple[str, ...]] = {
    "pix2pix": ("adversarial", "l1"),
    "pyramid_p2p": ("adversarial", "l1", "octaves"),
    "cyclegan": ("adversarial", "cycle", "identity"),
    "cut": NCE,
    "cut_paired": (*NCE, "pyramid"),
    "fastcut": NCE,
    "asp": (*NCE, "asp", "pyramid"),
    "attention_gan": (*NCE, "asp", "pyramid"),
}
"""The weights that a method reads."""


def load_recipe(configs: Sequence[Path], overrides: Sequence[str]) -> TrainSettings:
    """Settings from default < the method's published recipe < TOML files in their order < `key=value`.

    Raises SettingsError, also for a `key=value` that the method would not read.
    """
    asked = layered(configs, overrides)
    method = known(str(asked.get("method", TrainSettings.method)))
    for override in overrides:
        _check_read(method, override.partition("=")[0].strip())
    return validate(TrainSettings, layered((published(method), *configs), overrides))


def published(method: str) -> Path:
    """The file with a method's published recipe."""
    return PRESETS / f"{method}.toml"


def _check_read(method: str, key: str) -> None:
    group, _, name = key.partition(".")
    reads = READS[method]
    heard = {"weights": name in reads or not name, "asp": "asp" in reads, "contrast": "nce" in reads}
    if not heard.get(group, True):
        raise SettingsError(
            f"--set {key}: method = {method} does not read it; its weights are {', '.join(reads)}. Leave it "
            "out, or name another method"
        )
