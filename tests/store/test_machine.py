"""What this process may use of its machine: cores by affinity, quota and scheduler, and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.machine import cores
from store.machine.cores import LIBRARIES, LIMITED, SCHEDULERS, core_limits, count_cores, limit_libraries
from store.machine.memory import spare_memory
from tests.support.command_line import CommandLine
from tests.support.places import ROOT


def write_system(place: Path, group: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A /proc with 64 GB free, and the files of control groups."""
    proc, groups = place / "proc", place / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:   99000000 kB\nMemAvailable:   64000000 kB\n")
    (proc / "self" / "cgroup").write_text(group)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text)
    return proc, groups


def group_2(limit: str, used: int, idle: int) -> dict[str, str]:
    return {"memory.max": limit, "memory.current": f"{used}\n", "memory.stat": f"anon 5\ninactive_file {idle}\n"}


def named(folder: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


JOB = named("slurm/job", group_2("max\n", 5, 0)) | named("slurm", group_2("8000\n", 3000, 1000))
OLD = {
    "memory/job/memory.limit_in_bytes": "900\n",
    "memory/job/memory.usage_in_bytes": "400\n",
    "memory/job/memory.stat": "inactive_file 7\ntotal_inactive_file 100\n",
    "memory/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/memory.usage_in_bytes": "500\n",
    "memory/memory.stat": "total_inactive_file 0\n",
}


@pytest.mark.parametrize(
    ("group", "files", "spare"),
    [
        ("0::/\n", {}, 64_000_000 * 1024),
        ("0::/slurm/job\n", JOB, 6000),
        ("0::/\n", group_2("5000", 9000, 0), 0),
        ("4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n", OLD, 600),
        ("nonsense", {}, 0),
        ("0::/a\n", named("a", group_2("many", 1, 1)), 0),
    ],
    ids=["no group", "a group around", "used up", "version 1", "unknown words", "no number"],
)
def test_spare_memory_is_what_is_free_and_what_the_control_group_has_left(
    group: str, files: dict[str, str], spare: int, tmp_path: Path
) -> None:
    assert spare_memory(*write_system(tmp_path, group, files)) == spare


def test_without_a_system_that_says_so_no_memory_is_spare(tmp_path: Path) -> None:
    assert spare_memory(tmp_path, tmp_path) == 0


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine of 64 cores that are all ours, without groups; its /proc and its groups lie in the folder."""
    for variable in (*SCHEDULERS, *LIBRARIES):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(core_limits, "__defaults__", (tmp_path / "proc", tmp_path / "cgroup"))
    yield tmp_path
    for variable in LIMITED:
        os.environ.pop(variable, None)
    LIMITED.clear()


def old_quota(quota: int, period: int = 100_000) -> dict[str, str]:
    return {"cpu.cfs_quota_us": f"{quota}\n", "cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("group", "files", "count"),
    [
        ("0::/\n", {}, 64),
        ("0::/job\n", {"job/cpu.max": "max 100000\n"}, 64),
        ("0::/job\n", {"job/cpu.max": "400000 100000\n"}, 4),
        ("0::/job\n", {"job/cpu.max": "150000 100000\n"}, 2),  # a core and a half
        ("0::/job\n", {"job/cpu.max": "5000 100000\n"}, 1),
        ("0::/slurm/job\n", {"slurm/job/cpu.max": "max 100000\n", "slurm/cpu.max": "300000 100000\n"}, 3),
        ("0::/../other\n", {"cpu.max": "200000 100000\n"}, 2),  # a container that sees its own groups only
        ("0::/a\n", {"a/cpu.max": "20000000 100000\n"}, 64),  # more than there are
        ("4:memory:/\n2:cpu,cpuacct:/job\n0::/\n", named("cpu/job", old_quota(250_000)), 3),
        ("1:cpu:/docker/7\n", named("cpu", old_quota(800_000)), 8),
        ("1:cpu:/job\n", named("cpu/job", old_quota(-1)) | named("cpu", old_quota(600_000)), 6),
        ("1:cpu:/job\n", named("cpu/job", {"cpu.cfs_quota_us": "100000"}), 64),  # half of the files
        ("nonsense", {}, 64),
        ("0::/a\n", {"a/cpu.max": "many 100000\n"}, 64),
        ("0::/a\n", {"a/cpu.max": "100000 0\n"}, 64),
        ("0::/a/b\n", {"a/b/cpu.max": "many 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "", "a/cpu.max": "300000 100000\n"}, 3),
    ],
)
def test_a_quota_of_a_group_or_of_one_around_it_limits_cores(
    group: str, files: dict[str, str], count: int, own: Path
) -> None:
    write_system(own, group, files)
    assert count_cores() == count


@pytest.mark.parametrize("variable", SCHEDULERS)
def test_a_scheduler_limits_cores_where_it_says_fewer(
    variable: str, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text, count in (("6", 6), ("128", 64), ("0", 64), ("", 64), ("8(x2)", 64), ("-1", 64)):
        monkeypatch.setenv(variable, text)
        assert count_cores() == count
    monkeypatch.setenv(variable, "6")
    assert f"({variable}=6)" in core_limits()[-1].what
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5})
    assert count_cores() == 2


def test_without_affinity_the_machine_counts(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert count_cores() == 12


def test_libraries_are_limited_only_where_they_would_count_more(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_libraries()
    assert not LIMITED
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    limit_libraries()
    assert [os.environ[variable] for variable in LIBRARIES] == ["5", "3", "3"]
    assert set(LIBRARIES) - {"OMP_NUM_THREADS"} == LIMITED


def test_every_command_limits_them(line: CommandLine, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert line("--help").code == 0
    assert set(LIBRARIES) == LIMITED


COUNT = """
from store.cli import run_app
import sys
def app(standalone_mode):
    import cv2, torch
    from concurrent.futures import ThreadPoolExecutor
    print(torch.get_num_threads(), cv2.getNumThreads())
    sys.exit(0)
run_app(app)
"""


@pytest.mark.skipif(cores._affinity().cores < 2, reason="needs two cores")
def test_torch_and_opencv_take_the_cores_of_the_job() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in LIBRARIES}
    counted = subprocess.run(
        [sys.executable, "-c", COUNT], cwd=ROOT, env=environment | {"SLURM_CPUS_PER_TASK": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert counted.stdout.split() == ["1", "1"]
