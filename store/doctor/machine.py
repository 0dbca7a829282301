"""The machine: its processor, memory, the memory that processes share, weight files and caches, temporary files."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from store.disk.home import home
from store.doctor.findings import Finding, Level, first_line
from store.machine.cores import LIBRARIES, core_limits, count_cores
from store.machine.memory import spare_memory
from store.machine.shared_memory import MORE, SHARED, free_shared, room_for_batches, semaphore_bytes

GB = 1e9  # bytes
LITTLE = 4e9  # bytes of memory: a training step of the published size takes 3 to 4 GB on a CPU
WORKERS, BATCH = 2, 2 * 512**2 * 3  # reading processes and bytes of a batch, as by default
LONGEST_TEMPORARY = 60  # characters: sockets of processes lie below, and their paths have at most 107
FEATURES = "MAGSTAIN_FEATURES"  # what evaluation calls its cache


def look_at_cores(cpuinfo: Path = Path("/proc/cpuinfo")) -> Iterator[Finding]:
    """The processor, the cores of this process beside those of the machine, and its instructions for bf16."""
    text = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.exists() else ""
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = set((re.search(r"^flags\s*: (.*)$", text, re.MULTILINE) or [""])[0].split())
    yield Finding(name="cpu", text=model[1] if model else platform.machine())
    mine, all_of_them = count_cores(), os.cpu_count() or 1
    why = [limit.what for limit in core_limits() if limit.cores == mine] if mine < all_of_them else []
    yield Finding(name="cores", text=f"{mine} of the machine's {all_of_them}{f', by {why[0]}' if why else ''}")
    for variable in LIBRARIES[:1]:
        if (given := os.environ.get(variable, "")).isdecimal() and int(given) != mine:
            yield Finding(
                name="cores",
                text=f"{variable}={given}: libraries use so many threads, not {mine}",
                level=Level.NOTE,
                remedy="unset it if that is not meant",
            )
    names = [name for name, flag in (("AMX", "amx_bf16"), ("AVX-512", "avx512_bf16")) if flag in flags]
    yield Finding(name="bf16", text=f"instructions of {' and '.join(names)}" if names else "none: networks run in fp32")


def look_at_memory() -> Iterator[Finding]:
    """The memory that this process can still take."""
    if not (spare := spare_memory()):
        yield Finding(name="memory", text="the system does not say how much is free", level=Level.NOTE)
        return
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    text = f"{spare / GB:.1f} GB can still be taken, of the machine's {whole / GB:.0f} GB"
    if spare < LITTLE:
        remedy = "end other programs, or ask the scheduler or container for more"
        yield Finding(name="memory", text=text, level=Level.NOTE, remedy=remedy)
    else:
        yield Finding(name="memory", text=text)


def look_at_shared_memory() -> Iterator[Finding]:
    """The room for batches between processes."""
    free, needed = free_shared(), semaphore_bytes(WORKERS) + room_for_batches(WORKERS, BATCH)
    if not SHARED.is_dir():
        yield Finding(name="shm", text=f"this system has no {SHARED}")
        return
    text = (
        f"{SHARED} has {free / 1e6:,.0f} MB free; training at 512 px takes {needed / 1e6:,.0f} MB, larger batches more"
    )
    if free >= needed:
        yield Finding(name="shm", text=text)
    else:
        yield Finding(name="shm", text=f"{text}: it gets slower", level=Level.NOTE, remedy=MORE)


def look_at_weights() -> Iterator[Finding]:
    """The weight files of each package: present, right, missing."""
    from store.schema import WeightsError
    from store.weights import PACKAGES, WEIGHT_FILES, locate, weights_folder

    folder = weights_folder()
    for package in PACKAGES:
        files = [weight for weight in WEIGHT_FILES.values() if weight.package == package]
        present = [weight for weight in files if (folder / weight.name).is_file()]
        wrong = []
        for weight in present:
            try:
                locate(weight, folder)
            except WeightsError as error:
                wrong.append(weight.name)
                yield Finding(
                    name="weights", text=first_line(error), level=Level.PROBLEM, remedy="remove it, fetch it again"
                )
        size = sum(weight.size for weight in present) / 1e6
        text = f"{package}: {len(present)} of {len(files)} files, {size:,.0f} MB, in {folder}"
        if len(present) < len(files):
            command = "make weights" if package == PACKAGES[0] else f"make weights NAMES={package}"
            names = ", ".join(weight.name for weight in files if weight not in present)
            yield Finding(
                name="weights", text=f"{text}; missing: {names}", level=Level.NOTE, remedy=f"`{command}` fetches them"
            )
        elif not wrong:
            yield Finding(name="weights", text=f"{text}, digests right")


def look_at_caches() -> Iterator[Finding]:
    """Whether the caches of weights and features, and temporary files, can be written."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "magstain"
    for variable, name in (("MAGSTAIN_WEIGHTS", "weights"), (FEATURES, "features")):
        folder = Path(os.environ.get(variable) or cache / name)
        if fault := unwritable(folder):
            yield Finding(
                name="caches",
                text=f"{folder} cannot be written ({fault}): {name} are not kept",
                level=Level.NOTE,
                remedy=f"set {variable} to a folder that can be",
            )
        else:
            yield Finding(name="caches", text=f"{name}: {folder}")
    folder = Path(tempfile.gettempdir())  # raises FileNotFoundError if there is none
    if fault := unwritable(folder):
        yield Finding(
            name="temporary",
            text=f"{folder} cannot be written ({fault})",
            level=Level.PROBLEM,
            remedy="set TMPDIR to a folder that can be",
        )
    elif len(str(folder)) > LONGEST_TEMPORARY:
        yield Finding(
            name="temporary",
            text=f"{folder} has {len(str(folder))} characters, which may be too long for the sockets of processes",
            level=Level.NOTE,
            remedy="set TMPDIR to a shorter path, such as /tmp",
        )
    else:
        yield Finding(name="temporary", text=str(folder))


def unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder, which need not exist yet; "" if it can. Leaves nothing behind."""
    made: list[Path] = []
    try:
        for place in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
            place.mkdir()
            made.append(place)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return first_line(error.strerror or error)
    finally:
        for place in reversed(made):
            with suppress(OSError):  # somebody else uses it now
                place.rmdir()
