"""Settings: defaults, TOML, `--set`; what is unknown or of a wrong type; read back equal."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import pytest

from prep.settings import PrepSettings
from store.schema import FORBID_UNKNOWN, Manifest, SettingsError
from store.settings import differences, load, plain, resolve_preset, to_toml, validate
from tests.support.stores import small_manifest
from train.settings import TrainSettings


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Inner:
    __pydantic_config__ = FORBID_UNKNOWN

    rate: float = 2e-4
    zooms: tuple[int, ...] = (1, 2, 4)


@dataclass(frozen=True, kw_only=True)
class Outer:
    __pydantic_config__ = FORBID_UNKNOWN

    name: str = ""
    seed: int = 0
    fast: bool = False
    colour: Colour = Colour.RED
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise SettingsError(f"seed = {self.seed}: must be at least 0")


def test_default_then_file_then_override(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('seed = 3\nname = "file"\n[inner]\nrate = 0.5\n', encoding="utf-8")
    assert load(Outer) == Outer()
    assert load(Outer, file) == Outer(seed=3, name="file", inner=Inner(rate=0.5))
    assert load(Outer, file, ["seed=4", "inner.zooms=[8]"]) == Outer(
        seed=4, name="file", inner=Inner(rate=0.5, zooms=(8,))
    )
    assert load(Outer, None, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("name=HER2", Outer(name="HER2")),
        ("name=", Outer()),
        ("name='3'", Outer(name="3")),
        (r"name=^(.+?)_\d+$", Outer(name=r"^(.+?)_\d+$")),
        ("name=a=b", Outer(name="a=b")),
        (" seed = 7 ", Outer(seed=7)),
        ("fast=true", Outer(fast=True)),
        ("colour=blue", Outer(colour=Colour.BLUE)),
        ("inner.rate=1", Outer(inner=Inner(rate=1.0))),
        ("inner.rate=1e-5", Outer(inner=Inner(rate=1e-5))),
    ],
)
def test_a_value_is_toml_and_a_bare_word_is_a_string(override: str, expected: Outer) -> None:
    assert load(Outer, None, [override]) == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sed=1", r"^unknown setting 'sed'; did you mean 'seed'\? Known here: name, seed, fast, colour, inner$"),
        ("inner.ratio=1", r"^unknown setting 'inner.ratio'; did you mean 'rate'\? Known here: rate, zooms$"),
        ("qqq=1", r"^unknown setting 'qqq'; did you mean "),
        ("seed=three", r'^setting seed = "three": .*integer'),
        ("seed=1.5", r"^setting seed = 1.5: .*integer"),
        ("seed=true", r"^setting seed = true: .*integer"),
        ("fast=1", r"^setting fast = 1: .*boolean"),
        ("name=3", r'^setting name = 3: must be a word, so put it in quotes: name="3"$'),
        ("colour=green", r"^setting colour = \"green\": input should be 'red' or 'blue'$"),
        ("inner.zooms=[1, 'x']", r'^setting inner.zooms.1 = "x": .*integer'),
        ("inner=3", r"^setting inner = 3: "),
        ("inner.rate.deep=3", r"^setting inner.rate = .*number"),
        ("inner.rate=nan", r"^--set 'inner.rate=nan': nan is not a finite number; give a number, a word or a list$"),
        ("inner.rate=-inf", r"^--set 'inner.rate=-inf': -inf is not a finite number; give"),
        ("seed=2020-01-01", r"has a type that is not supported .*use numbers, strings"),
        ("seed", r"^--set 'seed': write KEY=VALUE, for example --set seed=3$"),
        ("=3", r"^--set '=3': write KEY=VALUE"),
        ("inner..rate=3", r"^--set 'inner..rate=3': write KEY=VALUE"),
        ("seed=-1", r"^seed = -1: must be at least 0$"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_meant(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(Outer, None, [override])


@pytest.mark.parametrize(
    ("override", "quoted"),
    [
        ("name=2024", 'name="2024"'),
        ("he_name={}", 'he_name="{}"'),
        ("stain=true", 'stain="true"'),
        ("test_slides=[1, 2]", 'test_slides=["2", …]'),
    ],
)
def test_a_word_that_looks_like_something_else_is_told_with_its_quotes(override: str, quoted: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(PrepSettings, None, ["split=by-slide", override])
    assert f"must be a word, so put it in quotes: {quoted}" in str(caught.value)
    load(PrepSettings, None, ["split=by-slide", quoted.replace(", …", "")])


def test_a_value_is_no_group() -> None:
    with pytest.raises(SettingsError, match=r"--set 'seed.x=3': 'seed' is a value, not a group of settings"):
        load(Outer, None, ["seed=1", "seed.x=3"])


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(SettingsError, match=r"setting seed = .*; unknown setting 'colr'; did you mean 'colour'"):
        load(Outer, None, ["seed=x", "colr=red"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = 1\nseed = \n", "is not TOML: .*line 2.*; correct that line"),
        (b"seed = 1\nseed = 2\n", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"sead = 1", "did you mean 'seed'"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        load(Outer, file)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no settings file .*none\.toml; give an existing TOML file, or none"):
        load(Outer, tmp_path / "none.toml")
    with pytest.raises(SettingsError, match=r"cannot be read \(Is a directory\)"):
        load(Outer, tmp_path)


def test_a_config_is_a_path_or_the_name_of_a_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    presets, mine = tmp_path / "presets", tmp_path / "mine.toml"
    presets.mkdir()
    for file in (mine, presets / "demo.toml", presets / "long.toml"):
        file.write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert resolve_preset(mine, presets) == mine
    assert resolve_preset(Path("mine.toml"), presets) == Path("mine.toml")
    assert resolve_preset(Path("demo"), presets) == presets / "demo.toml"
    (tmp_path / "demo").mkdir()
    assert resolve_preset(Path("demo"), presets) == presets / "demo.toml"
    (tmp_path / "long").write_text("", encoding="utf-8")
    assert resolve_preset(Path("long"), presets) == Path("long")


@pytest.mark.parametrize("name", ["other", "mine.toml", "presets/demo", "demo.toml"])
def test_what_is_neither_a_path_nor_a_preset_is_refused_with_the_presets(name: str, tmp_path: Path) -> None:
    for preset in ("demo", "long"):
        (tmp_path / f"{preset}.toml").write_text("", encoding="utf-8")
    with pytest.raises(SettingsError, match=rf"no settings file {name}, .*name of a preset: demo, long$"):
        resolve_preset(Path(name), tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        Outer(),
        Outer(name='quote " back \\ tab \t line \n ü 中 \x7f \x00', seed=2**60, inner=Inner(rate=1e-300, zooms=())),
        Outer(inner=Inner(rate=0.1 + 0.2)),
        PrepSettings(slide_pattern=r"^(.+?)_\d+", mpp=0.4661),
        TrainSettings(),
    ],
)
def test_settings_read_back_equal(settings: object, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(to_toml(settings), encoding="utf-8", newline="")
    assert load(type(settings), file) == settings
    assert validate(type(settings), plain(settings)) == settings


def test_a_manifest_reads_back_equal() -> None:
    manifest = small_manifest()
    assert validate(Manifest, plain(manifest)) == manifest


def test_differences_name_every_leaf() -> None:
    old, new = {"a": 1, "b": {"c": [1], "d": "x"}, "gone": True}, {"a": 1, "b": {"c": [2], "d": "x"}}
    assert differences(old, new) == ["b.c: [1] -> [2]", "gone: true -> null"]
    assert differences(old, old) == []
