"""What is judged: the real pictures of a split and view, the floors, the candidate's pictures; each by its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluate.inputs.baselines import Floor, Floors, fit_floors
from evaluate.inputs.predictions import Candidate, take_folder, take_run
from evaluate.protocol import FAKE, PROTOCOLS, ProtocolName, Reference, resave
from store.images import PictureU8, read_picture
from store.reader import Store, Target, plan_targets
from store.schema import Split, Stain

Read = Callable[[int], PictureU8]  # a picture by its place in the order of the store, u8 [H,W,3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Everything that a scoring reads."""

    store: Store
    split: Split
    view: str
    targets: Sequence[Target]
    floors: Floors
    candidate: Candidate

    def real(self, stain: Stain, place: int) -> PictureU8:
        """A picture of the store."""
        target = self.targets[place]
        return self.store.picture(self.split, self.view, stain, target.pair, target.index)

    def reference(self, reference: Reference) -> Read:
        """The real IHC pictures as a protocol has them."""
        if reference is Reference.RESAVED:
            return lambda place: resave(self.real(Stain.IHC, place))
        return lambda place: self.real(Stain.IHC, place)

    def rows(self, protocol: ProtocolName) -> dict[str, Read]:
        """The pictures of each row of a protocol, the floors first; they are rows of `corrected` only."""
        files = self.candidate.files[PROTOCOLS[protocol].fakes]
        floors = self.floors if protocol is ProtocolName.CORRECTED else ()
        return {floor.name: self._floor(floor) for floor in floors} | {FAKE: lambda place: read_picture(files[place])}

    def _floor(self, floor: Floor) -> Read:
        return lambda place: floor.apply(self.real(Stain.HE, place))


def gather(run: Path, pictures: Path | None, store: Store, split: Split, view: str) -> Ground:
    """The predictions of a run, or foreign `pictures`, and what they are judged against; RunError or PictureError.

    Every picture of the split counts once: any that is missing, broken, of another size or too many is an error.
    """
    targets = plan_targets(store, split, view)
    if pictures is None:
        candidate = take_run(run, store, split, view, targets)
    else:
        candidate = take_folder(pictures, store, view, targets)
    return Ground(store=store, split=split, view=view, targets=targets, floors=fit_floors(store), candidate=candidate)
