"""Weight files from a loopback server: downloaded once, resumed, checked; wrong files are refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from store.schema import StoreError, WeightsError
from store.weights import (
    BSRGAN_FILES,
    FEATURE_FILES,
    FOLDER_VARIABLE,
    PACKAGES,
    WEIGHT_FILES,
    WeightFile,
    choose,
    describe,
    fetch,
    locate,
    weights_folder,
)
from tests.support.disks import contents, read_only

DATA = np.random.default_rng(0).bytes(2_500_000)  # three pieces
SIZE = len(DATA)
DIGEST = hashlib.sha256(DATA).hexdigest()


@dataclass
class Mirror:
    """What the server does and what it was asked for."""

    data: bytes = DATA
    resumes: bool = True  # whether it supports ranges
    breaks_after: int = 2 * SIZE  # bytes of an answer after which the connection is cut
    says_length: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server on the loopback interface that holds `DATA` under every name."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.asked.append((self.path, asked))
            begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.resumes else 0
            if asked and begin >= len(state.data):
                self.send_error(416)
                return
            self.send_response(206 if asked and state.resumes else 200)
            body = state.data[begin:]
            if state.says_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # a client that sees a wrong length closes the connection
                self.wfile.write(body[: state.breaks_after])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        state.address = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def weight(mirror: Mirror) -> WeightFile:
    return WeightFile(name="net.pth", size=SIZE, sha256=DIGEST, address=f"{mirror.address}/v1/net.pth", what="a net")


def test_a_file_is_fetched_once(mirror: Mirror, weight: WeightFile, tmp_path: Path) -> None:
    told: list[int] = []
    folder = tmp_path / "deep" / "weights"
    assert fetch(weight, folder, watch=told.append) == folder / "net.pth" == locate(weight, folder)
    assert contents(folder) == {"net.pth": DATA}
    assert sum(told) == SIZE
    fetch(weight, folder)
    assert mirror.asked == [("/v1/net.pth", "")]


@pytest.mark.parametrize("resumes", [True, False])
def test_an_interrupted_download_resumes(mirror: Mirror, weight: WeightFile, tmp_path: Path, resumes: bool) -> None:
    mirror.breaks_after, mirror.resumes = 1_200_000, resumes
    with pytest.raises(
        WeightsError,
        match=r"net\.pth: the download stopped after 1,200,000 of 2,500,000 bytes, which are kept in "
        r".*net\.pth\.partial; run the",
    ):
        fetch(weight, tmp_path)
    assert contents(tmp_path) == {"net.pth.partial": DATA[:1_200_000]}
    mirror.breaks_after = 2 * SIZE
    told: list[int] = []
    fetch(weight, tmp_path, watch=told.append)
    assert contents(tmp_path) == {"net.pth": DATA}
    assert mirror.asked[1] == ("/v1/net.pth", "bytes=1200000-")
    assert sum(told) == SIZE


def test_a_partial_of_full_length_is_not_fetched_again(mirror: Mirror, weight: WeightFile, tmp_path: Path) -> None:
    (tmp_path / "net.pth.partial").write_bytes(DATA)
    fetch(weight, tmp_path)
    assert contents(tmp_path) == {"net.pth": DATA}
    assert mirror.asked == []


def test_a_partial_that_is_too_long_is_downloaded_again(mirror: Mirror, weight: WeightFile, tmp_path: Path) -> None:
    (tmp_path / "net.pth.partial").write_bytes(DATA + b"more")
    fetch(weight, tmp_path)
    assert contents(tmp_path) == {"net.pth": DATA}
    assert mirror.asked == [("/v1/net.pth", "")]


def test_a_partial_of_another_file_is_refused_and_removed(mirror: Mirror, weight: WeightFile, tmp_path: Path) -> None:
    (tmp_path / "net.pth.partial").write_bytes(b"x" * 1000)
    with pytest.raises(WeightsError, match=rf"it has sha256 [0-9a-f]{{64}}, .* sha256 {DIGEST}; nothing was kept"):
        fetch(weight, tmp_path)
    assert contents(tmp_path) == {}


def test_a_file_with_another_digest_is_refused_and_named(mirror: Mirror, weight: WeightFile, tmp_path: Path) -> None:
    mirror.data = DATA[:-1] + b"!"
    found = hashlib.sha256(mirror.data).hexdigest()
    with pytest.raises(WeightsError) as caught:
        fetch(weight, tmp_path)
    assert str(caught.value) == (
        f"{weight.address} is not a net: it has sha256 {found}, the right file has 2,500,000 bytes and "
        f"sha256 {DIGEST}; "
        f"nothing was kept; put the right file into {tmp_path} by hand, or give a copy with --from"
    )
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("says_length", [True, False])
def test_a_page_in_place_of_the_file_is_refused(
    mirror: Mirror, weight: WeightFile, tmp_path: Path, says_length: bool
) -> None:
    mirror.data, mirror.says_length = DATA + b"longer", says_length
    with pytest.raises(
        WeightsError, match=r"is not a net: it has (2,500,006|more than 2,500,000) bytes, the right file"
    ):
        fetch(weight, tmp_path)
    assert contents(tmp_path) == {}


def test_a_server_without_the_rest_gets_a_new_request_the_next_time(
    mirror: Mirror, weight: WeightFile, tmp_path: Path
) -> None:
    (tmp_path / "net.pth.partial").write_bytes(DATA[:-1])
    mirror.data = DATA[:1000]
    with pytest.raises(WeightsError, match=r"cannot fetch .*416"):
        fetch(weight, tmp_path)
    assert contents(tmp_path) == {}


def test_a_mirror_and_a_full_address(mirror: Mirror, weight: WeightFile, tmp_path: Path) -> None:
    for place, source in enumerate(("/a/", "/b", "/c/net.pth")):
        fetch(replace(weight, address="http://127.0.0.1:9/none"), tmp_path / str(place), mirror.address + source)
    assert [path for path, _ in mirror.asked] == ["/a/net.pth", "/b/net.pth", "/c/net.pth"]


def test_a_local_copy(weight: WeightFile, tmp_path: Path) -> None:
    usb, folder = tmp_path / "usb stick", tmp_path / "weights"
    usb.mkdir()
    (usb / "net.pth").write_bytes(DATA)
    (usb / "renamed.bin").write_bytes(DATA)
    for source in (usb / "net.pth", usb, usb / "renamed.bin"):
        told: list[int] = []
        fetch(weight, folder, str(source), told.append).unlink()
        assert told == [SIZE]
    with pytest.raises(WeightsError, match=r"no file .*none\.pth; give --from a file net.pth, a folder that holds it"):
        fetch(weight, folder, str(usb / "none.pth"))
    (usb / "net.pth").write_bytes(b"other")
    with pytest.raises(WeightsError, match=rf"usb stick/net\.pth is not a net: it has 5 bytes.*is at {weight.address}"):
        fetch(weight, folder, str(usb))
    assert contents(folder) == {}
    assert (usb / "net.pth").read_bytes() == b"other"


def test_without_a_connection_the_message_explains_a_manual_download(
    mirror: Mirror, weight: WeightFile, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    for address in ("http://127.0.0.1:9/net.pth", "no-such-scheme://x/net.pth"):
        with pytest.raises(WeightsError) as caught:
            fetch(replace(weight, address=address), folder)
        for told in (address, "2,500,000 bytes", DIGEST, str(folder), "by hand", "--from"):
            assert told in str(caught.value)
        assert contents(folder) == {}


def test_a_file_in_the_folder_is_checked_and_kept(weight: WeightFile, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"net\.pth \(a net\) is not in {tmp_path}; fetch it with `make weights` "):
        locate(weight, tmp_path)
    (tmp_path / "net.pth").write_bytes(b"mine")
    for act in (locate, fetch):
        with pytest.raises(
            WeightsError, match=r"net\.pth is not a net: it has 4 bytes and is a text \('mine'\), .*; remove it and"
        ):
            act(weight, tmp_path)
    assert contents(tmp_path) == {"net.pth": b"mine"}


@pytest.mark.parametrize(
    ("package", "command"), [("prep", "make weights"), ("evaluate", "make weights NAMES=evaluate")]
)
def test_a_missing_file_names_the_command_that_fetches_it(
    weight: WeightFile, tmp_path: Path, package: str, command: str
) -> None:
    with pytest.raises(WeightsError, match=rf"net\.pth \(a net\) is not in {tmp_path}; fetch it with `{command}` \("):
        locate(replace(weight, package=package), tmp_path)


def test_a_read_only_folder_and_a_full_disk(weight: WeightFile, tmp_path: Path, small_disk: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    with read_only(locked):
        for folder in (locked, locked / "deep"):
            with pytest.raises(StoreError, match=r"cannot write .*: Read-only file system; the disk is read-only"):
                fetch(weight, folder)
    assert contents(locked) == {}
    with pytest.raises(StoreError, match=r"cannot write .*net\.pth\.partial: .*the disk is full: free some space"):
        fetch(weight, small_disk)
    kept = contents(small_disk)
    assert [*kept] == ["net.pth.partial"]  # kept: the same command resumes when there is space
    assert DATA.startswith(kept["net.pth.partial"])
    (small_disk / "net.pth.partial").unlink()
    (tmp_path / "net.pth").write_bytes(DATA)
    with pytest.raises(StoreError, match="the disk is full"):
        fetch(weight, small_disk, str(tmp_path))
    assert contents(small_disk) == {}


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "/a/b")
    assert weights_folder() == Path("/a/b")
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert weights_folder() == Path("/c/magstain/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/users/me")
    assert weights_folder() == Path("/users/me/.cache/magstain/weights")


def test_which_files_are_meant() -> None:
    ours = [*BSRGAN_FILES.values()]
    assert (
        choose([], "") == choose([], "/usb/folder") == choose([], "https://mirror/x/") == choose(["prep"], "") == ours
    )
    assert choose(["BSRGANx2.pth"], "") == choose([], "/usb/BSRGANx2.pth") == [BSRGAN_FILES[2]]
    assert choose(["evaluate"], "/usb/folder") == [*FEATURE_FILES]
    assert choose(["evaluate", "BSRGAN.pth"], "") == [BSRGAN_FILES[4], *FEATURE_FILES]
    assert choose(["evaluate", "prep"], "") == [*WEIGHT_FILES.values()]
    with pytest.raises(
        WeightsError, match=r"there is no weight file 'ESRGAN\.pth'; give one of BSRGAN\.pth, BSRGANx2\.pth"
    ):
        choose(["ESRGAN.pth"], "")


def test_the_table_is_complete() -> None:
    """The digits in torchvision's and pytorch-fid's file names were given by those who made them."""
    assert [*WEIGHT_FILES][:2] == ["BSRGAN.pth", "BSRGANx2.pth"]
    for weight in WEIGHT_FILES.values():
        assert re.fullmatch(r"[0-9a-f]{64}", weight.sha256)
        assert weight.size > 1_000_000
        assert weight.address.startswith("https://")
        assert weight.address.endswith(f"/{weight.name}")
    assert {weight.package for weight in WEIGHT_FILES.values()} == {*PACKAGES}
    for weight in FEATURE_FILES:
        assert weight.name.endswith(f"-{weight.sha256[:8]}.pth")


def test_the_list_says_whether_a_file_is_present(weight: WeightFile, tmp_path: Path) -> None:
    def lines(state: str) -> list[str]:
        return ["net.pth", f"  a net, {SIZE:,} bytes", f"  {state}", f"  {weight.address}", f"  sha256 {DIGEST}"]

    assert describe(weight, tmp_path).splitlines() == lines(f"not in {tmp_path}")
    (tmp_path / "net.pth").write_bytes(DATA)
    assert describe(weight, tmp_path).splitlines() == lines(f"in {tmp_path}")
    (tmp_path / "net.pth").write_bytes(b"x")
    assert describe(weight, tmp_path).splitlines() == lines(f"wrong file in {tmp_path}; remove it")
