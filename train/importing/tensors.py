"""The tensors of a published state dict under our names: all of them, of the right shapes, finite, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from store.schema import RunError
from store.untrusted.documents import shorten
from train.importing.shape import is_scale
from train.networks import resnet, unet
from train.settings import GeneratorSettings, Network, Norm, Resampling

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
FILTER = "filt"
LAST = ("output.bias", "up.0.conv.bias")  # of the convolutions that never have a norm
HALVING, DOUBLING = (1.0, 2.0, 1.0), (1.0, 3.0, 3.0, 1.0)  # weights of the blurs along an axis: CUT, get_filter
ROUNDING = 1e-3  # relative, of filters that were saved in half precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The tensors of a generator by our names, and what was dropped or added, in words."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


def fit_tensors(state: Mapping[str, Tensor], shape: GeneratorSettings, own: Mapping[str, Tensor]) -> Fitted:
    """The tensors by bare published names as those of a generator of this shape, whose state is like `own`.

    Raises RunError, in words that follow "does not fit the generator of …", for what is missing, too much, of another
    shape, or no finite number.
    """
    names = (unet if shape.network is Network.UNET else resnet).published_names(shape)
    flat = [name for name in state if _is_statistic_of_instance_norm(state, name)]
    filters = _check_filters(state, shape)
    kept = {name: tensor for name, tensor in state.items() if name not in {*flat, *filters}}
    added = {
        theirs: torch.zeros_like(own[ours], device="cpu")
        for ours, theirs in names.items()
        if theirs not in kept and _is_known_to_be_zero(ours, shape)
    }
    complete = kept | added
    _check_names(complete, names)
    _check_tensors(complete, names, own)
    notes = []
    if flat:
        notes.append(
            f"{len(flat)} running statistics of instance norm are left out: PyTorch before 0.4 saved them, and nothing "
            "reads them"
        )
    if biases := [name for name in added if name.endswith(".bias")]:
        notes.append(f"its {len(biases)} convolutions without a norm have no bias: it is 0")
    if len(biases) < len(added):
        notes.append("its batch norms do not count batches, as before PyTorch 0.4.1: the count is 0, and not used")
    return Fitted(tensors={ours: complete[theirs] for ours, theirs in names.items()}, notes=tuple(notes))


def _is_statistic_of_instance_norm(state: Mapping[str, Tensor], name: str) -> bool:
    """Whether it is a running statistic of a norm without scale, in a network where no norm has one."""
    return name.rpartition(".")[2] in STATISTICS and not any(is_scale(state, other) for other in state)


def _is_known_to_be_zero(ours: str, shape: GeneratorSettings) -> bool:
    """Whether a tensor that is not there is 0: a count of batches, or a bias before the norm that there is none of."""
    counts = ours.endswith(".num_batches_tracked") and shape.norm is Norm.BATCH
    return counts or (ours.endswith(".bias") and ours not in LAST and shape.norm is Norm.NONE)


def _check_filters(state: Mapping[str, Tensor], shape: GeneratorSettings) -> list[str]:
    """The names of the blur filters, which are those that are fixed here. Raises RunError for others."""
    if shape.network is Network.UNET or shape.resampling is Resampling.STRIDED:
        return []  # a filter is one of the unexpected names then
    blurs = dict(_published_filters(shape))
    for name, blur in blurs.items():
        given = state.get(name, blur)
        if given.shape != blur.shape or not torch.allclose(given.to(blur.dtype), blur, rtol=ROUNDING):
            weights = ", ".join(f"{weight:.0f}" for weight in (HALVING if blur.shape[-1] == 3 else DOUBLING))
            raise RunError(
                f"its blur {name} is {list(given.shape)}, not the one of CUT with the weights {weights} along each "
                f"axis, {list(blur.shape)}: it was trained with another antialiasing, which there is not here"
            )
    return list(blurs)


def _published_filters(shape: GeneratorSettings) -> Iterator[tuple[str, Tensor]]:
    """Each blur of the published network and its filter, [C,1,k,k]; a doubling one has to sum to 4."""
    last = 12 + shape.blocks
    for layer, channels, weights, total in (
        (7, 2, HALVING, 1.0),
        (11, 4, HALVING, 1.0),
        (last, 4, DOUBLING, 4.0),
        (last + 4, 2, DOUBLING, 4.0),
    ):
        line = torch.tensor(weights)
        kernel = torch.outer(line, line) * (total / line.sum().square())
        yield f"model.{layer}.{FILTER}", kernel.expand(channels * shape.base, 1, -1, -1)


def _check_names(state: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    known = set(names.values())
    missing, extra = [name for name in known if name not in state], [name for name in state if name not in known]
    if missing or extra:
        raise RunError(f"missing: {_some(sorted(missing))}; unexpected: {_some(extra)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shorten, names[:3])) or "none"


def _check_tensors(state: Mapping[str, Tensor], names: Mapping[str, str], own: Mapping[str, Tensor]) -> None:
    if wrong := [ours for ours, theirs in names.items() if own[ours].shape != state[theirs].shape]:
        given, right = list(state[names[wrong[0]]].shape), list(own[wrong[0]].shape)
        raise RunError(
            f"{len(wrong)} tensors have another shape, such as {names[wrong[0]]}, which is {given}, not {right}"
        )
    odd = [
        theirs
        for ours, theirs in names.items()
        if own[ours].is_floating_point() and not (state[theirs].is_floating_point() and _is_finite(state[theirs]))
    ]
    if odd:
        raise RunError(
            f"it has {len(odd)} tensors whose values are not finite, or no numbers with a point, such as {odd[0]}: "
            "give another generator"
        )


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.float().isfinite().all())  # kinds of 8 bits cannot be asked themselves
