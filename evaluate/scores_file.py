"""`scores.json`: every number of a run and of the baselines, picture by picture, and what each was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluate.columns import MISSING, Agreement, Cell, Metric
from evaluate.protocol import FAKE, Network, Protocol, ProtocolName
from store.files import check_record, from_json, read_json, with_current_names, write_json
from store.run_files import PredictionFolder, RunFolder
from store.schema import FORBID_UNKNOWN, RunError, SchemaError, Split, check_name
from store.untrusted.names import text_fault
from store.untrusted.text import printable

SCORES_FORMAT = 3
SOFTWARE = ("lpips", "numpy", "scikit-image", "scipy", "torch", "torch-fidelity", "torchvision")
WHOLE = "x1"  # agreement of whole pictures
RENAMED = {"draws": "pairs_seen", "floors_view": "baselines_view", "floors_pictures": "baselines_pictures"}  # format 2
MISSING_IN_FORMAT_2 = "n/a: weights missing, run make weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealPicture:
    """One real IHC picture: the prediction's name, its slide; DAB: mean density, integral (OD px²), positive share."""

    name: str
    slide: str
    density: float
    integrated: float
    positive: float

    def __post_init__(self) -> None:
        check_name(self.name, "picture")
        if fault := text_fault(self.slide):
            raise SchemaError(f"slide {self.slide!r} of picture {self.name!r} {fault}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """One number per picture, in the order of `Scores.pictures`: paired metrics, and the DAB of the row's pictures."""

    metrics: dict[Metric, tuple[float, ...]]
    density: tuple[float, ...]
    integrated: tuple[float, ...]
    positive: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row under one protocol. `agreement` has a zoom's cells under x1, x2, x4; it is empty under `published`."""

    cells: dict[Metric, Cell]
    agreement: dict[str, dict[Agreement, Cell]]
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Misregistration:
    """Means of paired metrics when the real picture is shifted by each of `shifts` px, over `pictures` pictures.

    `perfect` compares the real picture with itself, `fake` the translation with it; all on the part that every shift
    leaves, `width` px wide.
    """

    shifts: tuple[int, ...]
    pictures: int
    width: int
    perfect: dict[Metric, tuple[float, ...]]
    fake: dict[Metric, tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """`scores.json`: a run and the baselines on the same pictures of one store.

    Scores of before have baselines under `corrected` only.

    `upscaler` made the views that the run was trained on, `views`; `baselines_view`, `baselines_pictures` say what the
    baselines were fitted on; `generator` is the sha256 of the generator's file; `networks` has the sha256 of each
    feature network, None where it was missing; `sets` the sha256 of each set of pictures; `source` is the folder of
    foreign pictures, None for a run's own; `predictions` is the sha256 of the `predictions.json` whose pictures were
    scored, `contents` those of their files, rounded. None elsewhere means not known. `leakage` says which of the
    pictures the run may have been trained on.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    format: int
    run: str
    method: str
    pairs_seen: int | None
    generator: str | None
    source: str | None
    store: str
    stain: str
    seal: str
    synthetic: bool
    upscaler: str
    split: Split
    view: str
    views: tuple[str, ...] | None
    protocols: dict[ProtocolName, Protocol]
    round_trip: str
    networks: dict[Network, str | None]
    software: dict[str, str]
    sets: dict[str, str]
    baselines_view: str
    baselines_pictures: int
    pictures: tuple[RealPicture, ...]
    misregistration: Misregistration
    rows: dict[ProtocolName, dict[str, Row]]
    leakage: tuple[str, ...] = ()
    predictions: str | None = None
    contents: tuple[str, ...] | None = None

    @property
    def slides(self) -> int:
        """The number of slides that the pictures come from."""
        return len({picture.slide for picture in self.pictures})

    def row(self, protocol: ProtocolName, name: str = FAKE) -> Row:
        """A row of one protocol."""
        return self.rows[protocol][name]


def write_scores(scores: Scores, folder: Path) -> Path:
    """Write `scores.json`, completely or not at all."""
    file = PredictionFolder(folder).scores
    write_json(file, scores)
    return file


def read_scores(run: Path, split: Split, view: str) -> Scores:
    """The scores of a run on its own store; errors as of `load_scores`."""
    of = "" if (split, view) == (Split.TEST, "tile") else f" --split {split} --view {view}"
    return load_scores(RunFolder(run).predictions(split, view), f"--run {run}{of}")


def load_scores(place: PredictionFolder, options: str) -> Scores:
    """Scores of this format or the one before; RunError if there are none or they are of another format.

    `options` are those of the command that makes them.
    """
    file, remedy = place.scores, f"make them with: python -m evaluate score {options}"
    if not file.is_file():
        raise RunError(f"no scores in {file.parent}; {remedy}")
    tree = _current(read_json(file, remedy))
    if tree.get("format") != SCORES_FORMAT:
        raise RunError(f"{file} has format {tree.get('format')}, this version reads 2 and {SCORES_FORMAT}; {remedy}")
    nothing = {"shifts": [], "pictures": 0, "width": 0, "perfect": {}, "fake": {}}
    facts = check_record(Scores, tree | {"rows": {}, "misregistration": nothing}, file, remedy)
    try:
        scores = replace(
            facts,
            rows={
                ProtocolName(protocol): {name: _row(row) for name, row in rows.items()}
                for protocol, rows in tree["rows"].items()
            },
            misregistration=_misregistration(tree["misregistration"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RunError(f"{file} is damaged (rows: {error!r}); {remedy}") from error
    return with_words(scores, printable)


def with_words(scores: Scores, change: Callable[[str], str]) -> Scores:
    """The same scores with every word that somebody chose changed, for a document that gives signs a meaning."""
    return replace(
        scores,
        run=change(scores.run),
        method=change(scores.method),
        store=change(scores.store),
        stain=change(scores.stain),
        upscaler=change(scores.upscaler),
        round_trip=change(scores.round_trip),
        software={change(name): change(version) for name, version in scores.software.items()},
        leakage=tuple(map(change, scores.leakage)),
    )


def _current(tree: dict[str, Any]) -> dict[str, Any]:
    """Scores under the names of this format; format 2 wrote "", 0 and [] where a value is not known."""
    if tree.get("format") != 2:
        return tree
    named = with_current_names(tree, unknown=("pairs_seen", "generator", "source"), renamed=RENAMED)
    networks, views = named.get("networks"), named.get("views")
    if isinstance(networks, dict):
        named["networks"] = {network: digest or None for network, digest in networks.items()}
    return named | {"format": SCORES_FORMAT, "views": views or None}


def _row(tree: Mapping[str, Any]) -> Row:
    """A row, number by number: `check_record` knows finite numbers only."""
    values = tree["values"]
    return Row(
        cells={Metric(name): _cell(cell) for name, cell in tree["cells"].items()},
        agreement={
            zoom: {key: _cell(cells[key]) if key in cells else Cell() for key in Agreement}
            for zoom, cells in tree["agreement"].items()
        },
        values=Values(
            metrics=_numbers(values["metrics"]),
            density=_sequence(values["density"]),
            integrated=_sequence(values["integrated"]),
            positive=_sequence(values["positive"]),
        ),
    )


def _cell(tree: Mapping[str, Any]) -> Cell:
    value, low, high, spread = (from_json(tree[name]) for name in ("value", "low", "high", "spread"))
    note = str(tree["note"])
    return Cell(value=value, low=low, high=high, spread=spread, note=MISSING if note == MISSING_IN_FORMAT_2 else note)


def _misregistration(tree: Mapping[str, Any]) -> Misregistration:
    return Misregistration(
        shifts=tuple(int(shift) for shift in tree["shifts"]),
        pictures=int(tree["pictures"]),
        width=int(tree["width"]),
        perfect=_numbers(tree["perfect"]),
        fake=_numbers(tree["fake"]),
    )


def _numbers(tree: Mapping[str, Any]) -> dict[Metric, tuple[float, ...]]:
    return {Metric(name): _sequence(values) for name, values in tree.items()}


def _sequence(values: list[Any]) -> tuple[float, ...]:
    return tuple(from_json(value) for value in values)
