"""The generators as ONNX operators, layer by layer as in their `forward`.

PyTorch's exporter is not used: it takes seconds and its own library for a file whose names and bytes depend on their
versions, and it has no words for our autograd functions and operators.
"""

from __future__ import annotations

from torch import nn

from store.schema import RunError
from train.export.frozen import Frozen, InOrder
from train.export.graph import ROWS_AND_COLUMNS, Graph
from train.export.layers import (
    activated,
    blurred_down,
    blurred_up,
    convolved,
    dropped,
    linear,
    mean_and_peak,
    normalised,
    reflected,
)
from train.networks.ammfi import AMMFI, JOINS, ChannelAttention, Projection, SpatialAttention
from train.networks.layers import ResidualBlock, Stage, TappedStage
from train.networks.resnet import ResnetGenerator
from train.networks.unet import Level, UnetGenerator
from train.settings import Join

INPUT, OUTPUT = "he", "ihc"


def least_side(generator: nn.Module) -> int:
    """The least side of a picture that the generator takes, px."""
    multiple = known(generator).multiple
    return 2 * multiple if isinstance(generator, ResnetGenerator) else multiple


def translation(generator: nn.Module, frozen: Frozen | None = None) -> Graph:
    """`he`, signed [B,3,H,W] of any sides, to `ihc` of the same shape, by a generator in the mode it is in.

    With `frozen` statistics, else with those of each picture.
    Sides are mirrored on at the right and at the bottom to the multiples that the generator takes, and cut off again.
    Raises RunError for a layer that cannot be exported.
    """
    network = known(generator)
    graph = Graph(names={module: name for name, module in network.named_modules()})
    graph.frozen = None if frozen is None else InOrder(frozen)
    he = INPUT
    for axis in ROWS_AND_COLUMNS:
        he = _extended(graph, he, axis, network.multiple, least_side(network))
    fake = _resnet(graph, network, he) if isinstance(network, ResnetGenerator) else _unet(graph, network, he)
    sides = graph.add("Shape", INPUT, start=2)
    graph.add("Slice", graph.add("Tanh", fake), graph.whole(0, 0), sides, graph.whole(*ROWS_AND_COLUMNS))
    graph.name_last(OUTPUT)
    return graph


def known(generator: nn.Module) -> ResnetGenerator | UnetGenerator:
    """A generator that can be exported. Raises RunError for another."""
    if isinstance(generator, ResnetGenerator | UnetGenerator):
        return generator
    raise RunError(
        f"a network {type(generator).__name__} cannot be exported: train/export/networks.py does not know it"
    )


def _extended(graph: Graph, x: str, axis: int, multiple: int, least: int) -> str:
    """A picture mirrored on along an axis, as often as it takes: the operator Pad mirrors less than one side.

    Position i of the result is position last - |i mod (2 last) - last| of the picture.
    """
    zero, one, double = graph.count(0), graph.count(1), graph.count(2)
    last = graph.add("Sub", graph.add("Squeeze", graph.add("Shape", x, start=axis, end=axis + 1)), one)
    parts = graph.add("Div", graph.add("Add", last, graph.count(multiple)), graph.count(multiple))
    side = graph.add("Max", graph.add("Mul", parts, graph.count(multiple)), graph.count(least))
    period = graph.add("Max", graph.add("Mul", last, double), one)  # of a picture of one pixel: 1
    folded = graph.add("Mod", graph.add("Range", zero, side, one), period)
    places = graph.add("Sub", last, graph.add("Abs", graph.add("Sub", folded, last)))
    return graph.add("Gather", x, places, axis=axis)


def _resnet(graph: Graph, network: ResnetGenerator, he: str) -> str:
    """Before its tanh, [B,3,H,W]."""
    levels = [_stage(graph, network.stem, reflected(graph, he, network.stem_margin))]
    for halving in network.encoder:
        made = _stage(graph, halving, levels[-1])
        levels.append(blurred_down(graph, made) if network.blurred else made)
    x = levels[2]
    for block in network.blocks:
        x = _residual(graph, block, x)
    for level, doubling in zip((2, 1), network.decoder, strict=True):
        x = _interact(graph, network, level, levels[level], x)
        x = _stage(graph, doubling, blurred_up(graph, x) if network.blurred else x)
    x = _interact(graph, network, 0, levels[0], x)
    return convolved(graph, network.output, reflected(graph, x, network.output_margin))


def _stage(graph: Graph, stage: nn.Module, x: str) -> str:
    assert isinstance(stage, Stage | TappedStage)
    return activated(graph, stage.activation, normalised(graph, stage.norm, convolved(graph, stage.conv, x)))


def _residual(graph: Graph, block: nn.Module, x: str) -> str:
    assert isinstance(block, ResidualBlock)
    first = normalised(graph, block.first_norm, convolved(graph, block.first, reflected(graph, x, 1)))
    inner = dropped(block.dropout, graph.add("Relu", first))
    second = normalised(graph, block.second_norm, convolved(graph, block.second, reflected(graph, inner, 1)))
    return graph.add("Add", x, second)


def _unet(graph: Graph, network: UnetGenerator, he: str) -> str:
    """Before its tanh, [B,3,H,W]."""
    skips = [_level(graph, network.down[0], he)]
    for level in network.down[1:]:
        skips.append(_level(graph, level, skips[-1]))
    x = _level(graph, network.up[-1], skips.pop())
    for level, skip in zip(reversed(network.up[:-1]), reversed(skips), strict=True):
        x = _level(graph, level, graph.add("Concat", skip, x, axis=1))
    return x


def _level(graph: Graph, level: nn.Module, x: str) -> str:
    assert isinstance(level, Level)
    made = convolved(graph, level.conv, activated(graph, level.activation, x))
    return dropped(level.dropout, normalised(graph, level.norm, made))


def _interact(graph: Graph, network: ResnetGenerator, level: int, encoded: str, decoded: str) -> str:
    """AMMFI at a level that has one, eq. (1) to (3)."""
    if f"level{level}" not in network.attention:
        return decoded
    ammfi = network.attention[f"level{level}"]
    assert isinstance(ammfi, AMMFI)
    projections = ((ammfi.encoder_projection, encoded), (ammfi.decoder_projection, decoded))
    projected = graph.add("Concat", *(_projected(graph, part, feature) for part, feature in projections), axis=1)
    weighted = _weighted(graph, ammfi.channel_attention, projected)
    attended = _weighted(graph, ammfi.channel_attention, weighted) if ammfi.twice else weighted
    focused = graph.add("Mul", _seen(graph, ammfi.spatial_attention, attended), weighted)
    gate = graph.add("Sigmoid", convolved(graph, ammfi.gate_conv, focused))
    gated = graph.add("Mul", gate, encoded)
    if ammfi.concatenates:
        return graph.add("Concat", decoded, gated, axis=1)
    return graph.add("Add" if ammfi.join is JOINS[Join.ADD] else "Mul", decoded, gated)


def _projected(graph: Graph, projection: Projection, feature: str) -> str:
    conv, norm = projection
    made = normalised(graph, norm, convolved(graph, conv, feature))
    return graph.add("Relu", made) if projection.relu else made


def _weighted(graph: Graph, attention: ChannelAttention, features: str) -> str:
    first, activation, second = attention.perceptron
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    if graph.frozen is not None:
        factors = attention.gate(*graph.frozen.gate(first.in_features))[:, :, None, None]
        return graph.add("Mul", features, graph.weight(attention, f"factors_{len(graph.nodes)}", factors))
    found = (
        linear(graph, second, activated(graph, activation, linear(graph, first, pooled)))
        for pooled in mean_and_peak(graph, features, *ROWS_AND_COLUMNS, keepdims=0)  # [B,C]
    )
    weights = graph.add("Unsqueeze", graph.add("Sigmoid", graph.add("Add", *found)), graph.whole(*ROWS_AND_COLUMNS))
    return graph.add("Mul", weights, features)


def _seen(graph: Graph, attention: SpatialAttention, features: str) -> str:
    """[B,1,H,W] in (0,1)."""
    mean, peak = mean_and_peak(graph, features, 1, keepdims=1)
    return graph.add("Sigmoid", convolved(graph, attention.conv, graph.add("Concat", peak, mean, axis=1)))
