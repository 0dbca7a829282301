"""A graph as the bytes of an ONNX file, the same for the same graph and facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.schema import RunError, SettingsError
from train.export.graph import Graph
from train.export.networks import INPUT, OUTPUT

OPSET = 18  # of ONNX 1.13, and IR version 8 with it: onnxruntime reads both since 1.14, of February 2023
IR_VERSION = 8
LARGEST = 2**31 - 2**20  # bytes of the weights: protocol buffers hold 2 GiB
EXTRA = "pip install '.[export]' in the folder of magstain installs it, and so does `make setup`"


def encode(graph: Graph, facts: Mapping[str, str], producer: tuple[str, str]) -> bytes:
    """The file; `facts` become its metadata, and `producer` is a program with its version.

    Raises SettingsError where onnx is missing, RunError where the weights are too large for a file.
    """
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ModuleNotFoundError as error:
        raise SettingsError(f"export needs the library onnx, of the extra `export`: {EXTRA}") from error
    size = sum(array.nbytes for array in graph.constants.values())
    if size > LARGEST:
        raise RunError(
            f"the generator has {size / 2**30:.1f} GiB of weights, and an ONNX file holds less than 2: it cannot be "
            "exported"
        )
    shape: list[str | int | None] = ["batch", 3, "height", "width"]
    about = {INPUT: "H&E", OUTPUT: "the translation"}
    he, ihc = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape, f"{what}: {facts['layout']}; {facts['range']}")
        for name, what in about.items()
    )
    nodes = []
    for node in graph.nodes:
        attributes: dict[str, Any] = dict(node.attributes)
        nodes.append(helper.make_node(node.operator, node.inputs, [node.output], node.output, **attributes))
    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "translation", [he], [ihc], constants),
        producer_name=producer[0],
        producer_version=producer[1],
        opset_imports=[helper.make_operatorsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, dict(facts))
    data: bytes = model.SerializeToString(deterministic=True)
    return data
