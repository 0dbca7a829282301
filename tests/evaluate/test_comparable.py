"""Which scores may be in one table or page, and what is said of those that differ in other ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluate.columns import PHV_LAYERS, Metric
from evaluate.features.lpips import TRUNK_METRIC, TRUNK_NETWORK
from evaluate.features.networks import PREPROCESS
from evaluate.protocol import PROTOCOLS, Network, ProtocolName
from evaluate.report.comparable import NETWORK_METRICS, PACKAGE_METRICS, provenance_notes, require_comparable
from evaluate.report.html_page import write_report
from evaluate.report.table_texts import markdown, terminal
from evaluate.report.tables import table_lines
from evaluate.scores_file import SOFTWARE, Scores, write_scores
from store.reader import Store
from store.run_files import RunFolder
from store.schema import RunError, Split
from tests.support.predictions import fabricate, of_slides, scored_run

PUBLISHED, CORRECTED = ProtocolName.PUBLISHED, ProtocolName.CORRECTED
OTHER_PROTOCOLS = PROTOCOLS | {PUBLISHED: replace(PROTOCOLS[PUBLISHED], kid_subsets=50)}


@pytest.fixture(scope="module")
def folder(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scored runs, `one` and `two`."""
    runs = tmp_path_factory.mktemp("runs")
    for name, noise in (("one", 8.0), ("two", 20.0)):
        predictions = fabricate(runs / name, small_store, noise=noise)
        write_scores(scored_run(runs / name, small_store), predictions)
    return runs


@pytest.fixture(scope="module")
def scores(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Scores:
    run = tmp_path_factory.mktemp("runs") / "one"
    fabricate(run, small_store)
    return scored_run(run, small_store)


def _other_seal(scores: Scores) -> Scores:
    return replace(scores, seal="f" * 64)


def _other_real(scores: Scores) -> Scores:
    return replace(scores, sets=scores.sets | {"corrected: real": "e" * 64})


def _other_resaved(scores: Scores) -> Scores:
    return replace(scores, sets=scores.sets | {"published: real": "e" * 64})


def _other_name(scores: Scores) -> Scores:
    first, *rest = scores.pictures
    return replace(scores, pictures=(replace(first, name="another.png"), *rest))


def _fewer(scores: Scores) -> Scores:
    return replace(scores, pictures=scores.pictures[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_seal, r"'one' and 'two' were not scored on the same pictures .*seal ffff.*make a table for each"),
        (lambda scores: replace(scores, view="x1"), r"not scored on the same pictures .*test/tile.*test/x1"),
        (_other_real, r"names, slides or pixels \(4 pictures, sha256 .* and 4 pictures, sha256 eeeeeeeeeeee\); score"),
        (_other_resaved, "the same pictures: the real ones have other names, slides or pixels"),
        (_other_name, "the same pictures: the real ones have other names, slides or pixels"),
        (of_slides, "the same pictures: the real ones have other names, slides or pixels"),
        (_fewer, r"\(4 pictures, .* and 3 pictures, .*\); score again: .* of 'two'"),
    ],
)  # fmt: skip
def test_runs_of_other_pictures_are_refused(scores: Scores, change: Callable[[Scores], Scores], message: str) -> None:
    other = change(replace(scores, run="two"))
    with pytest.raises(RunError, match=message):
        table_lines([scores, other])
    with pytest.raises(RunError, match="not scored on the same pictures"):
        markdown([other, scores])


def test_runs_of_other_protocols_are_refused_with_the_choice_and_both_values(scores: Scores) -> None:
    other = replace(scores, run="two", protocols=OTHER_PROTOCOLS)
    message = r"'one' and 'two' .* different protocols: published: kid_subsets 100 and 50; score again: .* of 'two'"
    for put in (require_comparable, table_lines, markdown):
        with pytest.raises(RunError, match=message):
            put([scores, other])
    require_comparable([other])
    assert any(
        "other protocols than those of this version: published: kid_subsets 50 and 100" in note
        for note in provenance_notes([other])
    )
    assert provenance_notes([scores]) == []


def test_two_runs_of_one_name_are_refused(scores: Scores) -> None:
    with pytest.raises(RunError, match=r"two runs have the same name \(one, one\); give each run once"):
        table_lines([scores, scores])


def test_other_versions_of_packages_are_said_with_the_metrics_that_they_touch(scores: Scores) -> None:
    other = replace(scores, run="two", software=scores.software | {"scikit-image": "0.1"})
    (note,) = provenance_notes([scores, other])
    assert note == (
        f"runs were scored with different versions of scikit-image: {scores.software['scikit-image']} (one), "
        "0.1 (two); this may change SSIM, PSNR, DAB"
    )
    assert f"- {note}" in markdown([scores, other]).splitlines()
    assert "0.1 (two)" in " ".join(terminal([scores, other], end="").split())
    assert PACKAGE_METRICS.keys() == {*SOFTWARE}


def test_other_weights_of_a_network_are_said_with_the_metrics_that_they_touch(scores: Scores) -> None:
    digests = [replace(scores, run=run, networks=scores.networks | {Network.RESNET: digest * 64})
               for run, digest in (("one", "a"), ("two", "b"))]  # fmt: skip
    (note,) = provenance_notes(digests)
    assert note == (
        "runs were scored with different weights of resnet50, sha256 aaaaaaaaaaaa (one), bbbbbbbbbbbb (two): "
        "PHV cannot be compared between them"
    )
    assert provenance_notes([digests[0], replace(scores, run="two")]) == []  # missing is no other network


def test_the_metrics_of_a_network_are_those_that_the_protocols_compute_with_it() -> None:
    found: dict[Network, set[Metric]] = {its: {TRUNK_METRIC[trunk]} for trunk, its in TRUNK_NETWORK.items()}
    for protocol in PROTOCOLS.values():
        specs = (
            (protocol.phv, (*PHV_LAYERS, Metric.PHV)),
            (protocol.fid, (Metric.FID,)),
            (protocol.kid, (Metric.KID,)),
        )
        for spec, metrics in specs:
            found.setdefault(PREPROCESS[spec].network, set()).update(metrics)
    assert {network: {*metrics} for network, metrics in NETWORK_METRICS.items()} == found


def test_a_page_refuses_runs_of_other_protocols_and_prints_those_that_were_used(
    folder: Path, small_store: Store, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        run = tmp_path / name
        scored = replace(scored_run(folder / name, small_store), protocols=OTHER_PROTOCOLS)
        fabricate(run, small_store, noise=8.0 if name == "one" else 20.0)
        write_scores(scored, RunFolder(run).predictions(Split.TEST, "tile").path)
    page = tmp_path / "page.html"
    with pytest.raises(RunError, match="different protocols: published: kid_subsets 100 and 50"):
        write_report([folder / "one", tmp_path / "two"], small_store, Split.TEST, "tile", page)
    assert not page.exists()
    for there, subsets in ((folder, 100), (tmp_path, 50)):
        write_report([there / "one", there / "two"], small_store, Split.TEST, "tile", page)
        row = next(line for line in page.read_text(encoding="utf-8").splitlines() if ">kid_subsets<" in line)
        assert f">{subsets}</td>" in row
