"""A generator's state dict in wrappings that do not change it: dictionaries, a prefix, names of parametrizations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from store.schema import RunError
from store.untrusted.documents import shorten
from train.importing.publications import SPECTRAL_STEM, STEM, UNET_LANDMARK
from train.settings import Network

DEPTH = 4  # of dictionaries in each other
FIRST = "model."  # every bare name of a generator begins so
PATCHED = "it was put together from several files; give one that was saved at once"
PARAMETRIZED = {  # names of PyTorch's newer spectral norm, which computes the same in evaluation, to those of the older
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwrapped:
    """The tensors of one generator by their bare names, and what was taken off, in words."""

    network: Network
    tensors: dict[str, Tensor]
    removed: tuple[str, ...]


def unwrap(held: object, size: int) -> Unwrapped | None:
    """The state dict of the generator in `held`, what a file of `size` bytes holds; None if there is none.

    Raises RunError, in words that follow the name of the file, if there are several, if only some names have a prefix
    or the newer form, and for tensors that claim more than the file can hold.
    """
    found = [(path, inner) for path, inner in dictionaries(held) if _prefixes(inner)]
    if not found:
        return None
    if len(found) > 1:
        places = ", ".join(".".join(path) or "the outermost" for path, _ in found)
        raise RunError(f"holds {len(found)} generators, in {places}; save the one that is meant by itself")
    ((path, inner),) = found
    prefixes = _prefixes(inner)
    if len(prefixes) > 1:
        shown = " and ".join(repr(prefix) for prefix in sorted(prefixes))
        raise RunError(
            f"holds {len(prefixes)} generators, with the prefixes {shown}; save the one that is meant by itself"
        )
    ((prefix, network),) = prefixes.items()
    bare, removed = _without_prefix(inner, prefix)
    plain, renamed = _older_names(bare)
    _check_claims(plain, size)
    wrapping = (f"the dictionary {'.'.join(path)!r}",) if path else ()
    return Unwrapped(network=network, tensors=plain, removed=(*wrapping, *removed, *renamed))


def dictionaries(held: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, object]]]:
    """Every dictionary with names as keys, from the outermost on, with the keys that lead to it."""
    if not isinstance(held, Mapping) or len(path) > DEPTH:
        return
    if all(isinstance(key, str) for key in held):
        yield path, held
    for key, inner in held.items():
        yield from dictionaries(inner, (*path, str(key)))


def older(name: str) -> str:
    """The name of a tensor of spectral norm as PyTorch had it before parametrizations; other names stay."""
    stem, found, kind = name.partition("parametrizations.")
    return stem + PARAMETRIZED.get(found + kind, found + kind)


def _prefixes(held: Mapping[str, object]) -> dict[str, Network]:
    """What stands before a generator's landmark, wherever a dictionary has a tensor of this name, and its network."""
    names = {older(name) for name, value in held.items() if isinstance(value, Tensor)}
    unets = _before(names, UNET_LANDMARK)
    resnets = _before(names, STEM) | _before(names, SPECTRAL_STEM)
    resnets = {prefix for prefix in resnets if not any(prefix.startswith(f"{unet}model.") for unet in unets)}
    return dict.fromkeys(unets, Network.UNET) | dict.fromkeys(resnets, Network.RESNET)


def _before(names: Collection[str], landmark: str) -> set[str]:
    return {name.removesuffix(landmark) for name in names if name == landmark or name.endswith(f".{landmark}")}


def _without_prefix(held: Mapping[str, object], prefix: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors whose names begin with the prefix, without it, and what was left out. Raises RunError for a mix."""
    if odd := [name for name, value in held.items() if name.startswith(prefix) and not _is_plain(value)]:
        raise RunError(f"is not a bare state dict: {shorten(odd[0])} is no plain tensor; save only the state dict")
    bare = {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}
    others = [name for name in held if not name.startswith(prefix)]
    if prefix:
        mixed = [name for name in others if name.startswith(FIRST)]
    else:
        mixed = [name for name in held if not name.startswith(FIRST) and f".{FIRST}" in name]
    if mixed:
        first = f"{prefix}{next(iter(bare))}"
        raise RunError(
            f"mixes names with a prefix and without one, such as {shorten(mixed[0])} beside {shorten(first)}: {PATCHED}"
        )
    removed = [f"the prefix {prefix!r}"] if prefix else []
    if others:
        removed.append(f"{len(others)} entries of other parts, such as {others[0]!r}")
    return {name: value for name, value in bare.items() if isinstance(value, Tensor)}, removed


def _older_names(held: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the names of PyTorch's older spectral norm. Raises RunError if a file has both forms."""
    newer = [name for name in held if older(name) != name]
    old = [name for name in held if name.rpartition(".")[2] in PARAMETRIZED.values()]
    if newer and old:
        raise RunError(f"mixes two forms of spectral norm ({shorten(newer[0])} and {shorten(old[0])}): {PATCHED}")
    removed = ["the names of parametrized spectral norm"] if newer else []
    return {older(name): value for name, value in held.items()}, removed


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor of numbers in memory, with a place for each."""
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.layout is torch.strided
        and not value.is_quantized
    )


def _check_claims(tensors: Mapping[str, Tensor], size: int) -> None:
    """Refuse tensors that repeat a few bytes of the file to a size that it does not have. Raises RunError."""
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > size:
        raise RunError(f"claims tensors of {claimed:,} bytes in a file of {size:,}; give the file as downloaded")
