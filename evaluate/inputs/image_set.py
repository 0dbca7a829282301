"""Which pictures are compared: the real ones of a split and view, the baselines and the predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evaluate.inputs.baselines import Baseline, Baselines
from evaluate.inputs.predictions import PredictionFiles
from evaluate.inputs.reading import Read, Remembered
from evaluate.protocol import FAKE, PROTOCOLS, Fakes, ProtocolName, Reference, resave
from store.images import PictureU8
from store.reader import Store, Target
from store.schema import Split, Stain

REAL = "real"  # the real IHC pictures, beside the rows of a protocol
SetName = tuple[ProtocolName, str]  # a protocol, and one of its rows or REAL


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Everything that a scoring compares: sets of pictures by protocol and row, each in the order of the store.

    `reads` says how to get the pictures of a set, `digests` has the sha256 of their pixels; `side` is theirs, px.
    Baselines are rows of both protocols, rounded or truncated as the translations are. It can be sent to another
    process if its `reads` can.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPictures:
    """How to read the pictures of a stain from a store."""

    store: Store
    split: Split
    view: str
    stain: Stain
    targets: Sequence[Target]

    def __call__(self, place: int) -> PictureU8:
        """The picture of a place."""
        target = self.targets[place]
        return self.store.picture(self.split, self.view, self.stain, target.pair, target.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resaved:
    """Real pictures saved once more, as the ASP repository does."""

    ihc: Read

    def __call__(self, place: int) -> PictureU8:
        """The picture of a place."""
        return resave(self.ihc(place))


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """A baseline's pictures, with the 8 bits that a protocol wants of translations."""

    baseline: Baseline
    he: Read
    fakes: Fakes

    def __call__(self, place: int) -> PictureU8:
        """The picture of a place."""
        return self.baseline.picture(self.he(place), self.fakes)


def stored_sets(
    store: Store, split: Split, view: str, targets: Sequence[Target], baselines: Baselines
) -> dict[SetName, Read]:
    """How to read what depends on the store alone: the real pictures and the baselines' of each protocol, in its order.

    They can be sent to another process. A picture of the store is read once for all sets that are made from it.
    """
    he, ihc = (
        Remembered(StoredPictures(store=store, split=split, view=view, stain=stain, targets=targets))
        for stain in (Stain.HE, Stain.IHC)
    )
    sets: dict[SetName, Read] = {}
    for name, protocol in PROTOCOLS.items():
        sets[name, REAL] = ihc if protocol.reference is Reference.STORED else Resaved(ihc=ihc)
        for baseline in baselines:
            sets[name, baseline.name] = Translated(baseline=baseline, he=he, fakes=protocol.fakes)
    return sets


def assemble(
    store: Store,
    view: str,
    targets: Sequence[Target],
    baselines: Baselines,
    stored: Mapping[SetName, Read],
    digests: Mapping[SetName, tuple[str, ...]],
    predictions: PredictionFiles,
) -> ImageSet:
    """All sets, protocol by protocol in the order of the table; `digests` are those of the `stored` ones."""
    names = [*_in_order(stored)]
    own = {(name, FAKE): protocol.fakes for name, protocol in PROTOCOLS.items()}
    return ImageSet(
        targets=targets,
        side=store.side(view),
        predictions=predictions,
        baselines=baselines,
        reads={name: predictions.reader(own[name]) if name in own else stored[name] for name in names},
        digests={name: predictions.digests[own[name]] if name in own else digests[name] for name in names},
    )


def _in_order(stored: Mapping[SetName, Read]) -> Iterator[SetName]:
    """The real pictures of each protocol first, then the rows of the table."""
    for protocol in PROTOCOLS:
        yield from (name for name in stored if name[0] == protocol)
        yield protocol, FAKE
