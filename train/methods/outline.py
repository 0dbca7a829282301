"""A method whose networks have shapes and no values: what a file is compared with before memory is taken for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn import init
from torch.overrides import TorchFunctionMode

from store.schema import SettingsError
from train.methods.base import Method
from train.methods.recipes import load_recipe
from train.methods.registry import METHODS, build_method
from train.settings import TrainSettings

FILLING = (Tensor.normal_, init.normal_, init.xavier_normal_, F.normalize)  # of their first tensor; no shape changes


def build_outline(settings: TrainSettings) -> Method[Any]:
    """The method that the settings name, its networks on the meta device. Raises SettingsError as `build_method`."""
    with torch.device("meta"), _WithoutValues():
        return build_method(settings)


def names_without_pairs() -> list[str]:
    """The methods that can be trained without pairs, as published: all that are built with `data.paired = false`."""
    able = []
    for name in METHODS:
        with suppress(SettingsError):
            build_outline(load_recipe((), (f"method={name}", "data.paired=false")))
            able.append(name)
    return able


class _WithoutValues(TorchFunctionMode):
    """Leaves out what fills tensors: on the meta device random numbers import PyTorch's compiler, which takes 3 s."""

    def __torch_function__(
        self, function: Callable[..., Any], _types: object, words: Sequence[Any] = (), named: Any = None
    ) -> Any:
        if function in FILLING:
            return words[0] if words else named["tensor"]
        return (torch.empty if function is torch.randn else function)(*words, **(named or {}))
