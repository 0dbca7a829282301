"""The setting `init_from`: which weights come from which file, what is recorded, and how a run goes on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from store.files import digest_file
from store.reader import Store
from store.records.facts import StartedFrom, read_facts
from store.run_files import RunFolder
from store.schema import Interrupted, RunError
from store.settings import load
from tests.support.distributed_steps import small
from tests.support.runs import assert_equal, newest, state
from tests.support.tiny_run import TINY
from train.importing.publications import Published
from train.importing.run import Stated, import_generator
from train.loop.fit import fit
from train.loop.session import Run, build, facts_of, make_step
from train.methods.base import Method
from train.methods.registry import build_method
from train.networks.resnet import published_names
from train.run.checkpoint import Position, save_checkpoint
from train.run.console import Console
from train.run.folder import claim, make_folder
from train.run.generator_file import load_generator
from train.run.model_card import model_card
from train.runtime.distributed import ALONE
from train.settings import DataSettings, DiscriminatorSettings, GeneratorSettings, OptimiserSettings, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = replace(
    TINY,
    checkpoint_every=1,
    sample_every=100,
    validate_every=0,
    tensorboard=False,
    data=DataSettings(workers=0, batch=2),
    generator=GeneratorSettings(base=4, blocks=5),
    discriminator=DiscriminatorSettings(base=4, layers=3),
    optimiser=OptimiserSettings(constant_epochs=1, decay_epochs=0),
)
"""Four steps of two pairs."""
ENCODER = "generator.encoder"


@pytest.fixture(scope="module")
def base(small_store: Store, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run, with an average of its generator, which is its result."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "base")
    fit(folder, small_store, replace(SHORT, ema=0.9))
    return folder


def started(store: Store, folder: Path, settings: TrainSettings) -> Run:
    """A run before its first step."""
    return build(RunFolder(folder), store, settings, ALONE, Console(active=False))


def networks(run: Run) -> dict[str, dict[str, Tensor]]:
    """Every tensor of every network, also of the average."""
    return {
        name: {key: value.clone() for key, value in network.state_dict().items() if isinstance(value, Tensor)}
        for name, network in run.state.items()
    }


def test_a_run_starts_from_a_generator_and_keeps_its_encoder(
    base: RunFolder, small_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a user does it: train, start another run from the result with a part frozen, and read what is said."""
    folder, digest = RunFolder(tmp_path / "tuned"), digest_file(base.generator)
    settings = replace(SHORT, seed=3, init_from=str(base.generator), freeze=(ENCODER,), ema=0.5)
    fit(folder, small_store, settings)
    said = " ".join(capsys.readouterr().err.split())
    before, after = (load_generator(run.generator) for run in (base, folder))
    tensors = before.generator.state_dict()
    assert_equal(
        {key: value for key, value in after.generator.state_dict().items() if key.startswith("encoder.")},
        {key: value for key, value in tensors.items() if key.startswith("encoder.")},
    )
    moved = {
        key.partition(".")[0]
        for key, value in after.generator.state_dict().items()
        if not torch.equal(value, tensors[key])
    }
    assert moved == {"attention", "stem", "blocks", "decoder", "output"}
    assert (after.header.started_from, before.header.started_from) == (digest, None)
    facts = read_facts(folder)
    assert facts.started_from == StartedFrom(
        file="generator.safetensors",
        sha256=digest,
        taken={"generator": len(tensors)},
        fresh=("discriminator", "heads"),
        left=(),
    )
    held = sum(p.numel() for p in after.generator.get_submodule("encoder").parameters())
    assert facts.frozen == {"generator": held}
    words = (
        f"generator.safetensors (sha256 {digest[:12]}): generator {len(tensors)} tensors; fresh: discriminator, heads"
    )
    share = f"generator.encoder: {held:,} of {facts.parameters['generator']:,} of the generator"
    assert f"weights from {words}" in said
    assert f"frozen {share}" in said
    card = folder.model_card.read_text()
    assert f"| started from | {words} |" in card
    assert f"| frozen | {share} |" in card
    assert 'freeze = ["generator.encoder"]' in card
    assert str(tmp_path) not in card
    recorded = load(TrainSettings, folder.settings)
    assert (recorded.init_from, recorded.freeze) == (settings.init_from, settings.freeze)
    assert "started from" not in base.model_card.read_text()
    assert "frozen" not in base.model_card.read_text()


def test_each_source_fills_the_networks_that_it_has(base: RunFolder, small_store: Store, tmp_path: Path) -> None:
    """The result alone, a checkpoint, and a run: its last checkpoint, else its generator. The rest is as without it."""
    fresh = networks(started(small_store, tmp_path / "run", replace(SHORT, ema=0.5)))
    held, result = state(base)["modules"], load_generator(base.generator).generator.state_dict()
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(base.generator, alone)
    for source, generator, taken in (
        (base.generator, result, {"generator"}),
        (newest(base), held["generator"], {"generator", "discriminator", "heads"}),
        (base.path, held["generator"], {"generator", "discriminator", "heads"}),
        (alone, result, {"generator"}),
    ):
        run = started(small_store, tmp_path / "run", replace(SHORT, ema=0.5, init_from=str(source)))
        found = networks(run)
        assert_equal(found.pop("average0"), dict(generator))
        for name, network in found.items():
            expected = generator if name == "generator" else held[name] if name in taken else fresh[name]
            assert_equal(network, dict(expected))
        assert run.started_from is not None
        assert run.started_from.taken.keys() == taken
        assert run.started_from.fresh == tuple(name for name in found if name not in taken)
        assert run.started_from.left == (("average0",) if len(taken) > 1 else ())
        assert not any(optimiser.state for optimiser in run.optimisers.values())
    assert any(not torch.equal(result[key], held["generator"][key]) for key in result)  # an average is another network


def test_a_path_may_begin_at_home(
    base: RunFolder, small_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(base.path.parent))
    run = started(small_store, tmp_path / "run", replace(SHORT, init_from="~/base/generator.safetensors"))
    assert run.started_from is not None
    assert run.started_from.sha256 == digest_file(base.generator)


def test_a_run_that_is_stopped_goes_on_without_the_file(
    base: RunFolder, small_store: Store, tmp_path: Path, signal_at: Callable[[int], None]
) -> None:
    """It ends as one that was never stopped, bit for bit."""
    file, whole, folder = tmp_path / "g.safetensors", RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "run")
    shutil.copy(base.generator, file)
    settings = replace(SHORT, init_from=str(file), freeze=(ENCODER, "discriminator"))
    fit(whole, small_store, settings)
    signal_at(2)
    with pytest.raises(Interrupted, match="saved after step 2 of 4"):
        fit(folder, small_store, settings)
    signal_at(0)
    file.unlink()
    fit(folder, small_store, settings)
    assert_equal(state(folder), state(whole))
    assert folder.generator.read_bytes() == whole.generator.read_bytes()
    assert read_facts(folder).started_from == read_facts(whole).started_from
    fit(folder, small_store, settings)  # it is finished


@pytest.fixture
def begun(base: RunFolder, small_store: Store, tmp_path: Path, signal_at: Callable[[int], None]) -> RunFolder:
    """A run that was started from `first.safetensors` beside it, and stopped after its first step."""
    file, folder = tmp_path / "first.safetensors", RunFolder(tmp_path / "run")
    shutil.copy(base.generator, file)
    signal_at(1)
    with pytest.raises(Interrupted):
        fit(folder, small_store, replace(SHORT, init_from=str(file)))
    signal_at(0)
    return folder


def test_a_moved_file_is_not_another_run_and_other_weights_are(
    begun: RunFolder, base: RunFolder, small_store: Store, tmp_path: Path
) -> None:
    first = tmp_path / "first.safetensors"
    digests = [digest_file(file)[:12] for file in (first, newest(base))]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"init_from = .*empty: the folder has neither checkpoints nor a generator"):
        fit(begun, small_store, replace(SHORT, init_from=str(tmp_path / "empty")))
    for init_from, now in (
        (str(newest(base)), f'now init_from is ".*": {newest(base).name} \\(sha256 {digests[1]}|{digests[1]}'),
        (str(base.path), digests[1]),
        ("", 'now init_from is ""; give the first one \\(init_from=".*first.safetensors"\\), or choose another folder'),
    ):
        with pytest.raises(RunError, match=rf"was started from first\.safetensors \(sha256 {digests[0]}.*({now})"):
            fit(begun, small_store, replace(SHORT, init_from=init_from))
    shutil.copy(newest(base), first)  # other bytes in the old place
    with pytest.raises(RunError, match=f"sha256 {digests[0]}.*sha256 {digests[1]}"):
        fit(begun, small_store, replace(SHORT, init_from=str(first)))
    fit(begun, small_store, replace(SHORT, init_from=str(base.generator)))
    assert load_generator(begun.generator).header.started_from == digest_file(base.generator)


def test_a_fresh_run_does_not_go_on_from_a_file(
    base: RunFolder, small_store: Store, tmp_path: Path, signal_at: Callable[[int], None]
) -> None:
    folder = RunFolder(tmp_path / "run")
    signal_at(1)
    with pytest.raises(Interrupted):
        fit(folder, small_store, SHORT)
    signal_at(0)
    with pytest.raises(RunError, match=r"was started from fresh weights, now init_from is .*generator\.safetensors"):
        fit(folder, small_store, replace(SHORT, init_from=str(base.generator)))


def test_a_run_whose_source_went_on_training_is_resumed(
    base: RunFolder, small_store: Store, tmp_path: Path, signal_at: Callable[[int], None]
) -> None:
    """Its last checkpoint is another one now; a copy of the run with the old one is the same source."""
    source, folder = RunFolder(tmp_path / "source"), RunFolder(tmp_path / "run")
    shutil.copytree(base.path, source.path)
    settings = replace(SHORT, init_from=str(source.path))
    signal_at(1)
    with pytest.raises(Interrupted):
        fit(folder, small_store, settings)
    signal_at(2)
    shutil.copytree(source.path, tmp_path / "copy")
    first = newest(source)
    data = first.read_bytes() + b"later"
    first.unlink()
    (source.checkpoints / f"00000009-{hashlib.sha256(data).hexdigest()[:16]}.pt").write_bytes(data)
    with pytest.raises(Interrupted, match="saved after step 2"):
        fit(folder, small_store, settings)
    signal_at(3)
    with pytest.raises(Interrupted, match="saved after step 3"):
        fit(folder, small_store, replace(settings, init_from=str(tmp_path / "copy")))
    signal_at(0)
    with pytest.raises(RunError, match="was started from 00000004-"):
        fit(folder, small_store, replace(settings, init_from=str(folder.path)))
    fit(folder, small_store, settings)


def test_a_run_without_a_checkpoint_yet_needs_the_file_again(
    base: RunFolder, small_store: Store, tmp_path: Path
) -> None:
    file, folder = tmp_path / "g.safetensors", RunFolder(tmp_path / "run")
    shutil.copy(base.generator, file)
    settings = replace(SHORT, init_from=str(file))
    run = started(small_store, folder.path, settings)
    make_folder(folder)
    claim(folder, run.settings, facts_of(run))  # as far as a killed start came
    file.unlink()
    with pytest.raises(RunError, match=r"init_from = .*g\.safetensors: there is no such file; .*has no checkpoint yet"):
        fit(folder, small_store, settings)
    shutil.copy(newest(base), file)
    with pytest.raises(RunError, match=r"was started from g\.safetensors .*, now init_from is"):
        fit(folder, small_store, settings)
    shutil.copy(base.generator, file)
    fit(folder, small_store, settings)


def test_a_run_whose_steps_were_all_skipped_is_resumed_without_the_file(
    base: RunFolder, small_store: Store, tmp_path: Path
) -> None:
    """No parameter has moments, and none has the value that the seed gives."""
    file, folder = tmp_path / "g.safetensors", RunFolder(tmp_path / "run")
    shutil.copy(base.generator, file)
    settings = replace(SHORT, init_from=str(file))
    run = started(small_store, folder.path, settings)
    make_step(run)
    make_folder(folder)
    claim(folder, run.settings, facts_of(run))
    save_checkpoint(folder, run.state, run.optimisers, Position(step=1, seconds=0.0, terms=[]), 0)
    file.unlink()
    fit(folder, small_store, settings)
    assert load_generator(folder.generator).header.step == 4


def test_frozen_parts_of_a_resumed_run_have_no_moments(
    base: RunFolder, small_store: Store, tmp_path: Path, signal_at: Callable[[int], None]
) -> None:
    folder = RunFolder(tmp_path / "run")
    settings = replace(SHORT, init_from=str(newest(base)), freeze=("discriminator", "heads", "generator.stem"))
    signal_at(1)
    with pytest.raises(Interrupted):
        fit(folder, small_store, settings)
    signal_at(0)
    held, before = state(folder), state(base)["modules"]
    assert held["optimisers"].keys() == {"generator"}
    with pytest.raises(RunError, match=r'was started with freeze = \[.*\] \(now \["discriminator"\]\)'):
        fit(folder, small_store, replace(settings, freeze=("discriminator",)))
    fit(folder, small_store, settings)
    after = state(folder)["modules"]
    for name in ("discriminator", "heads"):
        assert_equal(after[name], before[name])
    assert all(
        torch.equal(after["generator"][key], before["generator"][key])
        for key in after["generator"]
        if key.startswith("stem.")
    )


def test_a_generator_fills_one_of_two_and_a_checkpoint_all(small_store: Store, tmp_path: Path) -> None:
    """CycleGAN's generator from H&E to IHC; pools of fakes are no weights."""
    settings = replace(
        small("cyclegan", "discriminator.layers=3"),
        validate_every=0,
        tensorboard=False,
        data=SHORT.data,
        optimiser=SHORT.optimiser,
    )
    source = RunFolder(tmp_path / "source")
    fit(source, small_store, settings)
    fresh, held = networks(started(small_store, tmp_path / "run", settings)), state(source)["modules"]
    assert len(held["history"]["_extra_state"])
    for file, taken in (
        (source.generator, {"generator"}),
        (newest(source), {"generator", "generator_he", "discriminator", "discriminator_he"}),
    ):
        run = started(small_store, tmp_path / "run", replace(settings, init_from=str(file)))
        for name, network in networks(run).items():
            expected = held[name] if name in taken else fresh[name]
            assert_equal(network, {key: value for key, value in expected.items() if isinstance(value, Tensor)})
        assert run.started_from is not None
        assert run.started_from.taken.keys() == taken
        assert not run.method.modules()["history"].get_extra_state()


def test_the_networks_of_another_method_come_by_their_names(
    base: RunFolder, small_store: Store, tmp_path: Path
) -> None:
    """From the paper's method to pix2pix with its generator: heads are left, and a discriminator that fits comes."""
    settings = replace(SHORT, method="pix2pix", init_from=str(newest(base)))
    run = started(small_store, tmp_path / "run", settings)
    assert run.started_from is not None
    assert run.started_from.taken.keys() == {"generator", "discriminator"}
    assert run.started_from.left == ("heads", "average0")
    assert "not taken: heads, average0" in str(run.started_from)


@pytest.mark.parametrize(
    ("freeze", "notes"),
    [
        (("discriminator",), ["all that the player discriminator trains is frozen", "frozen with fresh weights"]),
        (("generator",), ["the generator is frozen: the result will be the generator that the run starts with"]),
        (("generator.stem",), []),
    ],
)
def test_what_may_surprise_is_said_at_the_start(
    base: RunFolder,
    small_store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    freeze: tuple[str, ...],
    notes: list[str],
    signal_at: Callable[[int], None],
) -> None:
    signal_at(1)
    with pytest.raises(Interrupted):
        fit(RunFolder(tmp_path / "run"), small_store, replace(SHORT, init_from=str(base.generator), freeze=freeze))
    said = " ".join(capsys.readouterr().err.split())
    every = ("the player discriminator", "fresh weights, as", "the generator is frozen")
    assert all(note in said for note in notes)
    assert sum(part in said for part in every) == len(notes)


def test_a_name_of_a_file_stays_a_name_in_a_model_card(base: RunFolder, small_store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a|b`c\n# d.safetensors"
    shutil.copy(base.generator, file)
    run = started(small_store, tmp_path / "run", replace(SHORT, init_from=str(file)))
    facts = facts_of(run)
    card = model_card(
        RunFolder(tmp_path / "run"), small_store, load_generator(file).header, facts, seconds=1.0, skipped=0
    )
    assert "| started from | a\\|b\\`c?# d.safetensors (sha256" in card


def test_an_imported_generator_starts_a_run(small_store: Store, tmp_path: Path) -> None:
    """As `train import` leaves it: a run with a generator that has no store and no checkpoint."""
    settings = small("asp", "discriminator.layers=3")
    torch.manual_seed(1)
    published = build_method(settings).generator.state_dict()
    names = published_names(settings.generator)
    torch.save({names[key]: value for key, value in published.items()}, tmp_path / "latest_net_G.pth")
    imported = RunFolder(tmp_path / "imported")
    import_generator(tmp_path / "latest_net_G.pth", Published.ASP, imported, Stated(pairs_seen=None, mpp=None))
    folder = RunFolder(tmp_path / "run")
    settings = replace(settings, data=SHORT.data, optimiser=SHORT.optimiser, validate_every=0, tensorboard=False)
    run = started(small_store, folder.path, replace(settings, init_from=str(imported.path)))
    assert_equal(networks(run)["generator"], dict(published))
    assert run.started_from is not None
    assert run.started_from.sha256 == digest_file(imported.generator)
    with pytest.raises(RunError, match="is an imported generator, which cannot be trained further; choose another"):
        fit(imported, small_store, replace(settings, init_from=str(imported.path)))


def modules_of(method: Method[object]) -> set[str]:
    return {name for name, module in method.modules().items() if [*module.parameters()]}


def test_every_method_names_the_network_that_a_generator_fills() -> None:
    """`generator` is that from H&E to IHC in all of them."""
    for name in ("pix2pix", "cyclegan", "cut", "asp"):
        method = build_method(small(name))
        assert method.modules()["generator"] is method.generator
        assert "generator" in modules_of(method)
