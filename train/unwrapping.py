"""A state dict in wrappings that do not change it: dictionaries around it, a prefix, the names of parametrizations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from store.schema import RunError

DEPTH = 4  # of dictionaries in each other
PARAMETRIZED = {  # names of PyTorch's newer spectral norm, which computes the same in evaluation, to those of the older
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwrapped:
    """The tensors of one network by their bare names, and what was taken off, in words."""

    tensors: dict[str, Tensor]
    removed: tuple[str, ...]


def unwrap(held: object, landmark: str, size: int) -> Unwrapped:
    """The state dict in `held`, what a file of `size` bytes holds, that has a tensor named `landmark`.

    Raises RunError, in words that follow the name of the file, if there is none, if there are several, if only some
    names have a prefix or the newer form, and for tensors that claim more than the file can hold.
    """
    found = [(path, inner) for path, inner in _dictionaries(held, ()) if _prefixes(inner, landmark)]
    if not found:
        raise RunError(f"is not a generator of the ASP repository: it has no {landmark}; {_contents(held)}")
    if len(found) > 1:
        places = ", ".join(".".join(path) or "the outermost" for path, _ in found)
        raise RunError(f"holds {len(found)} generators, in {places}; save the one that is meant by itself")
    ((path, inner),) = found
    prefixes = _prefixes(inner, landmark)
    if len(prefixes) > 1:
        shown = " and ".join(repr(prefix) for prefix in prefixes)
        raise RunError(
            f"holds {len(prefixes)} generators, with the prefixes {shown}; save the one that is meant by itself"
        )
    bare, removed = _without_prefix(inner, prefixes[0])
    plain, renamed = _older_names(bare)
    _check_claims(plain, size)
    wrapping = (f"the dictionary {'.'.join(path)!r}",) if path else ()
    return Unwrapped(tensors=plain, removed=(*wrapping, *removed, *renamed))


def _dictionaries(held: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, object]]]:
    """Every dictionary with names as keys, from the outermost on, with the keys that lead to it."""
    if not isinstance(held, Mapping) or len(path) > DEPTH:
        return
    if all(isinstance(key, str) for key in held):
        yield path, held
    for key, inner in held.items():
        yield from _dictionaries(inner, (*path, str(key)))


def _prefixes(held: Mapping[str, object], landmark: str) -> list[str]:
    """What stands before the landmark, in its older or newer form, wherever a dictionary has a tensor of this name."""
    names = {_older(name) for name, value in held.items() if isinstance(value, Tensor)}
    ends = {name for name in names if name == landmark or name.endswith(f".{landmark}")}
    return sorted(name.removesuffix(landmark) for name in ends)


def _without_prefix(held: Mapping[str, object], prefix: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors whose names begin with the prefix, without it, and what was left out. Raises RunError for a mix."""
    if odd := [name for name, value in held.items() if name.startswith(prefix) and not _is_plain(value)]:
        raise RunError(f"is not a bare state dict: {odd[0]} is no plain tensor; save only the state dict")
    bare = {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}
    others = [name for name in held if not name.startswith(prefix)]
    stems = {f"{name.partition('.')[0]}." for name in bare}
    if prefix:
        mixed = [name for name in others if any(name.startswith(stem) for stem in stems)]
    else:
        mixed = [name for name in held if any(f".{stem}" in name for stem in stems)]
    if mixed:
        raise RunError(
            f"mixes names with a prefix and without one, such as {mixed[0]} beside {prefix}{next(iter(bare))}: it was "
            "put together from several files; give one that was saved at once"
        )
    removed = [f"the prefix {prefix!r}"] if prefix else []
    if others:
        removed.append(f"{len(others)} entries of other parts, such as {others[0]!r}")
    return {name: value for name, value in bare.items() if isinstance(value, Tensor)}, removed


def _older(name: str) -> str:
    stem, found, kind = name.partition("parametrizations.")
    return stem + PARAMETRIZED.get(found + kind, found + kind)


def _older_names(held: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors under the names of PyTorch's older spectral norm. Raises RunError if a file has both forms."""
    newer = [name for name in held if _older(name) != name]
    older = [name for name in held if name.rpartition(".")[2] in PARAMETRIZED.values()]
    if newer and older:
        raise RunError(
            f"mixes two forms of spectral norm ({newer[0]} and {older[0]}): it was put together from several files; "
            "give one that was saved at once"
        )
    removed = ["the names of parametrized spectral norm"] if newer else []
    return {_older(name): value for name, value in held.items()}, removed


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


def _contents(held: object) -> str:
    if not isinstance(held, Mapping):
        return f"it holds a {type(held).__name__}"
    return f"it has {', '.join(ascii(str(key)[:60]) for key in list(held)[:3]) or 'nothing'}"
