"""`scores.json`: strict JSON that reads back equal, the format before it, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from math import inf
from pathlib import Path

import pytest

from evaluate.columns import Agreement, Metric
from evaluate.features.extract import FeatureSource
from evaluate.protocol import FAKE, ProtocolName
from evaluate.report.comparable import protocol_differences
from evaluate.report.table_texts import markdown
from evaluate.scores_file import Scores, read_scores, write_scores
from evaluate.scoring.score import score_run
from store.reader import Store
from store.records.facts import open_store_of
from store.run_files import RunFolder
from store.schema import RunError, Split
from tests.support.places import GOLDEN
from tests.support.predictions import BASELINES, Seeded, fabricate, scored_run, without_weights
from tests.support.records import rewrite, unsigned

FORMAT_2 = GOLDEN / "compat" / "scores_format_2.json"
CORRECTED, PUBLISHED = ProtocolName.CORRECTED, ProtocolName.PUBLISHED


def test_scores_are_strict_json_and_read_back_equal(small_store: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "perfect", small_store, noise=0)
    scores = scored_run(tmp_path / "perfect", small_store)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    tree = json.loads(write_scores(scores, folder).read_text(encoding="utf-8"), parse_constant=refuse)
    assert tree["format"] == 3
    assert tree["protocols"]["published"]["kid_subset"] == 100
    assert tree["rows"]["corrected"]["constant colour"]["agreement"]["x1"]["dab_spearman"]["value"] is None
    assert tree["rows"]["corrected"][FAKE]["values"]["metrics"]["psnr"] == ["inf"] * 4
    again = read_scores(tmp_path / "perfect", Split.TEST, "tile")
    assert repr(again) == repr(scores)  # NaN is not equal to itself, its repr is
    assert again.row(CORRECTED).cells[Metric.PSNR].value == inf
    assert "**inf**" in markdown([again])
    assert (tree["source"], tree["views"], set(tree["networks"].values())) == (None, None, {None})


def test_missing_runs_and_scores_say_how_to_make_them(small_store: Store, tmp_path: Path) -> None:
    folder = fabricate(tmp_path / "run", small_store)
    with pytest.raises(RunError, match=r"no run at .*nowhere"):
        scored_run(tmp_path / "nowhere", small_store)
    with pytest.raises(RunError, match=r"no run\.json"):
        open_store_of(RunFolder(tmp_path / "nowhere"))
    rewrite(tmp_path / "run" / "run.json", {"store": "data/moved.zarr"})
    with pytest.raises(RunError, match=r"trained on data/moved\.zarr, which does not exist; .* with --store"):
        open_store_of(RunFolder(tmp_path / "run"))
    with pytest.raises(RunError, match=r"has no val pairs; it has train \(8\), test \(4\): choose one with --split"):
        score_run(tmp_path / "run", None, small_store, Split.VAL, "tile", without_weights(tmp_path))
    with pytest.raises(RunError, match=r"has no view 'x16' of test; it has x1, x2, x4"):
        scored_run(tmp_path / "run", small_store, "x16")
    with pytest.raises(RunError, match="make them with: python -m evaluate score --run"):
        read_scores(tmp_path / "run", Split.TEST, "tile")
    written = write_scores(scored_run(tmp_path / "run", small_store), folder)
    rows = unsigned(written)["rows"]
    del rows["corrected"]["copy H&E"]["values"]["density"]
    rewrite(written, {"rows": rows})
    with pytest.raises(RunError, match=r"scores\.json is damaged \(rows: KeyError\('density'\)\); make them with"):
        read_scores(tmp_path / "run", Split.TEST, "tile")
    (folder / "scores.json").write_text('{"format": 1}')
    with pytest.raises(RunError, match="has format 1, this version reads 2 and 3"):
        read_scores(tmp_path / "run", Split.TEST, "tile")
    (folder / "scores.json").write_text('{"format"')
    with pytest.raises(RunError, match=r"scores\.json cannot be read as JSON"):
        read_scores(tmp_path / "run", Split.TEST, "tile")


def test_the_views_of_a_run_are_those_of_its_settings(small_store: Store, tmp_path: Path) -> None:
    fabricate(tmp_path / "run", small_store)
    assert scored_run(tmp_path / "run", small_store).views is None
    (tmp_path / "run" / "settings.toml").write_text('[data]\nviews = ["x1", "x2"]\n')
    assert scored_run(tmp_path / "run", small_store).views == ("x1", "x2")
    (tmp_path / "run" / "settings.toml").write_text("[data]\n")
    with pytest.raises(RunError, match=r"settings\.toml names no views"):
        scored_run(tmp_path / "run", small_store)


def close(one: object, two: object) -> bool:
    """Whether two trees of values are equal: numbers but for rounding, NaN equal to itself."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(close(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(map(close, one, two))
    if isinstance(one, float) and isinstance(two, float):
        return one == pytest.approx(two, rel=1e-3, abs=1e-4, nan_ok=True)
    return one == two


UNLIKE = ("software", "round_trip", "seal", "sets", "protocols", "predictions", "contents")  # other in scores of before


def numbers(scores: Scores) -> dict[str, object]:
    """Everything but texts that may be worded in another way, packages, digests of drawn pixels, and protocols."""
    tree = asdict(scores)
    for name in BASELINES:  # under `published` scores of before have none
        tree["rows"][PUBLISHED].pop(name, None)
    for rows in tree["rows"].values():
        for row in rows.values():
            for cells in row["agreement"].values():  # of these two scores of before say nothing
                cells.pop(Agreement.SLOPE), cells.pop(Agreement.BIAS)
            for cell in (
                *row["cells"].values(),
                *(one for cells in row["agreement"].values() for one in cells.values()),
            ):
                del cell["note"]
    return {key: value for key, value in tree.items() if key not in UNLIKE}


@pytest.fixture
def earlier(small_store: Store, tmp_path: Path) -> Path:
    """A run with scores that an earlier version wrote, format 2."""
    folder = fabricate(tmp_path / "noisy", small_store)
    shutil.copyfile(FORMAT_2, folder / "scores.json")
    return tmp_path / "noisy"


def test_scores_of_format_2_are_read_as_if_made_today(small_store: Store, earlier: Path) -> None:
    """Origin: this run on this store, scored by the version before format 3 with the seeded networks of these tests."""
    source = FeatureSource(networks=Seeded(), cache=earlier.parent / "features")
    today = score_run(earlier, None, small_store, Split.TEST, "tile", source)
    found = read_scores(earlier, Split.TEST, "tile")
    assert close(numbers(found), numbers(today))
    assert today.sets.keys() - found.sets.keys() == {f"published: {name}" for name in BASELINES}
    same = found.seal == today.seal  # another OpenCV may draw the store another way
    assert not same or found.sets == {name: today.sets[name] for name in found.sets}
    assert (found.format, found.pairs_seen, found.generator, found.source) == (3, 6000, "ab" * 32, None)
    assert (found.views, found.baselines_view, found.baselines_pictures) == (None, "tile", 8)
    assert markdown([found]).splitlines()[0] == markdown([today]).splitlines()[0]
    assert protocol_differences(found.protocols, today.protocols) == [
        "published: kid_batch 1 and 50",
        "published: kid_first unknown and real pictures",
    ]
    write_scores(found, RunFolder(earlier).predictions(Split.TEST, "tile").path)
    assert repr(read_scores(earlier, Split.TEST, "tile")) == repr(found)


def test_what_format_2_did_not_know_becomes_none(earlier: Path) -> None:
    file = RunFolder(earlier).predictions(Split.TEST, "tile").scores
    tree = json.loads(file.read_text(encoding="utf-8"))
    old_note = "n/a: weights missing, run make weights"
    tree["rows"]["corrected"][FAKE]["cells"]["fid"] = {"value": None, "low": None, "high": None, "spread": None,
                                                       "note": old_note}  # fmt: skip
    unknown = {"draws": 0, "generator": "", "source": "theirs", "networks": dict.fromkeys(tree["networks"], "")}
    file.write_text(json.dumps(tree | unknown), encoding="utf-8")
    found = read_scores(earlier, Split.TEST, "tile")
    assert (found.pairs_seen, found.generator, found.source) == (None, None, "theirs")
    assert set(found.networks.values()) == {None}
    assert found.row(CORRECTED).cells[Metric.FID].missing
    assert old_note not in markdown([found])
    file.write_text(json.dumps(tree | {"views": ["tile", "x1"], "draws": "many"}), encoding="utf-8")
    with pytest.raises(RunError, match=r"scores\.json .*pairs_seen.*make them with: python -m evaluate score"):
        read_scores(earlier, Split.TEST, "tile")
    file.write_text(json.dumps(tree | {"views": ["tile", "x1"]}), encoding="utf-8")
    assert read_scores(earlier, Split.TEST, "tile").views == ("tile", "x1")
