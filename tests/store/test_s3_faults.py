"""A network and a server that fail: short failures are retried, lasting ones are errors, no store is incomplete."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

from store.location import s3_client
from store.location.open import locate
from store.location.s3 import Bucket
from store.reader import Store
from store.schema import Split, Stain, StoreError
from store.verify import verify
from store.writing.repair import start_repair
from store.writing.writer import UnitsLostError, finish_sealing
from tests.support.command_line import CommandLine
from tests.support.faulty_s3 import Kind, Proxy, faulty
from tests.support.s3 import begin, objects
from tests.support.stores import build_small_store, small_manifest, small_table

X4 = "train/x4/ihc/c/1/0/0/0/0"
AGAIN = "check the network and the server, then run the same command again$"


@pytest.fixture
def proxy(s3_server: tuple[str, int], bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy between the store and the server; timeouts are fractions of a second."""
    assert bucket.startswith("s3://")
    monkeypatch.setattr(s3_client, "RETRIES", 2)
    monkeypatch.setattr(s3_client, "WAIT", timedelta(milliseconds=2))
    monkeypatch.setattr(s3_client, "SILENCE", timedelta(seconds=0.5))
    monkeypatch.setattr(s3_client, "CONNECT", timedelta(seconds=0.5))
    with faulty(s3_server) as between:
        monkeypatch.setenv("AWS_ENDPOINT_URL", between.endpoint)
        yield between


def one_line(error: pytest.ExceptionInfo[StoreError]) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert "<" not in text
    assert len(text) < 600


def test_a_build_retries_what_fails_for_a_moment(proxy: Proxy, bucket: str, small_store: Store) -> None:
    for kind, method, part in (
        (Kind.ERROR, "PUT", "train/x2/he"),
        (Kind.ERROR, "GET", "list-type"),
        (Kind.ERROR, "HEAD", "zarr.json"),
        (Kind.CUT_UPLOAD, "PUT", "train/tile/he/c/1"),
        (Kind.CUT_UPLOAD, "PUT", "test-000001.json"),
        (Kind.CUT_DOWNLOAD, "GET", "train-000000.json"),
        (Kind.LOST_ANSWER, "PUT", "train/x4/box"),
        (Kind.ERROR, "POST", "?delete"),
        (Kind.STALL, "GET", "train/x1/zarr.json"),
    ):
        proxy.fail(kind, method, part, times=2)
    address = str(build_small_store(f"{bucket}/small.zarr").location)
    assert len(proxy.failed) == 2 * 9
    assert objects(address) == objects(small_store.location)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_a_server_says_in_passing(proxy: Proxy, bucket: str, status: int) -> None:
    there = Bucket(f"{bucket}/x")
    for method in ("PUT", "GET"):
        proxy.fail(Kind.ERROR, method, times=2, status=status)
    there.write("a", b"1")
    assert there.read("a") == b"1"
    assert len(proxy.failed) == 4


@pytest.mark.parametrize("kind", [Kind.ERROR, Kind.CUT_DOWNLOAD, Kind.LOST_ANSWER, Kind.STALL])
def test_a_reader_retries_what_fails_for_a_moment(proxy: Proxy, stored: str, small_store: Store, kind: Kind) -> None:
    for part in ("small.zarr/zarr.json", X4, "train/x4/box/c/1", "test/pair/slide/c/0"):
        proxy.fail(kind, "GET", part, times=2)
    store = Store.open(stored)
    assert np.array_equal(
        store.picture(Split.TRAIN, "x4", Stain.IHC, 4), small_store.picture(Split.TRAIN, "x4", Stain.IHC, 4)
    )
    assert store.box(Split.TRAIN, "x4", 4) == small_store.box(Split.TRAIN, "x4", 4)
    assert store.pairs(Split.TEST) == small_store.pairs(Split.TEST)
    assert len(proxy.failed) == 8


def test_a_slow_connection_does_not_fail(proxy: Proxy, bucket: str) -> None:
    """The client's limit of silence would count from the first byte of an upload to the answer: 0.4 s here."""
    proxy.fail(Kind.SLOW, "PUT")
    Bucket(f"{bucket}/x").write("a", bytes(100_000))
    assert len(proxy.failed) == 1


@pytest.mark.parametrize(
    ("kind", "method", "part"),
    [
        (Kind.ERROR, "PUT", "test/x1/he/zarr.json"),  # in the middle of the layout
        (Kind.CUT_UPLOAD, "PUT", X4),
        (Kind.ERROR, "PUT", "test/unit/digest"),  # while sealing
        (Kind.LOST_ANSWER, "POST", "?delete"),  # after sealing
    ],
)
def test_a_build_stops_at_what_fails_for_good_and_the_same_command_finishes(
    proxy: Proxy, bucket: str, small_store: Store, kind: Kind, method: str, part: str
) -> None:
    address = f"{bucket}/small.zarr"
    proxy.fail(kind, method, part)
    with pytest.raises(StoreError, match=rf"^{address}(.journal)?: .*{AGAIN}") as caught:
        build_small_store(address)
    one_line(caught)
    proxy.faults.clear()
    if method == "POST":
        assert Store.open(address).manifest.seal == small_store.manifest.seal
        finish_sealing(address)
    else:
        build_small_store(address)
    assert objects(address) == objects(small_store.location)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind.ERROR, r"after 2 retries, .* 503 Service Unavailable \(Broken\)"),
        (Kind.CUT_DOWNLOAD, "request or response body error"),
        (Kind.STALL, "after 2 retries, .* error sending request"),
    ],
)
def test_a_reader_reports_what_fails_for_good(proxy: Proxy, stored: str, kind: Kind, words: str) -> None:
    store = Store.open(stored)
    proxy.fail(kind, "GET")
    with pytest.raises(StoreError, match=rf"picture 0 of pair 4 in train/x4/ihc of {stored} cannot .*{words}") as first:
        store.picture(Split.TRAIN, "x4", Stain.IHC, 4)
    with pytest.raises(StoreError, match=rf"table train/x4/box of {stored} cannot be read .*{words}") as second:
        store.box(Split.TRAIN, "x4", 4)
    with pytest.raises(StoreError, match=rf"^{stored} cannot be read: .*{words}.*{AGAIN}") as third:
        Store.open(stored)
    for caught in (first, second, third):
        one_line(caught)


def test_silence_is_no_damage(proxy: Proxy, stored: str, line: CommandLine) -> None:
    """A server that does not answer says nothing about its objects: the error does not ask to build them again."""
    before = objects(stored)
    proxy.fail(Kind.ERROR, "GET", X4)
    outcome = line("verify", stored)
    assert outcome.code == 2
    last = outcome.err.splitlines()[-1].rpartition("error: ")[2]
    assert last.startswith(f"{X4} of {stored} cannot be read: Error performing GET")
    assert "--repair" not in last
    for part in (X4, "small.zarr/zarr.json"):
        proxy.faults.clear()
        proxy.fail(Kind.ERROR, "GET", part)
        with pytest.raises(StoreError, match=AGAIN):
            start_repair(stored, small_manifest(), small_table())
    proxy.faults.clear()
    assert objects(stored) == before


def test_answers_that_are_too_short_are_noticed(proxy: Proxy, stored: str) -> None:
    """The answer says that it is complete; only the length and the checksum in the store show that it is not."""
    proxy.fail(Kind.SHORT, "GET", X4)
    store = Store.open(stored)
    with pytest.raises(StoreError, match="the shard is too short"):
        store.picture(Split.TRAIN, "x4", Stain.IHC, 4)
    assert verify(stored).altered == (X4,)
    for part in ("train/x4/box/c/1", "test/pair/id/c/0", "small.zarr/zarr.json"):
        proxy.fail(Kind.SHORT, "GET", part)
    with pytest.raises(StoreError, match=r"table train/x4/box of .* cannot be read"):
        store.box(Split.TRAIN, "x4", 4)
    with pytest.raises(StoreError, match=r"table test/pair/id of .* cannot be read"):
        store.pairs(Split.TEST)
    with pytest.raises(StoreError, match=r"its zarr\.json is damaged"):
        Store.open(stored)


def test_an_upload_altered_in_transit(proxy: Proxy, bucket: str, small_store: Store) -> None:
    """S3 refuses it by either header; moto checks neither, so that it is found before the store is sealed."""
    address = f"{bucket}/small.zarr"
    proxy.fail(Kind.ALTERED, "PUT", X4)
    with pytest.raises(UnitsLostError, match="lacks 1 units, the first is train-000001"):
        build_small_store(address)
    ((headers, sent),) = proxy.altered
    assert base64.b64decode(headers["x-amz-checksum-sha256"]) == hashlib.sha256(sent).digest()
    assert headers["x-amz-content-sha256"] == hashlib.sha256(sent).hexdigest()
    assert locate(address).read(X4) != sent
    proxy.faults.clear()
    build_small_store(address)
    assert objects(address) == objects(small_store.location)


def test_a_bucket_that_is_not_there(proxy: Proxy) -> None:
    assert proxy.endpoint
    for refused in (lambda: begin("s3://nosuch/small.zarr", 0), lambda: Store.open("s3://nosuch/small.zarr")):
        with pytest.raises(
            StoreError, match=r"there is no bucket 'nosuch' on that server; correct the address"
        ) as caught:
            refused()
        one_line(caught)


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_refused(proxy: Proxy, stored: str, status: int) -> None:
    proxy.fail(Kind.ERROR, status=status)
    for refused in (lambda: begin(stored, 0), lambda: Store.open(stored), lambda: verify(stored)):
        proxy.failed.clear()
        with pytest.raises(StoreError, match=rf"{status} \w+.*; check the credentials \(AWS_ACCESS_KEY_ID") as caught:
            refused()
        one_line(caught)
        assert len(proxy.failed) == 1  # a retry would not help


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", f"after 2 retries.*{AGAIN}"),
        (
            "AWS_ENDPOINT_URL",
            "127.0.0.1:9",
            r"AWS_ENDPOINT_URL=127\.0\.0\.1:9: a server's address is like https://host",
        ),
        ("AWS_ACCESS_KEY_ID", "", "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY$"),
        ("AWS_CA_BUNDLE", "/nowhere/ca.pem", "AWS_CA_BUNDLE=/nowhere/ca.pem cannot be read: No such file"),
    ],
)
def test_an_environment_that_leads_nowhere(
    proxy: Proxy, stored: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    if not value:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    assert proxy.faults == []
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(stored)
    one_line(caught)
