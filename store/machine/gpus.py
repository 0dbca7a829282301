"""NVIDIA GPUs: what says that one is here, why PyTorch cannot use it, and whether PyTorch has kernels for it.

PyTorch is not imported: callers hand in `torch.cuda` and `torch.version.cuda`. A compute capability is (major, minor).
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeAlias

from store.schema import SettingsError

Capability: TypeAlias = "tuple[int, int]"
VISIBLE = "CUDA_VISIBLE_DEVICES"
HIDDEN = ("", "-1", "none", "NoDevFiles")  # its values that name no GPU
GIVEN = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")  # Slurm's lists of the GPUs that a job has
JOB = "SLURM_JOB_ID"
NVIDIA, DISPLAY = "0x10de", "0x03"  # of PCI: the vendor, and the start of the classes of display controllers
DRIVERS = {"11": "450.80", "12": "525.60", "13": "580.65"}  # the oldest for a CUDA, by its release notes
CONTAINERS = "--gpus all (Apptainer: --nv, Kubernetes: a limit nvidia.com/gpu)"
NO_LIBRARY = "no NVIDIA driver"  # what PyTorch says
BUILDS = "https://pytorch.org/get-started/locally"
SHOWN = 200  # characters of what an error says
OTHER_ERRORS = ("OutOfMemoryError", "out of memory")  # said elsewhere, with what was computed


class Cuda(Protocol):
    """What is asked of `torch.cuda`."""

    def is_available(self) -> bool:
        """Whether there is a GPU that PyTorch can start."""
        ...

    def init(self) -> None:
        """Start CUDA; RuntimeError or AssertionError says why it cannot be."""
        ...

    def device_count(self) -> int:
        """The GPUs that this process sees."""
        ...

    def get_arch_list(self) -> list[str]:
        """What PyTorch has kernels for: `sm_75`, and `compute_90`, which later GPUs compile for themselves."""
        ...

    def get_device_capability(self, device: int, /) -> Capability:
        """The compute capability of a GPU."""
        ...

    def get_device_name(self, device: int, /) -> str:
        """What a GPU is called."""
        ...

    def synchronize(self, device: int, /) -> None:
        """Wait for a GPU, which starts it."""
        ...


def refusal_of(cuda: Cuda) -> str:
    """Why PyTorch can use no GPU, in its own words, whether there is one or not; "" if it can use one."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if cuda.is_available():
            return ""
        try:
            cuda.init()
        except (RuntimeError, AssertionError) as error:
            return str(error)
    return " ".join(str(one.message) for one in told) or "PyTorch finds no GPU"


def unused_gpu(cuda: Cuda, built: str | None, root: Path = Path("/")) -> str:
    """Why PyTorch uses no GPU although one seems to be here, and what to do; "" if it can, or if none seems to be here.

    `built` is the version of CUDA that PyTorch is built for, None or "" if none.
    """
    if not (words := refusal_of(cuda)):
        return ""
    signs, is_old = signs_of_gpu(os.environ, root), "too old" in words
    if not signs and not is_old:
        return ""
    here = f"a GPU is here ({', '.join(signs)})" if signs else "a GPU seems to be here"
    return f"{here}, but PyTorch cannot use it: {_why(words, built or '', root)}"


def signs_of_gpu(environment: Mapping[str, str], root: Path = Path("/")) -> list[str]:
    """What says that this machine, or this job, has an NVIDIA GPU: of a scheduler, the driver, else the bus."""
    signs = [f"{name}={environment[name]}" for name in GIVEN if environment.get(name)][:1]
    if count := len(_listed(root / "proc/driver/nvidia/gpus", "*")):
        signs.append(f"the driver lists {count}")
    elif nodes := _listed(root / "dev", "nvidia[0-9]*"):
        signs.append(f"/dev/{nodes[0].name}")
    elif not signs and any(_is_gpu(place) for place in _listed(root / "sys/bus/pci/devices", "*")):
        signs.append("on the PCI bus")
    return signs


def driver_version(root: Path = Path("/")) -> str:
    """The version of NVIDIA's driver that is loaded, such as 535.104.05; "" if none is."""
    found = re.search(r"\d{3,}\.\d+(\.\d+)?", _text(root / "proc/driver/nvidia/version"))
    return found[0] if found else ""


def needed_driver(built: str) -> str:
    """The oldest driver for a version of CUDA, such as 580.65 for 13.0; "" if it is not known."""
    return DRIVERS.get(built.partition(".")[0], "")


def has_kernels(capability: Capability, archs: Sequence[str]) -> bool:
    """Whether code for one of `archs` runs on a GPU: `sm_80` on 8.x from 8.0 on, `compute_80` on all from 8.0 on.

    True where no name is known, as of GPUs of other makers. An `a` at the end means this capability alone.

    >>> has_kernels((8, 6), ["sm_80"]), has_kernels((9, 0), ["sm_80"]), has_kernels((9, 0), ["compute_80"])
    (True, False, True)
    """
    parsed = [found for arch in archs if (found := re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch))]
    if not parsed:
        return True
    for kind, major, minor, suffix in (found.groups() for found in parsed):
        oldest = (int(major), int(minor))
        if capability == oldest or (
            suffix != "a" and capability > oldest and (kind == "compute" or capability[0] == oldest[0])
        ):
            return True
    return False


def check_gpus(cuda: Cuda, numbers: Iterable[int], asked: str, on_cpu: str) -> None:
    """Raise SettingsError if PyTorch has no kernels for one of the GPUs, or cannot say what it is.

    `asked` is the setting that chose them, `on_cpu` how the CPU is chosen instead.
    """
    archs = cuda.get_arch_list()
    for number in numbers:
        with _started(number, asked, on_cpu):
            capability, name = cuda.get_device_capability(number), cuda.get_device_name(number)
            if not has_kernels(capability, archs):
                raise SettingsError(
                    f"{asked}: this GPU is {_dotted(capability)}, this torch {_range(capability, archs)} (cuda:"
                    f"{number}, {name}, kernels for {' '.join(archs)}){_another(cuda, number, archs)}; install a "
                    f"build of PyTorch for it ({BUILDS}; those for an older CUDA have older GPUs), or use the CPU with "
                    f"{on_cpu}"
                )


def start_gpu(cuda: Cuda, number: int, asked: str, on_cpu: str) -> None:
    """Start a GPU, as its first use would. Raises SettingsError if it is broken, or another process has it alone."""
    with _started(number, asked, on_cpu):
        cuda.synchronize(number)


@contextmanager
def _started(number: int, asked: str, on_cpu: str) -> Iterator[None]:
    """Turn an error of CUDA at the first use of a GPU into a SettingsError; too little memory is said elsewhere."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        if any(sign in f"{type(error).__name__} {error}" for sign in OTHER_ERRORS):
            raise
        raise SettingsError(
            f"{asked}: cuda:{number} cannot be started ({_first(str(error))}); `nvidia-smi` says more; or use the CPU "
            f"with {on_cpu}"
        ) from error


def _why(words: str, built: str, root: Path) -> str:
    """Why no GPU can be used, and what to do; `words` are PyTorch's."""
    visible, driver = os.environ.get(VISIBLE), driver_version(root)
    if not built:
        return f"it is a build without CUDA; install one with it ({BUILDS})"
    if visible is not None and visible.strip() in HIDDEN:
        return f"{VISIBLE}={visible!r} hides it; unset that variable, or name the GPU in it"
    if "too old" in words:
        older = re.search(r"found version (\d+)(\d\d)\d", words)
        found = driver or (f"for CUDA {int(older[1])}.{int(older[2])}" if older else "")
        needed = needed_driver(built)
        return (
            f"NVIDIA's driver{f' {found}' * bool(found)} is too old for CUDA {built}, which it is built for and which "
            f"needs {f'driver {needed} or later' if needed else 'a later one'}; update the driver, or install a build "
            f"of PyTorch for an older CUDA ({BUILDS})"
        )
    if JOB in os.environ and not any(os.environ.get(name) for name in GIVEN):
        return "this Slurm job did not ask for one; start it with --gres=gpu:1"
    if visible:
        return f"{VISIBLE}={visible} names none that is here; correct or unset it"
    if not _listed(root / "dev", "nvidia[0-9]*"):
        why = "this container was not given it" if driver else "no NVIDIA driver is loaded"
        return f"{why}; {'' if driver else 'install one, or '}start the container with {CONTAINERS}"
    if NO_LIBRARY in words:
        return f"the library of NVIDIA's driver, libcuda.so.1, is not found; start the container with {CONTAINERS}"
    return f"{_first(words)}; `nvidia-smi` says more"


def _another(cuda: Cuda, number: int, archs: Sequence[str]) -> str:
    """Which other GPU can be used."""
    for other in range(cuda.device_count()):
        if other != number and has_kernels(cuda.get_device_capability(other), archs):
            return f"; cuda:{other} ({cuda.get_device_name(other)}) can be used: {VISIBLE}={other}"
    return ""


def _range(capability: Capability, archs: Sequence[str]) -> str:
    """From where or up to where PyTorch has kernels, whichever leaves out `capability`."""
    numbers = sorted((int(arch[:-1]), int(arch[-1])) for text in archs if (arch := re.sub(r"\D", "", text)))
    if capability < numbers[0]:
        return f"begins at {_dotted(numbers[0])}"
    return f"ends at {_dotted(numbers[-1])}" if capability > numbers[-1] else "leaves it out"


def _dotted(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"


def _first(words: str) -> str:
    """The first line of an error, without a full stop."""
    return words.strip().partition("\n")[0][:SHOWN].rstrip(". ")


def _listed(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _is_gpu(place: Path) -> bool:
    return _text(place / "vendor").strip() == NVIDIA and _text(place / "class").startswith(DISPLAY)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
