"""What a file is that should hold weights: a line of its own for each kind, and never a word of PyTorch's."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import pytest
import torch

from store.foreign.kinds import Format, read_plain, what_is_wrong
from store.schema import WeightsError
from tests.support.odd_weights import HEADER, KINDS, OLD, SAFE, WHOLE
from tests.support.places import ROOT


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
    told = what_is_wrong(io.BytesIO(WHOLE), Format.SAFETENSORS)
    assert told == "is a PyTorch file, where a safetensors file is needed"


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
