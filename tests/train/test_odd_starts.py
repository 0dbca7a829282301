"""Files from which no run can start: what each of them is is said in one line, and the networks stay as they are."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from store.reader import Store
from store.run_files import RunFolder
from store.schema import RunError
from store.settings import plain
from tests.support.command_line import CommandLine
from tests.support.distributed_steps import small
from tests.support.odd_weights import KINDS, saved
from tests.support.runs import assert_equal
from train.__main__ import app
from train.loop.starting import start_from
from train.methods.base import Method
from train.methods.registry import build_method
from train.networks import patchgan, resnet
from train.run.checkpoint import FORMAT as CHECKPOINT
from train.run.generator_file import FORMAT, GeneratorHeader, save_generator
from train.runtime.distributed import ALONE
from train.settings import TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = small("asp")
HELP = "give a run's folder, its generator.safetensors or one of its checkpoints"


@pytest.fixture(scope="module")
def method() -> Method[Any]:
    torch.manual_seed(0)
    return build_method(SETTINGS)


def held(method: Method[Any]) -> dict[str, Any]:
    """A checkpoint of it, as far as a start reads it."""
    modules = {name: dict(module.state_dict()) for name, module in method.modules().items()}
    return {"format": CHECKPOINT, "step": 1, "seconds": 0.0, "terms": [], "modules": modules, "optimisers": {}}


def header_of(settings: TrainSettings) -> GeneratorHeader:
    return GeneratorHeader(version=FORMAT, method="asp", settings=settings, seal=None, step=1, pairs_seen=1)


def refusal(file: Path, method: Method[Any], settings: TrainSettings = SETTINGS) -> str:
    """The one line with which it is refused; nothing is loaded."""
    modules = method.modules()
    before = {name: {key: value.clone() for key, value in one.state_dict().items()} for name, one in modules.items()}
    with pytest.raises(RunError) as refused:
        start_from(RunFolder(file.parent / "run"), replace(settings, init_from=str(file)), modules, ALONE)
    for name, module in modules.items():
        assert_equal(dict(module.state_dict()), before[name])
    message = str(refused.value)
    assert message.startswith(f"init_from = {file}")
    assert message.isprintable()
    assert len(message) < 900
    assert "weights_only" not in message
    return message.removeprefix(f"init_from = {file}")


@pytest.mark.parametrize("name", ["weights.pth", "generator.safetensors", "last.pt"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_foreign_file_is_named(kind: str, name: str, method: Method[Any], tmp_path: Path) -> None:
    """Whatever the name of the file says."""
    data, words = KINDS[kind]
    if kind == "safetensors":
        words = (
            "is a checkpoint, from" if name == "last.pt" else "is not a generator of this program: its header has no"
        )
    (tmp_path / name).write_bytes(data)
    assert re.match(rf"(: it)? {re.escape(words)}", refusal(tmp_path / name, method))


@pytest.mark.parametrize("cut", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["generator", "checkpoint"])
def test_half_a_file_is_damaged(kind: str, cut: float, method: Method[Any], tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    if kind == "generator":
        save_generator(whole, method.generator, header_of(SETTINGS))
        words = r" is damaged \("
    else:
        torch.save(held(method), whole)
        words = r": it is cut off after [\d,]+ bytes"
    data, file = whole.read_bytes(), tmp_path / "half.pt"
    file = file.with_suffix(".safetensors") if kind == "generator" else file
    file.write_bytes(data[: int(len(data) * cut)])
    assert re.match(words, refusal(file, method))


def test_a_changed_bit_is_found(method: Method[Any], tmp_path: Path) -> None:
    """In a generator by its own digests, in a checkpoint of a run by that in its name."""
    file = tmp_path / "g.safetensors"
    save_generator(file, method.generator, header_of(SETTINGS))
    data = bytearray(file.read_bytes())
    data[-5] ^= 4
    file.write_bytes(data)
    assert "is damaged: its tensors do not have the digest in its header" in refusal(file, method)
    whole = saved(held(method))
    file = tmp_path / f"00000001-{hashlib.sha256(whole).hexdigest()[:16]}.pt"
    file.write_bytes(whole[:-400] + bytes([whole[-400] ^ 4]) + whole[-399:])
    assert ": its bytes do not have the digest in its name, so it is damaged; give a run's" in refusal(file, method)


def test_a_path_without_a_file_and_a_folder_that_is_no_run(method: Method[Any], tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.pt", method) == f": there is no such file; {HELP}"
    assert refusal(tmp_path / "no" / "folder", method) == f": there is no such file; {HELP}"
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    (tmp_path / "empty" / "checkpoints" / "notes.pt").touch()
    words = f": the folder has neither checkpoints nor a generator, so it is no run; {HELP}"
    assert refusal(tmp_path / "empty", method) == words


def networks_only(method: Method[Any], *names: str) -> dict[str, Any]:
    tree = held(method)
    return tree | {"modules": {name: tree["modules"][name] for name in names}}


def published_discriminator(method: Method[Any]) -> dict[str, Tensor]:
    names, state = patchgan.published_names(SETTINGS.discriminator), method.modules()["discriminator"].state_dict()
    return {theirs: state[ours] for ours, theirs in names.items()}


def published_generator(method: Method[Any]) -> dict[str, Tensor]:
    names, state = resnet.published_names(SETTINGS.generator), method.generator.state_dict()
    return {theirs: state[ours] for ours, theirs in names.items()}


DISCRIMINATOR = "it holds a discriminator, as its last convolution has one output: "
FOREIGN: dict[str, tuple[Callable[[Method[Any]], object], str]] = {
    "its own discriminator": (lambda m: m.modules()["discriminator"].state_dict(), DISCRIMINATOR),
    "a published discriminator": (published_discriminator, DISCRIMINATOR),
    "a published generator": (published_generator, "it holds a state dict: 'model.1.weight_orig', "),
    "a bare generator": (lambda m: m.generator.state_dict(), "it holds a state dict: 'stem.conv.weight_orig', "),
    "only a discriminator": (lambda m: networks_only(m, "discriminator"), "it has no generator, but discriminator"),
    "nothing": (networks_only, "it has no generator, but nothing"),
    "another format": (lambda m: held(m) | {"format": 3}, "it has format 3, and this program reads 2"),
    "a wrapped state dict": (lambda m: {"state_dict": m.generator.state_dict()}, "has no 'format' in itself; it holds"),
    "a list": (lambda _: [1], "it holds a list as itself, not a dictionary"),
    "a tensor": (lambda _: torch.ones(2), "it holds a Tensor as itself, not a dictionary"),
    "modules that are a list": (lambda m: held(m) | {"modules": []}, "it holds a list as its modules"),
    "a network that is none": (lambda m: held(m) | {"modules": {"generator": 1}}, "it holds a int as the generator"),
    "a name that steers a terminal": (lambda m: held(m) | {"modules": {"\x1b[31m": {}}}, r"has '\x1b[31m' as the name"),
    "names that steer a terminal": (lambda _: {"\x1b[31m" * 30: 1, 5: 2}, r"it holds '\x1b[31m"),
    "no names": (lambda _: {}, "it has no 'format' in itself; it holds nothing"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_else_a_file_of_pytorch_holds_is_said(kind: str, method: Method[Any], tmp_path: Path) -> None:
    make, words = FOREIGN[kind]
    torch.save(make(method), tmp_path / "latest_net_D.pth")
    message = refusal(tmp_path / "latest_net_D.pth", method)
    assert words in message
    assert HELP in message
    assert ("`python -m train import`" in message) == ("no generator" not in message)


def test_a_discriminator_as_safetensors(method: Method[Any], tmp_path: Path) -> None:
    save_file(dict(method.modules()["discriminator"].state_dict()), tmp_path / "d.safetensors")
    assert "is not a generator of this program: its header has no 'magstain'" in refusal(
        tmp_path / "d.safetensors", method
    )
    save_file(dict(method.modules()["discriminator"].state_dict()), tmp_path / "e.safetensors", {"magstain": "{}"})
    assert "has version None" in refusal(tmp_path / "e.safetensors", method)


Change = Callable[[dict[Any, Any]], object]
CHANGES: dict[str, tuple[Change, str]] = {
    "missing": (lambda g: g.pop("stem.conv.bias"), "1 missing, such as stem.conv.bias"),
    "all missing": (lambda g: g.clear(), r"\d+ missing, such as stem.conv.weight_orig, stem.conv.bias, "),
    "unexpected": (lambda g: g.update(odd=torch.ones(1)), "1 unexpected, such as 'odd'"),
    "both": (lambda g: g.update(odd=g.pop("stem.conv.bias")), "1 missing, such as stem.conv.bias; 1 unexpected"),
    "shape": (lambda g: g.update({"output.bias": torch.ones(4)}), r"output.bias \[4\] float32, not \[3\] float32"),
    "kind": (lambda g: g.update({"output.bias": torch.ones(3).half()}), r"output.bias \[3\] float16, not \[3\] float"),
    "sparse": (lambda g: g.update({"output.bias": torch.ones(3).to_sparse()}), r"\[3\] float32 no plain tensor, not"),
    "meta": (lambda g: g.update({"output.bias": torch.ones(3, device="meta")}), r"\[3\] float32 no plain tensor, not"),
    "no tensor": (lambda g: g.update({"output.bias": [1, 2, 3]}), r"output.bias a list, not \[3\] float32"),
    "NaN": (lambda g: g["output.bias"].fill_(torch.nan), "1 tensors of the generator have values that are not finite"),
    "infinite": (lambda g: g["stem.conv.weight_u"].fill_(torch.inf), "not finite, such as stem.conv.weight_u: its"),
    "odd name": (lambda g: g.update({"\x1b[1m" + "x" * 5000: torch.ones(1)}), r"1 unexpected, such as '\\x1b"),
    "no text": (lambda g: g.update({7: torch.ones(1)}), "1 unexpected, such as '7'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_tensors_that_do_not_fit_are_named(kind: str, method: Method[Any], tmp_path: Path) -> None:
    change, words = CHANGES[kind]
    tree = held(method)
    tree["modules"]["generator"] = {key: value.clone() for key, value in tree["modules"]["generator"].items()}
    change(tree["modules"]["generator"])
    torch.save(tree, tmp_path / "c.pt")
    assert re.search(words, refusal(tmp_path / "c.pt", method))


def test_other_networks_of_a_checkpoint_must_fit_too(method: Method[Any], tmp_path: Path) -> None:
    """Else a run would begin with a part of what was asked for; the generator alone can be taken."""
    tree = held(method)
    torch.save(tree, tmp_path / "c.pt")
    other = build_method(small("asp", "discriminator.base=8"))
    message = refusal(tmp_path / "c.pt", other)
    assert re.match(
        r": it does not fit the discriminator of this run, of \d+ tensors: \d+ of another shape or kind, such as "
        r"stages\.0\.conv\.weight_orig \[4, 3, 4, 4\] float32, not \[8, 3, 4, 4\] float32, stages\.",
        message,
    )
    assert message.endswith("; to take the generator alone, give a generator.safetensors")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("generator.base=8", "made with other settings (here -> there: generator.base: 8 -> 4)"),
        ("generator.stem=3", "made with other settings (here -> there: generator.stem: 3 -> 7)"),
        ("generator.blocks=7", "made with other settings (here -> there: generator.blocks: 7 -> 5)"),
        ("generator.spectral=false", "made with other settings (here -> there: generator.spectral: false -> true)"),
        ("generator.attention.enabled=true", "generator.attention.enabled: true -> false"),
    ],
)
def test_a_generator_of_another_shape_is_refused_with_its_settings(
    override: str, words: str, method: Method[Any], tmp_path: Path
) -> None:
    save_generator(tmp_path / "g.safetensors", method.generator, header_of(SETTINGS))
    settings = replace(small("attention_gan" if "attention" in override else "asp", override))
    message = refusal(tmp_path / "g.safetensors", build_method(settings), settings)
    assert message.startswith(": it does not fit the generator of this run, of ")
    assert words in message


def test_a_generator_whose_values_are_not_finite(method: Method[Any], tmp_path: Path) -> None:
    tensors = {key: value.clone() for key, value in method.generator.state_dict().items()}
    tensors["output.bias"][1] = torch.nan
    tree = plain(header_of(SETTINGS)) | {"version": 2}
    save_file(tensors, tmp_path / "g.safetensors", {"magstain": json.dumps(tree)})
    words = " has 1 tensors with values that are not finite, such as output.bias"
    assert refusal(tmp_path / "g.safetensors", method).startswith(words)


def test_the_command_says_it_in_one_line(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = CommandLine("train", app, monkeypatch, capsys)
    (tmp_path / "page.pt").write_bytes(KINDS["page"][0])
    words = ("fit", "--store", store.path, "--run", tmp_path / "run")
    done = line(*words, "--set", f"init_from={tmp_path / 'page.pt'}")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "is a web page ('Confirm')" in done.err
    assert not (tmp_path / "run").exists()
    done = line(*words, "--set", 'freeze=["generator.encoderr"]')
    assert (done.code, "did you mean 'generator.encoder" in done.err) == (2, True)
    assert not (tmp_path / "run").exists()
