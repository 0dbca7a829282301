"""A set of predictions on disk: made beside its place, resumed after a kill, mended when damaged.

A journal beside the pictures says which are made, with the sha256 of their files: what a resumed set takes over is what
was written. The record is written when all pictures are on the disk.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from store.disk.removing import remove_file, remove_folder
from store.files import PARTIAL, digest_file, disk_errors, sync, sync_all, write_json
from store.images import load_picture, write_png
from store.records.exchange import aside, settle
from store.records.predictions import Predictions, load_predictions, read_gates
from store.run_files import PredictionFolder
from store.schema import PictureError, RunError
from train.run.inference import Levels

JOURNAL = "made.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The sha256 of both files of a picture."""

    rounded: str
    truncated: str


def files_of(folder: PredictionFolder, name: str) -> tuple[Path, Path]:
    """The rounded and the truncated file of a picture."""
    return folder.rounded / name, folder.truncated / name


def beside(place: PredictionFolder) -> PredictionFolder:
    """Where a set is made that will be in `place`."""
    return PredictionFolder(place.path.with_name(f"{place.path.name}{PARTIAL}"))


def mending(place: PredictionFolder) -> PredictionFolder:
    """Where damaged pictures of a set are made again; emptied at every start."""
    return PredictionFolder(place.path.with_name(f"{place.path.name}.mended{PARTIAL}"))


def write_picture(folder: PredictionFolder, name: str, levels: Levels) -> Made:
    """Write both files of a picture, once its device has computed it."""
    whole, cut = files_of(folder, name)
    write_png(whole, levels.rounded.cpu().numpy())
    write_png(cut, levels.truncated.cpu().numpy())
    return Made(rounded=digest_file(whole), truncated=digest_file(cut))


def begin(folder: PredictionFolder, plan: Predictions) -> dict[str, Made]:
    """The pictures that an earlier start of the same has made, by name; else the folder is made anew, and empty."""
    with suppress(RunError):
        if load_predictions(folder, "").plan == plan.plan:
            return {name: made for name, made in _journal(folder).items() if is_whole(folder, name, made)}
    empty(folder)
    write_json(folder.record, plan)
    return {}


def empty(folder: PredictionFolder) -> None:
    """Make an empty folder, whatever was there."""
    with disk_errors(folder.path):
        remove_folder(folder.path)
        folder.path.mkdir(parents=True)


def note(folder: PredictionFolder, name: str, made: Made) -> None:
    """Say in the journal that a picture is made."""
    with disk_errors(folder.path), (folder.path / JOURNAL).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps([name, made.rounded, made.truncated]) + "\n")


def _journal(folder: PredictionFolder) -> dict[str, Made]:
    """The pictures of the journal; a line that a kill left incomplete counts for nothing."""
    found = {}
    with suppress(FileNotFoundError):
        for line in (folder.path / JOURNAL).read_bytes().splitlines():
            with suppress(ValueError):
                name, whole, cut = json.loads(line)
                found[str(name)] = Made(rounded=str(whole), truncated=str(cut))
    return found


def finish(folder: PredictionFolder, plan: Predictions, made: dict[str, Made]) -> None:
    """Write the record of a set whose pictures are all made, once they are on the disk."""
    with disk_errors(folder.path):
        sync_all(file for name in plan.pictures for file in files_of(folder, name))
        digests = [made[name] for name in plan.pictures]
        record = replace(
            plan, rounded=tuple(one.rounded for one in digests), truncated=tuple(one.truncated for one in digests)
        )
        write_json(folder.record, record)
        remove_file(folder.path / JOURNAL)
        for leftover in folder.path.rglob(f"*{PARTIAL}"):  # of starts that were killed
            remove_file(leftover)


def is_whole(folder: PredictionFolder, name: str, made: Made) -> bool:
    """Whether both files of a picture are there and have their digests."""
    with suppress(OSError):
        return [digest_file(file) for file in files_of(folder, name)] == [made.rounded, made.truncated]
    return False


def damaged_pictures(place: PredictionFolder, record: Predictions) -> list[str]:
    """The names of pictures that are missing, or not as the record says; without digests: that cannot be read."""
    if record.rounded is None or record.truncated is None:
        return [name for name in record.pictures if not _can_be_read(place, name)]
    pairs = zip(record.pictures, record.rounded, record.truncated, strict=True)
    return [name for name, *both in pairs if not is_whole(place, name, Made(rounded=both[0], truncated=both[1]))]


def _can_be_read(place: PredictionFolder, name: str) -> bool:
    try:
        return all(load_picture(file).pixels.size for file in files_of(place, name))
    except PictureError:
        return False


def put(mended: PredictionFolder, place: PredictionFolder, names: list[str]) -> None:
    """Move pictures into a set, each in one step."""
    with disk_errors(place.path):
        sync_all(file for name in names for file in files_of(mended, name))
        for name in names:
            for file, target in zip(files_of(mended, name), files_of(place, name), strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
                sync(target.parent)


def settle_set(place: PredictionFolder) -> None:
    """End the exchange or mending of a set, also one that was killed; maps of the same generator are kept."""
    old = PredictionFolder(aside(place.path))
    with suppress(RunError), disk_errors(place.path):  # RunError: there are no maps, or they are damaged
        if not place.gates.exists() and read_gates(old).generator == load_predictions(place, "").generator:
            old.gates.rename(place.gates)
    with disk_errors(place.path):
        remove_folder(mending(place).path)
    settle(place.path)
