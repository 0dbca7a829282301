"""A graph of ONNX operators in the making: plain facts, which need no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from train.export.frozen import InOrder

ROWS_AND_COLUMNS = (2, 3)  # of maps [B,C,H,W]

Attribute: TypeAlias = "int | float | str | tuple[int, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operator; `output` is the name of the one value that it makes."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Attribute]


@dataclass(slots=True)
class Graph:
    """Operators in the order in which they compute, and the constants that they use by name.

    `names` has the name of each module of the network, which its weights keep. Where statistics are `frozen`, layers
    take them instead of those of the picture.
    """

    names: Mapping[nn.Module, str]
    frozen: InOrder | None = None
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)

    def add(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        """Compute a value; returns its name, which depends on the operators before it alone."""
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(Node(operator=operator, inputs=inputs, output=output, attributes=attributes))
        return output

    @property
    def sees_all(self) -> bool:
        """Whether a value is taken of all of a picture."""
        everywhere = self.whole(*ROWS_AND_COLUMNS)
        return any(node.operator == "ReduceMean" and everywhere in node.inputs for node in self.nodes)

    def name_last(self, name: str) -> None:
        """Give the value that was added last another name."""
        self.nodes[-1] = replace(self.nodes[-1], output=name)

    def weight(self, module: nn.Module, role: str, tensor: Tensor) -> str:
        """A tensor of a module, or made from some, float32."""
        name = f"{self.names[module]}.{role}"
        self.constants[name] = tensor.detach().float().cpu().contiguous().numpy()
        return name

    def floats(self, *values: float) -> str:
        """A list of float32; one value goes with a map of any shape."""
        return self._constant("float", values, np.array(values, np.float32))

    def whole(self, *values: int) -> str:
        """A list of int64."""
        return self._constant("int", values, np.array(values, np.int64))

    def count(self, value: int) -> str:
        """An int64 that is no list."""
        return self._constant("count", (value,), np.array(value, np.int64))

    def _constant(self, kind: str, values: tuple[float, ...], array: NDArray[Any]) -> str:
        name = " ".join((kind, *map(repr, values)))
        self.constants[name] = array
        return name
