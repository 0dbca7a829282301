"""What a file is that should hold weights: a line of its own for each kind, and never a word of PyTorch's."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch

from store.foreign.kinds import Format, read_plain, what_is_wrong
from store.schema import WeightsError
from tests.support.places import ROOT


def saved(held: object, *, modern: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(held, buffer, _use_new_zipfile_serialization=modern)
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return buffer.getvalue()


HEADER = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
SAFE = len(HEADER).to_bytes(8, "little") + HEADER + b"\0" * 4
WHOLE, OLD = saved({"a": torch.ones(999)}), saved({"a": torch.ones(999)}, modern=False)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 45600\n"
MEMOISED = (
    b"\x80\x04\x8c\x08builtins\x94\x8c\x05print\x94\x8c\x01x\x8c\x01yh\0h\1\x93."  # the names, others, the names again
)
KINDS = {
    "empty": (b"", "is empty (0 bytes)"),
    "page": (b"\n<!DOCTYPE html><title>Confirm</title>", "is a web page ('Confirm')"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is a web page"),
    "pointer": (POINTER, "is a Git LFS pointer, which only names the real file of 45,600 bytes"),
    "annex": (b"/annex/objects/SHA256E-s1--0.pth\n", "is a git-annex pointer"),
    "text": (b'{"error": "\x7f\xc2\x9b2J"}', "is a text ("),
    "gzip": (gzip.compress(WHOLE), "is a gzip archive: unpack it"),
    "tar": (tarred(), "is a tar archive: unpack it"),
    "zip": (zipped(inner__weights=WHOLE), "is a zip archive that PyTorch did not write (it holds 'inner/weights')"),
    "empty zip": (zipped(), "is a zip archive that PyTorch did not write (it holds nothing)"),
    "script": (zipped(**{"a__data.pkl": b"", "a__constants.pkl": b""}), "is a TorchScript program"),
    "bomb": (zipped(**{"a__data.pkl": b"", "a__data__0": b"\0" * 10**6}), "is a compressed archive that unpacks to"),
    "safetensors": (SAFE, "is a safetensors file, whatever its name says"),
    "zeros": (b"\0" * 5000, "begins with nothing but zero bytes"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0", "is a PNG picture"),
    "bytes": (b"\x01\x02\x03\x04", "is neither a PyTorch file nor a safetensors file: it begins with the bytes 01 02"),
    "half": (WHOLE[: len(WHOLE) // 2], "is cut off after"),
    "one byte": (WHOLE[:-1], "is cut off after"),
    "half of an old file": (OLD[: len(OLD) // 2], "is damaged or cut off"),
    "flipped": (WHOLE.replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_vX"), "is damaged or cut off"),
    "code": (saved({"a": partial(print, 1)}), "asks for code ('functools.partial'"),
    "old code": (saved(partial(print, 1), modern=False), "asks for code ('functools.partial'"),
    "a pickle": (pickle.dumps(partial(print, 1), protocol=4), "asks for code ('functools.partial'"),
    "memoised code": (MEMOISED, "asks for code ('builtins.print'"),
    "a whole network": (saved(torch.nn.Linear(1, 1)), "asks for code ('torch.nn.modules.linear.Linear'"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, words = KINDS[kind]
    file = tmp_path / "weights.pth"
    file.write_bytes(data)
    load = partial(torch.load, map_location="cpu", weights_only=True)
    for source in (file, data):
        with pytest.raises(WeightsError) as caught:
            read_plain(source, "weights.pth", load, WeightsError, "fetch it again")
        message = str(caught.value)
        assert message.startswith(f"weights.pth {words}")
        assert message.endswith("; fetch it again")
        assert message.isprintable()
        assert "weights_only" not in message
    assert capsys.readouterr().out == ""  # what `print` would have left


@pytest.mark.parametrize("data", [WHOLE, OLD])
def test_files_of_pytorch_are_read(data: bytes) -> None:
    load = partial(torch.load, map_location="cpu", weights_only=True)
    held = read_plain(data, "weights.pth", load, WeightsError, "fetch it again")
    assert isinstance(held, dict)
    assert torch.equal(held["a"], torch.ones(999))


def test_safetensors_are_told_from_files_of_pytorch() -> None:
    assert what_is_wrong(io.BytesIO(SAFE), Format.SAFETENSORS) == ""
    assert what_is_wrong(io.BytesIO(WHOLE), Format.SAFETENSORS).startswith("is a PyTorch file, whatever its name says")


@pytest.mark.parametrize("length", [0x80, 0x4B50, 0x3C20, 0x100 - 8])
def test_a_length_that_looks_like_another_format_does_not_deceive(length: int) -> None:
    """As the first bytes of a pickle, a zip archive, a web page; a header of safetensors has any multiple of 8."""
    file = io.BytesIO(length.to_bytes(8, "little") + HEADER.ljust(length) + b"\0" * 4)
    assert what_is_wrong(file, Format.SAFETENSORS) == ""


def test_every_file_of_pytorch_goes_through_the_one_reader() -> None:
    for package in ("prep", "train", "evaluate"):
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            loads = text.count("torch.load")
            assert loads == text.count('partial(torch.load, map_location="cpu", weights_only=True)'), file
            assert not loads or "read_plain(" in text, file
