"""Attention maps of AMMFI: for each picture and level a heat map over the H&E, and a contact sheet of some of them.

A gate a of eq. (3) is a number in (0,1) for each channel and position: the share of the encoder's feature that reaches
the decoder. A map is its mean over channels, [h,w]. Colours span the 1st to the 99th percentile of each map, because
gates vary little around their mean; the numbers are in `gates.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from store.cli import say, track
from store.contact_sheet import Row, draw_sheet
from store.disk.removing import remove_folder
from store.files import PARTIAL, digest_file, disk_errors, files_of, sync_all, write_json
from store.images import read_picture, write_png
from store.process import stop_requests
from store.reader import Store, Target, plan_targets
from store.records.exchange import exchange, settle
from store.records.lock import held
from store.records.predictions import GateRecord, load_predictions, place_of, read_gates
from store.run_files import PredictionFolder, RunFolder
from store.schema import Interrupted, RunError, Split, Stain
from train.data.batch import to_signed
from train.kernels.launching import choose, switch
from train.networks.resnet import ResnetGenerator
from train.run.generator_file import Trained, load_generator
from train.run.inference import translation_mode
from train.runtime.device import resolve
from train.settings import AtTest, Precision, Use

SHOWN = 6  # pictures of the sheet
OPAQUE = 0.55  # share of the heat map's colour
SPAN = (1, 99)  # percentiles of a map at both ends of the colours


def draw_attention_maps(folder: RunFolder, store: Store, split: Split, view: str, device: str) -> Path:
    """Attention maps of every picture of a split and view, beside its predictions, which must exist.

    Returns their folder; whole maps of the same generator are kept. Raises RunError for a generator without attention,
    and Interrupted when it was stopped.
    """
    trained = load_generator(folder.generator)
    predictions = place_of(folder, store.manifest.name, store.manifest.seal, split, view)
    with held(predictions):
        settle(predictions.gates)
        if load_predictions(predictions, "predict again").generator != trained.digest:
            raise RunError(f"{predictions.path} has predictions of another generator; predict again")
        if not _are_whole(predictions, trained.digest):
            _draw(folder, store, split, view, device, trained, predictions)
            exchange(_beside(predictions), predictions.gates)
            settle(predictions.gates)
    return predictions.gates


def _beside(predictions: PredictionFolder) -> Path:
    """Where maps are drawn until they are complete."""
    return predictions.gates.with_name(predictions.gates.name + PARTIAL)


def _are_whole(predictions: PredictionFolder, generator: str) -> bool:
    """Whether there are maps of this generator, and every file has its digest; earlier versions recorded none."""
    with suppress(RunError, OSError):  # there are none yet, or they are damaged
        record = read_gates(predictions)
        files = record.files or {}
        return record.generator == generator and all(
            digest_file(predictions.gates / name) == digest for name, digest in files.items()
        )
    return False


def _draw(
    folder: RunFolder,
    store: Store,
    split: Split,
    view: str,
    device: str,
    trained: Trained,
    predictions: PredictionFolder,
) -> None:
    """All maps, their contact sheet and their record, beside their place."""
    generator = _attention_generator(folder, trained)
    compute = resolve(device, Precision.FP32)
    compute.configure(search=False)
    choose(Use.OFF, Use.AUTO, compute.device)
    switch(fused=False)  # maps do not depend on whether Triton runs here
    compute.place(generator)
    beside = _beside(predictions)
    targets, levels = plan_targets(store, split, view), dict[str, dict[str, tuple[float, float, float]]]()
    with disk_errors(beside):
        remove_folder(beside)
        beside.mkdir()
    with translation_mode(generator, AtTest.EVALUATION), stop_requests(say) as stop:
        for target in track(targets, what=f"attention maps of {split}/{view}", unit="picture"):
            he = store.picture(split, view, Stain.HE, target.pair, target.index)
            levels[target.name] = {}
            for level, gate in attention_maps_of(generator, he, compute.device).items():
                low, high = (float(end) for end in np.percentile(gate, SPAN))
                levels[target.name][level] = (float(gate.mean()), low, high)
                write_png(beside / level / target.name, heat_over(he, gate, low, high))
            if stop.requested:
                raise Interrupted(f"not all attention maps of {folder.path} are drawn; run the same command again")
    sheet = _sheet(folder, store, split, view, targets, levels, predictions)
    write_png(beside / predictions.gates_sheet.name, sheet)
    with disk_errors(beside):
        sync_all(beside / name for name in files_of(beside))
    files = {name: digest_file(beside / name) for name in files_of(beside)}
    record = GateRecord(generator=trained.digest, levels=levels, files=files)
    write_json(beside / predictions.gates_record.name, record)


def _attention_generator(folder: RunFolder, trained: Trained) -> ResnetGenerator:
    """The generator, if it has attention; else RunError."""
    generator = trained.generator
    if not isinstance(generator, ResnetGenerator) or not generator.attention:
        raise RunError(
            f"{folder.path} has no attention maps to draw: its method is {trained.header.method} with "
            "generator.attention.enabled = false; omit --gates (make: GATES=), or train a method with attention"
        )
    return generator


@torch.inference_mode()
def attention_maps_of(
    generator: ResnetGenerator, he: NDArray[np.uint8], device: torch.device
) -> dict[str, NDArray[np.float32]]:
    """The gates of one picture, u8 [H,W,3], as means over channels, [h,w] in (0,1), lowest level first."""
    signed = to_signed(torch.from_numpy(he).to(device)).permute(2, 0, 1)[None]  # [1,3,H,W]
    _, gates = generator.forward_with_gates(signed)
    return {level: gate[0].mean(dim=0).float().cpu().numpy() for level, gate in gates.items()}


def heat_over(he: NDArray[np.uint8], gate: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """A map [h,w] in colours over the picture in grey, u8 [H,W,3]: dark blue up to `low`, yellow from `high` on."""
    height, width = he.shape[:2]
    large = cv2.resize(gate, (width, height), interpolation=cv2.INTER_LINEAR)
    unit = np.clip((large - low) / max(high - low, 1e-12), 0, 1)
    colours = cv2.applyColorMap((unit * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]
    grey = he.mean(axis=2, keepdims=True)
    return np.asarray((OPAQUE * colours + (1 - OPAQUE) * grey).round(), dtype=np.uint8)


def _sheet(
    folder: RunFolder,
    store: Store,
    split: Split,
    view: str,
    targets: Sequence[Target],
    levels: Mapping[str, Mapping[str, tuple[float, float, float]]],
    predictions: PredictionFolder,
) -> NDArray[np.uint8]:
    """A contact sheet, u8 [H,W,3]: H&E, translation and maps of pictures spread evenly over the split."""
    maps = _beside(predictions)
    shown = [targets[n * len(targets) // min(SHOWN, len(targets))] for n in range(min(SHOWN, len(targets)))]
    names = list(levels[shown[0].name])
    rows = []
    for target in shown:
        he = store.picture(split, view, Stain.HE, target.pair, target.index)
        heat = [read_picture(maps / level / target.name) for level in names]
        numbers = [levels[target.name][level] for level in names]
        captions = [f"mean {mean:.3f}, {low:.3f} to {high:.3f}" for mean, low, high in numbers]
        rows.append(
            Row(
                label=target.name.removesuffix(".png"),
                pictures=(he, read_picture(predictions.rounded / target.name), *heat),
                captions=("", "", *captions),
            )
        )
    manifest = store.manifest
    return draw_sheet(
        title=f"{'SYNTHETIC DATA. ' * manifest.synthetic}Attention maps of {folder.path.name}, {split} {view}",
        columns=("H&E", f"{manifest.stain}, translated", *(f"gate, {level}" for level in names)),
        rows=rows,
        footer=(
            "A gate is the share of the encoder's feature that reaches the decoder; a map is its mean over channels, "
            "over the H&E in grey. Colours span the 1st (dark blue) to the 99th percentile (yellow) of each map; its "
            "mean and both ends are below it. level2 has a quarter of the picture's side, level1 half of it."
        ),
    )
