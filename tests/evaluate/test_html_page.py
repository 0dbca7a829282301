"""The page: what is in it, and that a real browser shows it, sorts it and sends no request."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluate.columns import COLUMNS, MISSING, NOTHING, Cell, Metric
from evaluate.features.extract import FeatureSource
from evaluate.protocol import ProtocolName
from evaluate.report.html_images import detail, picture_address, png_address, shrunk
from evaluate.report.html_page import find_gates, find_pictures, render, write_report
from evaluate.report.html_tables import number_cell
from evaluate.report.paper_tables import PaperTable
from evaluate.scores_file import Scores, read_scores, write_scores
from evaluate.scoring.score import score_run
from store.images import read_picture, write_png
from store.reader import Store
from store.schema import RunError, Split
from tests.support.predictions import BASELINES, Seeded, fabricate, of_the_paper, without_weights

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-sync", "--no-first-run",
         "--disable-component-update", "--disable-background-networking", "--virtual-time-budget=5000",
         "--dump-dom")  # fmt: skip
ITS_OWN = (".google.com", "update.googleapis.com", "safebrowsing.googleapis.com", "optimizationguide-pa.googleapis.com")
"""Hosts that the browser calls for itself, whatever it shows; fonts and scripts would come from others."""
RUNS = ("noisy", "noisier & <b>")


@pytest.fixture(scope="module")
def folders(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two scored runs, the second without networks; the first has gate maps."""
    there = tmp_path_factory.mktemp("runs")
    sources = (FeatureSource(networks=Seeded(), cache=there / "features"), without_weights(there))
    for name, noise, source in zip(RUNS, (8.0, 20.0), sources, strict=True):
        folder = fabricate(there / name, small_store, noise=noise)
        write_scores(score_run(there / name, None, small_store, Split.TEST, "tile", source), folder)
    gates = there / RUNS[0] / "predictions" / "test" / "tile" / "gates"
    write_png(gates / "gates.png", np.full((30, 40, 3), 90, np.uint8))
    (gates / "gates.json").write_text(json.dumps({"generator": "ab" * 32, "levels": {}}))
    return [there / name for name in RUNS]


@pytest.fixture(scope="module")
def page(folders: list[Path], small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    return write_report(folders, small_store, Split.TEST, "tile", file, PaperTable.ONE)


def test_the_papers_rows_stand_on_the_page_of_its_own_data(folders: list[Path], small_store: Store) -> None:
    own = [scores_of(folder) for folder in folders]
    runs = [of_the_paper(scores) for scores in own]
    text = render(runs, find_pictures(own, folders, small_store, Split.TEST, "tile"), [], PaperTable.ONE)
    assert "paper, MIST-HER2: PyramidP2P" in text
    assert "0.5362 (a)" in text
    assert "from its 1,000 test pictures of MIST-HER2" in text
    assert "FID and KID of 4 pictures cannot be compared" in text


def scores_of(folder: Path) -> Scores:
    return read_scores(folder, Split.TEST, "tile")


def test_the_page_holds_every_row_and_the_origin_of_every_number(folders: list[Path], page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    runs = [scores_of(folder) for folder in folders]
    for name in (*BASELINES, *RUNS):
        assert html.escape(name) in text
    assert "paper, MIST-HER2" not in text
    assert "<b>" not in text
    assert f"{runs[0].row(ProtocolName.CORRECTED).cells[Metric.LPIPS_ALEX].value:.4f}" in text
    assert MISSING in text
    for fact in (runs[0].seal, runs[0].generator, *runs[0].sets.values(), *runs[0].networks.values()):
        assert fact is not None
        assert html.escape(fact) in text
    for choice in ("kid_subset", "phv_threshold", "8-bit round trip", "kid_first", "1000 bootstrap samples of the"):
        assert choice in text
    assert text.count("SYNTHETIC DATA") == 1
    assert "<title>small: H&amp;E to test, test split, tile view</title>" in text
    assert text.count("colour deconvolution of an H&amp;E picture finds eosin and nuclei") == 1


def test_the_page_shows_no_column_without_a_number_and_says_why(
    folders: list[Path], small_store: Store, page: Path, tmp_path: Path
) -> None:
    alone = write_report(folders[1:], small_store, Split.TEST, "tile", tmp_path / "alone.html")
    reason = "weights missing; run `make weights NAMES=evaluate`, then score again"
    shown = alone.read_text(encoding="utf-8").replace("<code>", "`").replace("</code>", "`")
    assert f"No PHV, LPIPS, FID, KID: {reason}" in shown
    assert not any(f">{COLUMNS[metric].arrow_head}<" in shown for metric in set(Metric) - {Metric.SSIM, Metric.PSNR})
    both = html.unescape(page.read_text(encoding="utf-8").replace("<code>", "`").replace("</code>", "`"))
    assert f"No PHV, LPIPS, FID, KID for {RUNS[1]} (published), {RUNS[1]} (corrected): {reason}" in both
    assert all(f">{column.arrow_head}<" in both for column in COLUMNS.values())


def test_the_page_names_no_address_but_its_own_bytes(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"https?://|//[a-z]+\.|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))
    sources = re.findall(r'src="([^"]+)"', text)
    assert len(sources) == 2 * 4 * 4 + 2 * 4 * 3 + 2 + 1  # overview and details, cases, plots, gates
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_pictures_are_whole_and_shrunk_by_means(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    (tmp_path / "p.png").write_bytes(base64.b64decode(picture_address(picture).partition(",")[2]))
    np.testing.assert_array_equal(read_picture(tmp_path / "p.png"), picture)
    np.testing.assert_array_equal(detail(picture), picture[24:40, 36:60])
    assert shrunk(picture, 96).dtype == np.uint8
    np.testing.assert_array_equal(shrunk(picture, 96), picture)
    means = picture.reshape(32, 2, 48, 2, 3).mean(axis=(1, 3)).round()
    np.testing.assert_array_equal(shrunk(picture, 48), means)


def test_a_number_sorts_by_itself_and_says_what_is_known_of_it() -> None:
    cell = number_cell(Cell(value=0.12345, low=0.1, high=0.2, spread=0.01, note="why"), COLUMNS[Metric.SSIM])
    assert (cell.text, cell.value, cell.small, cell.hint) == ("0.1235 ± 0.0100", "0.12345", "0.1000 to 0.2000", "why")
    missing = number_cell(Cell(note=MISSING), COLUMNS[Metric.FID])
    assert (missing.text, missing.value, missing.hint, missing.kind) == (NOTHING, "nan", MISSING, "missing")


def test_gates_of_another_generator_are_said_to_be_so(folders: list[Path], small_store: Store) -> None:
    runs = [scores_of(folder) for folder in folders]
    ((name, address, warning),) = find_gates(runs, folders, small_store)
    file = folders[0] / "predictions/test/tile/gates/gates.png"
    assert (name, address, warning) == (RUNS[0], png_address(file.read_bytes()), "")
    ((_, _, warning),) = find_gates([replace(runs[0], generator="cd" * 32), runs[1]], folders, small_store)
    assert "another generator" in warning


def test_what_does_not_belong_together_is_refused(folders: list[Path], small_store: Store, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no scores in"):
        write_report([tmp_path], small_store, Split.TEST, "tile", tmp_path / "page.html")
    other = tmp_path / "other"
    shutil.copytree(folders[0], other)
    write_scores(replace(scores_of(other), seal="f" * 64), other / "predictions" / "test" / "tile")
    with pytest.raises(RunError, match=r"of a store with seal ffffffffffff, but .* has seal"):
        write_report([other], small_store, Split.TEST, "tile", tmp_path / "page.html")
    (folders[0] / "predictions/test/tile/gates/gates.json").rename(tmp_path / "away")
    with pytest.raises(RunError, match=r"gates\.json cannot be read as JSON"):
        find_gates([scores_of(folders[0])], folders[:1], small_store)
    (tmp_path / "away").rename(folders[0] / "predictions/test/tile/gates/gates.json")
    assert not (tmp_path / "page.html").exists()


class Proxy:
    """Every request of a browser comes here; it is written down and gets no answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    self.asked.append(connection.recv(4096).decode("latin-1").split("\r\n")[0])
                except OSError:
                    continue

    def close(self) -> None:
        self._socket.close()

    @property
    def foreign(self) -> list[str]:
        """The hosts of requests that the browser did not make for itself."""
        hosts = [request.split()[1].removeprefix("http://").split("/")[0].split(":")[0] for request in self.asked]
        return [host for host in hosts if not host.endswith(ITS_OWN)]


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


def browse(page: Path, proxy: Proxy, tmp_path: Path) -> str:
    """The document after a browser has shown a page; its requests do not leave this machine."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--proxy-server=127.0.0.1:{proxy.port}", "--proxy-bypass-list=<-loopback>",
         f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return done.stdout


PROBE = """
<script>
const table = document.querySelector("table.sortable"), heads = [...table.tHead.rows[0].cells];
const column = name => heads.findIndex(head => head.textContent === name);
const values = name => [...table.tBodies[0].rows].map(row => row.cells[column(name)].dataset.value);
const click = name => {
  const head = heads[column(name)];
  head.click();
  return [values(name), head.getAttribute("aria-sort")];
};
const found = {before: values("row"), up: click("SSIM ↑"), down: click("SSIM ↑"), fid: click("FID ↓"),
               rows: click("row"), seen: click("pairs seen")};
window.addEventListener("load", () => setTimeout(() => {
  found.asked = performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 40));
  found.images = [...document.images].map(image => [image.complete, image.naturalWidth]);
  document.documentElement.textContent = "FOUND" + JSON.stringify(found) + "END";
}, 500));
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed here")
def test_a_browser_shows_every_picture_sorts_and_sends_no_request(page: Path, proxy: Proxy, tmp_path: Path) -> None:
    probed = tmp_path / "probed.html"
    leak = '<img src="http://leak.invalid/a.png">'  # the page's own policy has to stop this
    text = page.read_text(encoding="utf-8").replace("</main>", leak + "</main>")
    probed.write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    shown = html.unescape(browse(probed, proxy, tmp_path))
    found: dict[str, Any] = json.loads(shown.split("FOUND")[1].split("END")[0])
    assert len(found["images"]) == 2 * 4 * 4 + 2 * 4 * 3 + 2 + 1 + 1
    assert all(complete and width > 0 for complete, width in found["images"][:-1])
    assert found["images"][-1][1] == 0
    assert [name for name in found["asked"] if not name.startswith("data:")] == ["http://leak.invalid/a.png"]
    assert proxy.foreign == []
    assert found["before"][:7] == [*(name for name in BASELINES for _ in range(2)), RUNS[0]]
    (up, ascending), (down, descending) = found["up"], found["down"]
    assert (ascending, descending) == ("ascending", "descending")
    assert [float(value) for value in up] == sorted(float(value) for value in up)
    assert [float(value) for value in down] == sorted((float(value) for value in down), reverse=True)
    known = [value for value in found["fid"][0] if value != "nan"]
    assert found["fid"][0] == [*known, *["nan"] * (len(found["fid"][0]) - len(known))]
    assert 0 < len(known) < len(found["fid"][0])
    assert [float(value) for value in known] == sorted(float(value) for value in known)
    assert found["rows"][0] != found["before"]
    assert sorted(found["rows"][0], key=str.casefold) == found["rows"][0]
    assert found["seen"][0][-1] == ""


@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed here")
def test_the_proxy_sees_a_request(proxy: Proxy, tmp_path: Path) -> None:
    page = tmp_path / "leaking.html"
    page.write_text('<img src="http://leak.invalid/a.png">')
    browse(page, proxy, tmp_path)
    assert proxy.foreign == ["leak.invalid"]
