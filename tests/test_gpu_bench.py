"""The page for a GPU: every part runs, on a CPU at tiny sizes; one that fails costs a line, and the time is kept."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.bench import __main__ as bench
from tests.bench import gpu
from tests.bench.gpu_machine import Machine
from train.methods.registry import METHODS

CPU = torch.device("cpu")


def machine(*, left: float, dry: bool = False) -> Machine:
    return Machine(device=CPU, dry=dry, began=time.time(), until=time.time() + left)


def test_a_dry_run_prints_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--dry-run"]) == 0
    page = capsys.readouterr().out
    for part in gpu.PARTS.values():
        assert f"\n## {part.title}\n" in page
    for told in ("failed", "not measured", "Error", "nan"):
        assert told not in page
    steps = page[page.index(gpu.PARTS["steps"].title) : page.index(gpu.PARTS["super"].title)]
    for method in METHODS:
        assert f"| {method} | bf16 | 512 |" in steps
    for row in ("asp, as published", "matrix product, bf16", "x4 | fp32", "predict, again", "score, first"):
        assert f"| {row} |" in page
    assert " pairs/s" in page
    assert re.search(r"\npix2pix, 64 px, batch 1, fp32: [0-9.]+ steps/s, ", page)


@pytest.mark.gpu
@pytest.mark.parametrize("part", ["ceilings", "start"])
def test_on_a_gpu_a_part_runs_in_a_process_of_its_own(part: str, capfd: pytest.CaptureFixture[str]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    assert gpu.main(["--only", part]) == 0
    assert "failed" not in capfd.readouterr().out


def test_a_part_that_fails_costs_a_line_and_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(_: Machine) -> None:
        raise RuntimeError("CUDA error: an illegal memory access\nand a page of advice")

    def lacking(_: Machine) -> None:
        raise ModuleNotFoundError("No module named 'basicsr'")

    monkeypatch.setitem(gpu.PARTS, "ways", replace(gpu.PARTS["ways"], measure=failing))
    monkeypatch.setitem(gpu.PARTS, "super", replace(gpu.PARTS["super"], measure=lacking))
    assert gpu.main(["--dry-run", "--only", "super", "ceilings"]) == 0
    assert "\nnot measured: No module named 'basicsr'\n" in capsys.readouterr().out
    assert gpu.main(["--dry-run", "--only", "ways", "ceilings"]) == gpu.FAILED
    page = capsys.readouterr().out
    assert "\nfailed: RuntimeError: CUDA error: an illegal memory access\n" in page
    assert "page of advice" not in page
    assert "| copy, read and written |" in page
    assert page.strip().endswith("failed: ways")


def test_a_row_that_fails_or_comes_too_late_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> list[str]:
        raise torch.OutOfMemoryError("CUDA out of memory\nand a page of advice")

    machine(left=60).row(["cyclegan", "fp32"], failing)
    machine(left=60).row(["asp", "fp32"], lambda: ["12.0"])
    machine(left=-1).row(["cut", "fp32"], failing)
    assert capsys.readouterr().out.splitlines() == [
        "| cyclegan | fp32 | OutOfMemoryError: CUDA out of memory |",
        "| asp | fp32 | 12.0 |",
        "| cut | fp32 | not measured: the time was up |",
    ]
    with pytest.raises(torch.OutOfMemoryError):  # of tiny networks on a CPU it is a bug of the page
        machine(left=60, dry=True).row(["asp"], failing)


def test_a_process_that_breaks_or_hangs_costs_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = "import sys; sys.exit('cannot open libcuda')"
    plain = subprocess.run

    def instead(_: object, **named: object) -> object:
        return plain([sys.executable, "-c", code], **named)  # type: ignore[call-overload]  # as it is

    monkeypatch.setattr(subprocess, "run", instead)
    assert not gpu.run_beside("ways", time.time() + 60, tmp_path)
    assert capsys.readouterr().out == "\nfailed: exit code 1: cannot open libcuda\n"
    monkeypatch.setattr(gpu, "GRACE", 0.1)
    code = "import time; time.sleep(60)"
    assert not gpu.run_beside("ways", time.time(), tmp_path)
    assert capsys.readouterr().out == "\nfailed: the time was up\n"


def test_what_a_part_leaves_on_the_disk_goes_with_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a part that is killed, which cannot clean up."""
    seen: list[Path] = []
    plain = subprocess.run

    def instead(_: object, **named: object) -> object:
        code = "import os, tempfile; tempfile.mkdtemp(); os.kill(os.getpid(), 9)"
        done = plain([sys.executable, "-c", code], **named)  # type: ignore[call-overload]  # as it is
        seen.append(Path(named["env"]["TMPDIR"]))  # type: ignore[index]
        assert list(seen[-1].iterdir())
        return done

    monkeypatch.setattr(gpu, "heading", lambda _: "")
    monkeypatch.setattr(subprocess, "run", instead)
    assert gpu.print_page(["ways", "super"], machine(left=60)) == gpu.FAILED
    assert seen[0] == seen[1]  # the second finds what the compiler kept
    assert not seen[0].exists()


def test_the_page_takes_less_than_six_minutes() -> None:
    assert sum(part.seconds for part in gpu.PARTS.values()) + gpu.GRACE < 360


def test_without_a_gpu_a_line_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    assert capsys.readouterr().out.startswith("no NVIDIA GPU here: nothing is measured; ")
    assert "gpu" in bench.PARTS
