"""A trained generator and a store in, translated pictures out: each rounded, and truncated as published."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from store.cli import say
from store.disk.names import check_length
from store.files import disk_errors
from store.images import PictureU8
from store.reader import Store, Target, plan_targets
from store.records.exchange import exchange
from store.records.lock import held
from store.records.predictions import Predictions, load_predictions, place_of
from store.run_files import PredictionFolder, RunFolder
from store.schema import RunError, Split, Stain
from train.methods.registry import check_multiple
from train.run import picture_set
from train.run.generator_file import Trained, load_generator
from train.run.inference import Levels, batches_change_nothing, translate, translate_batch
from train.run.picture_set import Made
from train.runtime.beside import write_behind
from train.settings import Precision
from train.translate.engine import Stream, ready

LISTED = 5  # damaged pictures in a message
SEARCHED = 100  # pictures of a set for which a search of cuDNN's fastest algorithms pays, about 8 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """The folder with the pictures of a split and view, how many there are, and whether they existed before."""

    folder: Path
    pictures: int
    already_existed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a translation needs: the pictures of the store by name, and how they are drawn."""

    what: str
    targets: dict[str, Target]
    stream: Stream[Target, PictureU8, Tensor]

    def each(self, names: list[str]) -> Generator[tuple[str, Levels]]:
        """The pictures of the names as they are drawn. Raises Interrupted as the stream does."""
        with closing(self.stream.each([self.targets[name] for name in names], self.what, "picture")) as drawn:
            for target, signed in drawn:
                yield target.name, Levels.of(signed)


def predict(folder: RunFolder, store: Store, split: Split, view: str, device: str, batch: int = 1) -> Predicted:
    """Translate every picture of a split and view as a whole, in float32, `batch` in one pass if that changes no bit.

    Reading, PNG and the disk are beside the device. Spectral norm makes no more iterations; batch norm and dropout are
    as `generator.at_test` says, dropout seeded by the picture's place in the store. New predictions are made beside
    their place and replace older ones, together with their scores, when they are complete. An interrupted prediction is
    resumed; complete predictions of the same generator and store are kept, and their damaged pictures made again.
    Raises RunError, SettingsError, StoreError, and Interrupted when it was stopped.
    """
    trained = load_generator(folder.generator)
    targets = plan_targets(store, split, view)
    check_multiple(store.side(view), trained.multiple, f"the {view} pictures of {store.address}")
    plan = _plan_of(trained, store, split, view, targets)
    place = place_of(folder, store.manifest.name, store.manifest.seal, split, view)
    for target in targets:
        check_length(picture_set.mending(place).truncated / target.name)
    with disk_errors(place.path):
        place.path.parent.mkdir(parents=True, exist_ok=True)
    with held(place):
        picture_set.settle_set(place)
        damaged = _damaged(place, plan)
        if damaged:
            with _work(trained, store, split, view, device, batch) as work:
                if len(damaged) == len(targets) or not _mend(place, work, damaged):
                    _make(place, plan, work)
            picture_set.settle_set(place)
    return Predicted(folder=place.path, pictures=len(targets), already_existed=not damaged)


def _plan_of(trained: Trained, store: Store, split: Split, view: str, targets: list[Target]) -> Predictions:
    return Predictions(
        method=trained.header.method,
        seal=store.manifest.seal,
        split=split,
        view=view,
        pairs_seen=trained.header.pairs_seen,
        step=trained.header.step,
        upscaler=store.manifest.upscaler.name,
        synthetic=store.manifest.synthetic,
        generator=trained.digest,
        pictures=tuple(target.name for target in targets),
        views=trained.header.settings.data.views,
    )


@contextmanager
def _work(trained: Trained, store: Store, split: Split, view: str, device: str, batch: int) -> Iterator[Work]:
    """The generator on the device, ready to translate."""
    targets = plan_targets(store, split, view)
    seeds = {target.name: seed for seed, target in enumerate(targets)}

    def read(target: Target) -> PictureU8:
        return store.picture(split, view, Stain.HE, target.pair, target.index)

    with ready(trained, device, Precision.FP32, search=len(targets) >= SEARCHED) as network:
        generator, here = network.generator, network.compute.device
        if batch > 1 and not batches_change_nothing(generator, batch, (store.side(view),) * 2, here):
            say(f"{batch} pictures in one pass do not come out as they do one by one: they are translated one by one")
            batch = 1

        def draw(group: list[tuple[Target, PictureU8]]) -> list[Tensor]:
            """A full batch in one pass; fewer one by one, because that was not tried."""
            if 1 < len(group) == batch:
                return translate_batch(generator, [he for _, he in group], here)
            return [translate(generator, he, here, seed=seeds[target.name]) for target, he in group]

        kept = "the predictions so far are kept"
        stream = Stream(read=read, draw=draw, batch=batch, stop=network.stop, kept=kept)
        named = {target.name: target for target in targets}
        yield Work(what=f"translating {split}/{view}", targets=named, stream=stream)


def _damaged(place: PredictionFolder, plan: Predictions) -> list[str]:
    """The pictures of the plan that are not whole in their place; all of them if another set is there, or none."""
    with suppress(RunError):
        record = load_predictions(place, "")
        if record.plan == plan.plan:
            damaged = picture_set.damaged_pictures(place, record)
            if damaged:
                names = ", ".join(damaged[:LISTED]) + ", …" * (len(damaged) > LISTED)
                say(f"{len(damaged)} of {len(plan.pictures)} predictions are missing or damaged, made again: {names}")
            return damaged
    return list(plan.pictures)


def _mend(place: PredictionFolder, work: Work, damaged: list[str]) -> bool:
    """Make damaged pictures again; False where they do not come out as they were, as on another device."""
    record, mended = load_predictions(place, ""), picture_set.mending(place)
    picture_set.empty(mended)
    with write_behind(list[Made]().append) as behind, closing(work.each(damaged)) as drawn:
        for name, levels in drawn:
            behind.submit(partial(picture_set.write_picture, mended, name, levels))
    if [name for name in picture_set.damaged_pictures(mended, record) if name in damaged]:
        say("they do not come out as the record says (another device or version?): all pictures are made again")
        return False
    picture_set.put(mended, place, damaged)
    return True


def _make(place: PredictionFolder, plan: Predictions, work: Work) -> None:
    """Make a whole set beside its place, from where an earlier start was interrupted, and move it there."""
    new = picture_set.beside(place)
    made = picture_set.begin(new, plan)

    def write(name: str, levels: Levels) -> tuple[str, Made]:
        return name, picture_set.write_picture(new, name, levels)

    def note(written: tuple[str, Made]) -> None:
        name, made[name] = written
        picture_set.note(new, *written)

    left = [name for name in plan.pictures if name not in made]
    with write_behind(note) as behind, closing(work.each(left)) as drawn:
        for name, levels in drawn:
            behind.submit(partial(write, name, levels))
    picture_set.finish(new, plan, made)
    exchange(new.path, place.path)
