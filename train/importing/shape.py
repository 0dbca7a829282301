"""Which network has these tensors: its settings, read from published names and shapes.

Names and numbers are those of ResnetGenerator and UnetGenerator of the pix2pix/CycleGAN and CUT repositories: a layer
without tensors (padding, activation, blur, dropout) takes a number too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from store.schema import RunError
from train.importing.publications import SPECTRAL_STEM, STEM
from train.settings import GeneratorSettings, Network, Norm, Resampling

BLOCK = re.compile(r"model\.(\d+)\.conv_block\.1\.weight(_orig)?")
FIRST_BLOCK = {10: Resampling.STRIDED, 12: Resampling.BLURRED}  # its number tells how sides are halved before it


def shape_of(network: Network, state: Mapping[str, Tensor], published: GeneratorSettings) -> GeneratorSettings:
    """The settings of the generator that has these tensors, by their bare names.

    What tensors do not show is as `published`: whether a U-Net has dropout. Raises RunError, in words that follow the
    name of the file, for a network that this program does not have, and SettingsError for one of another size.
    """
    return _unet(state, published) if network is Network.UNET else _resnet(state, published)


def _resnet(state: Mapping[str, Tensor], published: GeneratorSettings) -> GeneratorSettings:
    spectral = SPECTRAL_STEM in state
    stem = SPECTRAL_STEM if spectral else STEM
    found = {int(match[1]): match[0] for match in map(BLOCK.fullmatch, state) if match}
    first, last = min(found, default=0), max(found, default=0) + 1
    if first not in FIRST_BLOCK or len(found) != last - first:
        raise RunError(
            f"holds another network: {stem} is there, but residual blocks are {_numbers(found)}; those of a published "
            "ResNet follow each other from model.10 on (two strided halvings) or from model.12 on (blurred ones)"
        )
    base, kernel = _stem(state, stem)
    _check_blocks(state, stem, base, list(found.values()))
    resampling = FIRST_BLOCK[first]
    _check_doublings(state, last, resampling)
    output = state.get(f"model.{last + 7 + 2 * (resampling is Resampling.BLURRED)}.{stem.rpartition('.')[2]}")
    return replace(
        published,
        network=Network.RESNET,
        base=base,
        blocks=len(found),
        stem=kernel,
        output=output.shape[-1] if output is not None and output.dim() == 4 else published.output,
        resampling=resampling,
        norm=_norm(state, "model.1.bias"),
        spectral=spectral,
        dropout=not any(name.startswith(f"model.{first}.conv_block.5.") for name in state),
    )


def _unet(state: Mapping[str, Tensor], published: GeneratorSettings) -> GeneratorSettings:
    depth, place = 2, "model.model.1"
    while f"{place}.model.3.model.1.weight" in state:
        depth, place = depth + 1, f"{place}.model.3"
    base, _ = _stem(state, "model.model.0.weight")
    return replace(
        published,
        network=Network.UNET,
        base=base,
        depth=depth,
        resampling=Resampling.STRIDED,
        norm=_norm(state, "model.model.0.bias"),
        spectral=False,
    )


def _stem(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """Base channels and kernel of the first convolution. Raises RunError if it does not take pictures in colour."""
    if name not in state:
        raise RunError(f"holds a generator without its first convolution, {name}; give the file as it was saved")
    weight = state[name]
    if weight.dim() != 4:
        return 0, 0
    if weight.shape[1] != 3:
        raise RunError(
            f"holds a generator of pictures with {weight.shape[1]} channels ({name}); only those that turn RGB "
            "pictures into RGB pictures are taken"
        )
    return weight.shape[0], weight.shape[-1]


def _check_blocks(state: Mapping[str, Tensor], stem: str, base: int, blocks: list[str]) -> None:
    wide = 4 * base
    wrong = sum(state[name].shape != (wide, wide, 3, 3) for name in blocks)
    if not base or wrong:
        raise RunError(
            f"holds a ResNet that does not fit itself: with {base} base channels ({stem}) each residual block has "
            f"{[wide, wide, 3, 3]}, which {wrong} have not"
        )


def _check_doublings(state: Mapping[str, Tensor], last: int, resampling: Resampling) -> None:
    """Refuse a network that halves with strides and doubles with blurs, or the reverse (options of CUT)."""
    blurred = any(name.startswith(f"model.{last + 1}.weight") for name in state)
    strided = any(name.startswith(f"model.{last}.weight") for name in state)
    if blurred != strided and blurred != (resampling is Resampling.BLURRED):
        other = Resampling.BLURRED if blurred else Resampling.STRIDED
        raise RunError(
            f"holds a ResNet whose halvings are {resampling} and whose doublings are {other} (no_antialias without "
            "no_antialias_up, or the reverse), which there is not here"
        )


def _norm(state: Mapping[str, Tensor], first_bias: str) -> Norm:
    """Batch norm has tensors of its own; convolutions before instance norm have biases, those before none have not."""
    if any(is_scale(state, name) for name in state):
        return Norm.BATCH
    return Norm.INSTANCE if first_bias in state else Norm.NONE


def is_scale(state: Mapping[str, Tensor], name: str) -> bool:
    """Whether a tensor is the scale of a batch norm, beside which there are running statistics."""
    stem, _, kind = name.rpartition(".")
    return kind == "weight" and f"{stem}.running_mean" in state


def _numbers(blocks: Mapping[int, str]) -> str:
    return ", ".join(f"model.{number}" for number in sorted(blocks)[:4]) or "missing"
