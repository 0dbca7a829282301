"""Scoring without networks: SSIM against scikit-image's, and seconds of CPU for a pair, the baselines cached and not.

The plain way is written here: scikit-image for SSIM, PSNR and DAB, one row at a time, every picture read for itself.
Both ways give the same numbers, which is checked. Time is that of the processor, of all processes, because machines are
shared; both ways take turns, and each number is the best of its rounds. What is done once for a scoring (curves of
misregistration, intervals) is measured for 1,000 pictures.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from skimage.color import hed_from_rgb, separate_stains
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from evaluate import parallel
from evaluate.columns import Metric
from evaluate.features.extract import Features
from evaluate.inputs.baselines import fit_baselines
from evaluate.inputs.image_set import REAL, ImageSet, SetName
from evaluate.inputs.reading import digest_pixels
from evaluate.metrics.dab import density_stats
from evaluate.metrics.misregistration import measure_pixels, shifts_for, windows
from evaluate.metrics.pictures import Measurement
from evaluate.metrics.ssim import similarities
from evaluate.metrics.statistics import resample
from evaluate.protocol import FAKE, PROTOCOLS, ProtocolName, Reference
from evaluate.scoring.aggregate import compute_rows
from evaluate.scoring.gathering import gather
from evaluate.scoring.per_image import ImageScores, score_images
from store.images import PictureU8
from store.reader import Store
from store.schema import Split, Stain
from tests.bench.pipeline import TILE
from tests.bench.scoring import TRAIN, prepared

PAIRS, STATED, ROUNDS, REPEATS = 8, 1000, 3, 6
TOLERANCE = 1e-10
NOTHING = Features(vectors={}, lpips={})
T = TypeVar("T")
Scored = tuple[ImageSet, list[ImageScores]]


def cpu() -> float:
    """Seconds of the processor that this process and its ended children have used."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


def clock(call: Callable[[], T]) -> tuple[float, float, T]:
    """Seconds of the processor, seconds of the wall, and what the call returned."""
    used, start = cpu(), time.perf_counter()
    result = call()
    return cpu() - used, time.perf_counter() - start, result


def in_turns(*ways: Callable[[], object]) -> list[float]:
    """The least seconds of the processor of each way, which take turns."""
    rounds = [[clock(way)[0] for way in ways] for _ in range(ROUNDS)]
    return [min(one[n] for one in rounds) for n in range(len(ways))]


def plain_ssim(fake: PictureU8, real: PictureU8) -> float:
    """As both published evaluations compute it."""
    return float(structural_similarity(real, fake, data_range=255, channel_axis=-1))  # type: ignore[no-untyped-call]


def plain_curve(fake: PictureU8, real: PictureU8) -> list[list[float]]:
    """Each shifted window by itself."""
    shifts = shifts_for(len(real))
    fixed = [next(windows(one, shifts)) for one in (real, fake)]
    return [[plain_ssim(one, other) for other in windows(real, shifts)] for one in fixed]


def plain_place(images: ImageSet, store: Store, place: int) -> dict[SetName, float]:
    """A place one set at a time: each picture is made from its file, digested, compared; SSIM of every row."""
    found: dict[SetName, float] = {}
    by_name = {baseline.name: baseline for baseline in images.baselines}

    def read(name: SetName) -> PictureU8:
        protocol, row = PROTOCOLS[name[0]], name[1]
        if row == FAKE:
            return images.reads[name](place)
        picture = store.picture(Split.TEST, "tile", Stain.IHC if row == REAL else Stain.HE, place)
        if row in by_name:
            return by_name[row].picture(picture, protocol.fakes)
        return images.reads[name](place)

    for protocol, row in images.reads:
        digest_pixels(read((protocol, row)))
    for protocol in PROTOCOLS:
        real = read((protocol, REAL))
        for row in (*by_name, FAKE):
            fake = read((protocol, row))
            found[protocol, row] = plain_ssim(fake, real)
            with np.errstate(divide="ignore"):
                peak_signal_noise_ratio(real, fake, data_range=255)  # type: ignore[no-untyped-call]
            if PROTOCOLS[protocol].reference is Reference.STORED:
                plain_dab(fake)
        if PROTOCOLS[protocol].reference is Reference.STORED:
            plain_dab(real)
    return found


def plain_dab(picture: PictureU8) -> None:
    """By colour deconvolution of the whole picture."""
    density_stats(separate_stains(np.maximum(picture, 1) / 255, hed_from_rgb)[..., 2] * 6)


def score(run: Path, store: Store, cache: Path, workers: int = 1) -> Scored:
    """Gather and score the pictures of a run."""
    images, standing = gather(run, None, store, Split.TEST, "tile", cache, workers)
    return images, score_images(images, standing, NOTHING, workers)


def compare_ssim(fake: PictureU8, real: PictureU8) -> None:
    """SSIM of one pair, of four pictures with the same real one, and the curve of misregistration."""
    shifts = shifts_for(len(real))
    plain, ours, shared = in_turns(
        lambda: plain_ssim(fake, real), lambda: similarities([fake], real), lambda: similarities([fake] * 4, real)
    )
    far, near = in_turns(lambda: plain_curve(fake, real), lambda: measure_pixels(fake, real, shifts))
    found = measure_pixels(fake, real, shifts)[Metric.SSIM]
    check(abs(found - plain_curve(fake, real)).max(), abs(similarities([fake], real)[0] - plain_ssim(fake, real)))
    print(f"\n| {TILE} px | scikit-image, s of CPU | here | times as fast |\n|---|--:|--:|--:|")
    for what, one, two in (
        ("SSIM of one pair", plain, ours),
        ("of four with one real picture, each", plain, shared / 4),
        (f"misregistration: {2 * len(shifts)} SSIMs and PSNRs", far, near),
    ):
        print(f"| {what} | {one:.3f} | {two:.3f} | {one / two:.1f} |")


def check(*differences: float) -> None:
    """End the measurement where both ways differ."""
    if max(differences) > TOLERANCE:
        sys.exit(f"the two ways differ by {max(differences)}, more than {TOLERANCE}")


def compare_scorings(run: Path, store: Store, folder: Path) -> None:
    """A pair in every way, and 1,000 pairs by extrapolation."""
    score(run, store, folder / "warm")
    images, scores = score(run, store, folder / "first")
    fitting = clock(lambda: fit_baselines(store))[0] / TRAIN
    for file in (folder / "first").iterdir():  # the fit on train is kept, the numbers of the test pictures are not
        if file.stat().st_size > 1 << 12:
            file.unlink()
    before = clock(lambda: score(run, store, folder / "first"))[0]
    plain = [clock(lambda place=place: plain_place(images, store, place)) for place in range(2)]  # type: ignore[misc]
    after = min(clock(lambda: score(run, store, folder / "first"))[0] for _ in range(ROUNDS))
    for place, (_, _, found) in enumerate(plain):
        check(*(abs(value - scores[place].metrics[name][Metric.SSIM]) for name, value in found.items()))
    reads = [images.reads[ProtocolName.CORRECTED, row] for row in (FAKE, REAL)]
    curves = 8 * clock(lambda: measure_pixels(reads[0](0), reads[1](0), shifts_for(TILE)))[0]
    many = [scores[n % PAIRS] for n in range(STATED)]
    samples = resample([f"slide {n // 50}" for n in range(STATED)])
    once = curves + clock(lambda: compute_rows(images.rows, many, NOTHING, samples))[0]
    print(f"\n| without networks | s of CPU a pair | {STATED} pairs, core-minutes |\n|---|--:|--:|")
    for way, each in (
        ("one set at a time, by scikit-image", min(used for used, _, _ in plain)),
        ("here, the first run on a store", before / PAIRS),
        ("here, the baselines cached", after / PAIRS),
    ):
        print(f"| {way} | {each:.2f} | {(STATED * each + once) / 60:.1f} |")
    print(f"\nOnce: {once:.1f} s; fitting the baselines: {fitting:.2f} s for each pair of train")


def compare_processes(images: ImageSet) -> None:
    """One process and two for the scoring of translations: seconds of the wall and of the processor, start included."""
    parallel.SHARE = parallel.THREADS = 1
    needed = {name: read for name, read in images.reads.items() if name[1] in (REAL, FAKE)}
    work = Measurement(reads=needed, names=[(protocol, FAKE) for protocol in PROTOCOLS])
    places = [*range(PAIRS)] * REPEATS
    print("\n| processes | s of the wall a pair | s of CPU a pair |\n|---|--:|--:|")
    found = []
    for workers in (1, 2):
        used, wall, scores = clock(
            lambda workers=workers: parallel.in_parallel(work, places, "scoring", workers, TILE**2)  # type: ignore[misc]
        )
        found.append(repr(scores))
        print(f"| {workers} | {wall / len(places):.2f} | {used / len(places):.2f} |")
    if found[0] != found[1]:
        sys.exit("two processes have other numbers than one")


def measure() -> None:
    """All three."""
    with prepared(PAIRS) as (run, store, _), tempfile.TemporaryDirectory() as temporary:
        images, _ = gather(run, None, store, Split.TEST, "tile", Path(temporary) / "look")
        fake, real = (images.reads[ProtocolName.CORRECTED, row](0) for row in (FAKE, REAL))
        compare_ssim(fake, real)
        compare_scorings(run, store, Path(temporary))
        compare_processes(images)
