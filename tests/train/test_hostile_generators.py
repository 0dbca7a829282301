"""Generator files that were made to harm their reader: a message, before memory is taken for what they ask for."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from store.files import DIGEST, digest_tree
from store.reader import Store
from store.records.facts import RunFacts
from store.run_files import RunFolder
from store.schema import RunError, SettingsError
from store.settings import plain
from tests.support.tiny_run import TINY
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.run.generator_file import (
    FORMAT,
    HEADER,
    TENSORS,
    GeneratorHeader,
    digest_tensors,
    load_generator,
    load_header,
)
from train.run.model_card import model_card


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in build_method(TINY).generator.state_dict().items()}


def forge(path: Path, tensors: dict[str, torch.Tensor], change: Callable[[dict[str, Any]], object]) -> Path:
    """A generator file whose settings were changed, under digests that are right."""
    header = GeneratorHeader(version=FORMAT, method=TINY.method, settings=TINY, seal=None, step=None, pairs_seen=None)
    tree = plain(header) | {TENSORS: digest_tensors(tensors)}
    change(tree["settings"])
    path.write_bytes(save(tensors, {HEADER: json.dumps(tree | {DIGEST: digest_tree(tree)})}))
    return path


def put(group: str, name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda settings: (settings[group] if group else settings).update({name: value})


def grown(before: int) -> int:
    """MB that this process took since then, at the most."""
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10


@pytest.mark.parametrize(
    ("group", "name", "value", "said"),
    [
        ("generator", "base", 10**6, "generator.base = 1000000: must be at most 1,024"),
        ("generator", "base", 1024, "does not fit the network that its header names"),
        ("generator", "base", 10**18, "must be at most"),
        ("generator", "blocks", 10**6, "must be at most"),
        ("generator", "blocks", 64, "does not fit the network that its header names"),
        ("generator", "depth", 10**6, "must be at most"),
        ("discriminator", "base", 10**6, "must be at most"),
        ("discriminator", "layers", 10**6, "must be at most"),
        ("contrast", "width", 10**9, "must be at most"),
        ("contrast", "patches", 10**12, "must be at most"),
        ("data", "workers", 10**6, "must be at most"),
        ("", "method", "x" * 100_000, "no such method"),
    ],
)
def test_a_header_that_asks_for_more_than_the_file_holds_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], group: str, name: str, value: object, said: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((RunError, SettingsError), match=said) as caught:
        load_generator(forge(tmp_path / "g.safetensors", tensors, put(group, name, value)))
    assert len(str(caught.value)) < 2000
    assert grown(before) < 200


def first(tensors: dict[str, torch.Tensor], value: torch.Tensor) -> dict[str, torch.Tensor]:
    return tensors | {next(iter(tensors)): value}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: torch.full_like(one, torch.nan), "has 1 tensors with values that are not finite, such as "),
        (lambda one: torch.full_like(one, torch.inf), "has 1 tensors with values that are not finite, such as "),
        (lambda one: one.half(), r"float32 in the network and \(.*\) float16 in the file"),
        (lambda one: one.long(), "int64 in the file"),
        (lambda one: one * 1j, "complex64 in the file"),
        (lambda one: one.to(torch.float8_e4m3fn), "float8_e4m3fn in the file"),
        (lambda one: one[..., :1].contiguous(), "1 of [0-9]+ tensors differ"),
    ],
)
def test_tensors_under_a_digest_that_is_right_are_compared_with_the_network(
    tmp_path: Path, tensors: dict[str, torch.Tensor], change: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    forged = first(tensors, change(next(iter(tensors.values()))))
    with pytest.raises(RunError, match=said):
        load_generator(forge(tmp_path / "g.safetensors", forged, lambda _: None))


def test_names_of_tensors_are_compared_and_shown_safely(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    few = dict(list(tensors.items())[1:])
    for forged in (few, {}, tensors | {"0\x1b[2J\n": torch.ones(1)}):
        with pytest.raises(RunError, match="tensors differ, such as ") as caught:
            load_generator(forge(tmp_path / "g.safetensors", forged, lambda _: None))
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(("group", "name", "value"), [("discriminator", "base", 1024), ("contrast", "width", 1 << 14)])
def test_networks_that_are_not_in_the_file_take_no_memory(
    tmp_path: Path, tensors: dict[str, torch.Tensor], group: str, name: str, value: int
) -> None:
    """A discriminator of that width has 300 million weights; the generator is the one in the file."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trained = load_generator(forge(tmp_path / "g.safetensors", tensors, put(group, name, value)))
    assert grown(before) < 200
    assert all((tensor == tensors[key]).all() for key, tensor in trained.generator.state_dict().items())


@pytest.mark.parametrize(
    "header",
    ["[]", '[["version", 2]]', "null", "1", '"x"', "[" * 100_000, '{"a":' * 100_000, "{", '{"version": [2]}',
     '{"version": ' + "9" * 10_000 + "}", '{"version": 1e999}', '{"version": 2, "version": 2}', '{"version": 2}',
     '{"version": 3}', json.dumps({"version": 3, DIGEST: digest_tree({"version": 3})})],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_header_that_is_no_header_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], header: str) -> None:
    path = tmp_path / "g.safetensors"
    path.write_bytes(save(tensors, {HEADER: header}))
    with pytest.raises(RunError) as caught:
        load_generator(path)
    assert str(caught.value).startswith(f"{path} ")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "body",
    [b"[]", b"[" * 100_000, b"{" * 100_000, b'{"__metadata__": []}', b'{"__metadata__": {"magstain": 3}}', b"{}",
     b"null", b'{"__metadata__": null}',
     b'{"a": {"dtype": "F8_E8M0", "shape": [0], "data_offsets": [0, 0]}}',
     b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}'],
    ids=lambda text: text[:20].decode(),
)  # fmt: skip
@pytest.mark.parametrize("length", [None, 0, 2**63, 10**8])
def test_a_file_whose_own_header_lies_is_refused(tmp_path: Path, body: bytes, length: int | None) -> None:
    path = tmp_path / "g.safetensors"
    path.write_bytes((len(body) if length is None else length).to_bytes(8, "little") + body)
    with pytest.raises(RunError) as caught:
        load_generator(path)
    assert str(caught.value).startswith(f"{path} ")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<!DOCTYPE html><title>Sign in</title>", "is a web page ('Sign in')"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 45\n", "is a Git LFS pointer"),
        (b"PK\3\4" + bytes(99), "is cut off after 103 bytes"),
        (bytes(5000), "begins with nothing but zero bytes"),
    ],
)
def test_what_a_download_leaves_in_its_place_is_told(tmp_path: Path, data: bytes, said: str) -> None:
    """As `predict` and the check of a finished run read it: one line, with the remedy."""
    path = tmp_path / "g.safetensors"
    path.write_bytes(data)
    for read in (load_generator, load_header):
        with pytest.raises(RunError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path} {said}")
        assert "; bring back a copy" in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "data"), [("demo.onnx", b"\x08\x08\x12\x07pytorch"), ("a.png", b"\x89PNG\r\n\x1a\n\0")]
)
def test_of_a_foreign_file_nobody_is_told_to_delete_it(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(
        RunError, match=rf"{name} is an? .*; a generator is a \.safetensors file, such as the"
    ) as caught:
        load_generator(path)
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize("override", ["generator.base=1000000", "discriminator.base=100000", "data.batch=1000000000"])
def test_settings_that_no_machine_holds_are_refused(override: str) -> None:
    with pytest.raises(SettingsError, match="must be at most"):
        load_recipe([], [override])


def test_names_stay_names_in_a_model_card(tmp_path: Path, small_store: Store) -> None:
    manifest = replace(small_store.manifest, name="a|b\n# c", stain="<b>`x`")
    facts = RunFacts(
        store="s",
        seal="ab",
        method="asp",
        synthetic=False,
        upscaler="imported from [x](y)|z",
        pairs=1,
        pairs_seen=1,
        device="```\n# d",
        precision="fp32",
        parameters={},
        software={},
    )
    settings = replace(TINY, device="````")
    header = GeneratorHeader(version=FORMAT, method="asp", settings=settings, seal=None, step=1, pairs_seen=1)
    card = model_card(RunFolder(tmp_path / "*r*"), Store(tmp_path, manifest), header, facts, seconds=1.0, skipped=0)
    assert card.startswith("# \\*r\\*: H&E to \\<b\\>\\`x\\` by asp\n")
    assert "| store | a\\|b?# c, seal" in card
    assert "imported from \\[x\\](y)\\|z |" in card
    assert "on \\`\\`\\`?# d in fp32 |" in card
    assert card.count("`````toml\n") == card.count("\n`````\n") == 1
    assert [line for line in card.splitlines() if line.startswith("# ")] == [card.splitlines()[0]]
