"""GPUs without PyTorch: what says that one is here, why it cannot be used, which kernels run on it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from store.machine.gpus import check_gpus, driver_version, has_kernels, refusal_of, signs_of_gpu, start_gpu, unused_gpu
from store.schema import SettingsError
from tests.support.gpus import A100, H100, V100, forget, hide, pretend

OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver\nby …"
NO_DRIVER = "Found no NVIDIA driver on your system.\nPlease check …"


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The root of a machine without a GPU."""
    forget(monkeypatch, tmp_path)
    return tmp_path


def with_driver(root: Path, cards: int = 1, version: str = "Kernel Module  470.82.01  Wed Oct 27") -> None:
    for card in range(cards):
        (root / f"proc/driver/nvidia/gpus/0000:0{card}:00.0").mkdir(parents=True)
        (root / f"dev/nvidia{card}").parent.mkdir(exist_ok=True)
        (root / f"dev/nvidia{card}").touch()
    (root / "proc/driver/nvidia/version").write_text(f"NVRM version: NVIDIA UNIX x86_64 {version}\nGCC version: 12.2\n")


def on_the_bus(root: Path, vendor: str = "0x10de", kind: str = "0x030200") -> None:
    place = root / "sys/bus/pci/devices/0000:01:00.0"
    place.mkdir(parents=True)
    (place / "vendor").write_text(f"{vendor}\n")
    (place / "class").write_text(f"{kind}\n")


def test_a_machine_without_a_gpu_is_no_problem(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, NO_DRIVER)
    assert unused_gpu(torch.cuda, "13.0") == ""
    for hidden in ("", "0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert unused_gpu(torch.cuda, "13.0") == ""
    on_the_bus(root, vendor="0x8086")
    assert unused_gpu(torch.cuda, "13.0") == ""


def test_a_gpu_that_pytorch_can_use_is_no_problem(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_driver(root)
    pretend(monkeypatch, H100)
    assert (refusal_of(torch.cuda), unused_gpu(torch.cuda, "13.0")) == ("", "")


@pytest.mark.parametrize(
    ("arrange", "sign"),
    [
        (lambda root: with_driver(root), "the driver lists 1"),
        (lambda root: with_driver(root, cards=8), "the driver lists 8"),
        (lambda root: on_the_bus(root), "on the PCI bus"),
        (lambda root: on_the_bus(root, kind="0x030000"), "on the PCI bus"),
        (lambda root: [(root / "dev").mkdir(), (root / "dev/nvidia3").touch()], "/dev/nvidia3"),
    ],
)
def test_the_machine_says_that_a_gpu_is_here(arrange: Callable[[Path], object], sign: str, root: Path) -> None:
    arrange(root)
    assert signs_of_gpu({}, root) == [sign]


def test_a_network_card_of_the_same_maker_is_no_gpu(root: Path) -> None:
    on_the_bus(root, kind="0x020000")
    assert signs_of_gpu({}, root) == []


@pytest.mark.parametrize("hidden", ["", "-1", " ", "NoDevFiles"])
@pytest.mark.parametrize("variable", ["SLURM_JOB_GPUS", "SLURM_STEP_GPUS", None])
def test_a_gpu_that_a_variable_hides(
    hidden: str, variable: str | None, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    if variable:
        monkeypatch.setenv(variable, "0,1")
        sign = f"{variable}=0,1"
    else:
        with_driver(root)
        sign = "the driver lists 1"
    assert unused_gpu(torch.cuda, "13.0") == (
        f"a GPU is here ({sign}), but PyTorch cannot use it: CUDA_VISIBLE_DEVICES={hidden!r} hides it; unset that "
        "variable, or name the GPU in it"
    )


@pytest.mark.parametrize(
    ("environment", "driver", "built", "words", "why"),
    [
        ({"SLURM_JOB_GPUS": "0"}, True, "", "Torch not compiled with CUDA enabled", "a build without CUDA; install"),
        ({"SLURM_JOB_GPUS": "0"}, True, None, "Torch not compiled with CUDA enabled", "a build without CUDA; install"),
        ({}, True, "13.0", OLD_DRIVER, r"driver 470\.82\.01 is too old for CUDA 13\.0.*needs driver 580\.65 or later"),
        ({}, True, "12.6", OLD_DRIVER, r"driver 470\.82\.01 is too old for CUDA 12\.6.*needs driver 525\.60 or later"),
        ({}, False, "13.2", OLD_DRIVER, r"^a GPU seems to be here.*driver for CUDA 11\.4 is too old for CUDA 13\.2"),
        ({}, False, "99.0", OLD_DRIVER, r"is too old for CUDA 99\.0.*needs a later one; update the driver"),
        ({"SLURM_JOB_ID": "7"}, True, "13.0", NO_DRIVER, "this Slurm job did not ask for one; start it with --gres"),
        ({}, True, "13.0", NO_DRIVER, r"libcuda\.so\.1, is not found; start the container with --gpus all"),
        ({"CUDA_VISIBLE_DEVICES": "MIG-7"}, True, "13.0", "none", "CUDA_VISIBLE_DEVICES=MIG-7 names none that is"),
        ({"SLURM_JOB_GPUS": "0", "SLURM_JOB_ID": "7"}, False, "13.0", NO_DRIVER, "no NVIDIA driver is loaded; install"),
        (
            {},
            True,
            "13.0",
            "CUDA unknown error - this may be.\nmore",
            r"CUDA unknown error - this may be; `nvidia-smi`",
        ),
    ],
)
def test_a_gpu_that_cannot_be_used(
    environment: dict[str, str],
    driver: bool,
    built: str | None,
    words: str,
    why: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, words)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if driver:
        with_driver(root)
    told = unused_gpu(torch.cuda, built)
    assert re.search(why, told)
    assert "\n" not in told


def test_what_pytorch_only_warns_of_is_not_shown_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old driver is a warning of several lines at the first question, and no error."""

    def warn() -> bool:
        warnings.warn(f"CUDA initialization: {OLD_DRIVER}", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", warn)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    assert "is too old for CUDA 13.0" in unused_gpu(torch.cuda, "13.0")  # warnings are errors here


def test_a_container_that_was_not_given_the_gpu_of_its_machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees the driver of the machine below /proc, and no devices."""
    hide(monkeypatch, NO_DRIVER)
    with_driver(root)
    (root / "dev/nvidia0").unlink()
    assert "cannot use it: this container was not given it; start the container with --gpus" in unused_gpu(
        torch.cuda, "13.0"
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build", "580.65.06"),
        ("nothing", ""),
    ],
)
def test_the_version_of_the_driver(text: str, version: str, tmp_path: Path) -> None:
    assert driver_version(tmp_path) == ""
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(f"{text}\n")
    assert driver_version(tmp_path) == version


@pytest.mark.parametrize(
    ("capability", "archs", "able"),
    [
        ((7, 0), ["sm_75", "sm_80"], False),
        ((7, 5), ["sm_75", "sm_80"], True),
        ((8, 9), ["sm_75", "sm_80"], True),
        ((9, 0), ["sm_75", "sm_80"], False),
        ((12, 0), ["sm_90", "sm_100"], False),
        ((12, 1), ["sm_120"], True),
        ((10, 3), ["sm_100f"], True),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((12, 0), ["sm_80", "compute_90"], True),
        ((7, 0), ["sm_75", "compute_75"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["compute_90a"], False),
        ((9, 4), ["gfx90a", "gfx942"], True),
    ],
)
def test_kernels_run_on_later_gpus_of_their_generation_and_portable_code_on_all_later_ones(
    capability: tuple[int, int], archs: list[str], able: bool
) -> None:
    assert has_kernels(capability, archs) is able


@pytest.mark.parametrize(
    ("cards", "kernels", "told"),
    [
        ([V100], ("sm_75", "sm_80", "sm_90"), r"this GPU is 7\.0, this torch begins at 7\.5 \(cuda:0, Tesla V100-"),
        ([H100], ("sm_75", "sm_80"), r"this GPU is 9\.0, this torch ends at 8\.0 \(cuda:0, NVIDIA H100"),
        ([A100], ("sm_75", "sm_90"), r"this GPU is 8\.0, this torch leaves it out"),
        ([V100, A100], ("sm_75", "sm_80"), r"; cuda:1 \(NVIDIA A100-SXM4-40GB\) can be used: CUDA_VISIBLE_DEVICES=1;"),
    ],
)
def test_a_gpu_without_kernels_is_refused(
    cards: list[tuple[tuple[int, int], str]],
    kernels: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, *cards, kernels=kernels)
    with pytest.raises(SettingsError, match=rf"^device = auto: .*{told}.*use the CPU with --here$"):
        check_gpus(torch.cuda, [0], "device = auto", "--here")


def test_each_gpu_that_is_used_is_checked_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, H100, A100, V100)
    check_gpus(torch.cuda, [0, 1], "device = auto", "--here")
    with pytest.raises(SettingsError, match="cuda:2, Tesla V100"):
        check_gpus(torch.cuda, range(3), "device = auto", "--here")


def test_a_gpu_that_does_not_start_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, H100)

    def busy(_: int) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors might …")

    monkeypatch.setattr(torch.cuda, "synchronize", busy)
    with pytest.raises(
        SettingsError, match=r"^asked: cuda:0 cannot be started \(CUDA error: all .* unavailable\); [^\n]*$"
    ):
        start_gpu(torch.cuda, 0, "asked", "--here")

    def full(_: int) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "synchronize", full)  # `device_memory` says what to do
    with pytest.raises(RuntimeError, match="out of memory"):
        start_gpu(torch.cuda, 0, "asked", "--here")
