"""The layers of the networks as ONNX operators: each function adds one to a graph, maps [B,C,H,W] in and out.

`x` and what is returned are names of values. A layer is exported in the mode it is in: batch norm in training mode,
and instance norm, normalise each picture by itself, as a translation of one picture does.
"""

from __future__ import annotations

from torch import Tensor, nn

from store.schema import RunError
from train.export.frozen import InOrder
from train.export.graph import ROWS_AND_COLUMNS, Attribute, Graph
from train.networks.norms import ROUNDING, BatchNorm, InstanceNorm
from train.networks.spectral_norm import SpectralConv2d

FLOAT = 1  # float32 among the types of ONNX


def convolved(graph: Graph, conv: nn.Module, x: str) -> str:
    """A convolution or a transposed one; spectral norm becomes part of the weight."""
    match conv:
        case SpectralConv2d(stride=stride, padding=padding):
            return _convolved(graph, conv, conv.normalised_weight(), x, strides=(stride,) * 2, pads=(padding,) * 4)
        case nn.Conv2d(padding=(int() as high, int() as wide)):
            return _convolved(graph, conv, conv.weight, x, strides=conv.stride, pads=(high, wide) * 2)
        case nn.ConvTranspose2d(padding=(int() as high, int() as wide)):
            facts: dict[str, Attribute] = {"strides": conv.stride, "output_padding": tuple(conv.output_padding)}
            return _convolved(graph, conv, conv.weight, x, "ConvTranspose", pads=(high, wide) * 2, **facts)
    raise _unknown(conv)


def _convolved(
    graph: Graph, conv: nn.Module, weight: Tensor, x: str, kind: str = "Conv", **attributes: Attribute
) -> str:
    inputs = [x, graph.weight(conv, "weight", weight)]
    if isinstance(conv.bias, Tensor):
        inputs.append(graph.weight(conv, "bias", conv.bias))
    return graph.add(kind, *inputs, kernel_shape=tuple(weight.shape[2:]), **attributes)


def normalised(graph: Graph, norm: nn.Module, x: str) -> str:
    """A norm of train/networks/norms.py, also what it makes of a map without variance."""
    match norm:
        case nn.Identity():
            return x
        case InstanceNorm():
            return _by_own_statistics(graph, norm, x, affine=isinstance(norm.weight, nn.Parameter))
        case BatchNorm(training=True):
            return _by_own_statistics(graph, norm, x, affine=True)
        case BatchNorm(running_mean=Tensor() as mean, running_var=Tensor() as variance):
            facts = {"weight": norm.weight, "bias": norm.bias, "running_mean": mean, "running_var": variance}
            inputs = (graph.weight(norm, role, tensor) for role, tensor in facts.items())
            return graph.add("BatchNormalization", x, *inputs, epsilon=norm.eps)
    raise _unknown(norm)


def _by_own_statistics(graph: Graph, norm: InstanceNorm | BatchNorm, x: str, *, affine: bool) -> str:
    """`normalise` for each picture: where the variance is rounding, the result is the bias.

    ONNX has an operator InstanceNormalization, which would make noise of such a map.
    """
    if graph.frozen is not None:
        return _by_frozen_statistics(graph, norm, x, graph.frozen)
    axes = graph.whole(*ROWS_AND_COLUMNS)
    mean = graph.add("ReduceMean", x, axes)  # [B,C,1,1]
    centred = graph.add("Sub", x, mean)
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes)
    positions = graph.add("Cast", graph.add("ReduceProd", graph.add("Shape", x, start=2), keepdims=0), to=FLOAT)
    unbiased = graph.add("Mul", variance, graph.add("Div", positions, graph.add("Sub", positions, graph.floats(1))))
    noise = graph.add("Mul", mean, graph.floats(ROUNDING))
    flat = graph.add("LessOrEqual", unbiased, graph.add("Mul", noise, noise))
    deviation = graph.add("Sqrt", graph.add("Add", variance, graph.floats(norm.eps)))
    scale = graph.add("Where", flat, graph.floats(0), graph.add("Reciprocal", deviation))
    if not affine:
        return graph.add("Mul", centred, scale)
    scale = graph.add("Mul", scale, graph.weight(norm, "weight", norm.weight[:, None, None]))
    return graph.add("Add", graph.add("Mul", centred, scale), graph.weight(norm, "bias", norm.bias[:, None, None]))


def _by_frozen_statistics(graph: Graph, norm: InstanceNorm | BatchNorm, x: str, frozen: InOrder) -> str:
    """The bias where a deviation is 0, as in `Given`. Epsilon is in the deviations."""
    mean, deviation = frozen.norm(len(norm.weight))
    varies = deviation > 0
    facts = {"weight": norm.weight * varies, "bias": norm.bias, "mean": mean, "variance": deviation**2 + ~varies}
    inputs = (graph.weight(norm, role, tensor) for role, tensor in facts.items())
    return graph.add("BatchNormalization", x, *inputs, epsilon=0.0)


def activated(graph: Graph, activation: nn.Module, x: str) -> str:
    """An activation, or none."""
    match activation:
        case nn.Identity():
            return x
        case nn.ReLU():
            return graph.add("Relu", x)
        case nn.LeakyReLU():
            return graph.add("LeakyRelu", x, alpha=float(activation.negative_slope))
    raise _unknown(activation)


def dropped(dropout: nn.Module, x: str) -> str:
    """Dropout that does nothing. Raises RunError for one that is active: its pictures are drawn at random."""
    if isinstance(dropout, nn.Dropout) and dropout.training and dropout.p:
        raise RunError(
            "the generator translates with active dropout (generator.at_test = training), which draws at random, and a "
            "file cannot draw the same; --without-dropout exports it with dropout off"
        )
    return x


def linear(graph: Graph, layer: nn.Linear, x: str) -> str:
    """[B,in] -> [B,out]."""
    weight, bias = graph.weight(layer, "weight", layer.weight), graph.weight(layer, "bias", layer.bias)
    return graph.add("Gemm", x, weight, bias, transB=1)


def reflected(graph: Graph, x: str, margin: int) -> str:
    """`reflect_pad`."""
    return graph.add("Pad", x, graph.whole(0, 0, margin, margin, 0, 0, margin, margin), mode="reflect")


def blurred_down(graph: Graph, x: str) -> str:
    """`blur_down`."""
    once = graph.add("AveragePool", reflected(graph, x, 1), kernel_shape=(2, 2))
    return graph.add("AveragePool", once, kernel_shape=(2, 2), strides=(2, 2))


def blurred_up(graph: Graph, x: str) -> str:
    """`blur_up`."""
    factors = graph.floats(1, 1, 2, 2)
    return graph.add("Resize", x, "", factors, mode="linear", coordinate_transformation_mode="half_pixel")


def mean_and_peak(graph: Graph, x: str, *axes: int, keepdims: int) -> tuple[str, str]:
    """Mean and maximum over some axes."""
    over = graph.whole(*axes)
    mean = graph.add("ReduceMean", x, over, keepdims=keepdims)
    return mean, graph.add("ReduceMax", x, over, keepdims=keepdims)


def _unknown(module: nn.Module) -> RunError:
    return RunError(f"a layer {type(module).__name__} cannot be exported: train/export/ does not know it; add it there")
