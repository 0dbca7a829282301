"""What an exported file says of itself, in its metadata: words that a person without magstain needs."""

from __future__ import annotations

import json

from store.records.facts import read_facts
from store.run_files import RunFolder
from train.export.graph import Graph
from train.export.networks import known, least_side
from train.methods.registry import METHODS
from train.networks.reach import reach_of
from train.run.generator_file import GeneratorHeader, Trained

UNKNOWN = "not known"
RANGE = "-1 to 1, float32: a grey level of 0 to 255 is divided by 127.5, minus 1"
LAYOUT = "batch, 3 (red, green, blue), height, width"
LICENCE = (
    "the program that made this file is under Apache-2.0; the terms of use of the pictures that the generator was "
    "trained on also apply to this file and to anyone who receives it"
)


def describe(
    trained: Trained, folder: RunFolder, graph: Graph, version: str, *, without_dropout: bool
) -> dict[str, str]:
    """The metadata of a generator, exported by a version of magstain. Raises RunError for a damaged `run.json`."""
    header, method = trained.header, METHODS[trained.header.method]
    reach = -(-reach_of(known(trained.generator)) // trained.multiple) * trained.multiple
    return {
        "use": "Research only. Not for clinical use: a translation is an estimate, not a measurement.",
        "program": f"magstain {version}",
        "method": header.method,
        "source": f"{method.title} ({method.source})",
        "layout": LAYOUT,
        "range": RANGE,
        "sides": (
            f"any; they are mirrored on at the right and at the bottom to a multiple of {trained.multiple}, at least "
            f"{least_side(trained.generator)} px, and cut off again"
        ),
        "multiple": str(trained.multiple),
        "statistics": _statistics(graph, trained.multiple, reach),
        "reach": str(reach),
        "dropout": "off, unlike in `predict`" if without_dropout else "none",
        "mpp": json.dumps(header.mpp) if header.mpp else UNKNOWN,
        "view_side": UNKNOWN if header.view_side is None else str(header.view_side),
        "licence": LICENCE,
        "synthetic": _synthetic(header, folder),
        "generator_sha256": trained.digest,
    }


def _statistics(graph: Graph, multiple: int, reach: int) -> str:
    if graph.sees_all:
        return (
            "of each whole picture, so that tiles of a larger one show seams; `train export --statistics-from` does not"
        )
    frozen = "frozen" if graph.frozen is None else f"frozen, of the picture with sha256 {graph.frozen.frozen.source}"
    return (
        f"{frozen}: tiles fit together whose windows begin at multiples of {multiple} px, {reach} px around each tile"
    )


def _synthetic(header: GeneratorHeader, folder: RunFolder) -> str:
    """Whether the training data are drawn, which the run beside the generator knows: `true`, `false` or not known."""
    if not folder.facts.is_file():
        return UNKNOWN
    facts = read_facts(folder)
    return str(facts.synthetic).lower() if (facts.method, facts.seal) == (header.method, header.seal) else UNKNOWN
