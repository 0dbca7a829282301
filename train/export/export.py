"""A trained generator in, an ONNX file out, which is compared with it before it gets its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from store.files import disk_errors, write_whole
from store.process import installed_versions
from store.run_files import RunFolder
from store.schema import RunError
from train.export.facts import describe
from train.export.networks import translation
from train.export.onnx_file import encode
from train.export.parity import Parity, compare
from train.export.statistics import statistics_of
from train.run.generator_file import load_generator
from train.run.inference import translation_mode

SUFFIX = ".onnx"
PROGRAM = "magstain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A written file, whether it was there before, and how it compares; None where onnxruntime is not installed."""

    path: Path
    already_existed: bool
    parity: Parity | None

    @property
    def sentence(self) -> str:
        """What a user is told of it."""
        what = "already exists, and is the same" if self.already_existed else "written"
        compared = "not compared with PyTorch: onnxruntime is not installed"
        if self.parity is not None:
            compared = (
                f"in onnxruntime {self.parity.version} pictures in [-1, 1] differ from those of PyTorch by at most "
                f"{self.parity.worst:.1e}"
            )
        return f"{self.path} {what}, {self.path.stat().st_size / 1e6:.1f} MB; {compared}"


def export(
    folder: RunFolder,
    out: Path,
    statistics_from: Path | None = None,
    *,
    without_dropout: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write the generator of a folder as an ONNX file, which translates as `predict` does, in float32.

    The file is the same whenever and wherever it is made from the same generator and run. A file that exists is kept
    where it is the same, and replaced where `overwrite` allows it. Dropout that is active at test can only be left out
    (`without_dropout`). Every picture is translated with its own statistics, or all with those of one picture. Raises
    RunError, SettingsError where a library is missing, StoreError for the disk, and PictureError.
    """
    if out.suffix != SUFFIX:
        raise RunError(f"{out} does not end in {SUFFIX}, as the files do that are written here: name it {out}{SUFFIX}")
    trained = load_generator(folder.generator)
    version = installed_versions([PROGRAM])[PROGRAM]
    frozen = None if statistics_from is None else statistics_of(statistics_from, trained)
    with translation_mode(trained.generator, trained.header.settings.generator.at_test):
        left_out = without_dropout and _leave_out_dropout(trained.generator)
        graph = translation(trained.generator, frozen)
        facts = describe(trained, folder, graph, version, without_dropout=left_out)
        data = encode(graph, facts, (PROGRAM, version))
        parity = compare(data, trained.generator, trained.multiple, frozen)
    if parity is not None and not parity.holds:
        raise RunError(
            f"{out} is not written: in onnxruntime {parity.version} it would differ from PyTorch by "
            f"{parity.worst:.1e}, and rounding makes {parity.rounding:.1e} only; try another version of onnxruntime"
        )
    return Exported(path=out, already_existed=_write(out, data, overwrite=overwrite), parity=parity)


def _leave_out_dropout(generator: nn.Module) -> bool:
    """Switch active dropout off; whether there was some."""
    active = [module for module in generator.modules() if isinstance(module, nn.Dropout) and module.training]
    for module in active:
        module.p = 0.0
    return bool(active)


def _write(out: Path, data: bytes, *, overwrite: bool) -> bool:
    """Write a file, atomically; whether it was there before. Raises RunError for another file in its place."""
    with disk_errors(out):
        if out.is_dir():
            raise RunError(f"{out} is a folder; name a file, such as {out / f'generator{SUFFIX}'}")
        if out.exists() or out.is_symlink():
            if out.is_file() and out.read_bytes() == data:
                return True
            if not overwrite:
                raise RunError(f"{out} already exists and is another file; name a new one, or add --overwrite")
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, data)
    return False
