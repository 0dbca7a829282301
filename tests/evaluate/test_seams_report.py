"""`python -m evaluate seams`: the numbers of settings side by side, and a page that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from evaluate.__main__ import app
from evaluate.seams.crops import TICK, choose_borders, crop_of, marked
from evaluate.seams.gathering import gather, measure
from store.files import write_json
from store.images import PictureU8, read_picture, write_png
from store.records.translation import Translation, record_of, tiles_of
from store.slides.geometry import Grid
from store.slides.seams import Border, plan_borders
from tests.support.command_line import CommandLine, Outcome

SIDE, HEIGHT, WIDTH = 64, 200, 330
GRID = Grid(height=HEIGHT, width=WIDTH, side=SIDE)
RECORD = Translation(
    name="slide & <b>.png",
    source="5" * 64,
    generator="6" * 64,
    method="asp",
    norm_statistics="global",
    settings={"norm_statistics": "global", "kernel_side": 3},
    height=HEIGHT,
    width=WIDTH,
    side=SIDE,
    region=None,
    source_mpp=0.5,
    mpp=0.5,
    mask="none",
    tiles=tiles_of(GRID, frozenset()),
    seams=None,
)


def grain() -> PictureU8:
    """A picture of grain that knows nothing of tiles."""
    noise = np.random.default_rng(0).normal(0, 30, (HEIGHT, WIDTH, 3))
    return np.asarray(np.clip(cv2.GaussianBlur(noise, (0, 0), 1) + 128, 0, 255), np.uint8)


def tinted(levels: int) -> PictureU8:
    """The same with every second tile brighter."""
    picture = grain().astype(np.int64)
    for row, column in GRID.places():
        rect = GRID.tile(row, column)
        picture[rect.top : rect.bottom, rect.left : rect.right] += levels * ((row + column) % 2)
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def output(path: Path, pixels: PictureU8, statistics: str, record: Translation = RECORD) -> Path:
    """A translated picture and its record."""
    write_png(path, pixels)
    settings = record.settings | {"norm_statistics": statistics}
    write_json(record_of(path), replace(record, norm_statistics=statistics, settings=settings))
    return path


@pytest.fixture
def outputs(tmp_path: Path) -> list[Path]:
    return [output(tmp_path / f"{name}.png", tinted(n), name) for name, n in (("tile", 20), ("local", 0))]


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine("evaluate", app, monkeypatch, capsys)


def test_settings_stand_side_by_side(outputs: list[Path], evaluate: CommandLine) -> None:
    done = evaluate("seams", *outputs)
    assert (done.code, done.err) == (0, "")
    assert "slide & <b>.png: 200 x 330 px in 4 x 6 tiles of 64 px; 38 borders." in done.out
    tile, local = (next(line.split() for line in done.out.splitlines() if line.startswith(name))
                   for name in ("tile ", "local "))  # fmt: skip
    assert float(tile[1]) > 1.5
    assert abs(float(local[1]) - 1) < 4 * float(local[3])
    assert abs(float(tile[10]) - 1) < 0.1  # where no border is
    lines = done.out.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert lines[3].startswith("------")  # so the head is one line
    assert "A ratio near 1 says that no border is seen, not that the colours are right." in " ".join(lines)


def test_numbers_are_those_of_the_metric(outputs: list[Path]) -> None:
    (group,) = gather(outputs)
    found = measure(group.entries[0], group.skipped)
    picture = read_picture(outputs[0]).astype(int)
    across = np.concatenate([abs(picture[:, x] - picture[:, x - 1]) for x in range(SIDE, WIDTH, SIDE)])
    beside = np.concatenate(
        [abs(picture[:, x + n] - picture[:, x + n - 1]) for x in range(SIDE, WIDTH, SIDE) for n in (-1, 1)]
    )
    assert found
    assert found.vertical.value == pytest.approx(across.mean() / beside.mean(), rel=1e-9)


def test_the_page_shows_the_same_borders_of_all_settings(
    outputs: list[Path], evaluate: CommandLine, tmp_path: Path
) -> None:
    done = evaluate("seams", *outputs, "--out", tmp_path / "new" / "seams.html")
    text = (tmp_path / "new" / "seams.html").read_text(encoding="utf-8")
    assert done.code == 0
    assert "slide &amp; &lt;b&gt;.png" in text
    assert "<b>" not in text
    assert not re.findall(r"https?://|//[a-z]+\.|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    assert "default-src 'none'" in text
    crops = re.findall(r'<img alt="([^"]+)" src="data:image/png;base64,([^"]+)">', text)
    assert len(crops) == 2 * 6
    (group,) = gather(outputs)
    borders = choose_borders(group, [measure(entry, group.skipped) for entry in group.entries])
    for number, (what, data) in enumerate(crops):
        border, path = borders[number // 2], outputs[number % 2]
        rect = crop_of(border, GRID)
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        cut = read_picture(path)[rect.top : rect.bottom, rect.left : rect.right]
        assert np.array_equal(shown, marked(cut, rect, border, GRID))
        assert html.unescape(what) == f"{path.stem}, tiles {border.first} and {border.second}"
    assert all(f"{value}" in text for value in (RECORD.generator, RECORD.source, outputs[0]))


def test_the_worst_border_of_each_setting_is_shown(tmp_path: Path) -> None:
    picture = grain().astype(np.int64)
    picture[SIDE : 2 * SIDE, 2 * SIDE : 3 * SIDE] += 30
    (group,) = gather([output(tmp_path / "a.png", np.clip(picture, 0, 255).astype(np.uint8), "tile")])
    found = [measure(entry, group.skipped) for entry in group.entries]
    borders = choose_borders(group, found)
    assert (1, 2) in (borders[0].first, borders[0].second)
    assert len(borders) == len(set(borders)) == 6


def test_every_border_is_inside_its_crop_and_the_ticks_are_on_it() -> None:
    for border in plan_borders(GRID):
        rect = crop_of(border, GRID)
        assert rect.is_inside(HEIGHT, WIDTH)
        shown = marked(np.full((rect.height, rect.width, 3), 255, np.uint8), rect, border, GRID)
        rows, columns = np.nonzero(shown[..., 0] == 0)
        assert rows.size == 2 * TICK * 2
        tile, lines = GRID.tile(*border.second), columns + rect.left if border.is_vertical else rows + rect.top
        line = tile.left if border.is_vertical else tile.top
        assert set(lines.tolist()) == {line - 1, line}


def test_all_settings_are_measured_at_the_borders_that_none_of_them_skipped(tmp_path: Path) -> None:
    white = tinted(20)
    rect = GRID.tile(1, 1)
    white[rect.top : rect.bottom, rect.left : rect.right] = 255
    masked = replace(RECORD, tiles=tiles_of(GRID, {(1, 1)}))
    paths = [
        output(tmp_path / "all.png", tinted(20), "tile"),
        output(tmp_path / "masked.png", white, "kernel", masked),
    ]
    (group,) = gather(paths)
    first, second = (measure(entry, group.skipped) for entry in group.entries)
    assert first == second
    assert first
    assert first.candidates == 38 - 4


def test_pictures_or_grids_that_differ_are_not_put_side_by_side(
    tmp_path: Path, evaluate: CommandLine, outputs: list[Path]
) -> None:
    other = replace(RECORD, source="7" * 64, name="other.png")
    coarse = replace(RECORD, side=128, tiles=tiles_of(Grid(height=HEIGHT, width=WIDTH, side=128), frozenset()))
    paths = [
        outputs[0],
        output(tmp_path / "b.png", tinted(9), "tile", other),
        output(tmp_path / "c.png", tinted(9), "tile", coarse),
        outputs[1],
    ]
    groups = gather(paths)
    assert [[entry.output.name for entry in group.entries] for group in groups] == [
        ["tile.png", "local.png"], ["b.png"], ["c.png"]]  # fmt: skip
    done = evaluate("seams", *paths)
    assert "other.png: 200 x 330 px" in done.out
    assert "2 x 3 tiles of 128 px" in done.out


def test_settings_are_named_by_what_differs(tmp_path: Path) -> None:
    wide = replace(RECORD, settings={"kernel_side": 5})
    trained = replace(RECORD, generator="8" * 64)
    paths = [
        output(tmp_path / "a.png", grain(), "kernel"),
        output(tmp_path / "b.png", grain(), "kernel", wide),
        output(tmp_path / "c.png", grain(), "kernel", trained),
        output(tmp_path / "d.png", grain(), "kernel", trained),
    ]
    (group,) = gather(paths)
    assert [entry.setting for entry in group.entries] == [
        "kernel, asp 66666666, kernel_side = 3",
        "kernel, asp 66666666, kernel_side = 5",
        f"kernel, asp 88888888, kernel_side = 3 ({paths[2]})",
        f"kernel, asp 88888888, kernel_side = 3 ({paths[3]})",
    ]


def test_a_picture_of_one_tile_has_no_seams(tmp_path: Path, evaluate: CommandLine) -> None:
    whole = replace(RECORD, side=512, tiles=("#",))
    path = output(tmp_path / "a.png", grain(), "tile", whole)
    done = evaluate("seams", path, "--out", tmp_path / "a.html")
    assert done.code == 0
    assert done.out == "slide & <b>.png: 200 x 330 px in one tile; a picture of one tile has no borders.\n"
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "At the same borders" not in page
    assert "control</th>" not in page
    alone = replace(RECORD, tiles=tiles_of(GRID, {*GRID.places()} - {(0, 0)}))
    done = evaluate("seams", output(tmp_path / "b.png", grain(), "tile", alone))
    assert done.out.replace("\n", " ").endswith("23 of them skipped; no border lies between two translated tiles. ")


def refused(done: Outcome) -> str:
    """The one line of an error."""
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    return done.err


def test_what_cannot_be_compared_is_refused_in_one_line(
    tmp_path: Path, outputs: list[Path], evaluate: CommandLine
) -> None:
    page = tmp_path / "seams.html"
    assert "tile.png is named twice" in refused(evaluate("seams", outputs[0], outputs[0], "--out", page))
    write_png(tmp_path / "plain.png", grain())
    told = refused(evaluate("seams", tmp_path / "plain.png", "--out", page))
    assert "plain.png has no record, plain.png.json, beside it; name an output of `train translate`" in told
    assert "gone.png: no such file" in refused(evaluate("seams", tmp_path / "gone.png", "--out", page))
    record_of(tmp_path / "plain.png").write_text('{"a": 1', encoding="utf-8")
    told = refused(evaluate("seams", tmp_path / "plain.png", "--out", page))
    assert "bring back a copy of the record, or translate the picture again to another --out" in told
    assert "--overwrite" not in told
    write_png(outputs[1], grain()[:100])
    assert "local.png has 100 x 330 px and" in refused(evaluate("seams", *outputs, "--out", page))
    outputs[1].write_bytes(b"")
    assert "local.png: the file is empty" in refused(evaluate("seams", *outputs, "--out", page))
    outputs[1].unlink()
    assert "local.png: no such file" in refused(evaluate("seams", *outputs, "--out", page))
    assert not page.exists()


def test_a_border_at_the_edge_has_a_whole_crop() -> None:
    border = Border(first=(3, 4), second=(3, 5))
    assert crop_of(border, GRID) == crop_of(Border(first=(2, 4), second=(2, 5)), GRID)
