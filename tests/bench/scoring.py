"""Scoring with every feature network against the straightforward way: one picture at a time, each network by itself.

Networks are of the real architectures with seeded parameters, pictures of 1024 px. The straightforward way uses the
packages as they are, in fp32, and computes the features of both pictures of every comparison. Both ways give the same
numbers, which is checked. Time grows with the pairs except for FID's roots, so the time of 64 pairs follows from a few;
`python -m tests.bench.scoring 64` measures all of them, which takes hours on two cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TypeVar

import lpips
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluate.columns import PHV_LAYERS, Metric
from evaluate.features.extract import FeatureSource, extract, to_unit
from evaluate.features.lpips import TRUNK_METRIC, TRUNK_NETWORK, Perceptual, Trunk, load_perceptual
from evaluate.features.networks import PREPROCESS, Pooled, pooled
from evaluate.features.weights import install
from evaluate.inputs.image_set import REAL, ImageSet
from evaluate.metrics.dab import dab_stats
from evaluate.metrics.fid_kid import Products, fid, kid, mmd, whole_batches
from evaluate.metrics.paired import psnr, ssim
from evaluate.metrics.statistics import resample
from evaluate.protocol import ALL, PROTOCOLS, FeatureSpec, Network, Protocol, ProtocolName, Root
from evaluate.scores_file import Row
from evaluate.scoring.aggregate import compute_rows
from evaluate.scoring.gathering import gather
from evaluate.scoring.per_image import score_images
from prep.build.run import build
from prep.build.runner import Processes
from prep.tiles.discovery import Data
from store.reader import Store
from store.schema import Split
from tests.bench.pipeline import TILE, settings, write_pairs
from tests.support.feature_networks import loaded, parameters
from tests.support.predictions import fabricate

PAIRS, STATED, TRAIN = 2, 64, 1
TOLERANCE = 1e-4  # relative
T = TypeVar("T")
Numbers = dict[tuple[ProtocolName, str, Metric], float]
Vectors = dict[tuple[ProtocolName, str, FeatureSpec], list[NDArray[np.float32]]]


class SeededNetworks:
    """Every network of the real architecture, prepared as `evaluate` does it."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        made = {network: parameters(network) for network in Network}
        self._pooled = {
            spec: one
            for network in {its.network for its in PREPROCESS.values()}
            for spec, one in pooled(network, made[network], "seeded").items()
        }
        self._trunks = {trunk: load_perceptual(trunk, made[TRUNK_NETWORK[trunk]], "seeded") for trunk in Trunk}
        for module in (*(one.maps for one in self._pooled.values()), *(one.trunk for one in self._trunks.values())):
            install(module, self.device)

    def digest(self, network: Network) -> str:
        return f"seeded {network}"

    def pooled(self, spec: FeatureSpec) -> Pooled:
        return self._pooled[spec]

    def perceptual(self, trunk: Trunk) -> Perceptual:
        return self._trunks[trunk]


class Plain:
    """The same networks as their packages have them."""

    def __init__(self) -> None:
        self.resnet, inception = loaded(Network.RESNET), loaded(Network.INCEPTION)
        inception.fc = nn.Identity()
        self.inceptions = {Network.INCEPTION: inception, Network.PORTED_INCEPTION: loaded(Network.PORTED_INCEPTION)}
        self.lpips = {trunk: self._lpips(trunk) for trunk in Trunk}

    @staticmethod
    def _lpips(trunk: Trunk) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            whole: nn.Module = lpips.LPIPS(net=trunk.value, pnet_rand=True, verbose=False)
        given = parameters(TRUNK_NETWORK[trunk])
        net = whole.get_submodule("net")
        net.load_state_dict({name: given[f"features.{name.split('.', 1)[1]}"] for name in net.state_dict()})
        return whole

    def layers(self, spec: FeatureSpec, unit: Tensor) -> list[Tensor]:
        """The spatial means of ResNet-50's layers."""
        x, found = PREPROCESS[spec].prepare(unit), []
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            x = self.resnet.get_submodule(name)(x)
            if name.startswith("layer"):
                found.append(x.mean(dim=(2, 3))[0])
        return found

    def vector(self, spec: FeatureSpec, unit: Tensor) -> NDArray[np.float32]:
        """The pooled features of an Inception."""
        its = PREPROCESS[spec]
        out = self.inceptions[its.network](its.prepare(unit))
        return np.asarray((out if out.ndim == 2 else out.mean(dim=(2, 3)))[0].numpy())


@torch.inference_mode()
def compare_all(images: ImageSet, plain: Plain) -> tuple[Numbers, Vectors]:
    """Every comparison by itself: means of the paired metrics, and the vectors that the distances need.

    The real pictures' vectors are computed again for each row, under the row `ROW, real`.
    """
    numbers: Numbers = {}
    vectors: Vectors = {}
    for name, row in images.rows:
        protocol = PROTOCOLS[name]
        fake, real = images.reads[name, row], images.reads[name, REAL]
        found: dict[Metric, list[float]] = {}
        for place in range(len(images)):
            for metric, value in paired(fake(place), real(place), protocol, plain).items():
                found.setdefault(metric, []).append(value)
            for spec in dict.fromkeys((protocol.fid, protocol.kid)):
                for side, read in ((row, fake), (of_real(row), real)):
                    vector = plain.vector(spec, to_unit([read(place)], SeededNetworks.device))
                    vectors.setdefault((name, side, spec), []).append(vector)
            dab_stats(fake(place))
            dab_stats(real(place))
        numbers |= {(name, row, metric): float(np.mean(values)) for metric, values in found.items()}
    return numbers, vectors


def of_real(row: str) -> str:
    """The name of the real pictures' vectors that a row is compared with."""
    return f"{row}, {REAL}"


def paired(fake: NDArray[np.uint8], real: NDArray[np.uint8], protocol: Protocol, plain: Plain) -> dict[Metric, float]:
    """All paired metrics of one picture."""
    one, two = (to_unit([picture], SeededNetworks.device) for picture in (fake, real))
    layers = [plain.layers(protocol.phv, unit) for unit in (one, two)]
    shares = [float(((a - b).abs() > protocol.phv_threshold).float().mean()) for a, b in zip(*layers, strict=True)]
    found = {Metric.SSIM: ssim(fake, real), Metric.PSNR: psnr(fake, real), Metric.PHV: float(np.mean(shares))}
    found |= dict(zip(PHV_LAYERS, shares, strict=True))
    for trunk, metric in TRUNK_METRIC.items():
        found[metric] = float(plain.lpips[trunk](one, two, normalize=True))
    return found


def distances(rows: list[tuple[ProtocolName, str]], vectors: Vectors) -> Numbers:
    """FID by the root that the protocol names, and KID, of every row."""
    numbers: Numbers = {}
    for name, row in rows:
        protocol = PROTOCOLS[name]
        fake, real = (np.stack(vectors[name, side, protocol.fid]) for side in (row, of_real(row)))
        ones = np.ones(len(fake), dtype=np.int64)
        exact = protocol.fid_root is Root.SINGULAR
        numbers[name, row, Metric.FID] = Products.of(fake, real).fid(ones) if exact else fid(fake, real)
        fake, real = (np.stack(vectors[name, side, protocol.kid]) for side in (row, of_real(row)))
        numbers[name, row, Metric.KID] = protocol.kid_scale * kid_of(fake, real, protocol)
    return numbers


def kid_of(fake: NDArray[np.float32], real: NDArray[np.float32], protocol: Protocol) -> float:
    """KID as the protocol has it, unscaled."""
    if protocol.kid_subset == ALL:
        return mmd(fake, real)
    kept = whole_batches(len(real), protocol.kid_batch)
    fake, real = fake[:kept], real[:kept]
    legacy = np.random.RandomState(protocol.kid_seed)
    return float(kid(fake, real, legacy, subsets=protocol.kid_subsets, subset=protocol.kid_subset).mean())


def ours(
    run: Path, store: Store, networks: SeededNetworks, cache: Path
) -> tuple[ImageSet, dict[ProtocolName, dict[str, Row]]]:
    """The rows of `python -m evaluate score`, intervals included: gather, extract, compute."""
    images, standing = gather(run, None, store, Split.TEST, "tile", cache)
    features = extract(images, FeatureSource(networks=networks, cache=cache))
    samples = resample([target.slide for target in images.targets])
    return images, compute_rows(images.rows, score_images(images, standing, features), features, samples)


def compare(numbers: Numbers, rows: dict[ProtocolName, dict[str, Row]]) -> tuple[float, str]:
    """The largest relative difference, and where it is."""
    worst = 0.0, ""
    for (name, row, metric), value in numbers.items():
        other = rows[name][row].cells[metric].value
        worst = max(worst, (abs(value - other) / abs(value), f"{name}, {row}, {metric}: {value!r} and {other!r}"))
    return worst


def clock(call: Callable[[], T]) -> tuple[float, T]:
    """Seconds of a call, and what it returned."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


@contextmanager
def prepared(pairs: int) -> Iterator[tuple[Path, Store, Path]]:
    """A run of predictions with noise, its store (of real tissue where there is any), and a folder for features."""
    with tempfile.TemporaryDirectory() as temporary, redirect_stderr(StringIO()):
        folder = Path(temporary)
        write_pairs(folder / "tiles", pairs + TRAIN, held_out=pairs)
        data = Data(he=folder / "tiles", ihc=folder / "tiles")
        build(settings(), data, folder / "store.zarr", skip_bad=False, processes=Processes(threads=1))
        store = Store.open(folder / "store.zarr")
        fabricate(folder / "run", store)
        yield folder / "run", store, folder / "features"


def main() -> None:
    """Measure both ways and print the table."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    networks, plain = SeededNetworks(), Plain()
    with prepared(pairs) as (run, store, cache):
        fast, (images, rows) = clock(lambda: ours(run, store, networks, cache))
        again, _ = clock(lambda: ours(run, store, networks, cache))
        slow, (numbers, vectors) = clock(lambda: compare_all(images, plain))
        roots, ends = clock(lambda: distances(images.rows, vectors))
    worst, where = compare(numbers | ends, rows)
    print(f"{pairs} pairs of {TILE} px, {torch.get_num_threads()} threads, torch {torch.__version__}, fp32\n")
    print(f"| way | s a pair | once, s (FID's root) | {STATED} pairs, min | times as fast |")
    print("|---|--:|--:|--:|--:|")
    straightforward = STATED * slow / pairs + roots
    ways = {"straightforward": slow / pairs, "here": (fast - roots) / pairs, "here, again": (again - roots) / pairs}
    for way, each in ways.items():
        whole = STATED * each + roots
        print(f"| {way} | {each:.1f} | {roots:.1f} | {whole / 60:.0f} | {straightforward / whole:.2f} |")
    print(f"\nLargest relative difference of a number: {worst:.1e} ({where})")
    if worst > TOLERANCE:
        sys.exit(f"the two ways differ by more than {TOLERANCE}")


if __name__ == "__main__":
    main()
