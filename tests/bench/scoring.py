"""Scoring with every feature network against the straightforward way: one picture at a time, each network by itself.

Networks are of the real architectures with seeded parameters, pictures of 1024 px. The straightforward way takes the
packages as they come, in fp32, and looks at both pictures of every comparison. Both ways end at the same numbers, which
is checked. Time grows with the pairs but for FID's roots, so a few pairs tell what 64 take; `python -m
tests.bench.scoring 64` measures them all, which takes hours on two cores.
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

import lpips
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluate.columns import Metric
from evaluate.features.extract import to_unit
from evaluate.features.lpips import NETWORKS, Perceptual, Trunk, load_perceptual
from evaluate.features.networks import PREPARED, Pooled, pooled
from evaluate.features.weights import install
from evaluate.inputs.image_set import Ground, gather
from evaluate.metrics.dab import brown
from evaluate.metrics.fid_kid import Products, fid, kid, mmd
from evaluate.metrics.paired import psnr, ssim
from evaluate.protocol import ALL, PROTOCOLS, Network, Protocol, ProtocolName, Reading, Root
from evaluate.scores_file import Row
from evaluate.scoring.aggregate import PHV_LAYERS
from evaluate.scoring.per_image import judge_all
from evaluate.scoring.rows import Depth, picture_sets, score_rows
from prep.build.run import build
from prep.build.runner import Processes
from prep.tiles.pairs import Data
from store.reader import Store
from store.schema import Split
from tests.bench.pipeline import TILE, settings, write_pairs
from tests.support.feature_networks import loaded, parameters
from tests.support.predictions import fabricate

PAIRS, STATED, TRAIN = 2, 64, 1
TOLERANCE = 1e-4  # relative
Numbers = dict[tuple[ProtocolName, str, Metric], float]
Features = dict[tuple[ProtocolName, str, Reading, str], list[NDArray[np.float32]]]


class SeededNetworks:
    """Every network of the real architecture, prepared as `evaluate` does it."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        made = {network: parameters(network) for network in Network}
        self._pooled = {
            reading: one
            for network in {network for network, _ in PREPARED.values()}
            for reading, one in pooled(network, made[network], "seeded").items()
        }
        self._trunks = {trunk: load_perceptual(trunk, made[NETWORKS[trunk]], "seeded") for trunk in Trunk}
        for module in (*(one.maps for one in self._pooled.values()), *(one.trunk for one in self._trunks.values())):
            install(module, self.device)

    def digest(self, network: Network) -> str:
        return f"seeded {network}"

    def pooled(self, reading: Reading) -> Pooled:
        return self._pooled[reading]

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
            whole = lpips.LPIPS(net=trunk.value, pnet_rand=True, verbose=False)
        given = parameters(NETWORKS[trunk])
        whole.net.load_state_dict({name: given[f"features.{name.split('.', 1)[1]}"] for name in whole.net.state_dict()})
        return whole

    def layers(self, reading: Reading, unit: Tensor) -> list[Tensor]:
        """The spatial means of ResNet-50's layers."""
        net, found = self.resnet, []
        x = net.maxpool(net.relu(net.bn1(net.conv1(PREPARED[reading][1](unit)))))
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = layer(x)
            found.append(x.mean(dim=(2, 3))[0])
        return found

    def features(self, reading: Reading, unit: Tensor) -> NDArray[np.float32]:
        """The pooled features of an Inception."""
        network, prepare = PREPARED[reading]
        out = self.inceptions[network](prepare(unit))
        return np.asarray((out if out.ndim == 2 else out.mean(dim=(2, 3)))[0].numpy())


@torch.inference_mode()
def look(
    ground: Ground, plain: Plain
) -> tuple[Numbers, dict[tuple[ProtocolName, str, Reading, str], list[np.ndarray]]]:
    """Every comparison by itself: means of the paired metrics, and the features that the distances need."""
    numbers: Numbers = {}
    features: Features = {}
    for name, protocol in PROTOCOLS.items():
        real = ground.reference(protocol.reference)
        for row, fake in ground.rows(name).items():
            found: dict[Metric, list[float]] = {}
            for place in range(len(ground.targets)):
                for metric, value in paired(fake(place), real(place), protocol, plain).items():
                    found.setdefault(metric, []).append(value)
                for reading in dict.fromkeys((protocol.fid, protocol.kid)):
                    for side, read in (("fake", fake), ("real", real)):
                        feature = plain.features(reading, to_unit([read(place)], SeededNetworks.device))
                        features.setdefault((name, row, reading, side), []).append(feature)
                brown(fake(place))
                brown(real(place))
            numbers |= {(name, row, metric): float(np.mean(values)) for metric, values in found.items()}
    return numbers, features


def paired(fake: NDArray[np.uint8], real: NDArray[np.uint8], protocol: Protocol, plain: Plain) -> dict[Metric, float]:
    """All paired metrics of one picture."""
    one, two = (to_unit([picture], SeededNetworks.device) for picture in (fake, real))
    layers = [plain.layers(protocol.phv, unit) for unit in (one, two)]
    shares = [float(((a - b).abs() > protocol.phv_threshold).float().mean()) for a, b in zip(*layers, strict=True)]
    found = {Metric.SSIM: ssim(fake, real), Metric.PSNR: psnr(fake, real), Metric.PHV: float(np.mean(shares))}
    found |= dict(zip(PHV_LAYERS, shares, strict=True))
    for trunk, metric in ((Trunk.ALEX, Metric.LPIPS_ALEX), (Trunk.VGG, Metric.LPIPS_VGG)):
        found[metric] = float(plain.lpips[trunk](one, two, normalize=True))
    return found


def distances(features: Features) -> Numbers:
    """FID by the root that the protocol names, and KID, of every row."""
    numbers: Numbers = {}
    for name, row in dict.fromkeys((name, row) for name, row, _, _ in features):
        protocol = PROTOCOLS[name]
        fake, real = (np.stack(features[name, row, protocol.fid, side]) for side in ("fake", "real"))
        ones = np.ones(len(fake), dtype=np.int64)
        exact = protocol.fid_root is Root.SINGULAR
        numbers[name, row, Metric.FID] = Products.of(fake, real).fid(ones) if exact else fid(fake, real)
        fake, real = (np.stack(features[name, row, protocol.kid, side]) for side in ("fake", "real"))
        legacy = np.random.RandomState(protocol.kid_seed)
        drawn = mmd(fake, real) if protocol.kid_subset == ALL else kid(fake, real, legacy, protocol.kid_subset).mean()
        numbers[name, row, Metric.KID] = protocol.kid_scale * float(drawn)
    return numbers


def ours(ground: Ground, networks: SeededNetworks, cache: Path) -> dict[ProtocolName, dict[str, Row]]:
    """What `python -m evaluate score` does for the rows of its table, intervals included."""
    judged = judge_all(ground)
    return score_rows(ground, judged, picture_sets(ground, judged), Depth(networks=networks, cache=cache))


def compare(numbers: Numbers, rows: dict[ProtocolName, dict[str, Row]]) -> tuple[float, str]:
    """The largest relative difference, and where it is."""
    worst = 0.0, ""
    for (name, row, metric), value in numbers.items():
        other = rows[name][row].cells[metric].value
        worst = max(worst, (abs(value - other) / abs(value), f"{name}, {row}, {metric}: {value!r} and {other!r}"))
    return worst


def clock(call: Callable[[], object]) -> tuple[float, object]:
    """Seconds of a call, and what it returned."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


@contextmanager
def prepared(pairs: int) -> Iterator[tuple[Ground, Path]]:
    """A store of real tissue where there is any, its predictions with noise, and a folder for features."""
    with tempfile.TemporaryDirectory() as temporary, redirect_stderr(StringIO()):
        folder = Path(temporary)
        write_pairs(folder / "tiles", pairs + TRAIN, held_out=pairs)
        data = Data(he=folder / "tiles", ihc=folder / "tiles")
        build(settings(), data, folder / "store.zarr", skip_bad=False, processes=Processes(threads=1))
        store = Store.open(folder / "store.zarr")
        fabricate(folder / "run", store)
        yield gather(folder / "run", None, store, Split.TEST, "tile"), folder / "features"


def main() -> None:
    """Measure both ways and print the table."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    networks, plain = SeededNetworks(), Plain()
    with prepared(pairs) as (ground, cache):
        fast, rows = clock(lambda: ours(ground, networks, cache))
        again, _ = clock(lambda: ours(ground, networks, cache))
        slow, seen = clock(lambda: look(ground, plain))
        roots, ends = clock(lambda: distances(seen[1]))
    worst, where = compare(seen[0] | ends, rows)
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
