"""Files that are no weights, or damaged ones, and what is said of each: what tests of all readers of weights share."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from functools import partial

import torch


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
    "safetensors": (SAFE, "is a safetensors file, where a PyTorch file is needed"),
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
