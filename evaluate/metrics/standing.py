"""What depends on the store alone, the same for every run: the baselines, their numbers, the DAB of the real pictures.

It is kept in the cache folder, under the store's seal, split, view, the protocols, and what computed it: once that code
or a version of its packages changes, it is computed anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluate import protocol
from evaluate.columns import Metric
from evaluate.features.cache import features_key, load_bytes, save_bytes
from evaluate.inputs import baselines as fitting
from evaluate.inputs import image_set, reading
from evaluate.inputs.baselines import AffineColourMap, Baselines, ConstantColour, CopyHE, fit_baselines
from evaluate.inputs.image_set import SetName
from evaluate.inputs.reading import Read
from evaluate.metrics import dab, paired, pictures, ssim
from evaluate.metrics.dab import as_numbers, from_numbers
from evaluate.metrics.pictures import Measurement, PictureScores
from evaluate.parallel import in_parallel
from evaluate.protocol import PROTOCOLS, ProtocolName
from store.process import installed_versions
from store.reader import Store
from store.schema import Split
from store.stain import dab as deconvolution

CODE = (protocol, fitting, image_set, reading, dab, paired, pictures, ssim, deconvolution)  # what the numbers come from
PACKAGES = ("numpy", "opencv-python", "scikit-image")


def find_baselines(store: Store, cache: Path, workers: int) -> Baselines:
    """The baselines of a store, fitted on train or found in the cache."""
    tree = _kept(cache, ("baselines", store.manifest.seal), lambda: asdict(fit_baselines(store, workers)))
    affine = tree["affine"]
    first, second, third = (_colour(row) for row in affine["matrix"])
    return Baselines(
        copy=CopyHE(),
        constant=ConstantColour(colour=_colour(tree["constant"]["colour"])),
        affine=AffineColourMap(matrix=(first, second, third), offset=_colour(affine["offset"])),
        view=tree["view"],
        pictures=tree["pictures"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The scores of the baselines and the DAB of the real pictures, place by place."""

    places: Sequence[PictureScores]

    def digests(self) -> dict[SetName, tuple[str, ...]]:
        """The sha256 of the pixels of the pictures of each set, the real ones and the baselines', in their order."""
        return {name: tuple(one.digests[name] for one in self.places) for name in self.places[0].digests}


def find_standing(
    store: Store, split: Split, view: str, reads: Mapping[SetName, Read], count: int, cache: Path, workers: int
) -> Standing:
    """The standing numbers of the `count` pictures of a split and view, measured or found in the cache."""

    def measure() -> dict[str, Any]:
        work = Measurement(reads=reads, names=tuple(reads))
        side = store.side(view)
        places = in_parallel(work, range(count), "measuring the baselines", workers, side * side)
        return {"places": [_tree(place) for place in places]}

    choices = json.dumps({name: asdict(protocol) for name, protocol in PROTOCOLS.items()})
    tree = _kept(cache, ("standing", store.manifest.seal, split, view, choices), measure)
    return Standing(places=[_place(place) for place in tree["places"]])


def _kept(cache: Path, parts: Sequence[str], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was computed from these, found in the cache or computed and saved; JSON keeps every digit."""
    file = cache / f"{features_key(*parts, _origin())}.json"
    data = load_bytes(file)
    if data is None:
        data = json.dumps(compute()).encode()
        save_bytes(file, data)
    tree: dict[str, Any] = json.loads(data)
    return tree


def _origin() -> str:
    """The sha256 of the code that the numbers come from, and the versions of its packages."""
    sources = [Path(str(module.__file__)).read_bytes() for module in CODE]
    return hashlib.sha256(b"".join([*sources, json.dumps(installed_versions(PACKAGES)).encode()])).hexdigest()


def _tree(place: PictureScores) -> dict[str, Any]:
    """The scores of a place as plain values."""
    return {
        "metrics": [[*name, metrics] for name, metrics in place.metrics.items()],
        "dab": [[*name, as_numbers(stats)] for name, stats in place.dab.items()],
        "digests": [[*name, digest] for name, digest in place.digests.items()],
    }


def _place(tree: Mapping[str, Any]) -> PictureScores:
    """The inverse of `_tree`."""
    return PictureScores(
        metrics={
            (ProtocolName(protocol), row): {Metric(metric): value for metric, value in metrics.items()}
            for protocol, row, metrics in tree["metrics"]
        },
        dab={(ProtocolName(protocol), row): from_numbers(numbers) for protocol, row, numbers in tree["dab"]},
        digests={(ProtocolName(protocol), row): digest for protocol, row, digest in tree["digests"]},
    )


def _colour(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue
