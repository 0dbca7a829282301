"""Several upscalers on the same tiles: the numbers are those of a store's report, the sentence says what they say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prep.__main__ import app as prep
from prep.fidelity.entrants import Entrant
from prep.fidelity.measures import Change
from prep.fidelity.places import SHOWN, Compared, Patch, Shown, keep_most_apart
from prep.fidelity.verdict import judge, truth_of
from prep.settings import Recipe
from prep.upscaling.upscale import Lanczos
from prep.views import plan_geometries
from store.schema import Box, Split, Stain, Upscaler
from store.weights import FOLDER_VARIABLE
from tests.support.command_line import CommandLine, Outcome
from tests.support.networks import write_network
from tests.support.stores import small_table
from tests.support.tiles import lanczos, write_tiles

Command = Callable[..., Outcome]
OPTIONS = ("view_side=64", "margin=4", "device=cpu", "precision=fp32")
SETTINGS = ("--threads", "2", *(word for option in OPTIONS for word in ("--set", option)))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """`python -m prep`, on a machine without BSRGAN's weights."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "no-weights"))
    monkeypatch.chdir(tmp_path)
    return CommandLine("prep", prep, monkeypatch, capsys)


def test_the_numbers_are_those_of_a_store_that_each_upscaler_makes(
    mist: Path, tmp_path: Path, command: Command
) -> None:
    network = write_network(tmp_path / "own.pth")
    words = ("fidelity", "--data", mist, "--upscalers", f"lanczos,bsrgan,{network}", "--limit", "0", *SETTINGS)
    done = command(*words)
    assert done.code == 0, done.err
    assert f"left out: bsrgan: BSRGAN.pth is not in {tmp_path / 'no-weights'}; `make weights` fetches it" in done.err
    found = json.loads((tmp_path / "tiles-upscalers" / "upscalers.json").read_text())
    title = "RealESRGAN Compact own.pth"
    assert [*found["upscalers"]] == ["lanczos", title]
    assert len(found["pictures"]) == 9 * 2 * 2
    chosen = ("--set", "upscaler=file", "--set", f"upscaler_file={network}")
    assert command("build", "--data", mist, "--store", "s.zarr", *SETTINGS, *chosen).code == 0
    assert command("fidelity", "s.zarr", "--limit", "0", "--out", "own").code == 0
    groups = json.loads((tmp_path / "own" / "fidelity.json").read_text())["groups"]
    own = {(each["view"], each["stain"], one["pair"]): one for each in groups for one in each["pictures"]}
    for picture in found["pictures"]:
        there = own[picture["view"], picture["stain"], picture["pair"]]
        assert picture["box"] == there["box"]
        numbers, plain = picture["upscalers"][title], picture["upscalers"]["lanczos"]
        assert numbers.pop("invented") >= 0
        assert numbers == {name: there[name] for name in numbers}
        assert plain["detail_view"] == there["detail_lanczos"]
        assert plain["truth"] == there["truth_lanczos"]


def test_the_report_has_a_row_for_each_upscaler_and_a_picture(mist: Path, tmp_path: Path, command: Command) -> None:
    four, two = write_network(tmp_path / "four.pth"), write_network(tmp_path / "two.pth", "SPAN", 2)
    words = (
        "fidelity",
        "--data",
        mist,
        "--upscalers",
        f"lanczos,{four},{two}",
        "--limit",
        "3",
        "--out",
        "r",
        *SETTINGS,
    )
    done = command(*words)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 100
    assert "left out: SPAN two.pth on x4: it does not enlarge by 4" in done.err
    text = (tmp_path / "r" / "upscalers.md").read_text()
    rows = re.findall(r"^\| (x[24]) \| (he|ihc) \| ([^|]+) \| 3 \|", text, re.MULTILINE)
    titles = ["lanczos", "RealESRGAN Compact four.pth", "SPAN two.pth"]
    assert rows == [
        (view, stain, title)
        for view in ("x2", "x4") for stain in ("he", "ihc") for title in titles[: 3 if view == "x2" else 2]
    ]  # fmt: skip
    assert "RealESRGAN Compact four.pth: RealESRGAN Compact four.pth (sha256 " in text
    assert "its x4 result averaged, licence unknown, sha256 " in text
    sentences = [line for line in text.splitlines() if line.startswith("On ")]
    assert [sentence.split()[1] for sentence in sentences] == ["H&E", "IHC"]
    assert all("3 pictures (x2) of 3 pairs" in sentence for sentence in sentences)
    assert (tmp_path / "r" / "upscalers.png").stat().st_size > 10_000
    again = command(*words[: -len(SETTINGS) - 1], "again", *SETTINGS)
    assert again.out == done.out
    for name in ("upscalers.md", "upscalers.json", "upscalers.png"):
        assert (tmp_path / "r" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_tiles_that_are_no_pairs_are_compared_too(tmp_path: Path, command: Command) -> None:
    for key, (stain, names) in enumerate({"HE": ["a_0_0", "b_0_0", "c_0_0"], "IHC": ["d_0_0", "e_0_0"]}.items()):
        write_tiles(tmp_path / "own" / stain, names, key)
    unpaired = ("--set", "paired=false", "--set", "split=by-slide")
    done = command("fidelity", "--data", "own", "--upscalers", "lanczos", *unpaired, *SETTINGS)
    assert done.code == 0, done.err
    pictures = json.loads((tmp_path / "own-upscalers" / "upscalers.json").read_text())["pictures"]
    assert sorted((one["stain"], one["pair"], one["slide"]) for one in pictures if one["view"] == "x4") == (
        [("he", f"{slide}_0_0", slide) for slide in "abc"] + [("ihc", f"{slide}_0_0", slide) for slide in "de"]
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--upscalers", "lanczos,bsrgn"), "--upscalers: 'bsrgn' is neither lanczos nor bsrgan, nor a file"),
        (("--upscalers", "lanczos,lanczos"), "lanczos is named twice; give each once"),
        (("--upscalers", " , "), "--upscalers names none; give some, for example --upscalers lanczos,"),
        (("--upscalers", "bsrgan"), "--upscalers bsrgan: none of them is here (bsrgan: BSRGAN.pth is not in "),
        (("--upscalers", "lanczos", "--set", "upscaler=lanczos"), "a comparison takes its upscalers from --upscalers"),
        (("--upscalers", "tiles"), "tiles is a folder; give"),
        (("--upscalers", "lanczos", "s.zarr"), "give a STORE, or tiles (--data, or --he and --ihc) with --upscalers"),
        ((), "give a STORE, or tiles (--data, or --he and --ihc) with --upscalers lanczos,bsrgan,FILE"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    mist: Path, tmp_path: Path, command: Command, words: tuple[str, ...], told: str
) -> None:
    done = command("fidelity", "--data", mist, "--out", "r", *words, *SETTINGS)
    assert done.code == 2
    assert told in done.err
    assert not (tmp_path / "r").exists()


def entrant(title: str) -> Entrant:
    """An upscaler by name alone; `lanczos` is one without weights."""
    digests = {} if title == "lanczos" else {"x4": "0" * 64}
    record = Upscaler(name=title, digests=digests, precision="fp32", batch=4)
    return Entrant(title=title, record=record, factors=frozenset({4}), upscaler=Lanczos())


def change(truth: float, *, tile: float = 9.0) -> Change:
    """A view whose finer detail is as strong as the tile's, and has this correlation with it."""
    names = Change.__dataclass_fields__
    zero = dict.fromkeys(names, 0.0)
    return Change(**zero | {"error": 4.0, "shared_view": 9.0, "shared_tile": tile, "product_view": truth * 9.0})


def places(slides: int, pairs: int, truth: Callable[[int], dict[str, float]], **facts: float) -> list[Compared]:
    """One place of each pair, the pairs in turn from one slide after the other."""
    return [
        Compared(
            split=Split.TRAIN,
            pair=f"p{n}",
            slide=f"s{n % slides}",
            stain=Stain.IHC,
            view="x4",
            box=Box(top=0, left=0, side=2),
            changes={title: change(value, **facts) for title, value in truth(n).items()},
            apart=0.0,
        )
        for n in range(pairs)
    ]


BETTER = places(6, 12, lambda n: {"a": 0.6 + 0.01 * (n % 3), "b": 0.4 + 0.01 * (n % 2)})


def test_the_sentence_names_the_best_with_an_interval_whatever_the_order() -> None:
    said = judge(BETTER, [entrant("a"), entrant("b")], Stain.IHC, "HER2")
    assert said == (
        "On HER2 **a** invents least: the truth of its finer detail is 0.61, against 0.41 of b (difference 0.20, 95 % "
        "interval +0.20 to +0.21, bootstrap of slides; 12 pictures (x4) of 12 pairs of 6 slides)."
    )
    assert judge(BETTER, [entrant("b"), entrant("a")], Stain.IHC, "HER2") == said
    assert "nothing to compare" in judge(BETTER, [entrant("a"), entrant("b")], Stain.HE, "H&E")
    assert "nothing to compare" in judge(BETTER, [entrant("a"), entrant("b"), entrant("c")], Stain.IHC, "HER2")


def test_a_small_difference_is_no_ranking() -> None:
    same = places(8, 24, lambda n: {"a": 0.5 + 0.1 * (-1) ** n, "b": 0.49})
    said = judge(same, [entrant("a"), entrant("b")], Stain.IHC, "HER2")
    assert "cannot be told apart by what they invent: truth 0.5" in said


def test_few_slides_and_interpolation_are_named() -> None:
    few = places(2, 8, lambda _: {"lanczos": 0.7, "a": 0.4, "b": 0.5})
    said = judge(few, [entrant("a"), entrant("b"), entrant("lanczos")], Stain.IHC, "HER2")
    assert said.startswith(
        "On HER2 **lanczos** invents least: the truth of its finer detail is 0.70, against 0.50 of b, "
    )
    assert "bootstrap of pairs; 8 pictures (x4) of 8 pairs of 2 slides; so few slides say little about a stain" in said
    assert said.endswith("It only interpolates; of the networks b invents least.")
    one = judge(few[:1], [entrant("a"), entrant("b"), entrant("lanczos")], Stain.IHC, "HER2")
    assert one.endswith("of 1 pair of 1 slide: one pair ranks nothing, look at more.")


def test_without_finer_tiles_agreement_is_all_that_can_be_said() -> None:
    coarse = places(6, 12, lambda _: {"a": 0.0, "b": 0.0}, tile=0.0)
    said = judge(coarse, [entrant("a"), entrant("b")], Stain.IHC, "HER2")
    assert said.startswith(
        "On HER2 what is invented cannot be measured, because the tiles are no finer than the patches;"
    )
    assert "agrees best with the patches: 42.1 dB (a), 42.1 dB (b), of 12 pictures" in said


def test_the_interval_covers_the_true_difference() -> None:
    """Truth that varies by slide: of 60 drawn sets at least 80 % of intervals of 95 % hold the difference of 0.1."""
    generator, held = np.random.default_rng(1), 0
    for _ in range(60):
        noise = generator.normal(0, 0.05, (12, 2))
        drawn = places(12, 36, lambda n, noise=noise: {"a": 0.55 + noise[n % 12, 0], "b": 0.45 + noise[n % 12, 1]})  # type: ignore[misc]
        low, high = map(
            float,
            re.findall(
                r"interval ([+-][\d.]+) to ([+-][\d.]+)", judge(drawn, [entrant("a"), entrant("b")], Stain.IHC, "HER2")
            )[0],
        )
        held += low <= 0.1 <= high
    assert held >= 48


def test_invented_and_restored_detail_are_all_there_is() -> None:
    half = change(0.6)
    assert half.truth == pytest.approx(0.6)
    assert half.invented**2 == pytest.approx(9 * (1 - 0.36))
    assert truth_of(np.array([5.4, 9.0, 9.0])) == pytest.approx(0.6)
    assert np.isnan(change(0.0, tile=0.0).invented)


def test_the_places_where_views_differ_most_are_kept() -> None:
    (geometry,) = plan_geometries(lanczos(recipe=Recipe.PAPER), 128)[2:]
    picture, pair = np.zeros((4, 4, 3), np.uint8), small_table().pairs[Split.TRAIN][0]
    seen = [0.5, 3.0, 1.0, 2.0, 0.1]
    patch = Patch(
        split=Split.TRAIN, pair=pair, stain=Stain.IHC, geometry=geometry, box=Box(top=0, left=0, side=2),
        source=picture, lanczos=picture, tile=picture,
    )  # fmt: skip
    (place,) = places(1, 1, lambda _: {"a": 0.5})
    kept: list[Shown] = []
    more = (Shown(patch=patch, views={}, compared=replace(place, apart=apart)) for apart in seen)
    assert [one.apart for one in keep_most_apart(kept, more)] == seen
    assert sorted(one.compared.apart for one in kept) == sorted(seen)[-SHOWN:]
