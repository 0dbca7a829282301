"""The feature networks: equal to the published ones with the same parameters, whatever was done for speed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluate.features.lpips import TRUNK_NETWORK, Perceptual, Trunk, load_perceptual
from evaluate.features.networks import (
    Pooled,
    check_kinds,
    find_weights,
    pooled,
    read_parameters,
    to_imagenet,
    to_inception,
)
from evaluate.features.weights import WeightsFolder, choose_device, require_all
from evaluate.metrics.paired import phv
from evaluate.protocol import FILES, FeatureSpec, Network
from store.files import digest_file
from store.schema import RunError, SettingsError, WeightsError
from tests.support.feature_networks import loaded, parameters
from tests.support.gpus import H100, V100, forget, hide, pretend
from tests.support.places import GOLDEN

NUMBERS = GOLDEN / "inception_pytorch_fid.npz"


def drawn(count: int, height: int, width: int) -> Tensor:
    """Unit [count,3,height,width]: blobs with grain."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


@pytest.fixture(scope="module")
def inception() -> dict[FeatureSpec, Pooled]:
    return pooled(Network.PORTED_INCEPTION, parameters(Network.PORTED_INCEPTION), "")


@pytest.fixture(scope="module")
def resnet() -> dict[FeatureSpec, Pooled]:
    return pooled(Network.RESNET, parameters(Network.RESNET), "")


@pytest.fixture(scope="module")
def trunks() -> dict[Trunk, Perceptual]:
    return {trunk: load_perceptual(trunk, parameters(TRUNK_NETWORK[trunk]), "") for trunk in Trunk}


def test_the_ported_inception_is_that_of_pytorch_fid(inception: dict[FeatureSpec, Pooled]) -> None:
    """Origin: pytorch-fid 0.3.0, parameters of `tests.support.feature_networks`; 1e-4 of the largest is rounding."""
    with np.load(NUMBERS) as golden:
        pictures, expected = torch.from_numpy(golden["pictures_u8"]).float() / 255, golden["features"]
    (found,) = inception[FeatureSpec.FID](pictures)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.max())
    (antialiased,) = inception[FeatureSpec.FID_ANTIALIASED](pictures)
    assert np.abs(antialiased.numpy() - expected).max() > 1e-3 * expected.max()


def test_the_inception_of_kid_is_torchvisions_without_its_rescaling() -> None:
    whole, pictures = loaded(Network.INCEPTION), drawn(2, 320, 310)
    whole.fc = nn.Identity()
    resized = nn.functional.interpolate(pictures, size=(299, 299), mode="bilinear", align_corners=False)
    expected = whole(2 * resized - 1)
    (found,) = pooled(Network.INCEPTION, parameters(Network.INCEPTION), "")[FeatureSpec.KID_TORCHVISION](pictures)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.max()))


def test_pictures_are_brought_to_299_px_at_half_pixel_centres() -> None:
    """598 px to 299 is the mean of two neighbours; antialiasing averages the more of fine grain the more it shrinks."""
    ramp = torch.linspace(0, 1, 598).expand(1, 3, 598, 598)
    expected = (ramp[..., ::2] + ramp[..., 1::2]) - 1
    torch.testing.assert_close(to_inception(ramp, antialias=False), expected[..., ::2, :], rtol=0, atol=1e-6)
    grain = torch.rand(1, 3, 1196, 1196, generator=torch.Generator().manual_seed(0))
    assert to_inception(grain, antialias=False).std() > 2 * to_inception(grain, antialias=True).std()


def test_the_published_phv_takes_unit_for_signed(resnet: dict[FeatureSpec, Pooled]) -> None:
    """Values: methods of the ASP repository, black and white after its double normalisation."""
    black, white = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    prepare = resnet[FeatureSpec.PHV_HALF_RANGE].prepare
    assert prepare(black).flatten().tolist() == pytest.approx([0.066, 0.196, 0.418], abs=1e-3)
    assert prepare(white).flatten().tolist() == pytest.approx([2.249, 2.429, 2.640], abs=1e-3)
    assert to_imagenet(black).flatten().tolist() == pytest.approx([-2.118, -2.036, -1.804], abs=1e-3)


@pytest.mark.parametrize("spec", [FeatureSpec.PHV, FeatureSpec.PHV_HALF_RANGE])
def test_phv_is_a_plain_loop_over_torchvisions_layers(resnet: dict[FeatureSpec, Pooled], spec: FeatureSpec) -> None:
    net, pictures, threshold = loaded(Network.RESNET), drawn(4, 96, 96), 0.01
    stem = nn.Sequential(*(net.get_submodule(name) for name in ("conv1", "bn1", "relu", "maxpool")))
    means: list[list[Tensor]] = []
    for picture in pictures:
        x = stem(resnet[spec].prepare(picture[None]))
        means.append([])
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = net.get_submodule(name)(x)
            means[-1].append(torch.stack([channel.mean() for channel in x[0]]))
    plain = [
        [sum(bool(abs(a - b) > threshold) for a, b in zip(one, two, strict=True)) / len(one) for one, two in layers]
        for layers in (zip(means[0], means[2], strict=True), zip(means[1], means[3], strict=True))
    ]
    features = [layer.numpy() for layer in resnet[spec](pictures)]
    assert [layer.shape for layer in features] == [(4, 256), (4, 512), (4, 1024), (4, 2048)]
    found = phv([layer[:2] for layer in features], [layer[2:] for layer in features], threshold)
    np.testing.assert_allclose(found, plain, atol=2 / 256)  # a channel on the threshold may fall on either side
    assert 0.1 < found.mean() < 0.999


def test_phv_counts_channels_beyond_the_threshold() -> None:
    fake = [np.array([[0.0, 0.011, -0.02, 0.5]]), np.array([[1.0, 1.0]])]
    real = [np.array([[0.0, 0.0, 0.0, 0.505]]), np.array([[1.0, 0.9]])]
    np.testing.assert_array_equal(phv(fake, real, 0.01), [[0.5, 0.5]])


@pytest.mark.parametrize("trunk", Trunk)
def test_lpips_is_the_packages(trunks: dict[Trunk, Perceptual], trunk: Trunk) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        package = lpips.LPIPS(net=trunk.value, pnet_rand=True, verbose=False)
    given = parameters(TRUNK_NETWORK[trunk])
    package.net.load_state_dict({name: given[f"features.{name.split('.', 1)[1]}"] for name in package.net.state_dict()})
    pictures = drawn(4, 64, 80)
    one, two = pictures[:2], pictures[2:]
    expected = package(one, two, normalize=True).flatten()
    ours = trunks[trunk]
    torch.testing.assert_close(ours.distance(ours.taps(one), ours.taps(two)), expected, rtol=1e-5, atol=1e-7)
    assert float(ours.distance(ours.taps(one), ours.taps(one)).abs().max()) == 0


def test_batches_and_order_change_nothing(
    inception: dict[FeatureSpec, Pooled], resnet: dict[FeatureSpec, Pooled], trunks: dict[Trunk, Perceptual]
) -> None:
    pictures, order = drawn(3, 96, 96), [2, 0, 1]
    for read in (inception[FeatureSpec.FID_ANTIALIASED], resnet[FeatureSpec.PHV], trunks[Trunk.ALEX].taps):
        together, shuffled = read(pictures), read(pictures[order])
        alone = [read(picture[None]) for picture in pictures]
        for tap, (one, other) in enumerate(zip(together, shuffled, strict=True)):
            largest = float(one.abs().max())
            torch.testing.assert_close(other, one[order], rtol=0, atol=1e-6 * largest)
            torch.testing.assert_close(torch.cat([each[tap] for each in alone]), one, rtol=0, atol=2e-6 * largest)


@pytest.mark.gpu
def test_features_are_those_of_the_cpu_on_every_device(
    resnet: dict[FeatureSpec, Pooled], trunks: dict[Trunk, Perceptual], device: torch.device
) -> None:
    """1e-4 of the largest: a GPU that rounded its convolutions to 10 bits would be 1e-3 off."""
    pictures, trunk = drawn(2, 96, 96), trunks[Trunk.ALEX]
    for modules, read in (
        ((resnet[FeatureSpec.PHV].maps,), resnet[FeatureSpec.PHV]),
        ((trunk.trunk, trunk.scale), trunk.taps),
    ):
        expected = read(pictures)
        for module in modules:
            module.to(device)
        found = read(pictures.to(device))
        for module in modules:
            module.to("cpu")
        for one, two in zip(found, expected, strict=True):
            torch.testing.assert_close(one.cpu(), two, rtol=0, atol=1e-4 * float(two.abs().max()))


def test_parameters_of_another_network_are_refused() -> None:
    foreign = parameters(Network.ALEX)
    with pytest.raises(WeightsError, match=r"do not fit the resnet50: .* names differ, such as"):
        pooled(Network.RESNET, foreign, "")
    with pytest.raises(WeightsError, match=r"do not fit the trunk vgg: .* are missing, such as 'features"):
        load_perceptual(Trunk.VGG, foreign, "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one[:-1], r"has shape \[1, 3\], not \[2, 3\]"),
        (lambda one: one.flatten(), r"has shape \[6\]"),
        (lambda one: one.expand(10**9, 2, 3), r"has shape \[1000000000, 2, 3\]"),
        (lambda one: one.half(), "is torch.float16"),
        (lambda one: one.long(), "is torch.int64"),
        (lambda one: one * 1j, "is torch.complex64"),
        (lambda one: one.to_sparse(), r"is torch.float32 \(torch.sparse_coo\), not torch.float32"),
        (lambda one: one * torch.nan, "has values that are not finite"),
    ],
)
def test_parameters_of_other_shapes_and_kinds_are_refused(change: Callable[[Tensor], Tensor], said: str) -> None:
    own = torch.ones(2, 3)
    check_kinds("net", {"a": own}, {"a": own})
    with pytest.raises(WeightsError, match=f"the parameters do not fit the net: 'a' {said}.*; fetch them with `make"):
        check_kinds("net", {"a": change(own)}, {"a": own})


def test_a_network_with_one_parameter_of_another_shape_is_refused() -> None:
    resnet, alex = (parameters(network) for network in (Network.RESNET, Network.ALEX))
    with pytest.raises(WeightsError, match=r"do not fit the resnet50: .*conv1\.weight' has shape \[63"):
        pooled(Network.RESNET, resnet | {"conv1.weight": resnet["conv1.weight"][1:]}, "")
    with pytest.raises(WeightsError, match=r"do not fit the trunk alex: .* has shape \[63"):
        load_perceptual(Trunk.ALEX, alex | {"features.0.weight": alex["features.0.weight"][1:]}, "")


def saved(held: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(held, buffer)
    return buffer.getvalue()


FOREIGN = {
    "empty": (b"", r"is empty \(0 bytes\)"),
    "page": (b"<html><title>Sign in</title></html>", r"is a web page \('Sign in'\)"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
    "cut off": (saved({"a": torch.ones(99)})[:-40], "is cut off after"),
    "list": (saved([torch.ones(1)]), "holds no bare state dict"),
    "tensor": (saved(torch.ones(1)), "holds no bare state dict"),
    "texts": (saved({"a": "b"}), "holds no bare state dict"),
    "wrapped": (saved({"state_dict": {"a": torch.ones(1)}}), "holds no bare state dict"),
    "code": (saved(nn.Linear(1, 1)), "asks for code"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_weights_is_refused_in_a_line(tmp_path: Path, kind: str) -> None:
    data, said = FOREIGN[kind]
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(WeightsError, match=rf"w\.pth {said}.*; remove it and fetch it again with `make") as caught:
        read_parameters(tmp_path / "w.pth")
    assert str(caught.value).isprintable()


def test_a_folder_of_weights_gives_the_networks_whose_files_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trunks: dict[Trunk, Perceptual]
) -> None:
    """The published files are a download; a seeded one takes the place of AlexNet's in the table."""
    file = tmp_path / FILES[Network.ALEX].name
    torch.save(parameters(Network.ALEX), file)
    ours = replace(FILES[Network.ALEX], size=file.stat().st_size, sha256=digest_file(file))
    monkeypatch.setitem(FILES, Network.ALEX, ours)
    networks = WeightsFolder(tmp_path, choose_device("cpu"))
    assert {network: networks.digest(network) for network in Network} == {
        network: ours.sha256 if network is Network.ALEX else None for network in Network
    }
    one, two = drawn(2, 64, 64)[:, None]
    found = networks.perceptual(Trunk.ALEX)
    assert found.digest == ours.sha256
    expected = trunks[Trunk.ALEX].distance(trunks[Trunk.ALEX].taps(one), trunks[Trunk.ALEX].taps(two))
    torch.testing.assert_close(found.distance(found.taps(one), found.taps(two)), expected)
    with pytest.raises(WeightsError, match=r"weights missing: vgg16-397923af\.pth, resnet50"):
        require_all(networks)
    with pytest.raises(RunError, match="no device 'tpu'; choose one of auto, cpu, cuda"):
        choose_device("tpu")


def test_a_gpu_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(monkeypatch, tmp_path)
    hide(monkeypatch, "Found no NVIDIA driver on your system.")
    assert choose_device("auto").type == "cpu"
    with pytest.raises(RunError, match="no device 'cuda' on this machine: PyTorch finds no GPU; or choose auto or cpu"):
        choose_device("cuda")
    assert capsys.readouterr().err == ""
    hide(monkeypatch)
    monkeypatch.setenv("SLURM_JOB_GPUS", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith("warning: a GPU is here (SLURM_JOB_GPUS=0), but PyTorch cannot use it: CUDA_VISIBLE_DEVICES")
    with pytest.raises(RunError, match=r"machine: a GPU is here \(SLURM_JOB_GPUS=0\), but .* hides it; unset"):
        choose_device("cuda")
    pretend(monkeypatch, V100)
    for name in ("auto", "cuda"):
        with pytest.raises(
            SettingsError, match=rf"--device {name}: this GPU is 7\.0, this torch begins at 7\.5.*--device cpu"
        ):
            choose_device(name)
    assert choose_device("cpu").type == "cpu"
    pretend(monkeypatch, H100)
    assert choose_device("auto").type == choose_device("cuda").type == "cuda"


def test_missing_weights_are_none_and_wrong_ones_an_error(tmp_path: Path) -> None:
    assert find_weights(Network.VGG, tmp_path) is None
    (tmp_path / FILES[Network.VGG].name).write_bytes(b"something else")
    with pytest.raises(WeightsError, match="vgg16-397923af"):
        find_weights(Network.VGG, tmp_path)
