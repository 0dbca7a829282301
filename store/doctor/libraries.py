"""Python, the packages that the toolkit asks for, and PyTorch with its GPUs.

Libraries are imported in processes of their own: one that crashes, or waits for ever, is a finding, not the end.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from store.doctor.findings import Finding, Level, first_line
from store.machine.cores import count_cores
from store.machine.gpus import driver_version
from store.process import UNKNOWN, installed_versions

ROOT = Path(__file__).parents[2]
PROJECT = "magstain"
NVIDIA = "`nvidia-smi` says more"
SETUP = "run `make setup`; if that says that all is there, remove .venv first"
EXTRAS = {"cluster": "Dask clusters need", "cloud": "object storage needs", "compact": "compact stores need"}
LOADED = ("numpy", "cv2", "PIL", "numcodecs", "google_crc32c", "zarr", "pydantic", "safetensors", "scipy")
LOADING = """
import json, warnings
warnings.simplefilter("ignore")
fault = ""
try:
    import {name}
except BaseException as error:
    fault = f"{{type(error).__name__}}: {{error}}".splitlines()[0]
print(json.dumps(fault))
"""
LOOKING = ("-m", "store.doctor.torch_facts")
PATIENCE = 180  # s: a first import over a network takes minutes
OPERATORS = {  # how a version compares with a number of the same length
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


def look_at_python() -> Iterator[Finding]:
    """The interpreter."""
    yield Finding(name="python", text=f"{platform.python_version()}, {sys.executable}")


def look_at_packages() -> Iterator[Finding]:
    """The version of each package against what the toolkit asks for, and whether those with compiled parts load."""
    wanted = _requirements()
    versions = installed_versions(name for names in wanted.values() for name in names)
    count = 0
    for extra, names in wanted.items():
        for name, ranges in names.items():
            version = versions[name]
            if version == UNKNOWN:
                yield _missing(name, extra)
            elif not satisfies(version, ranges):
                yield Finding(
                    name="packages", text=f"{name} {version}: asked for is {ranges}", level=Level.NOTE, remedy=SETUP
                )
            else:
                count += 1
    for name, fault in _faults().items():
        remedy = SETUP
        if name == "cv2":
            remedy = (
                "on Debian: apt install libgl1 libglib2.0-0 libxcb1; or install opencv-python-headless in its place"
            )
        yield Finding(name="packages", text=f"{name} cannot be loaded: {fault}", level=Level.PROBLEM, remedy=remedy)
    yield Finding(name="packages", text=f"{count} of {sum(map(len, wanted.values()))} are as the toolkit asks for")


def _faults() -> dict[str, str]:
    """Which packages cannot be loaded, and why; each is loaded in a process of its own, which it may end."""
    with ThreadPoolExecutor(count_cores()) as pool:
        faults = pool.map(_load, LOADED)
        return {name: fault for name, fault in zip(LOADED, faults, strict=True) if fault}


def _load(name: str) -> str:
    """Why a package cannot be loaded; empty if it can."""
    try:
        return str(_run("-c", LOADING.format(name=name)))
    except ValueError as error:
        return str(error)


def look_at_torch() -> Iterator[Finding]:
    """PyTorch, and each GPU: what it is, and whether it can be used."""
    try:
        facts = _run(*LOOKING)
    except ValueError as error:
        yield Finding(name="torch", text=f"cannot be loaded: {error}", level=Level.PROBLEM, remedy=SETUP)
        return
    build = (
        f"built for CUDA {facts['built']}, kernels for {' '.join(facts['archs'])}" if facts["built"] else "without CUDA"
    )
    yield Finding(name="torch", text=f"{facts['version']}, {build}; {facts['threads']} threads")
    if facts["torchvision"]:
        text = f"torchvision does not go with it: {facts['torchvision']}"
        yield Finding(name="torch", text=text, level=Level.PROBLEM, remedy=SETUP)
    for number, gpu in enumerate(facts["gpus"]):
        memory = f", {gpu['memory'] / 1e9:.0f} GB" if gpu["memory"] else ""
        text = f"cuda:{number} {gpu['name']}, {gpu['capability']}{memory}, driver {driver_version() or 'unknown'}"
        fault, _, remedy = gpu["fault"].partition("; ")
        if fault:
            yield Finding(name="gpu", text=f"{text}: {fault}", level=Level.PROBLEM, remedy=remedy or NVIDIA)
        else:
            yield Finding(name="gpu", text=text)
    if facts["unused"]:
        why, _, remedy = facts["unused"].partition("; ")
        yield Finding(name="gpu", text=why, level=Level.NOTE, remedy=remedy)
    elif not facts["gpus"]:
        yield Finding(
            name="gpu",
            text="none: all runs on the CPU, where the published training takes weeks",
            level=Level.NOTE,
            remedy="use a machine with an NVIDIA GPU for it; the demo and small runs need none",
        )


def satisfies(version: str, ranges: str) -> bool:
    """Whether a version is within all of the comma-separated ranges of a requirement; suffixes do not count.

    >>> satisfies("2.15.0+cu132", ">=2.11,<3"), satisfies("3.0.8", ">=3.1.6,<3.2"), satisfies("1.4.2", "==1.4.2")
    (True, False, True)
    """
    for operator, limit in re.findall(r"([<>=!~]+)\s*([^,\s]+)", ranges):
        mine, theirs = _numbers(version), _numbers(limit)
        length = max(len(mine), len(theirs))
        if not OPERATORS[operator](*(numbers + [0] * (length - len(numbers)) for numbers in (mine, theirs))):
            return False
    return True


def _numbers(version: str) -> list[int]:
    found = re.match(r"\d+(\.\d+)*", version)
    return [int(number) for number in found[0].split(".")] if found else []


def _missing(name: str, extra: str) -> Finding:
    if extra:
        return Finding(
            name="packages",
            text=f"{name} is not here, which {EXTRAS[extra]}",
            level=Level.NOTE,
            remedy=f"if you want them: {sys.executable} -m pip install '.[{extra}]'",
        )
    return Finding(name="packages", text=f"{name} is not here", level=Level.PROBLEM, remedy=SETUP)


def _requirements() -> dict[str, dict[str, str]]:
    """The ranges of versions by package, for the toolkit itself ("") and each extra that a user may want."""
    if (file := ROOT / "pyproject.toml").is_file():
        project: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        listed = {"": project["dependencies"]} | {extra: project["optional-dependencies"][extra] for extra in EXTRAS}
    else:
        listed = {extra: list[str]() for extra in ("", *EXTRAS)}
        for line in metadata.requires(PROJECT) or []:
            marked = re.search(r"extra == ['\"](\w+)['\"]", line)
            if (extra := marked[1] if marked else "") in listed:
                listed[extra].append(line)
    return {extra: dict(_parsed(line) for line in lines) for extra, lines in listed.items()}


def _parsed(line: str) -> tuple[str, str]:
    """The name and the ranges of a requirement.

    >>> _parsed("moto[s3]>=5.1,<6; extra == 'dev'")
    ('moto', '>=5.1,<6')
    """
    asked = re.sub(r"\[.*?\]", "", line.partition(";")[0])  # without extras and markers
    name = re.split(r"[^\w.-]", asked, maxsplit=1)[0]
    return name, asked.removeprefix(name).strip(" ()")


def _run(*words: str) -> Any:
    """What Python prints as JSON, given these words. Raises ValueError if it fails, crashes or takes too long."""
    try:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"nothing came in {PATIENCE} s; the disk that holds {sys.prefix} may hang") from error
    if done.returncode < 0:
        raise ValueError(f"its process was ended by signal {-done.returncode}")
    if done.returncode:
        raise ValueError(first_line(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"))
    if not done.stdout.strip():
        raise ValueError("its process ended without a word")
    return json.loads(done.stdout.strip().splitlines()[-1])
