"""Exported generators translate as PyTorch's do: every method, layer and side, and flat maps too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from torch import nn

from store.images import read_picture
from store.schema import RunError, SettingsError
from tests.support.exporting import FACTS, drawn, exported, run, settings_of, settled, without_dropout
from tests.support.places import SHARED, needs_shared
from train.export import layers, onnx_file
from train.export.graph import Graph
from train.export.networks import INPUT, OUTPUT, least_side, translation
from train.export.onnx_file import IR_VERSION, OPSET, encode
from train.export.parity import ALIKE, compare, translated
from train.methods.registry import METHODS, build_method
from train.networks.norms import BatchNorm, InstanceNorm, normalise
from train.run.inference import translation_mode
from train.settings import AtTest, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")
TILES = SHARED / "data" / "derived-pairs256" / "HE"
ASP, STRIDED = "asp", ("cyclegan", "generator.blocks=5")
ATTENTION = "generator.attention."
VARIANTS: dict[str, tuple[str, ...]] = {
    "all-levels": ("attention_gan", f"{ATTENTION}levels=p3", f"{ATTENTION}order=twice", f"{ATTENTION}relu=true"),
    "single-gate": ("attention_gan", f"{ATTENTION}gate=single", f"{ATTENTION}join=add", f"{ATTENTION}kernel=1"),
    "product": ("attention_gan", f"{ATTENTION}join=multiply", f"{ATTENTION}levels=p2", f"{ATTENTION}width=full"),
    "spectral-gates": ("attention_gan", f"{ATTENTION}spectral=true", f"{ATTENTION}norm=batch"),
    "gates-without-norm": ("attention_gan", f"{ATTENTION}norm=none", f"{ATTENTION}spatial_kernel=3"),
    "strided-gates": ("attention_gan", "generator.resampling=strided", "generator.spectral=false"),
    "large-stem": (ASP, "generator.stem=7", "generator.output=3", "generator.blocks=5"),
    "batch": ("cut", "generator.norm=batch", "generator.blocks=5"),
    "batch-of-a-picture": ("cut", "generator.norm=batch", "generator.at_test=training", "generator.blocks=5"),
    "no-norm": (*STRIDED, "generator.norm=none"),
    "strided-batch": (*STRIDED, "generator.norm=batch"),
    "unet-instance": ("pix2pix", "generator.depth=5", "generator.norm=instance", "generator.dropout=false"),
    "unet-none": ("pix2pix", "generator.depth=6", "generator.norm=none", "generator.dropout=false"),
    "unet-batch": ("pix2pix", "generator.depth=5", "generator.at_test=evaluation"),
}


def differences(settings: TrainSettings, *pictures: NDArray[np.float32]) -> list[float]:
    """How far the exported generator is from PyTorch, which translates one picture at a time."""
    generator = without_dropout(settled(settings))
    multiple = build_method(settings).multiple
    with translation_mode(generator, settings.generator.at_test):
        made = run(exported(generator), *pictures)
        wanted = [translated(generator, picture, multiple) for picture in pictures]
    return [float(np.abs(one - other).max()) for one, other in zip(made, wanted, strict=True)]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_translates_alike_at_other_sides_and_in_batches(method: str) -> None:
    found = differences(settings_of(method), drawn(1, 64, 96), drawn(3, 96, 64), drawn(2, 37, 58))
    assert max(found) <= ALIKE


@pytest.mark.parametrize("name", VARIANTS)
def test_every_layer_translates_alike(name: str) -> None:
    method, *overrides = VARIANTS[name]
    found = differences(settings_of(method, *overrides), drawn(2, 40, 72), drawn(1, 64, 64))
    assert max(found) <= ALIKE


@pytest.mark.parametrize("method", ["cut", "attention_gan", "pix2pix"])
def test_pictures_of_any_shape_are_mirrored_on_as_numpy_does(method: str) -> None:
    sides = ((1, 1), (1, 50), (2, 9), (5, 3), (8, 8), (9, 8), (130, 7))
    assert max(differences(settings_of(method), *(drawn(1, *pair) for pair in sides))) <= ALIKE


@needs_shared
def test_real_tiles_translate_alike() -> None:
    tiles = [read_picture(file) for file in sorted(TILES.glob("*.png"))[:3]]
    pictures = np.stack(tiles).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
    assert max(differences(settings_of("attention_gan"), pictures[:1], pictures[:, :, 3:101, 20:99])) <= ALIKE


@pytest.mark.parametrize("method", ["cut", "cyclegan", "attention_gan"])
def test_glass_translates_alike(method: str) -> None:
    """Its maps have no variance, or that of one pixel, or of a scanner's noise."""
    pictures = []
    for grey in (-1, 0.3, 1):
        glass = np.full((1, 3, 40, 40), grey, np.float32)
        speck = glass.copy()
        speck[0, :, 30, 31] = 0
        noise = glass + np.random.default_rng(0).normal(0, 0.01, glass.shape).astype(np.float32)
        pictures += [glass, speck, noise]
    assert max(differences(settings_of(method), *pictures)) <= 10 * ALIKE  # norms enlarge rounding of such maps


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize(("deviation", "flat"), [(2e-3, True), (6e-3, False)])
def test_a_map_that_varies_by_rounding_becomes_the_bias(deviation: float, flat: bool, affine: bool) -> None:
    """The rule of `normalise`: a deviation below 1 / 256 of the mean is rounding. ONNX's own operator has none."""
    norm = InstanceNorm(3, affine)
    if affine:
        torch.nn.init.constant_(norm.weight, 2)
        torch.nn.init.constant_(norm.bias, 0.5)
    x = (1 + deviation * np.random.default_rng(0).standard_normal((2, 3, 32, 24))).astype(np.float32)
    (made,) = run(layer(norm), x)
    wanted = norm(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(made, wanted, atol=1e-4)
    assert (made == norm.bias.detach().numpy()[:, None, None]).all() == flat


def layer(norm: nn.Module) -> bytes:
    """A file of a norm alone."""
    graph = Graph(names={norm: "norm"})
    layers.normalised(graph, norm, INPUT)
    graph.name_last(OUTPUT)
    return encode(graph, FACTS, ("magstain", "0"))


def test_batch_norm_of_a_picture_normalises_each_picture_of_a_batch_by_itself() -> None:
    norm = BatchNorm(3).train()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, 3, 20, 28) * torch.tensor([1.0, 3, 9])[:, None, None, None]
    alone = torch.cat([normalise(one, norm.weight, norm.bias, norm.eps)[0] for one in torch.split(x, 1)]).detach()
    (made,) = run(layer(norm), x.numpy())
    np.testing.assert_allclose(made, alone.numpy(), atol=1e-5)
    assert np.abs(made - norm(x).detach().numpy()).max() > 0.5  # as training has it: over the batch


@pytest.mark.parametrize(
    ("method", "overrides"),
    [("attention_gan", ()), ("cyclegan", ("generator.blocks=5",)), ("pix2pix", ("initial=pytorch",))],
)
def test_a_file_of_other_weights_is_found(method: str, overrides: tuple[str, ...]) -> None:
    """Noise on any weight of a convolution; a bias before a norm has no effect."""
    settings = settings_of(method, *overrides, "generator.depth=5", "generator.at_test=evaluation")
    multiple, generator = build_method(settings).multiple, settled(settings).eval()
    model = exported(generator)
    same = compare(model, generator, multiple)
    assert same is not None
    assert same.holds
    assert same.worst <= ALIKE
    weights = {n: p for n, p in generator.named_parameters() if p.dim() > 1 or n == "output.bias"}
    assert len(weights) >= 10
    for name, weight in list(weights.items())[::6]:
        before = weight.detach().clone()
        with torch.no_grad():
            weight.add_(before.std().clamp(min=0.1) * torch.randn_like(before))
        other = compare(model, generator, multiple)
        assert other is not None
        assert not other.holds, name
        with torch.no_grad():
            weight.copy_(before)


def test_a_generator_that_enlarges_rounding_is_measured_by_its_own() -> None:
    """The weights of spectral norm before its iterations: PyTorch differs from itself by more than 1e-4."""
    torch.manual_seed(0)
    settings = settings_of(ASP)
    generator = build_method(settings).generator.eval()
    found = compare(exported(generator), generator, 4)
    assert found is not None
    assert ALIKE < found.worst < found.rounding
    assert found.holds


def test_the_file_is_valid_and_has_nothing_of_this_machine() -> None:
    generator = settled(settings_of("attention_gan")).eval()
    data = exported(generator)
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)] == [("", 18)]
    assert model.ir_version == IR_VERSION == 8
    for value, name in ((model.graph.input[0], "he"), (model.graph.output[0], "ihc")):
        assert value.name == name
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        sides = [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        assert sides == ["batch", 3, "height", "width"]
    assert not any(node.doc_string or node.domain or node.metadata_props for node in model.graph.node)
    assert str(Path.home()).encode() not in data
    assert b".py" not in data
    assert {name for name in dict(generator.named_parameters()) if name.startswith("attention.level1.gate")} <= {
        tensor.name for tensor in model.graph.initializer
    }
    assert exported(settled(settings_of("attention_gan")).eval()) == data


def test_active_dropout_is_refused_with_the_way_out() -> None:
    for method in ("pix2pix", "pyramid_p2p"):
        generator = settled(settings_of(method))
        with (
            translation_mode(generator, AtTest.TRAINING),
            pytest.raises(RunError, match=r"active dropout .* --without-dropout"),
        ):
            translation(generator)
        assert translation(generator.eval()).nodes


def test_what_is_not_known_is_named() -> None:
    with pytest.raises(RunError, match="a network Sequential cannot be exported"):
        translation(nn.Sequential())
    generator = settled(settings_of("cyclegan")).eval()
    generator.get_submodule("stem").activation = nn.GELU()
    with pytest.raises(RunError, match="a layer GELU cannot be exported"):
        translation(generator)
    generator.get_submodule("stem").norm = nn.GroupNorm(1, 4)
    with pytest.raises(RunError, match="a layer GroupNorm cannot be exported"):
        translation(generator)
    generator.get_submodule("stem").conv = nn.Conv3d(1, 1, 1)
    with pytest.raises(RunError, match="a layer Conv3d cannot be exported"):
        translation(generator)


def test_weights_that_no_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = translation(settled(settings_of("cyclegan")).eval())
    monkeypatch.setattr(onnx_file, "LARGEST", sum(a.nbytes for a in graph.constants.values()) - 1)
    with pytest.raises(RunError, match="GiB of weights, and an ONNX file holds less than 2"):
        encode(graph, FACTS, ("magstain", "0"))


def test_the_least_sides_are_those_of_the_networks() -> None:
    for method, least in (("cyclegan", 8), ("asp", 8), ("pix2pix", 256)):
        generator = settled(settings_of(method)).eval()
        assert least_side(generator) == least
        generator(torch.zeros(1, 3, least, least))
        with pytest.raises(SettingsError):
            generator(torch.zeros(1, 3, least // 2, least // 2))


@pytest.mark.parametrize("method", ["attention_gan", "cyclegan"])
def test_another_program_reads_the_operators_alike(method: str) -> None:
    """The reference of ONNX, in plain numpy."""
    generator, he = settled(settings_of(method)).eval(), drawn(1, 18, 21)
    (made,) = ReferenceEvaluator(onnx.load_from_string(exported(generator))).run(None, {INPUT: he})
    assert isinstance(made, np.ndarray)
    assert np.abs(made - translated(generator, he, 4)).max() <= ALIKE
