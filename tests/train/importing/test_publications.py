"""A published checkpoint of any repository translates, once imported, as the published network does."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from store.reader import TILE, Store
from store.run_files import RunFolder
from store.schema import RunError, Split
from tests.support.command_line import CommandLine
from tests.support.places import GOLDEN
from tests.support.published import Resnet, Unet, Variant, drawn, heads, patchgan, pixelgan
from train.__main__ import app
from train.importing.publications import PUBLICATIONS, Published
from train.importing.run import Stated, import_generator
from train.methods.recipes import load_recipe
from train.methods.registry import build_method
from train.predict import predict
from train.run.generator_file import load_generator, load_header
from train.settings import AtTest, Network, Norm, Resampling

State = dict[str, Tensor]
PLAIN, BATCH, OLD, NONE = (Variant(norm=norm) for norm in ("instance", "batch", "old instance", "none"))
BLURRED = Variant(blurred=True)
SPECTRAL = Variant(blurred=True, spectral=True)
NETWORKS: dict[str, tuple[Published, Callable[[Variant], nn.Module], Variant]] = {
    "CycleGAN": (Published.CYCLEGAN, Resnet, PLAIN),
    "CycleGAN, 6 blocks, dropout": (Published.CYCLEGAN, Resnet, replace(PLAIN, blocks=6, dropout=True)),
    "CycleGAN of 2017": (Published.CYCLEGAN, Resnet, OLD),
    "CycleGAN without norm": (Published.CYCLEGAN, Resnet, NONE),
    "BCI": (Published.PYRAMID_P2P, Resnet, replace(BATCH, dropout=True)),
    "BCI, base 8, no dropout": (Published.PYRAMID_P2P, Resnet, replace(BATCH, base=8)),
    "pix2pix": (Published.PIX2PIX, Unet, replace(BATCH, dropout=True)),
    "pix2pix, depth 6": (Published.PIX2PIX, Unet, replace(BATCH, depth=6)),
    "pix2pix with instance norm": (Published.PIX2PIX, Unet, replace(PLAIN, depth=6)),
    "pix2pix of 2017": (Published.PIX2PIX, Unet, replace(OLD, depth=6)),
    "pix2pix without norm": (Published.PIX2PIX, Unet, NONE),
    "CUT": (Published.CUT, Resnet, BLURRED),
    "CUT, dropout": (Published.CUT, Resnet, replace(BLURRED, dropout=True)),
    "CUT, batch norm": (Published.CUT, Resnet, replace(BLURRED, norm="batch")),
    "ASP": (Published.ASP, Resnet, SPECTRAL),
    "ASP, dropout": (Published.ASP, Resnet, replace(SPECTRAL, dropout=True)),
}


def imported(
    state: object, method: Published, folder: Path, *, modern: bool = True, name: str = "9_net_G"
) -> list[str]:
    """Import what a file holds into `folder`; returns what was told."""
    told: list[str] = []
    file = folder.with_name(f"{name}.pth")
    torch.save(state, file, _use_new_zipfile_serialization=modern)
    import_generator(file, method, RunFolder(folder), Stated(), told.append)
    return told


def translated(folder: Path, picture: Tensor) -> Tensor:
    with torch.no_grad():
        made: Tensor = load_generator(RunFolder(folder).generator).generator(picture)
    return made


def draw_picture(side: int) -> Tensor:
    unit = np.random.default_rng(side).random((1, 3, side, side), dtype=np.float32)
    return torch.from_numpy(2 * unit - 1)


@pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_an_imported_network_translates_as_the_published_one(tmp_path: Path, kind: str, modern: bool) -> None:
    method, make, variant = NETWORKS[kind]
    network, picture = drawn(make, variant), draw_picture(64)
    told = imported(network.state_dict(), method, tmp_path / "run", modern=modern)
    with torch.no_grad():
        torch.testing.assert_close(translated(tmp_path / "run", picture), network(picture), rtol=0, atol=1e-5)
    header = load_header(RunFolder(tmp_path / "run").generator)
    shape = header.settings.generator
    assert (header.method, shape.base, str(shape.norm)) == (method, variant.base, variant.norm.removeprefix("old "))
    assert shape.spectral is variant.spectral
    if make is Unet:
        assert (shape.network, shape.depth, shape.dropout) == (Network.UNET, variant.depth, True)
    else:
        assert (shape.network, shape.blocks, shape.dropout) == (Network.RESNET, variant.blocks, variant.dropout)
        assert (shape.resampling is Resampling.BLURRED, shape.stem) == (variant.blurred, 7)
    as_in_training = shape.dropout or shape.norm is Norm.BATCH
    assert (shape.at_test is AtTest.TRAINING) == (as_in_training or method is Published.PYRAMID_P2P)
    assert any("running statistics of instance norm are left out" in line for line in told) == (
        variant.norm[:3] == "old"
    )
    assert any("no tensor tells whether a U-Net has dropout: it has dropout" in line for line in told) == (make is Unet)
    assert any("with batch norm and dropout as in training" in line for line in told) == as_in_training
    assert any("have no bias: it is 0" in line for line in told) == (variant.norm == "none")


GOLDENS = {  # computed by the repositories; 1e-4 as their README has it
    "BCI": ("generator_resnet9_batch.npz", "state/", "input", "output", Published.PYRAMID_P2P),
    "pix2pix": ("generator_unet256.npz", "state/", "input", "output", Published.PIX2PIX),
    "ASP": ("generator_resnet6.npz", "state/", "input", "output", Published.ASP),
    "CycleGAN, there": ("cyclegan_step.npz", "G_A_before/", "he", "fake_B", Published.CYCLEGAN),
    "CycleGAN, back": ("cyclegan_step.npz", "G_B_before/", "ihc", "fake_A", Published.CYCLEGAN),
    "CUT": ("cut_step.npz", "G_before/", "he", "fake", Published.CUT),
}


@pytest.mark.parametrize("kind", GOLDENS)
def test_it_reproduces_what_the_repositories_computed(tmp_path: Path, kind: str) -> None:
    file, start, given, wanted, method = GOLDENS[kind]
    with np.load(GOLDEN / file) as golden:
        numbers = {name: torch.from_numpy(golden[name]) for name in golden.files if "after" not in name}
    state = {name.removeprefix(start): value for name, value in numbers.items() if name.startswith(start)}
    imported(state, method, tmp_path / "run")
    torch.testing.assert_close(translated(tmp_path / "run", numbers[given]), numbers[wanted], rtol=0, atol=1e-4)
    assert not torch.allclose(translated(tmp_path / "run", -numbers[given]), numbers[wanted], atol=1e-2)


def without(state: State, *ends: str) -> State:
    return {name: value for name, value in state.items() if not name.endswith(ends)}


def test_batch_norm_of_an_old_pytorch_counts_no_batches(tmp_path: Path) -> None:
    network, picture = drawn(Unet, BATCH), draw_picture(32)
    told = imported(without(network.state_dict(), "num_batches_tracked"), Published.PIX2PIX, tmp_path / "run")
    assert any("batch norms do not count batches" in line for line in told)
    with torch.no_grad():
        torch.testing.assert_close(translated(tmp_path / "run", picture), network(picture), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["pix2pix", "CUT", "BCI", "ASP"])
@pytest.mark.parametrize("wrapping", ["module.", "netG.module.", "state_dict", "params", "netG+D"])
def test_wrappings_are_taken_off_and_said(tmp_path: Path, kind: str, wrapping: str) -> None:
    method, make, variant = NETWORKS[kind]
    state = drawn(make, variant).state_dict()
    assert not any("after taking off" in line for line in imported(state, method, tmp_path / "bare"))
    if wrapping.endswith("."):
        wrapped: dict[str, object] = {wrapping + name: value for name, value in state.items()}
    elif wrapping == "netG+D":
        wrapped = {"netG": state, "netD": patchgan().state_dict(), "netF": heads().state_dict(), "epoch": 7}
    else:
        wrapped = {wrapping: state}
    told = imported(wrapped, method, tmp_path / "run")
    assert any(
        f"found after taking off the {'prefix' if wrapping[-1] == '.' else 'dictionary'}" in line for line in told
    )
    bare, run = (RunFolder(tmp_path / name).generator.read_bytes() for name in ("bare", "run"))
    assert run == bare


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("latest_net_G_A", "it translates from the publisher's A to B; here it is taken to turn H&E into IHC"),
        ("200_net_G_B", "it translates from the publisher's B to A;"),
        ("horse2zebra", "it translates one way, and nothing tells which;"),
    ],
)
def test_the_direction_of_a_cyclegan_is_said(tmp_path: Path, name: str, way: str) -> None:
    told = imported(drawn(Resnet, PLAIN).state_dict(), Published.CYCLEGAN, tmp_path / "run", name=name)
    assert any(f"{name}.pth: {way}" in line for line in told)


def resnet(**options: object) -> State:
    return drawn(Resnet, replace(PLAIN, **options)).state_dict()  # type: ignore[arg-type] # of each option its own


def ours() -> State:
    settings = load_recipe([], ["method=cut", "generator.base=4", "generator.blocks=5"])
    return build_method(settings).generator.state_dict()


OTHERS: dict[str, tuple[Published, Callable[[], object], str]] = {
    "a PatchGAN": (
        Published.CUT,
        lambda: patchgan().state_dict(),
        r"is not a generator of the CUT repository: it holds a discriminator \(PatchGAN\), which judges pictures",
    ),
    "a conditional PatchGAN": (
        Published.PIX2PIX,
        lambda: patchgan(6).state_dict(),
        r"is not a generator of the pix2pix/CycleGAN repository: it holds a discriminator \(PatchGAN\)",
    ),
    "a PatchGAN with a prefix": (
        Published.PIX2PIX,
        lambda: {f"module.{name}": value for name, value in patchgan().state_dict().items()},
        r"it holds a discriminator \(PatchGAN\)",
    ),
    "a PatchGAN in a dictionary": (
        Published.CUT,
        lambda: {"netD": patchgan().state_dict()},
        r"it holds a discriminator \(PatchGAN\), .*, in netD$",
    ),
    "a PatchGAN of ASP": (
        Published.ASP,
        lambda: {"enc.0.weight_orig": torch.ones(8, 3, 4, 4), "final_conv.bias": torch.ones(1)},
        r"it holds a discriminator \(the PatchGAN of the ASP repository\)",
    ),
    "a PixelGAN": (Published.CYCLEGAN, lambda: pixelgan().state_dict(), r"it holds a discriminator \(PixelGAN\)"),
    "heads": (Published.CUT, lambda: heads().state_dict(), r"it holds projection heads \(netF of CUT or ASP\)"),
    "ESRGAN": (
        Published.CUT,
        lambda: {"conv_first.weight": torch.ones(4, 3, 3, 3)},
        "it holds a network that enlarges pictures",
    ),
    "ours": (Published.CUT, ours, "it holds a generator with the names of this program; give the generator.safetens"),
    "a checkpoint of ours": (
        Published.CUT,
        lambda: {"format": 2, "step": 1, "modules": {"generator": ours()}, "optimisers": {}},
        "is a checkpoint of this program, from which its run resumes",
    ),
    "a ResNet as pix2pix": (
        Published.PIX2PIX,
        lambda: resnet(norm="batch"),
        "is not a generator of pix2pix, it holds a strided ResNet with 5 blocks and 4 base channels, batch norm, no "
        "dropout: import it with --as pyramid_p2p or --as cyclegan",
    ),
    "CycleGAN as CUT": (Published.CUT, lambda: resnet(), "import it with --as cyclegan or --as pyramid_p2p"),
    "CUT as CycleGAN": (
        Published.CYCLEGAN,
        lambda: resnet(blurred=True),
        "it holds a blurred ResNet with 5 blocks and 4 base channels, instance norm, no dropout: import it with --as c",
    ),
    "ASP as CUT": (
        Published.CUT,
        lambda: resnet(blurred=True, spectral=True),
        "4 base channels, spectral norm, instance norm, no dropout: import it with --as asp",
    ),
    "a U-Net as CycleGAN": (
        Published.CYCLEGAN,
        lambda: drawn(Unet, replace(BATCH, depth=6)).state_dict(),
        "it holds a U-Net with 6 halvings and 4 base channels, batch norm, .*: import it with --as pix2pix",
    ),
    "strided with spectral norm": (
        Published.ASP,
        lambda: {name.replace(".weight", ".weight_orig"): value for name, value in resnet().items()},
        "a strided ResNet with 5 blocks and 4 base channels, spectral norm, .*: there is none such here",
    ),
    "grey": (
        Published.CYCLEGAN,
        lambda: resnet(channels=1),
        r"holds a generator of pictures with 1 channels \(model.1.weight\); only those that turn RGB",
    ),
    "a grey U-Net": (
        Published.PIX2PIX,
        lambda: drawn(Unet, replace(BATCH, channels=1)).state_dict(),
        r"holds a generator of pictures with 1 channels \(model.model.0.weight\)",
    ),
    "few blocks": (Published.CYCLEGAN, lambda: resnet(blocks=3), "of a size that there is not here: .* blocks = 3"),
    "half of the antialiasing": (
        Published.CUT,
        lambda: resnet(blurred_doublings=True),
        "holds a ResNet whose halvings are strided and whose doublings are blurred",
    ),
    "the other half": (
        Published.CUT,
        lambda: resnet(blurred=True, blurred_doublings=False),
        "holds a ResNet whose halvings are blurred and whose doublings are strided",
    ),
    "pix2pixHD": (
        Published.CYCLEGAN,
        lambda: {
            f"model.{n}{rest}": torch.ones(4, 3, 7, 7)
            for n, rest in ((1, ".weight"), (16, ".conv_block.1.weight"), (17, ".conv_block.1.weight"))
        },
        "holds another network: model.1.weight is there, but residual blocks are model.16, model.17; those of",
    ),
    "no blocks": (
        Published.CYCLEGAN,
        lambda: {"model.1.weight": torch.ones(4, 3, 7, 7)},
        "holds another network: model.1.weight is there, but residual blocks are missing",
    ),
    "a block is lost": (
        Published.CYCLEGAN,
        lambda: {name: value for name, value in resnet(blocks=6).items() if not name.startswith("model.12.")},
        "holds another network: .* residual blocks are model.10, model.11, model.13, model.14",
    ),
    "other blurs": (
        Published.CUT,
        lambda: resnet(blurred=True) | {"model.11.filt": torch.full((16, 1, 3, 3), 1 / 9)},
        r"its blur model.11.filt is \[16, 1, 3, 3\], not the one of CUT with the weights 1, 2, 1 along each axis",
    ),
    "blurs of five pixels": (
        Published.CUT,
        lambda: resnet(blurred=True) | {"model.17.filt": torch.ones(16, 1, 5, 5)},
        r"its blur model.17.filt is \[16, 1, 5, 5\], not the one of CUT with the weights 1, 3, 3, 1 along each axis",
    ),
    "blurs elsewhere": (
        Published.CYCLEGAN,
        lambda: resnet() | {"model.7.filt": torch.ones(8, 1, 3, 3)},
        "does not fit the generator of CycleGAN: missing: none; unexpected: model.7.filt",
    ),
    "affine instance norm": (
        Published.CYCLEGAN,
        lambda: resnet() | {"model.2.weight": torch.ones(4), "model.2.bias": torch.ones(4)},
        "missing: none; unexpected: model.2.weight, model.2.bias",
    ),
    "a name that steers a terminal": (
        Published.CYCLEGAN,
        lambda: resnet() | {"\x1b[2J\n" + 999 * "x": torch.ones(1)},
        r"unexpected: \?\[2J\?x{20,99}\D{0,9}$",
    ),
    "a lost norm": (
        Published.PIX2PIX,
        lambda: without(drawn(Unet, BATCH).state_dict(), "model.model.1.model.2.running_var"),
        "does not fit the generator of pix2pix: missing: model.model.1.model.2.running_var; unexpected: none",
    ),
    "a U-Net without its first convolution": (
        Published.PIX2PIX,
        lambda: without(drawn(Unet, BATCH).state_dict(), "model.model.0.weight"),
        "holds a generator without its first convolution, model.model.0.weight",
    ),
    "a wide first convolution": (
        Published.PIX2PIX,
        lambda: drawn(Unet, BATCH).state_dict() | {"model.model.0.weight": torch.ones(1024, 3, 4, 4)},
        "does not fit the generator of pix2pix: .* tensors have another shape, such as ",
    ),
    "a far too wide first convolution": (
        Published.PIX2PIX,
        lambda: drawn(Unet, BATCH).state_dict() | {"model.model.0.weight": torch.ones(20_000, 3, 4, 4)},
        "holds a network of a size that there is not here: generator.base = 20000: must be at most 1,024",
    ),
    "not finite": (
        Published.PIX2PIX,
        lambda: drawn(Unet, BATCH).state_dict() | {"model.model.3.bias": torch.full((3,), torch.nan)},
        "does not fit the generator of pix2pix: it has 1 tensors whose values are not finite",
    ),
    "both generators": (
        Published.CYCLEGAN,
        lambda: {"netG_A": resnet(), "netG_B": resnet()},
        "holds 2 generators, in netG_A, netG_B; save the one that is meant by itself",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_anything_else_is_refused_with_what_it_is(tmp_path: Path, kind: str) -> None:
    method, make, message = OTHERS[kind]
    with pytest.raises(RunError, match=message) as caught:
        imported(make(), method, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "9_net_G.pth"))
    assert not (tmp_path / "run").exists()


def saved(held: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(held, buffer)
    return buffer.getvalue()


FILES: dict[str, tuple[bytes, str]] = {
    "page": (b"<!DOCTYPE html><title>Google Drive</title>", "is a web page ('Google Drive')"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\nsize 45600\n", "is a Git LFS pointer"),
    "half": (saved({"model.1.weight": torch.ones(99)})[:-40], "is cut off after"),
    "module": (
        saved({"netG": nn.Linear(1, 1)}),
        "it is a whole network, pickled with its classes, so save its tensors",
    ),
    "onnx": (b"\x08\x0a\x12\x07pytorch\x1a\x062.15.0", "is an ONNX model"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_another_kind_is_refused_in_a_line(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, said = FILES[kind]
    file = tmp_path / "latest_net_G.pth"
    file.write_bytes(data)
    outcome = CommandLine("train", app, monkeypatch, capsys)(
        "import", file, "--as", "pix2pix", "--run", tmp_path / "run"
    )
    assert outcome.code == 2
    assert said in outcome.err
    assert "give a *_net_G.pth of the pix2pix/CycleGAN repository" in outcome.err
    assert not (tmp_path / "run").exists()


def test_safetensors_are_told_apart(tmp_path: Path) -> None:
    imported(resnet(), Published.CYCLEGAN, tmp_path / "run")
    save_file(resnet(), tmp_path / "foreign.safetensors")
    for file, said in (
        (RunFolder(tmp_path / "run").generator, "it is one of this program already, so give it to --checkpoint"),
        (
            tmp_path / "foreign.safetensors",
            "where a PyTorch file is needed; give a .* of the pix2pix/CycleGAN repository",
        ),
    ):
        with pytest.raises(RunError, match=rf"is a safetensors file, .*{said}"):
            import_generator(file, Published.CYCLEGAN, RunFolder(tmp_path / "other"), Stated())


@pytest.mark.parametrize("kind", ["CycleGAN", "BCI", "CUT", "ASP"])
def test_the_command_makes_a_run_that_translates_a_store(
    tmp_path: Path, kind: str, small_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    method, make, variant = NETWORKS[kind]
    line, file = CommandLine("train", app, monkeypatch, capsys), tmp_path / "latest_net_G.pth"
    torch.save(drawn(make, variant).state_dict(), file)
    words = ("--run", tmp_path / "run", "--pairs-seen", 7, "--mpp", 0.5)
    outcome = line("import", file, "--as", method, *words)
    assert (outcome.code, outcome.out) == (0, "")
    assert f"{'blurred' if variant.blurred else 'strided'} ResNet with 5 blocks and 4 base channels" in outcome.err
    assert f"translate with: python -m train predict --run {tmp_path / 'run'} --store STORE" in outcome.err
    header = load_header(RunFolder(tmp_path / "run").generator)
    assert (header.pairs_seen, header.mpp, header.view_side) == (7, {"tile": 0.5}, None)
    assert predict(RunFolder(tmp_path / "run"), small_store, Split.TEST, TILE, "cpu").pictures == 4
    again = line("import", file, "--as", method, *words)
    assert again.code == 2
    assert "already has a generator; choose another folder with --run" in again.err


def test_import_asp_is_the_same_by_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line, file = CommandLine("train", app, monkeypatch, capsys), tmp_path / "latest_net_G.pth"
    torch.save(drawn(Resnet, SPECTRAL).state_dict(), file)
    assert line("import-asp", file, "--run", tmp_path / "old", "--draws", 7).code == 0
    assert line("import", file, "--as", "asp", "--run", tmp_path / "new", "--draws", 7).code == 0
    for name in ("generator.safetensors", "run.json", "settings.toml"):
        assert (tmp_path / "old" / name).read_bytes() == (tmp_path / "new" / name).read_bytes()


@pytest.mark.parametrize(("given", "said"), [("cut_paired", "is not one of"), ("0.5", "is not one of")])
def test_only_published_methods_are_taken(
    tmp_path: Path, given: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = CommandLine("train", app, monkeypatch, capsys)("import", tmp_path / "g.pth", "--as", given)
    assert outcome.code == 2
    assert said in outcome.err
    assert all(method in outcome.err for method in PUBLICATIONS)


@pytest.mark.parametrize("mpp", [0, -1, "nan", "inf"])
def test_a_scale_is_a_number_above_0(
    tmp_path: Path, mpp: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(resnet(), tmp_path / "g.pth")
    words = ("import", tmp_path / "g.pth", "--as", "cyclegan", "--run", tmp_path / "run", "--mpp", mpp)
    outcome = CommandLine("train", app, monkeypatch, capsys)(*words)
    assert outcome.code == 2
    assert "a number above 0" in outcome.err
    assert not (tmp_path / "run").exists()
