"""At which scale a picture is translated, or why not: what the picture says, what the generator says, what is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.schema import SettingsError
from train.translate.scale import Claim, Scale, Wish, choose_scale

TRAINED = {"x1": 1.0, "x2": 0.5, "x4": 0.25}
SLIDE, PLAIN = True, False


def choose(mpp: float | None, *, slide: bool = PLAIN, wish: Wish | None = None, trained: bool = True) -> Scale:
    claim = Claim(path=Path("a.svs"), mpp=mpp, is_slide=slide)
    return choose_scale(claim, TRAINED if trained else {}, wish or Wish())


@pytest.mark.parametrize("mpp", [0.25, 0.274, 0.228, 0.46, 0.55, 1.09, 0.91])
def test_a_picture_near_a_trained_scale_is_translated_as_it_is(mpp: float) -> None:
    assert choose(mpp, slide=SLIDE) == Scale(source=mpp, translated=mpp)


@pytest.mark.parametrize(("mpp", "nearest"), [(0.22, 0.25), (0.28, 0.25), (0.36, 0.5), (0.75, 1), (2.0, 1)])
def test_a_picture_of_another_scale_is_refused_with_both_and_the_remedy(mpp: float, nearest: float) -> None:
    with pytest.raises(SettingsError) as refused:
        choose(mpp)
    assert f"has {mpp:g} µm/px" in str(refused.value)
    assert "trained at 1 or 0.5 or 0.25 µm/px: more than 10 % apart" in str(refused.value)
    assert f"--mpp model resamples it to {nearest:g}" in str(refused.value)
    scale = choose(mpp, wish=Wish(wanted="model"))
    assert (scale.source, scale.translated, scale.resampled) == (mpp, nearest, True)


def test_of_a_slide_the_scale_must_be_known_and_can_be_said() -> None:
    with pytest.raises(
        SettingsError, match=r"says no micrometres per pixel.*0\.25 µm/px; give the slide's with --source"
    ):
        choose(None, slide=SLIDE)
    assert choose(None, slide=SLIDE, wish=Wish(said=0.25)).translated == 0.25
    with pytest.raises(SettingsError, match=r"has 0\.35 µm/px \(--source-mpp\), .* more than 10 % apart"):
        choose(None, slide=SLIDE, wish=Wish(said=0.35))


def test_what_is_not_known_of_a_plain_picture_or_of_the_generator_is_a_note() -> None:
    plain = choose(None)
    assert plain.translated is None
    assert "says no micrometres per pixel" in plain.notes[0]
    unknown = choose(0.3, slide=SLIDE, trained=False)
    assert unknown.translated == 0.3
    assert "does not say at which" in unknown.notes[0]
    assert "0.3 µm" in unknown.notes[0]
    assert choose(None, slide=SLIDE, trained=False).translated is None


def test_what_the_user_says_wins_over_the_file_with_a_note() -> None:
    scale = choose(0.1, wish=Wish(said=0.5))
    assert (scale.source, scale.translated, scale.resampled) == (0.5, 0.5, False)
    assert "says 0.1 µm/px; --source-mpp 0.5 is taken" in scale.notes[0]


@pytest.mark.parametrize(
    ("mpp", "wanted", "trained", "message"),
    [
        (
            None,
            "model",
            True,
            r"--mpp model: a\.svs says no micrometres per pixel, and the generator was trained at 1 or",
        ),
        (None, "0.5", True, r"--mpp 0\.5: a\.svs says no micrometres per pixel, and the generator was trained at 1 or"),
        (None, "0.5", False, r"a\.svs says no micrometres per pixel, and the generator does not say at which either"),
        (0.5, "model", False, r"the generator does not say .*give .* --mpp NUMBER \(the picture has 0\.5 µm/px\), or"),
        (
            None,
            "model",
            False,
            r"^--mpp model: the generator does not say .*, and say that of the picture",
        ),
        (0.5, "0.4", True, r"--mpp 0\.4: the generator was trained at .* more than 10 % apart; .*near 0\.5"),
    ],
)
def test_a_scale_that_cannot_be_made_is_refused(mpp: float | None, wanted: str, trained: bool, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        choose(mpp, wish=Wish(wanted=wanted), trained=trained)


def test_a_number_is_taken_near_the_generators_or_if_that_is_unknown() -> None:
    assert choose(0.1, wish=Wish(wanted="0.27")).translated == 0.27
    assert choose(0.1, wish=Wish(wanted="0.4"), trained=False).translated == 0.4
    assert not choose(0.25, wish=Wish(wanted="model")).resampled
    assert not choose(0.5, wish=Wish(wanted="0.5")).resampled


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "models", "0,25"])
def test_what_is_no_scale_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--mpp .*: give micrometres per pixel, e\.g\. 0\.5, or `model`"):
        Wish(wanted=text)


@pytest.mark.parametrize("said", [0.0, -0.5, float("nan"), float("inf")])
def test_a_scale_of_the_picture_is_a_number_above_0(said: float) -> None:
    with pytest.raises(SettingsError, match="--source-mpp"):
        Wish(said=said)
