"""The doctor: what it finds on a machine and a disk that are well, and on each kind that is not; nothing stays."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from store.doctor import disk, libraries, machine, run, trial
from store.doctor.__main__ import main, python_fault
from store.doctor.disk import file_system, look_at_folder
from store.doctor.findings import Finding, Level, ask, write_page
from store.doctor.libraries import look_at_packages, look_at_torch
from store.doctor.machine import look_at_caches, look_at_cores, look_at_memory, look_at_shared_memory, look_at_weights
from store.process import UNKNOWN, installed_versions
from store.weights import WEIGHT_FILES
from tests.support.command_line import CommandLine
from tests.support.disks import fill, read_only
from tests.support.places import ROOT

GPU = {"name": "NVIDIA H100", "capability": "9.0", "memory": 85e9, "fault": ""}
TORCH = {
    "version": "2.15.0",
    "built": "13.0",
    "archs": ["sm_75", "sm_90"],
    "threads": 2,
    "torchvision": "",
    "unused": "",
    "gpus": [],
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that writes for a moment, however slowly."""
    monkeypatch.setattr(trial, "SPAN", 0.01)
    monkeypatch.setattr(trial, "SLOW", 0)


@pytest.fixture
def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the folder is looked at: importing libraries takes seconds."""
    monkeypatch.setattr(run, "PROBES", {})


def found(findings: Iterator[Finding], name: str) -> list[Finding]:
    return [finding for finding in findings if finding.name == name]


def only(findings: Iterator[Finding], name: str) -> Finding:
    (finding,) = found(findings, name)
    return finding


def torch_says(monkeypatch: pytest.MonkeyPatch, **facts: object) -> None:
    monkeypatch.setattr(libraries, "LOOKING", ("-c", f"print({json.dumps(json.dumps(TORCH | facts))})"))


def test_the_whole_page_of_this_machine(line: CommandLine, tmp_path: Path) -> None:
    """As a person types it, and for programs; the folder is as it was."""
    (tmp_path / "mine").touch()
    shown = line("doctor", tmp_path, "--json")
    facts = json.loads(shown.out)
    assert shown.code == (2 if facts["problems"] else 0)
    names = {finding["name"] for finding in facts["findings"]}
    assert names >= {"python", "packages", "torch", "gpu", "cpu", "cores", "bf16", "memory", "shm", "weights", "caches"}
    assert names >= {
        "temporary",
        "folder",
        "room",
        "speed",
        "sync",
        "rename",
        "lock",
        "chmod",
        "names",
        "links",
        "clock",
    }
    assert not [finding for finding in facts["findings"] if "cannot be looked at" in finding["text"]]
    assert all(finding["remedy"] for finding in facts["findings"] if finding["level"] == "problem")
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.usefixtures("without_libraries")
def test_the_page_says_how_it_is_and_what_to_do(line: CommandLine, tmp_path: Path) -> None:
    shown = line("doctor", tmp_path, tmp_path / "none")
    assert shown.code == 2
    assert max(map(len, (text for text in shown.out.splitlines() if str(tmp_path) not in text))) <= 100
    assert f"folder       problem  {tmp_path / 'none'} is not here" in shown.out.replace("\n" + " " * 22, " ")
    assert "-> make it, or name another folder" in shown.out
    assert shown.out.rstrip().splitlines()[-1].startswith("1 problem, ")
    assert line("doctor", tmp_path).code == 0
    page = write_page([Finding(name="a", text="b"), Finding(name="c", text="d", level=Level.NOTE, remedy="e")])
    assert page.splitlines()[0] == "a            ok       b"
    assert page.endswith("no problem, 1 note")


def test_the_working_folder_is_looked_at_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PROBES", {})
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) in only(run.examine([]), "folder").text


def test_a_probe_that_fails_is_a_finding_and_the_others_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding(name="one", text="fine")
        raise ZeroDivisionError("a\nb")

    findings = list(ask("two", broken))
    assert [(f.name, f.level, f.text) for f in findings] == [
        ("one", Level.OK, "fine"),
        ("two", Level.NOTE, "cannot be looked at: ZeroDivisionError: a"),
    ]


# ---- Python and libraries


@pytest.mark.parametrize("version", [(3, 8, 1), (3, 10), (3, 13, 0), (2, 7), (4, 0)])
def test_another_python_stops_with_one_line(version: tuple[int, ...], capsys: pytest.CaptureFixture[str]) -> None:
    fault = python_fault(version)
    assert fault.startswith(f"error: this is Python {version[0]}.{version[1]}, and the toolkit needs 3.11 or 3.12")
    assert "\n" not in fault
    assert not python_fault((3, 11, 0))
    assert not python_fault((3, 12, 9))


def test_main_stops_on_another_python(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)


WITHOUT = """
import sys
from store.doctor import libraries, trial
from store.doctor.__main__ import main
trial.SPAN, libraries.LOADED, libraries.LOOKING = 0.01, (), ("-c", "import no_torch_here")
sys.exit(main(sys.argv[1:]))
"""


def test_without_any_package_the_doctor_still_says_what_is_missing(tmp_path: Path) -> None:
    """Python alone: no package of the environment is on its path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-S", "-c", WITHOUT, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert "numpy is not here" in done.stdout
    assert "make setup" in done.stdout
    assert "cannot be loaded: ModuleNotFoundError: No module named 'no_torch_here'" in done.stdout
    assert "clock" in done.stdout  # the last probe was asked


def test_packages_that_are_missing_or_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"zarr": "3.0.8", "torch": UNKNOWN, "obstore": UNKNOWN}
    known = installed_versions
    monkeypatch.setattr(libraries, "installed_versions", lambda names: known(names) | versions)
    faults = {"cv2": "ImportError: libGL.so.1: cannot open"}
    monkeypatch.setattr(libraries, "_load", lambda name: faults.get(name, ""))
    told = {finding.text: finding for finding in look_at_packages()}
    assert told["torch is not here"].level is Level.PROBLEM
    assert told["zarr 3.0.8: asked for is >=3.1.6,<3.2"].level is Level.NOTE
    assert told["obstore is not here, which object storage needs"].level is Level.NOTE
    assert told["cv2 cannot be loaded: ImportError: libGL.so.1: cannot open"].level is Level.PROBLEM
    assert "opencv-python-headless" in told["cv2 cannot be loaded: ImportError: libGL.so.1: cannot open"].remedy


def test_requirements_are_also_read_from_what_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A wheel has no pyproject.toml."""
    from_file = libraries._requirements()
    monkeypatch.setattr(libraries, "ROOT", tmp_path)
    lines = ["zarr<3.2,>=3.1.6", "distributed>=2025.1; extra == 'cluster'", "ruff>=0.14 ; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    assert libraries._requirements() == {
        "": {"zarr": "<3.2,>=3.1.6"}, "cluster": {"distributed": ">=2025.1"}, "cloud": {}, "compact": {}
    }  # fmt: skip
    assert from_file["cluster"].items() >= {"distributed": ">=2025.1"}.items()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("import os; os.abort()", "cannot be loaded: its process was ended by signal 6"),
        (
            "raise ImportError('libcudart.so.13: cannot open')",
            "cannot be loaded: ImportError: libcudart.so.13: cannot open",
        ),
        ("import time; time.sleep(60)", "cannot be loaded: nothing came in 0.5 s; the disk that holds "),
        ("import sys; sys.exit(3)", "cannot be loaded: no reason given"),
        ("import sys; sys.exit(0)", "cannot be loaded: its process ended without a word"),
    ],
)
def test_a_torch_that_crashes_or_hangs_is_a_problem(script: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "LOOKING", ("-c", script))
    monkeypatch.setattr(libraries, "PATIENCE", 0.5 if "sleep" in script else 30)
    (finding,) = look_at_torch()
    assert finding.level is Level.PROBLEM
    assert finding.text.startswith(text)
    assert "make setup" in finding.remedy


def test_a_package_that_ends_its_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does whose instructions an old processor lacks."""
    monkeypatch.setattr(libraries, "LOADED", ("json", "scipy"))
    ending = "import os\nif '{name}' == 'scipy':\n    os.kill(os.getpid(), 4)\n"
    monkeypatch.setattr(libraries, "LOADING", ending + libraries.LOADING)
    (problem,) = [finding for finding in look_at_packages() if finding.level is Level.PROBLEM]
    assert problem.text == "scipy cannot be loaded: its process was ended by signal 4"


@pytest.mark.parametrize(
    ("facts", "level", "text", "remedy"),
    [
        ({}, Level.NOTE, "none: all runs on the CPU", "use a machine with an NVIDIA GPU"),
        ({"gpus": [GPU]}, Level.OK, "cuda:0 NVIDIA H100, 9.0, 85 GB, driver ", ""),
        (
            {"gpus": [GPU | {"fault": "device = auto: this GPU is 7.0, this torch begins at 7.5; install a build"}]},
            Level.PROBLEM, "this GPU is 7.0, this torch begins at 7.5", "install a build",
        ),
        (
            {"unused": "a GPU is here (SLURM_JOB_GPUS=0), but …: CUDA_VISIBLE_DEVICES='' hides it; unset that v"},
            Level.NOTE, "a GPU is here (SLURM_JOB_GPUS=0)", "unset that v",
        ),
    ],
)  # fmt: skip
def test_gpus(facts: dict[str, object], level: Level, text: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_says(monkeypatch, **facts)
    gpu = only(look_at_torch(), "gpu")
    assert gpu.level is level
    assert text in gpu.text
    assert gpu.remedy.startswith(remedy)


FAKE = """
__version__ = "2.15.0"
def get_num_threads():
    return 2
class version:
    cuda = "13.0"
class properties:
    total_memory = 16e9
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 3)
    get_arch_list = staticmethod(lambda: ["sm_75", "sm_90"])
    get_device_capability = staticmethod([(7, 0), (9, 0), (9, 0)].__getitem__)
    get_device_name = staticmethod(["Tesla V100", "H100", "H200"].__getitem__)
    get_device_properties = staticmethod(lambda number: properties)
    def synchronize(number):
        if number == 2:
            raise RuntimeError("CUDA error: uncorrectable ECC error\\nmore")
"""


def test_each_gpu_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of a PyTorch that finds an old GPU, a good one and a broken one."""
    (tmp_path / "torch.py").write_text(FAKE)
    (tmp_path / "torchvision.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    old, good, broken = found(look_at_torch(), "gpu")
    assert [gpu.level for gpu in (old, good, broken)] == [Level.PROBLEM, Level.OK, Level.PROBLEM]
    assert "cuda:0 Tesla V100, 7.0, driver " in old.text
    assert "this GPU is 7.0, this torch begins at 7.5 (cuda:0, Tesla V100, kernels for sm_75 sm_90)" in old.text
    assert "cuda:1 (H100) can be used" in old.remedy
    assert "--set device=cpu" in old.remedy
    assert good.text.startswith("cuda:1 H100, 9.0, 16 GB, driver ")
    assert "cuda:2 cannot be started (CUDA error: uncorrectable ECC error)" in broken.text
    (tmp_path / "torch.py").write_text(FAKE.replace('["Tesla V100", "H100", "H200"].__', "{}.__"))
    assert {(gpu.level, gpu.remedy) for gpu in found(look_at_torch(), "gpu")} == {(Level.PROBLEM, libraries.NVIDIA)}


def test_a_torchvision_that_does_not_fit_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    torch_says(monkeypatch, torchvision="RuntimeError: operator torchvision::nms does not exist")
    assert [finding.level for finding in found(look_at_torch(), "torch")] == [Level.OK, Level.PROBLEM]


# ---- the machine


def test_cores_of_the_process_beside_those_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    (tmp_path / "cpuinfo").write_text(
        "model name\t: Some CPU @ 2 GHz\nflags\t\t: fpu amx_bf16 sse\n\nmodel name : second\n"
    )
    cpu, cores, threads, bf16 = look_at_cores(tmp_path / "cpuinfo")
    assert cpu.text == "Some CPU @ 2 GHz"
    assert cores.text == "1 of the machine's 64, by Slurm (SLURM_CPUS_PER_TASK=1)"
    assert threads.text == "OMP_NUM_THREADS=7: libraries use so many threads, not 1"
    assert bf16.text == "instructions of AMX"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert [f.text for f in look_at_cores(tmp_path / "none")][-1] == "none: networks run in fp32"


@pytest.mark.parametrize(("spare", "level"), [(0, Level.NOTE), (10**9, Level.NOTE), (10**11, Level.OK)])
def test_memory(spare: int, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "spare_memory", lambda: spare)
    (finding,) = look_at_memory()
    assert finding.level is level


def test_a_small_shared_memory_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_shared", lambda: 64e3)
    (finding,) = look_at_shared_memory()
    assert finding.level is Level.NOTE
    assert "--shm-size" in finding.remedy


def test_weights_that_are_right_wrong_or_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAGSTAIN_WEIGHTS", str(tmp_path))
    prep, evaluate = look_at_weights()
    assert prep.text.startswith(f"prep: 0 of 2 files, 0 MB, in {tmp_path}; missing: BSRGAN.pth, BSRGANx2.pth")
    assert "`make weights NAMES=evaluate`" in evaluate.remedy
    (tmp_path / next(iter(WEIGHT_FILES))).write_text("<html>")
    assert [finding.level for finding in look_at_weights()] == [Level.PROBLEM, Level.NOTE, Level.NOTE]


def test_caches_and_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MAGSTAIN_WEIGHTS", str(tmp_path / "file/weights"))
    monkeypatch.setenv("MAGSTAIN_FEATURES", str(tmp_path / "new/features"))
    weights, features, temporary = look_at_caches()
    assert (weights.level, features.level, temporary.level) == (Level.NOTE, Level.OK, Level.OK)
    assert "set MAGSTAIN_WEIGHTS to a folder" in weights.remedy
    assert not (tmp_path / "new").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse(errno.EROFS))  # a home that cannot be written
        assert [finding.level for finding in look_at_caches()] == [Level.NOTE, Level.NOTE, Level.OK]
    long = tmp_path / ("t" * 100)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    assert only(look_at_caches(), "temporary").remedy == "set TMPDIR to a shorter path, such as /tmp"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert only(look_at_caches(), "temporary").level is Level.PROBLEM


# ---- a disk


def refuse(number: int) -> Callable[..., None]:
    def refusing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refusing


DISKS: dict[str, tuple[object, str, object, str, Level]] = {
    "folders cannot be synced": (os, "fsync", refuse(errno.EINVAL), "sync", Level.NOTE),
    "no flock": (fcntl, "flock", refuse(errno.ENOSYS), "lock", Level.NOTE),
    "no locks left": (fcntl, "flock", refuse(errno.ENOLCK), "lock", Level.NOTE),
    "locks of nobody": (trial, "SECOND_PROCESS", "", "lock", Level.NOTE),
    "chmod is not permitted": (Path, "chmod", refuse(errno.EPERM), "chmod", Level.NOTE),
    "chmod does nothing": (Path, "chmod", lambda *_: None, "chmod", Level.NOTE),
    "no symbolic links": (Path, "symlink_to", refuse(errno.EPERM), "links", Level.NOTE),
    "nothing is replaced": (Path, "replace", refuse(errno.EPERM), "rename", Level.PROBLEM),
    "a clock that is behind": (time, "time", lambda: 10.0, "clock", Level.NOTE),
}


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_that_lacks_something(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place, name, value, finding, level = DISKS[kind]
    for least in ("LITTLE", "FEW"):  # this disk may be nearly full itself
        monkeypatch.setattr(f"store.doctor.disk.{least}", 0)
    if name == "fsync":
        monkeypatch.setattr(trial, "_write", lambda *_: (100.0, 1))
        monkeypatch.setattr(trial, "_read", lambda _: 100.0)
    monkeypatch.setattr(place, name, value)
    findings = list(look_at_folder(tmp_path))
    assert only(iter(findings), finding).level is level
    assert only(iter(findings), finding).remedy
    assert {f.name for f in findings if f.level is not Level.OK} == {finding}
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("most", [1, 32, 143, 254, 255])
def test_the_longest_name_is_found(most: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    touch = Path.touch

    def limited(self: Path) -> None:
        if len(self.name.encode()) > most:
            raise OSError(errno.ENAMETOOLONG, "File name too long")
        touch(self)

    monkeypatch.setattr(Path, "touch", limited)
    assert trial._longest_name(tmp_path) == most


def test_names_that_are_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on macOS, whose disks tell neither case nor forms of Unicode apart."""
    monkeypatch.setattr(Path, "exists", lambda self: True)
    (finding,) = trial._names(tmp_path)
    assert finding.text == "of files here: upper and lower case are one name, the forms of Unicode are one name"


def test_a_read_only_and_a_full_disk_are_problems(small_disk: Path) -> None:
    with read_only(small_disk):
        finding = list(look_at_folder(small_disk))[-1]
        assert (finding.name, finding.level) == ("write", Level.PROBLEM)
        assert "Read-only file system" in finding.text
    assert only(look_at_folder(small_disk), "speed").text.startswith("0 MB written at ")
    fill(small_disk / "filler")
    finding = only(look_at_folder(small_disk), "write")
    assert finding.level is Level.PROBLEM
    assert "No space left on device" in finding.text
    assert [file.name for file in small_disk.iterdir()] == ["filler"]


def test_a_bucket_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (finding,) = look_at_folder(Path("s3://bucket/x"))
    assert (finding.level, finding.text) == (Level.NOTE, "s3://bucket/x is in object storage, which is not tried")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = look_at_folder(tmp_path / "file")
    assert (finding.level, finding.text) == (Level.PROBLEM, f"{tmp_path / 'file'} is a file")


def test_a_folder_that_cannot_be_reached_is_a_problem(tmp_path: Path) -> None:
    (finding,) = look_at_folder(tmp_path / ("n" * 300))
    assert (finding.level, finding.text.rpartition(" cannot be ")[2]) == (Level.PROBLEM, "reached: File name too long")


@pytest.mark.parametrize("name", [name for name in trial.TRIALS if name != "speed"])
def test_a_disk_where_no_file_can_be_made_is_a_problem(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_: Path) -> Iterator[Finding]:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setitem(trial.TRIALS, name, full)
    finding = only(look_at_folder(tmp_path), name)
    assert (finding.level, finding.text) == (Level.PROBLEM, "cannot be tried: Disk quota exceeded")
    assert "free some space" in finding.remedy


def test_a_slow_disk_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trial, "SLOW", 10**9)
    assert only(look_at_folder(tmp_path), "speed").remedy == "keep stores on a faster disk, if there is one"


def test_little_room_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(disk, "FEW", 10**18)
    assert only(look_at_folder(tmp_path), "room").level is Level.NOTE


MOUNTS = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / {place} rw,noatime - nfs4 server:/x rw,vers=4.2,local_lock=all
31 22 0:41 / {place}/scratch\\040space rw - lustre mds:/y rw,flock
32 22 0:42 / {place}/tab\\011and\\134 rw - tmpfs  rw
"""


def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts, inner = tmp_path / "mounts", tmp_path / "scratch space" / "deep"
    inner.mkdir(parents=True)
    mounts.write_text(MOUNTS.format(place=tmp_path))
    assert [file_system(place, mounts)[0] for place in (Path("/"), tmp_path, inner)] == ["ext4", "nfs4", "lustre"]
    assert file_system(tmp_path / "tab\tand\\", mounts) == ("tmpfs", ["rw", "rw"]), "mounted without a name"
    assert file_system(tmp_path, tmp_path / "none") == ("an unknown file system", [])
    monkeypatch.setattr(file_system, "__defaults__", (mounts,))
    assert found(look_at_folder(tmp_path), "lock")[-1].text.startswith("mounted with local_lock=all: locks hold out")


@pytest.mark.usefixtures("without_libraries")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(place: Path) -> Iterator[Finding]:
        (place / "left").touch()
        assert list(tmp_path.iterdir())
        signal.raise_signal(number)
        yield Finding(name="never", text="")

    monkeypatch.setitem(trial.TRIALS, "rename", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main([str(tmp_path)]) == 3
    finally:
        signal.signal(signal.SIGINT, before)
    assert not list(tmp_path.iterdir())
    out, err = capsys.readouterr()
    assert (out, err) == ("", "stopped; nothing of the trial is left\n")


@pytest.mark.usefixtures("without_libraries")
@pytest.mark.parametrize(
    "main",
    [
        "store.doctor.__main__ import main; import sys; sys.exit(main(sys.argv[1:]))",
        "store.__main__ import app, run_app; import sys; sys.argv[1:1] = ['doctor']; run_app(app)",
    ],
)
def test_a_page_in_a_terminal_of_ascii(main: str, tmp_path: Path) -> None:
    folder = tmp_path / "Gewebeschnitte-größer"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", f"from store.doctor import run; run.PROBES.clear()\nfrom {main}", str(folder)],
        cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "Gewebeschnitte-gr\\xf6\\xdfer" in done.stdout.replace("\n" + " " * 22, " ")


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
def test_make_doctor_without_an_environment_says_what_makes_one(tmp_path: Path) -> None:
    outside = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", "-s", "doctor", f"ENV={tmp_path / 'none'}"]
    done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "run `make setup`" in done.stderr
    assert not (tmp_path / "none").exists()
    for given, expected in (([], "-m store.doctor"), (["DIR=/a b"], "-m store.doctor '/a b'")):
        dry = subprocess.run(["make", "-n", "doctor", *given], cwd=ROOT, env=outside, capture_output=True, text=True)
        assert dry.stdout.rstrip().endswith(expected)
