"""The run folder: its paths, and records that are read back equal, also those of earlier versions."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store.files import from_json, read_json, to_json, with_current_names, write_json, write_whole
from store.reader import Store
from store.records.facts import RunFacts, open_store_of, read_facts, trained_views
from store.records.predictions import GateRecord, Predictions, load_predictions, read_gates, read_predictions
from store.run_files import PredictionFolder, RunFolder
from store.schema import RunError, Split
from tests.support.records import rewrite, unsigned

FACTS = RunFacts(
    store="data/demo.zarr",
    seal="ab" * 32,
    method="attention_gan",
    synthetic=True,
    upscaler="lanczos",
    pairs=84,
    pairs_seen=840,
    device="cpu",
    precision="fp32",
    parameters={"generator": 34385, "heads": 872},
    software={"torch": "2.15.0"},
    processes=2,
    effective_batch=4,
)
IMPORTED = replace(FACTS, store=None, seal=None, pairs=None, pairs_seen=None, device=None, precision=None)
PREDICTIONS = Predictions(
    method="cut",
    seal="cd" * 32,
    split=Split.TEST,
    view="x2",
    pairs_seen=840,
    step=0,
    upscaler="lanczos",
    synthetic=False,
    generator="ef" * 32,
    pictures=("a/b.png", "ä.1.png"),
)
GATES = GateRecord(generator="ef" * 32, levels={"1": {"a.png": (0.5, 0.0, 1.0)}, "2": {"a.png": (0.25, 0.1, 0.9)}})

# run.json of earlier versions: of an imported generator, and of a run
OLD_IMPORTED = {
    "store": "",
    "seal": "",
    "method": "asp",
    "synthetic": False,
    "upscaler": "",
    "pairs": 0,
    "draws": 0,
    "device": "",
    "precision": "",
    "parameters": {"generator": 11378179},
    "software": {"torch": "2.15.0"},
}
OLD_RUN = OLD_IMPORTED | {
    "store": "data/demo.zarr",
    "seal": "ab" * 32,
    "upscaler": "bsrgan",
    "pairs": 84,
    "draws": 840,
    "device": "cuda",
    "precision": "bf16",
    "processes": 4,
    "effective_batch": 8,
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """An empty run folder."""
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def predicted(run: RunFolder) -> PredictionFolder:
    """The folder of `PREDICTIONS`, with no pictures in it."""
    folder = run.predictions(Split.TEST, "x2")
    for pictures in (folder.rounded, folder.truncated):
        pictures.mkdir(parents=True)
    write_json(folder.record, PREDICTIONS)
    return folder


def read(run: RunFolder, view: str) -> Predictions:
    return read_predictions(run, run.predictions(Split.TEST, view), Split.TEST, view, "data/demo.zarr")


def write(file: Path, tree: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(tree))


def test_the_names_on_disk() -> None:
    run = RunFolder(Path("runs/demo"))
    folder = run.predictions("test", "tile")
    paths = {
        run.settings: "settings.toml",
        run.facts: "run.json",
        run.metrics: "metrics.jsonl",
        run.validation: "validation.jsonl",
        run.tensorboard: "tensorboard",
        run.model_card: "MODEL_CARD.md",
        run.checkpoints: "checkpoints",
        run.lock: "lock",
        run.samples: "samples",
        run.generator: "generator.safetensors",
        folder.record: "predictions/test/tile/predictions.json",
        folder.rounded: "predictions/test/tile/fake",
        folder.truncated: "predictions/test/tile/fake_truncated",
        folder.gates: "predictions/test/tile/gates",
        folder.gates_record: "predictions/test/tile/gates/gates.json",
        folder.gates_sheet: "predictions/test/tile/gates/gates.png",
        folder.scores: "predictions/test/tile/scores.json",
        folder.contact_sheet: "predictions/test/tile/contact.png",
        folder.report: "predictions/test/tile/report.html",
    }
    assert {path.relative_to("runs/demo").as_posix() for path in paths} == {*paths.values()}
    assert all(path.as_posix() == f"runs/demo/{name}" for path, name in paths.items())
    assert RunFolder(Path("out"), Path("usb/asp.safetensors")).generator == Path("usb/asp.safetensors")


@pytest.mark.parametrize("facts", [FACTS, IMPORTED], ids=["trained", "imported"])
def test_facts_are_read_back_equal(run: RunFolder, facts: RunFacts) -> None:
    write_json(run.facts, facts)
    assert read_facts(run) == facts


def test_predictions_and_attention_maps_are_read_back_equal(run: RunFolder) -> None:
    folder = predicted(run)
    assert read(run, "x2") == load_predictions(folder, "") == PREDICTIONS
    write_json(folder.gates_record, GATES)
    assert read_gates(folder) == GATES


def test_numbers_that_json_does_not_have_are_read_back() -> None:
    assert to_json({"a": (1.5, nan), 2: [inf]}) == {"a": [1.5, None], "2": ["inf"]}
    assert [from_json(value) for value in to_json([1.5, inf])] == [1.5, inf]
    assert isnan(from_json(to_json(nan)))


def test_a_run_of_an_earlier_version_is_read(run: RunFolder) -> None:
    write(run.facts, OLD_RUN)
    facts = read_facts(run)
    assert (facts.store, facts.seal, facts.pairs, facts.pairs_seen) == ("data/demo.zarr", "ab" * 32, 84, 840)
    assert (facts.device, facts.precision, facts.processes, facts.effective_batch) == ("cuda", "bf16", 4, 8)


def test_what_an_earlier_version_did_not_know_is_unknown(run: RunFolder) -> None:
    write(run.facts, OLD_IMPORTED)
    facts = read_facts(run)
    assert (facts.store, facts.seal, facts.pairs, facts.pairs_seen) == (None, None, None, None)
    assert (facts.device, facts.precision) == (None, None)
    assert (facts.upscaler, facts.processes, facts.effective_batch) == ("", 1, 1)  # never unknown


@pytest.mark.parametrize(("draws", "step", "seen", "at"), [(840, 210, 840, 210), (0, 0, None, None)])
def test_predictions_of_an_earlier_version_are_read(
    run: RunFolder, draws: int, step: int, seen: int | None, at: int | None
) -> None:
    folder = predicted(run)
    record = unsigned(folder.record)
    del record["pairs_seen"]
    write(folder.record, record | {"draws": draws, "step": step})
    assert read(run, "x2") == replace(PREDICTIONS, pairs_seen=seen, step=at)


def test_a_current_record_keeps_its_zeros_and_empty_texts() -> None:
    record = {"pairs_seen": 0, "step": 0, "seal": ""}
    assert with_current_names(record, unknown=("pairs_seen", "step", "seal")) == record
    renamed = with_current_names({"floors": 0, "n": 0}, unknown=("n",), renamed={"floors": "baselines"})
    assert renamed == {"baselines": 0, "n": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "blue"}, r"run\.json is not what it should be \(unknown setting 'colour'.*; restore the file from"),
        ({"pairs": "many"}, r"run\.json is not what it should be \(setting pairs = \"many\""),
    ],
)
def test_facts_that_do_not_fit_are_refused(run: RunFolder, change: dict[str, object], message: str) -> None:
    write_json(run.facts, FACTS)
    rewrite(run.facts, change)
    with pytest.raises(RunError, match=message):
        read_facts(run)


def test_a_file_that_is_no_record_is_refused_with_the_remedy(run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"run is not a run: it has no run\.json; train one with `python -m train fit`"):
        read_facts(run)
    run.facts.write_text('{"store": ')
    with pytest.raises(RunError, match=r"run\.json cannot be read as JSON \(.*\); restore the file from a copy"):
        read_facts(run)
    run.facts.write_text("[]")
    with pytest.raises(RunError, match=r"run\.json cannot be read as JSON \(it holds a list, not an object\); do this"):
        read_json(run.facts, "do this")
    with pytest.raises(RunError, match=r"gates\.json cannot be read .*; make them again with: .* predict --gates"):
        read_gates(run.predictions("test", "tile"))


def test_a_changed_record_is_refused_wherever_it_was_changed(run: RunFolder) -> None:
    """One bit of every byte: the file is refused and named, or what it holds is the same."""
    folder = predicted(run)
    write_json(run.facts, FACTS)
    write_json(folder.gates_record, GATES)
    rng = np.random.default_rng(0)
    for file, read in (
        (run.facts, lambda: read_facts(run)),
        (folder.record, lambda: load_predictions(folder, "do this")),
        (folder.gates_record, lambda: read_gates(folder)),
    ):
        data, whole = file.read_bytes(), read()
        for place in range(0, len(data), 2):
            changed = bytearray(data)
            changed[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(changed)
            try:
                same_or_named = read() == whole
            except RunError as error:
                same_or_named = file.name in str(error)
            assert same_or_named, place
        for place in range(0, len(data) - 1, 7):  # but for its last line end a truncated record is none
            file.write_bytes(data[:place])
            with pytest.raises(RunError, match=file.name):
                read()
        file.write_bytes(data)


def test_a_value_changed_by_hand_is_refused_with_what_to_do(run: RunFolder) -> None:
    folder = predicted(run)
    folder.record.write_text(folder.record.read_text().replace('"pairs_seen": ', '"pairs_seen": 9'))
    with pytest.raises(RunError, match=r"predictions\.json is damaged or was edited: .* sha256 in it; do this"):
        load_predictions(folder, "do this")


def test_predictions_that_are_missing_or_of_another_view_are_refused(run: RunFolder) -> None:
    command = f"make them with: python -m train predict --run {run.path} --split test --view x4"
    with pytest.raises(RunError, match=r"no run at .*none; give a folder that `python -m train fit` made"):
        read(RunFolder(run.path / "none"), "x4")
    with pytest.raises(RunError, match=rf"no predictions in .*/test/x4; {command}"):
        read(run, "x4")
    predicted(run).path.rename(run.predictions("test", "x4").path)
    with pytest.raises(RunError, match=rf"x4 holds predictions of test/x2, not of test/x4; {command}"):
        read(run, "x4")
    run.predictions("test", "x4").truncated.rmdir()
    with pytest.raises(RunError, match=rf"no predictions in .*/test/x4; {command}"):
        read(run, "x4")


def test_the_store_of_a_run_is_opened_at_its_address(run: RunFolder, small_store: Store) -> None:
    facts = replace(FACTS, store=small_store.address, seal=small_store.manifest.seal)
    write_json(run.facts, facts)
    assert open_store_of(run).manifest == small_store.manifest
    for changed, message in (
        (replace(facts, store=None), "was imported, not trained on a store; name the store with --store"),
        (replace(facts, store="data/gone.zarr"), r"gone\.zarr, which does not exist; name its copy with --store"),
        (replace(facts, seal="ab" * 32), "a store with seal abababababab, but .* now has seal .*; name the right"),
    ):
        write_json(run.facts, changed)
        with pytest.raises(RunError, match=message):
            open_store_of(run)
    alone = RunFolder(run.path / "predictions", run.path / "generator.safetensors")
    with pytest.raises(RunError, match=r"generator\.safetensors is not in a run folder; name the store with --store"):
        open_store_of(alone)


def test_the_views_of_a_run_are_those_of_its_settings(run: RunFolder) -> None:
    assert trained_views(run) is None
    run.settings.write_text('[data]\nviews = ["x1", "x4"]\n')
    assert trained_views(run) == ("x1", "x4")
    for broken in ("", "data = 1\n", "[data]\nviews = 3\n", "[data\n"):
        run.settings.write_text(broken)
        with pytest.raises(RunError, match=r"settings\.toml names no views \(.*\); restore it from a copy"):
            trained_views(run)


def test_what_killed_processes_left_of_a_file_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    (tmp_path / "a[1].json.11.partial").write_bytes(b"of a killed process")
    with (tmp_path / "a[1].json.12.partial").open("wb") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        write_whole(tmp_path / "a[1].json", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"a[1].json", "a[1].json.12.partial"}
    assert (tmp_path / "a[1].json").read_bytes() == b"new"
