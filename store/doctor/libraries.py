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
from importlib import metadata
from pathlib import Path
from typing import Any

from store.doctor.findings import Finding, Level, first_line
from store.machine.gpus import driver_version
from store.process import UNKNOWN, installed_versions

ROOT = Path(__file__).parents[2]
PROJECT = "magstain"
NVIDIA = "`nvidia-smi` says more"
SETUP = "run `make setup`; if that says that all is there, remove .venv first"
EXTRAS = {"cluster": "Dask clusters need", "cloud": "object storage needs", "compact": "compact stores need"}
LOADED = ("numpy", "cv2", "PIL", "numcodecs", "google_crc32c", "zarr", "pydantic", "safetensors", "scipy")
LOADING = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
faults = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        faults[name] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps(faults))
"""
LOOKING = """
import json, warnings
warnings.simplefilter("ignore")
import torch
from store.machine.gpus import check_gpus, refusal_of, start_gpu, unused_gpu
cuda = torch.cuda

def look(number):
    facts = {"name": "unknown", "capability": "unknown", "memory": 0, "fault": ""}
    try:
        facts["name"], facts["capability"] = cuda.get_device_name(number), "%d.%d" % cuda.get_device_capability(number)
        check_gpus(cuda, [number], "device = auto", "--set device=cpu")
        start_gpu(cuda, number, "device = auto", "--set device=cpu")
        facts["memory"] = cuda.get_device_properties(number).total_memory
    except Exception as error:
        facts["fault"] = str(error).splitlines()[0] if str(error) else type(error).__name__
    return facts

fault = ""
try:
    import torchvision
except Exception as error:
    fault = f"{type(error).__name__}: {error}".splitlines()[0]
usable = not refusal_of(cuda)
print(json.dumps({
    "version": torch.__version__,
    "built": torch.version.cuda or "",
    "archs": cuda.get_arch_list() if torch.version.cuda else [],
    "threads": torch.get_num_threads(),
    "torchvision": fault,
    "unused": unused_gpu(cuda, torch.version.cuda),
    "gpus": [look(number) for number in range(cuda.device_count())] if usable else [],
}))
"""
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
    """Which packages cannot be loaded, and why; one that ends the process, or hangs, is found by itself."""
    try:
        return dict(_run(LOADING, *LOADED))
    except ValueError:
        found: dict[str, str] = {}
        for name in LOADED:
            try:
                found |= _run(LOADING, name)
            except ValueError as error:
                found[name] = str(error)
        return found


def look_at_torch() -> Iterator[Finding]:
    """PyTorch, and each GPU: what it is, and whether it can be used."""
    try:
        facts = _run(LOOKING)
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
    for one in filter(None, (part.strip() for part in ranges.split(","))):
        operator, limit = re.fullmatch(r"([<>=!]=?)\s*(.*)", one).groups()  # type: ignore[union-attr]
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
    name, ranges = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*\(?([^;)]*)", line).groups()  # type: ignore[union-attr]
    return name, ranges.strip()


def _run(script: str, *words: str) -> Any:
    """What a Python script prints as JSON. Raises ValueError if it fails, crashes or takes too long."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
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
