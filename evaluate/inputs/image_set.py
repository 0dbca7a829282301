"""Which pictures are compared: the real ones of a split and view, the baselines and the predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate.inputs.baselines import Baseline, Baselines, fit_baselines
from evaluate.inputs.predictions import PredictionFiles, take_folder, take_run
from evaluate.inputs.reading import digest_pixels, in_threads
from evaluate.protocol import FAKE, PROTOCOLS, Fakes, ProtocolName, Reference, resave, to_u8
from store.images import PictureU8
from store.reader import Store, Target, plan_targets
from store.schema import Split, Stain

REAL = "real"  # the real IHC pictures, beside the rows of a protocol
SetName = tuple[ProtocolName, str]  # a protocol, and one of its rows or REAL
Read = Callable[[int], PictureU8]  # a picture by its place in the order of the store, u8 [H,W,3]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Everything that a scoring compares: sets of pictures by protocol and row, each in the order of the store.

    `reads` says how to get the pictures of a set, `digests` has the sha256 of their pixels; `side` is theirs, px.
    Baselines are rows of both protocols, rounded or truncated as the translations are.
    """

    targets: Sequence[Target]
    side: int
    predictions: PredictionFiles
    baselines: Baselines
    reads: Mapping[SetName, Read]
    digests: Mapping[SetName, tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def rows(self) -> list[SetName]:
        """The sets that are compared with the real pictures of their protocol."""
        return [(protocol, row) for protocol, row in self.reads if row != REAL]


def gather(run: Path, pictures: Path | None, store: Store, split: Split, view: str) -> ImageSet:
    """The predictions of a run, or foreign `pictures`, and all that they are compared with.

    Every picture is read once and counts once. RunError or PictureError if one of the split is missing, damaged, of
    another size or not of the split.
    """
    targets = plan_targets(store, split, view)
    if pictures is None:
        predictions = take_run(run, store, split, view, targets)
    else:
        predictions = take_folder(pictures, store, view, targets)
    baselines = fit_baselines(store)

    def stored(stain: Stain) -> Read:
        return lambda place: store.picture(split, view, stain, targets[place].pair, targets[place].index)

    reads = dict(_reads(stored(Stain.HE), stored(Stain.IHC), baselines, predictions))
    return ImageSet(
        targets=targets,
        side=store.side(view),
        predictions=predictions,
        baselines=baselines,
        reads=reads,
        digests=_digest_all(reads, predictions, len(targets)),
    )


def _reads(he: Read, ihc: Read, baselines: Baselines, predictions: PredictionFiles) -> Iterator[tuple[SetName, Read]]:
    """How to get the pictures of each set, protocol by protocol: the real ones first, then the rows of the table."""
    for name, protocol in PROTOCOLS.items():
        yield (name, REAL), ihc if protocol.reference is Reference.STORED else _resaved(ihc)
        for baseline in baselines:
            yield (name, baseline.name), _translated(baseline, he, protocol.fakes)
        yield (name, FAKE), predictions.reader(protocol.fakes)


def _digest_all(
    reads: Mapping[SetName, Read], predictions: PredictionFiles, count: int
) -> dict[SetName, tuple[str, ...]]:
    """The sha256 of the pixels of every picture; those of predictions are known since they were checked."""
    known = {(name, FAKE): predictions.digests[protocol.fakes] for name, protocol in PROTOCOLS.items()}

    def digests(place: int) -> dict[SetName, str]:
        return {name: digest_pixels(read(place)) for name, read in reads.items() if name not in known}

    found = in_threads(digests, range(count), "reading the store")
    return {name: known[name] if name in known else tuple(one[name] for one in found) for name in reads}


def _resaved(ihc: Read) -> Read:
    return lambda place: resave(ihc(place))


def _translated(baseline: Baseline, he: Read, fakes: Fakes) -> Read:
    """A baseline's pictures, with the 8 bits that the protocol wants of translations."""
    return lambda place: to_u8(baseline.levels(he(place)), fakes)
