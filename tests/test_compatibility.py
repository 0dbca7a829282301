"""What an earlier version made is read, verified, resumed, predicted, scored and shown: `golden/compat/README.md`."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from evaluate.__main__ import app as evaluate
from prep.__main__ import app as prep
from store.__main__ import app as store
from store.card.record import CARD
from store.format.manifest import COPY, read_root
from tests.support.command_line import CommandLine, Outcome
from tests.support.disks import contents
from tests.support.places import GOLDEN
from train.__main__ import app as train

APPS = {"evaluate": evaluate, "prep": prep, "store": store, "train": train}
BUILD = ("name=compat", "stain=membrane", "view_side=36", "upscaler=lanczos", "unit=3")
RESUME = ("ema=0.5", "keep_every=4", "data.paired=true")


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the earlier version, in which commands run."""
    folder = tmp_path_factory.mktemp("before")
    with zipfile.ZipFile(GOLDEN / "compat" / "before.zip") as archive:
        archive.extractall(folder)
    return folder


Command = Callable[..., Outcome]


@pytest.fixture
def command(
    before: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: None
) -> Command:
    """A command in that folder, given as its package and words; it must end with 0."""
    monkeypatch.chdir(before)
    monkeypatch.setenv("MAGSTAIN_FEATURES", str(before / "features"))
    monkeypatch.setenv("MAGSTAIN_WEIGHTS", str(before / "no-weights"))

    def run(package: str, *words: str) -> Outcome:
        done = CommandLine(package, APPS[package], monkeypatch, capsys)(*words)
        assert done.code == 0, done.err[-2000:]
        return done

    return run


def sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def test_the_store_is_intact(before: Path, command: Command) -> None:
    assert "files match their digests" in command("store", "verify", "store.zarr").out
    assert "H&E to membrane" in command("store", "info", "store.zarr").out


def test_the_same_tiles_make_the_same_store(before: Path, command: Command) -> None:
    command("prep", "build", "--data", "tiles", "--store", "again.zarr", *sets(*BUILD))
    old, new = (read_root(before / name).manifest for name in ("store.zarr", "again.zarr"))
    if old.software != new.software:
        pytest.skip(f"made with other versions of libraries: {old.software}, here {new.software}")
    assert new.seal == old.seal
    root = {COPY: (before / "store.zarr/zarr.json").read_bytes()}  # earlier versions wrote none
    made = contents(before / "again.zarr")
    assert json.loads(made.pop(CARD))["seal"] == new.seal  # of what was measured earlier versions kept nothing
    assert made == contents(before / "store.zarr") | root


@pytest.mark.parametrize("method", ["cyclegan", "attention_gan"])
def test_a_run_resumes_from_its_checkpoint(before: Path, command: Command, method: str) -> None:
    run = f"runs/half-{method}"
    words = ("--store", "store.zarr", "--run", run, "--config", "tiny.toml", "--json")
    done = command("train", "fit", *words, *sets(f"method={method}", *RESUME))
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["step"] for event in events if event["event"] in ("started", "finished")] == [4, 8]
    resumed, expected = (
        load_file(before / folder / "generator.safetensors") for folder in (run, f"runs/whole-{method}")
    )
    assert resumed.keys() == expected.keys()
    worst = max(abs(resumed[name] - tensor).max() for name, tensor in expected.items())
    assert worst < 2e-3  # 0 on the processor that it was made on; four steps of Adam move a parameter by 8e-4 at most


def test_predictions_are_recognised(before: Path, command: Command) -> None:
    record = before / "runs/finished/predictions/test/tile/predictions.json"
    written = record.read_bytes()
    done = command("train", "predict", "--run", "runs/finished", "--gates")
    assert "2 predictions already exist" in done.err
    assert record.read_bytes() == written


def test_pictures_of_another_view_are_made_by_the_old_generator(before: Path, command: Command) -> None:
    done = command("train", "predict", "--run", "runs/finished", "--view", "x2")
    assert "2 predictions written to runs/finished/predictions/test/x2" in done.err
    record = json.loads((before / "runs/finished/predictions/test/x2/predictions.json").read_text())
    assert (record["pairs_seen"], record["step"]) == (8, 8)


def same(one: str, two: str) -> bool:
    """Whether two cells of table.csv say the same: numbers to 1e-12, because sums in another order round otherwise."""
    try:
        return float(one) == pytest.approx(float(two), rel=1e-12, abs=1e-12)
    except ValueError:
        return one == two


def test_scores_are_read_and_come_out_the_same(before: Path, command: Command) -> None:
    folder = before / "runs/finished/predictions/test/tile"
    old = json.loads((folder / "scores.json").read_text())
    assert old["format"] == 2
    (folder / "gates").rename(before / "gates")  # its contact sheet is not kept here
    words = ("--run", "runs/finished", "--split", "test")
    from_old = command("evaluate", "table", *words, "--out", "old").out
    command("evaluate", "report", *words, "--out", "old/report.html")
    assert "compat" in (before / "old/report.html").read_text()
    command("evaluate", "score", *words)
    new = json.loads((folder / "scores.json").read_text())
    assert new["format"] == 3
    assert (new["pairs_seen"], new["baselines_pictures"]) == (old["draws"], old["floors_pictures"])
    from_new = command("evaluate", "table", *words, "--out", "new").out
    assert "DAB slope" in from_new
    assert "No DAB slope, DAB bias: undefined in every row" in from_old
    rows = {
        (row["row"], row["protocol"]): row
        for row in csv.DictReader((before / "new/table.csv").read_text().splitlines())
    }
    for row in csv.DictReader((before / "old/table.csv").read_text().splitlines()):  # what they know is the same
        again = rows[row["row"], row["protocol"]]
        for name, cell in row.items():
            assert not cell or same(again[name], cell), (name, again[name], cell)
    for protocol, rows in old["rows"].items():
        for name, row in rows.items():
            again = new["rows"][protocol][name]
            assert again["values"]["metrics"]["ssim"] == pytest.approx(row["values"]["metrics"]["ssim"], abs=1e-9)
            assert again["cells"].keys() == row["cells"].keys()
            for metric, cell in row["cells"].items():
                assert again["cells"][metric]["value"] == pytest.approx(cell["value"], abs=1e-9, nan_ok=True)
