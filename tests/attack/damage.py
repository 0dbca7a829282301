"""One damaged file of every kind that is written: the next command that reads it notices, or it does not matter."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.attack.alike import unlike
from tests.attack.recipes import BUILD, DEMO, FIRST, GATED, PREDICT, REPAIR, REPORT, SCORE, SEEDED, TABLE, Words
from tests.attack.verdict import Broken, Outcome, Verdict, require_orderly
from tests.attack.world import World, contents, plain_name

PROMISE = (
    "One damaged file of any kind: the next command ends with the same result, with one that it says it recovered, "
    "or with exit code 2 and a sentence"
)
VERIFY: Words = ("store", "verify", "store.zarr")
SHOW: Words = ("store", "show", "store.zarr")
INFO: Words = ("store", "info", "store.zarr")


@dataclass(frozen=True)
class Reader:
    """Commands that read a product; files that match `makes` are right if they end with 0. `finds` all damage."""

    commands: tuple[Words, ...]
    makes: str = ""
    finds: bool = False


@dataclass(frozen=True)
class Subject:
    """A product, what lies beside it, and who reads it."""

    name: str
    product: str
    beside: Words
    readers: tuple[Reader, ...]


def subjects(world: World) -> list[Subject]:
    """Everything that is written."""
    fit, gates = Reader((world.fit(),), makes="^run/(generator|run.json|settings)"), (*PREDICT, "--gates")
    pictures = "predictions.json|fake/|fake_truncated/"
    store = (Reader((VERIFY,), finds=True), Reader((REPAIR,), makes="^store"), Reader((SHOW,)), Reader((INFO,)), fit)
    return [
        Subject("tiles", "tiles", (), (Reader((BUILD,)),)),
        Subject("store", "store", ("tiles",), store),
        Subject("store under predictions", "store", (f"predicted:{FIRST}",), (Reader((PREDICT,)), Reader((SCORE,)))),
        Subject("unfinished store", "half_store", ("tiles",), (Reader((BUILD,), makes="^store"),)),
        Subject("unfinished store", "half_store", ("tiles",), (Reader((REPAIR,), makes="^store"),)),
        Subject("unfinished run", "half_run", ("store",), (fit,)),
        Subject("finished run", f"run:{FIRST}", ("store",), (fit, Reader((PREDICT,)), Reader((PREDICT, SCORE)))),
        Subject("predictions", f"predicted:{FIRST}", ("store",),
                (Reader((PREDICT,), makes=pictures), Reader((SCORE,)), Reader((PREDICT, SCORE), makes=pictures))),
        Subject("attention maps", f"predicted:{GATED}", ("store",),
                (Reader((gates,), makes="predictions.json|fake/|fake_truncated/|gates/"), Reader((SCORE, REPORT)))),
        Subject("scores", f"told:{FIRST}", ("store",),
                (Reader((TABLE,), makes="^out/"), Reader((REPORT,), makes="report.html"), Reader((SCORE,)))),
        Subject("features", f"features:{FIRST}", ("store", f"predicted:{FIRST}"), (Reader((SEEDED,)),)),
        Subject("weights", "weights", (), (Reader((world.fetch,), makes="^weights/"),)),
        Subject("demo", "demo", (), (Reader((DEMO,)),)),
    ]  # fmt: skip


def flip_bit(file: Path, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def change_byte(file: Path, chance: random.Random) -> None:
    data = bytearray(file.read_bytes())
    if data:
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    file.write_bytes(data)


def empty(file: Path, chance: random.Random) -> None:
    file.write_bytes(b"")


def halve(file: Path, chance: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def shorten(file: Path, chance: random.Random) -> None:
    """One byte less, of what says something: a record without its last newline is the same record."""
    data = file.read_bytes()
    file.write_bytes(data.removesuffix(b"\n")[:-1] if data.endswith(b"}\n") else data[:-1])


def zero(file: Path, chance: random.Random) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def remove(file: Path, chance: random.Random) -> None:
    file.unlink()


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (
    flip_bit, change_byte, empty, halve, shorten, zero, remove,
)  # fmt: skip


def kind_of(name: str) -> str:
    """The kind of a file: its name without numbers, digests, stains and splits.

    >>> kind_of("store.zarr/train/x2/ihc/c/0/0/0/0/0")
    'store.zarr/SPLIT/xN/STAIN/c/N'
    """
    name = re.sub(r"[0-9a-f]{16,}", "DIGEST", name)
    name = re.sub(r"s\d+_\d+_\d+", "ID", name)
    name = re.sub(r"\b(train|test|val)\b", "SPLIT", re.sub(r"\b(he|ihc)(?=\b|_)", "STAIN", name))
    return re.sub(r"N(/N)+", "N", re.sub(r"\d+", "N", name))


def case(world: World, place: Path, chance: random.Random, number: int) -> Verdict:
    """Damage one file: the products in turn, of each its kinds in turn, in an order that the seed decides."""
    chosen = subjects(world)
    subject = chosen[number % len(chosen)]
    names = files_in(world.tree(subject.product))
    kinds = sorted({kind_of(name) for name in names})
    random.Random(world.seed).shuffle(kinds)
    kind = kinds[number // len(chosen) % len(kinds)]
    world.lay(place, *subject.beside, subject.product)
    name = chance.choice([name for name in names if kind_of(name) == kind])
    harm, reader = chance.choice(DAMAGES), chance.choice(subject.readers)
    what = f"{subject.name}: {kind}"
    whole = world.undisturbed((*subject.beside, subject.product), *reader.commands)
    before, file = contents(place), place / name
    file.chmod(0o644)
    intact = file.read_bytes()
    harm(file, chance)
    if file.exists() and file.read_bytes() == intact:
        return Verdict(Outcome.SAME, what)
    with_context = f"{harm.__name__} of {name}"
    try:
        return Verdict(_judge(world, place, plain_name(name), reader, whole.left, before), what)
    except Broken as broken:
        raise Broken(f"{with_context}: {broken}", what) from broken


def files_in(folder: Path) -> list[str]:
    """The files below a folder, by name."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _judge(
    world: World, place: Path, name: str, reader: Reader, whole: dict[str, bytes], before: dict[str, bytes]
) -> Outcome:
    """Run the commands of a reader, and compare what they leave with what they leave without damage."""
    damaged, said = contents(place).get(name), ""
    for words in reader.commands:
        done = world.run(place, words)
        require_orderly(done, 0, 2)
        said += done.err
        if done.code == 2:
            return Outcome.REFUSED
    if reader.finds:
        raise Broken(f"`{' '.join(words)}` finds nothing")
    left = contents(place)
    mentioned = name.partition("/")[2] in said or Path(name).name in said or "damaged" in said
    wrong = []
    for other in unlike(whole, left):
        untouched = other == name and left.get(other) == damaged and not re.search(reader.makes or "^$", other)
        set_aside = other not in whole and mentioned and other.startswith(name.rpartition(".")[0])
        if not (untouched or set_aside or (mentioned and other == name and not _is_result(other))):
            wrong.append(other)
    if wrong:
        raise Broken(f"exit code 0 and another result ({', '.join(wrong[:4])}); it said: {said.strip()[-300:]}")
    return Outcome.RECOVERED if mentioned else Outcome.SAME


def _is_result(name: str) -> bool:
    """Whether a file is a result: numbers and pictures that are shown, not a log or a checkpoint."""
    return not re.search(r"metrics\.jsonl|samples/|checkpoints/|tensorboard/|MODEL_CARD", name)
