"""Picture by picture what needs no network: SSIM, PSNR, DAB, and the digests by which features are found again."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tqdm import tqdm

from evaluate.features.extract import digest_pixels
from evaluate.inputs.image_set import Ground
from evaluate.metrics.dab import Brown, Parts, parts, summed
from evaluate.metrics.paired import psnr, ssim
from evaluate.protocol import PROTOCOLS, ProtocolName, Reference
from store.images import PictureU8
from store.schema import Stain
from store.stain.dab import dab_density

THREADS = 4  # pictures judged side by side: SSIM releases the interpreter


@dataclass(frozen=True, slots=True, kw_only=True)
class Stained:
    """The DAB of one picture: of all of it, and of its parts; the sha256 of its pixels."""

    digest: str
    brown: Brown
    parts: Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One picture of one row against the real one: sha256 of its pixels, SSIM, PSNR in dB."""

    digest: str
    ssim: float
    psnr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All rows at one place of the store: judgements by protocol and row, DAB of the real picture and of each row."""

    references: dict[Reference, str]
    rows: dict[ProtocolName, dict[str, Judgement]]
    real: Stained
    stained: dict[str, Stained]


def judge_all(ground: Ground, threads: int = THREADS) -> list[Judged]:
    """Every place of the ground, in the order of the store whatever the number of threads."""
    places = range(len(ground.targets))
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda place: judge_place(ground, place), places)
        return list(tqdm(found, total=len(places), desc="scoring", unit="picture", file=sys.stderr))


def judge_place(ground: Ground, place: int) -> Judged:
    """All numbers of one place."""
    references = {reference: ground.reference(reference)(place) for reference in Reference}
    stained: dict[str, Stained] = {}
    rows: dict[ProtocolName, dict[str, Judgement]] = {}
    for name, protocol in PROTOCOLS.items():
        pictures = {row: read(place) for row, read in ground.rows(name).items()}
        real = references[protocol.reference]
        rows[name] = {row: judge(picture, real) for row, picture in pictures.items()}
        if protocol.reference is Reference.STORED:
            stained = {row: stain(picture) for row, picture in pictures.items()}
    return Judged(
        references={reference: digest_pixels(picture) for reference, picture in references.items()},
        rows=rows,
        real=stain(ground.real(Stain.IHC, place)),
        stained=stained,
    )


def judge(fake_u8: PictureU8, ihc_u8: PictureU8) -> Judgement:
    """One picture, u8 [H,W,3], against the real one."""
    return Judgement(digest=digest_pixels(fake_u8), ssim=ssim(fake_u8, ihc_u8), psnr=psnr(fake_u8, ihc_u8))


def stain(picture_u8: PictureU8) -> Stained:
    """The DAB of one picture, from one deconvolution."""
    density = dab_density(picture_u8)
    return Stained(digest=digest_pixels(picture_u8), brown=summed(density), parts=parts(density))
