"""Which scores may be in one table: same real pictures, same protocols; and what else differs between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise

from evaluate.columns import PHV_LAYERS, Metric, list_heads
from evaluate.inputs.image_set import REAL
from evaluate.protocol import PROTOCOLS, Network, Protocol, ProtocolName
from evaluate.scores_file import Scores
from store.schema import RunError

PACKAGE_METRICS = {  # the numbers that each package computes
    "lpips": "LPIPS",
    "numpy": "all numbers",
    "scikit-image": "SSIM, PSNR, DAB",
    "scipy": "FID, KID intervals, DAB Spearman, paired tests",
    "torch": "PHV, LPIPS, FID, KID",
    "torch-fidelity": "FID, KID",
    "torchvision": "PHV, LPIPS, KID",
}
NETWORK_METRICS: dict[Network, tuple[Metric, ...]] = {  # the columns that depend on each network, under any protocol
    Network.ALEX: (Metric.LPIPS_ALEX,),
    Network.VGG: (Metric.LPIPS_VGG,),
    Network.RESNET: (*PHV_LAYERS, Metric.PHV),
    Network.PORTED_INCEPTION: (Metric.FID, Metric.KID),
    Network.INCEPTION: (Metric.KID,),
}


def require_comparable(runs: Sequence[Scores]) -> None:
    """RunError unless all runs have their own names and were scored on the same real pictures by the same protocols."""
    first = runs[0]
    names = [scores.run for scores in runs]
    for other in runs[1:]:
        if _data(first) != _data(other):
            raise RunError(
                f"runs {first.run!r} and {other.run!r} were not scored on the same pictures "
                f"({', '.join(_data(first))} and {', '.join(_data(other))}); make a table for each"
            )
        if _real(first) != _real(other):
            raise RunError(
                f"runs {first.run!r} and {other.run!r} were not scored on the same pictures: the real ones have other "
                f"names, slides or pixels ({_counted(first)} and {_counted(other)}); {_again(other)}"
            )
        if differing := protocol_differences(first.protocols, other.protocols):
            raise RunError(
                f"runs {first.run!r} and {other.run!r} were scored by different protocols: {'; '.join(differing)}; "
                f"{_again(other)}"
            )
    if len(set(names)) < len(names):
        raise RunError(f"two runs have the same name ({', '.join(names)}); give each run once, under its own name")


def protocol_differences(one: dict[ProtocolName, Protocol], two: dict[ProtocolName, Protocol]) -> list[str]:
    """Each choice that differs, as `published: kid_subsets 100 and 50`."""
    found = []
    for name in ProtocolName:
        first, second = (asdict(protocols[name]) if name in protocols else {} for protocols in (one, two))
        found += [
            f"{name}: {choice} {_said(first.get(choice))} and {_said(second.get(choice))}"
            for choice in {**first, **second}
            if first.get(choice) != second.get(choice)
        ]
    return found


def _said(choice: object) -> str:
    """A choice as it is printed; scores that are older than a choice have an empty one."""
    return "unknown" if choice == "" else str(choice)


def provenance_notes(runs: Sequence[Scores]) -> list[str]:
    """What differs between runs that may be in one table, or between them and this version, and which numbers it is."""
    found = [
        f"scored by other protocols than those of this version: {difference} (then and now)"
        for difference in protocol_differences(runs[0].protocols, PROTOCOLS)
    ]
    for package in dict.fromkeys(package for scores in runs for package in scores.software):
        versions = {scores.run: scores.software.get(package, "unknown") for scores in runs}
        if len(set(versions.values())) > 1:
            said = ", ".join(f"{version} ({run})" for run, version in versions.items())
            found.append(
                f"runs were scored with different versions of {package}: {said}; "
                f"this may change {PACKAGE_METRICS.get(package, 'their numbers')}"
            )
    for network in Network:
        digests = {scores.run: digest for scores in runs if (digest := scores.networks.get(network))}
        if any(one != two for one, two in pairwise(digests.values())):
            said = ", ".join(f"{digest[:12]} ({run})" for run, digest in digests.items())
            found.append(
                f"runs were scored with different weights of {network}, sha256 {said}: "
                f"{list_heads(NETWORK_METRICS[network])} cannot be compared between them"
            )
    return found


def _data(scores: Scores) -> tuple[str, ...]:
    return scores.store, f"seal {scores.seal[:12]}", f"{scores.split}/{scores.view}"


def _real(scores: Scores) -> tuple[list[tuple[str, str]], dict[ProtocolName, str | None]]:
    """The names and slides of the real pictures, and the sha256 of their set as each protocol has it."""
    names = [(picture.name, picture.slide) for picture in scores.pictures]
    return names, {protocol: scores.sets.get(f"{protocol}: {REAL}") for protocol in ProtocolName}


def _counted(scores: Scores) -> str:
    digest = scores.sets.get(f"{ProtocolName.CORRECTED}: {REAL}") or "unknown"
    return f"{len(scores.pictures)} pictures, sha256 {digest[:12]}"


def _again(scores: Scores) -> str:
    return f"score again: `python -m evaluate score` with the folder of {scores.run!r}"
