"""The frozen feature networks: how each is built, how pictures are prepared for it, where its weights come from.

Pictures enter as unit [B,3,H,W] float32 RGB of any size. Networks are in evaluation mode, channels last, with their
batch norms folded into the convolutions before them, which changes the speed and no number by more than 1e-5. Their
packages are imported when a network is built: that takes seconds, and nobody waits for networks without weights.
Sources: pytorch-fid (through torch-fidelity's blocks, whose parameters have the same names), torchvision, the ASP
repository.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from evaluate.protocol import FILES, FeatureSpec, Network
from store.foreign.kinds import read_plain
from store.schema import WeightsError
from store.weights import locate

INCEPTION_SIDE = 299  # px, of both Inceptions
FETCH = "make weights NAMES=evaluate"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Parameters = Mapping[str, Tensor]


def to_inception(unit: Tensor, *, antialias: bool) -> Tensor:
    """Unit [B,3,H,W] to signed [B,3,299,299], half-pixel centres."""
    small = F.interpolate(
        unit, size=(INCEPTION_SIDE, INCEPTION_SIDE), mode="bilinear", align_corners=False, antialias=antialias
    )
    return 2 * small - 1


def to_imagenet(unit: Tensor) -> Tensor:
    """Unit [B,3,H,W] less ImageNet's mean, over its deviation."""
    mean, deviation = (unit.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (unit - mean) / deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """The network of a feature spec, and what is done to unit [B,3,H,W] before it."""

    network: Network
    prepare: Callable[[Tensor], Tensor]


PREPROCESS: dict[FeatureSpec, Preprocess] = {
    FeatureSpec.FID: Preprocess(
        network=Network.PORTED_INCEPTION, prepare=lambda unit: to_inception(unit, antialias=False)
    ),
    FeatureSpec.FID_ANTIALIASED: Preprocess(
        network=Network.PORTED_INCEPTION, prepare=lambda unit: to_inception(unit, antialias=True)
    ),
    FeatureSpec.KID_TORCHVISION: Preprocess(
        network=Network.INCEPTION, prepare=lambda unit: to_inception(unit, antialias=False)
    ),
    FeatureSpec.PHV_HALF_RANGE: Preprocess(  # ASP, util/perceptual.py
        network=Network.RESNET, prepare=lambda unit: to_imagenet((unit + 1) / 2)
    ),
    FeatureSpec.PHV: Preprocess(network=Network.RESNET, prepare=to_imagenet),
}


@contextmanager
def exact_float32() -> Iterator[None]:
    """Convolutions of a GPU in full float32: by default it keeps 10 of 23 bits, and scores depend on the machine."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


class Stages(nn.Module):
    """Stages that run one after the other; the output of each is returned."""

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """[B,3,H,W] to one map [B,C,h,w] for each stage."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """A feature spec with its network loaded: the network, what is done before it, and the sha256 of its weights."""

    maps: nn.Module
    prepare: Callable[[Tensor], Tensor]
    digest: str

    @torch.inference_mode()
    def __call__(self, unit: Tensor) -> tuple[Tensor, ...]:
        """Unit [B,3,H,W] to the spatial mean of each map, [B,C] each."""
        prepared = self.prepare(unit).contiguous(memory_format=torch.channels_last)
        with exact_float32():
            return tuple(one.mean(dim=(2, 3)) for one in self.maps(prepared))


def ported_inception() -> Stages:
    """The network of pytorch-fid up to its last block, 2048 channels.

    Its pooling branches average without the padding, and the last block takes the maximum: not torchvision's.
    """
    from torch_fidelity import feature_extractor_inceptionv3 as ported

    blocks: OrderedDict[str, nn.Module] = OrderedDict(
        Conv2d_1a_3x3=ported.BasicConv2d(3, 32, kernel_size=3, stride=2),
        Conv2d_2a_3x3=ported.BasicConv2d(32, 32, kernel_size=3),
        Conv2d_2b_3x3=ported.BasicConv2d(32, 64, kernel_size=3, padding=1),
        MaxPool_1=nn.MaxPool2d(kernel_size=3, stride=2),
        Conv2d_3b_1x1=ported.BasicConv2d(64, 80, kernel_size=1),
        Conv2d_4a_3x3=ported.BasicConv2d(80, 192, kernel_size=3),
        MaxPool_2=nn.MaxPool2d(kernel_size=3, stride=2),
        Mixed_5b=ported.InceptionA(192, pool_features=32),
        Mixed_5c=ported.InceptionA(256, pool_features=64),
        Mixed_5d=ported.InceptionA(288, pool_features=64),
        Mixed_6a=ported.InceptionB(288),
        Mixed_6b=ported.InceptionC(768, channels_7x7=128),
        Mixed_6c=ported.InceptionC(768, channels_7x7=160),
        Mixed_6d=ported.InceptionC(768, channels_7x7=160),
        Mixed_6e=ported.InceptionC(768, channels_7x7=192),
        Mixed_7a=ported.InceptionD(768),
        Mixed_7b=ported.InceptionE_1(1280),
        Mixed_7c=ported.InceptionE_2(2048),
    )
    return Stages([nn.Sequential(blocks)])


def torchvision_inception() -> Stages:
    """Inception v3 of torchvision up to its last block, 2048 channels, without its own rescaling of the input."""
    import torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of `init_weights`, which is given
        whole = torchvision.models.inception_v3(weights=None, aux_logits=False, init_weights=False)
    unused = ("avgpool", "dropout", "fc")
    blocks = OrderedDict((name, block) for name, block in whole.named_children() if name not in unused)
    return Stages([nn.Sequential(blocks)])


def resnet_layers() -> Stages:
    """ResNet-50; the maps are those of layer1 to layer4: 256, 512, 1024 and 2048 channels."""
    import torchvision

    whole = torchvision.models.resnet50(weights=None)
    stem = OrderedDict(conv1=whole.conv1, bn1=whole.bn1, relu=whole.relu, maxpool=whole.maxpool, layer1=whole.layer1)
    return Stages([nn.Sequential(stem), whole.layer2, whole.layer3, whole.layer4])


BUILT: dict[Network, Callable[[], Stages]] = {
    Network.PORTED_INCEPTION: ported_inception,
    Network.INCEPTION: torchvision_inception,
    Network.RESNET: resnet_layers,
}
UNUSED = ("fc.", "AuxLogits.")  # parameters of a file that only classification needs


def assemble(network: Network, parameters: Parameters) -> Stages:
    """A pooled network with its parameters, named as in its published file, ready to run.

    WeightsError if they do not fit.
    """
    stages = BUILT[network]()
    state = stages.state_dict()
    own = {_published_name(network, name): name for name in state}
    given = {name: value for name, value in parameters.items() if not name.startswith(UNUSED)}
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # older files lack them
    if own.keys() - counters != given.keys() - counters:
        odd = sorted((own.keys() ^ given.keys()) - counters)
        raise WeightsError(f"the parameters do not fit the {network}: {len(odd)} names differ, such as {odd[0]!r}")
    named = {own[name]: value for name, value in given.items() if name in own}
    check_kinds(network, named, state)
    stages.load_state_dict(named, strict=False)
    fold(stages.eval().requires_grad_(False))
    return stages.to(memory_format=torch.channels_last)


def check_kinds(network: str, given: Parameters, own: Parameters) -> None:
    """Refuse parameters of other shapes than a network's own, and any that are not plain finite numbers. WeightsError.

    given: by the names of `own`.
    """
    for name, value in given.items():
        if value.shape != own[name].shape:
            fault = f"has shape {list(value.shape)}, not {list(own[name].shape)}"
        elif value.layout is not torch.strided or value.dtype != own[name].dtype:
            fault = f"is {value.dtype} ({value.layout}), not {own[name].dtype}"
        elif not bool(value.isfinite().all()):
            fault = "has values that are not finite"
        else:
            continue
        raise WeightsError(f"the parameters do not fit the {network}: {name!r} {fault}; fetch them with `{FETCH}`")


def fold(module: nn.Module) -> None:
    """Fold each batch norm (evaluation mode) into the convolution directly before it."""
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None:
            module.set_submodule(before[0], fuse_conv_bn_eval(before[1], child))
            module.set_submodule(name, nn.Identity())
        before = (name, child) if isinstance(child, nn.Conv2d) else None
        fold(child)


def find_weights(network: Network, folder: Path) -> Path | None:
    """The weight file of a network, its bytes checked; None if it is missing. WeightsError if it is another file."""
    weight = FILES[network]
    return locate(weight, folder) if (folder / weight.name).is_file() else None


def read_parameters(file: Path) -> Parameters:
    """The parameters in a weight file, by their names. WeightsError if the file is something else."""
    remedy = f"remove it and fetch it again with `{FETCH}`"
    load = partial(torch.load, map_location="cpu", weights_only=True)
    parameters = read_plain(file, file, load, WeightsError, remedy)
    if not isinstance(parameters, Mapping) or not all(isinstance(value, Tensor) for value in parameters.values()):
        raise WeightsError(f"{file} holds no bare state dict; {remedy}")
    return {str(name): value for name, value in parameters.items()}


def pooled(network: Network, parameters: Parameters, digest: str) -> dict[FeatureSpec, Pooled]:
    """Every feature spec of a network."""
    maps = assemble(network, parameters)
    return {
        spec: Pooled(maps=maps, prepare=its.prepare, digest=digest)
        for spec, its in PREPROCESS.items()
        if its.network is network
    }


def _published_name(network: Network, name: str) -> str:
    """The name in the published file of a parameter of `Stages`."""
    _, stage, rest = name.split(".", 2)  # stages.<number>.<name within the stage>
    return f"layer{int(stage) + 1}.{rest}" if network is Network.RESNET and stage != "0" else rest
