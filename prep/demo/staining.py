"""Synthetic tissue, drawn: maps of stain concentration in two neighbouring sections, and their colours.

Concentrations are optical densities along a unit stain vector; light follows Beer and Lambert: T = 10^-OD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.demo.tissue import (
    APPEARANCES,
    Cell,
    FloatMap,
    Gland,
    Points,
    plan_epithelium,
    plan_stroma,
    rotation,
    smooth_noise,
    wobble,
)

FINENESS = 2  # everything is drawn at twice the size and averaged, so that edges are smooth
FRACTION = 4  # fractional bits of the coordinates that cv2 fills
CORNERS = np.linspace(0, 2 * np.pi, 20, endpoint=False)  # directions of the corners of a nucleus
HAEMATOXYLIN = (0.65, 0.70, 0.29)  # optical density of R, G, B: Ruifrok and Johnston 2001
DAB = (0.27, 0.57, 0.78)
EOSIN = (
    0.14,
    0.93,
    0.34,
)  # between theirs (0.07, 0.99, 0.11) and Macenko's 2009 (0.22, 0.80, 0.56), which is less magenta


@dataclass(frozen=True, slots=True, kw_only=True)
class Tissue:
    """Concentrations [H,W] of the two stains in each of two neighbouring sections, in the same place."""

    he_haematoxylin: FloatMap
    he_eosin: FloatMap
    ihc_haematoxylin: FloatMap
    ihc_dab: FloatMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Dye:
    """The two stains of a slide as a laboratory made them: the colour and the strength of each."""

    colours: NDArray[np.float32]  # [2,3], unit vectors
    strengths: tuple[float, float]
    light: NDArray[np.float32]  # [3], u8 of empty glass


def mix_dye(
    stains: Sequence[tuple[float, float, float]], spread: tuple[float, float], generator: np.random.Generator
) -> Dye:
    """A laboratory's version of two stains: colours varied a little, strengths by factors up to 1 ± spread."""
    colours = np.abs(np.array(stains) + generator.normal(0, 0.025, (2, 3)))
    first, second = (float(generator.uniform(1 - s, 1 + s)) for s in spread)
    return Dye(
        colours=(colours / np.linalg.norm(colours, axis=1, keepdims=True)).astype(np.float32),
        strengths=(first, second),
        light=(244 + generator.uniform(-3, 3, 3)).astype(np.float32),
    )


def stain(first: FloatMap, second: FloatMap, dye: Dye, generator: np.random.Generator) -> NDArray[np.uint8]:
    """The colours [H,W,3] u8 RGB of two concentration maps [H,W], with the camera's noise."""
    amounts = np.stack([first * dye.strengths[0], second * dye.strengths[1]], axis=-1)  # [H,W,2]
    colour = dye.light * np.power(np.float32(10), -(amounts @ dye.colours))  # [H,W,3]
    colour += generator.standard_normal(colour.shape, dtype=np.float32) * np.float32(1.2)
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8)


def draw_tissue(shape: tuple[int, int], glands: Sequence[Gland], generator: np.random.Generator) -> Tissue:
    """A piece of tissue of `shape` px (height, width) with the given glands."""
    fine = (shape[0] * FINENESS, shape[1] * FINENESS)
    owner, lumen = _fill_glands(fine, glands)
    flow, fibres = _fibres(shape, generator)
    cells = [cell for index, gland in enumerate(glands) for cell in plan_epithelium(index, gland, generator)]
    cells += plan_stroma(shape, flow, generator)
    cells = [cell for cell in cells if _belongs(cell, owner, lumen)]
    dark, solid = _fill_nuclei(fine, cells, generator)
    membrane = _membranes(owner, lumen, cells)
    stroma = _enlarge(np.where(fibres > -1.5, 1 + 0.3 * fibres, 0).astype(np.float32), fine) * (owner == 0)
    inside = ((owner > 0) & ~lumen) * (1 + 0.1 * smooth_noise(fine, 5 * FINENESS, generator))
    dense = np.exp(0.3 * np.clip(smooth_noise(fine, 170 * FINENESS, generator), -1.5, 1.5))
    cytoplasm, strength, gaps = _by_gland(owner, glands)
    patches = smooth_noise(fine, 8 * FINENESS, generator)
    complete = 1 / (1 + np.exp(np.minimum(8 * (gaps - 0.5) + 3 * gaps * patches, 30)))
    he_eosin = (0.27 * dense * stroma + (cytoplasm + 0.2 * membrane) * inside) * (1 - 0.5 * solid)
    he_haematoxylin = dark + 0.07 * inside + 0.03 * stroma
    ihc_haematoxylin = (0.3 + 0.15 * dark) * solid + 0.05 * inside + 0.06 * stroma
    ihc_dab = strength * (membrane * complete + 0.35 * (1 - 0.5 * solid)) * inside + 0.012 * (inside + stroma)
    maps = _soften(shape, (he_haematoxylin, he_eosin, ihc_haematoxylin, ihc_dab), generator)
    return Tissue(he_haematoxylin=maps[0], he_eosin=maps[1], ihc_haematoxylin=maps[2], ihc_dab=maps[3])


def _by_gland(owner: NDArray[np.int32], glands: Sequence[Gland]) -> tuple[FloatMap, FloatMap, FloatMap]:
    """Cytoplasm, membrane strength and gaps [H,W] of the gland of each pixel; outside glands 0, 0, 1."""
    appearances = [APPEARANCES[gland.score] for gland in glands]
    cytoplasm = np.array([0.0] + [one.cytoplasm for one in appearances], np.float32)
    strength = np.array([0.0] + [one.membrane for one in appearances], np.float32)
    gaps = np.array([1.0] + [one.gaps for one in appearances], np.float32)
    return cytoplasm[owner], strength[owner], gaps[owner]


def _fill_glands(fine: tuple[int, int], glands: Sequence[Gland]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The gland of each pixel (its number + 1, lumen included; 0 in the stroma), and a mask of the lumen."""
    owner, lumen = np.zeros(fine, np.int32), np.zeros(fine, np.uint8)
    for number, gland in enumerate(glands, start=1):
        cv2.fillPoly(owner, [_corners(gland.border)], number, shift=FRACTION)
        cv2.fillPoly(lumen, [_corners(gland.border)], 0, shift=FRACTION)
        cv2.fillPoly(lumen, [_corners(gland.lumen)], 1, shift=FRACTION)
    return owner, lumen > 0


def _corners(points: Points) -> NDArray[np.int32]:
    """Points in finished pixels as fixed-point corners on the fine grid, as cv2 needs them."""
    corners: NDArray[np.int32] = np.rint(points * FINENESS * 2**FRACTION).astype(np.int32)
    return corners


def _belongs(cell: Cell, owner: NDArray[np.int32], lumen: NDArray[np.bool_]) -> bool:
    """Whether the centre is on the canvas and in the tissue that the cell belongs to."""
    row, column = int(cell.y * FINENESS), int(cell.x * FINENESS)
    if not (0 <= row < owner.shape[0] and 0 <= column < owner.shape[1]):
        return False
    return bool(owner[row, column] == cell.gland + 1 and not lumen[row, column])


def _fibres(shape: tuple[int, int], generator: np.random.Generator) -> tuple[FloatMap, FloatMap]:
    """Wavy collagen [H,W]: a map whose level lines are the fibres, and their density (mean 0, deviation 1)."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across, along = rotation(generator.uniform(0, np.pi)).astype(np.float32)
    flow = across[0] * x + across[1] * y + 26 * smooth_noise(shape, 90, generator)
    along_fibres = along[0] * x + along[1] * y + 26 * smooth_noise(shape, 90, generator)
    noise = generator.standard_normal((1024, 1024), dtype=np.float32)
    streaks = cv2.GaussianBlur(noise, (0, 0), sigmaX=14, sigmaY=1.6, borderType=cv2.BORDER_REFLECT)
    streaks = streaks / streaks.std() + 0.4 * cv2.GaussianBlur(noise, (0, 0), sigmaX=1.0) / 0.28
    fibres = cv2.remap(streaks, along_fibres, flow, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return flow, np.asarray(fibres, np.float32)


def _enlarge(picture: FloatMap, fine: tuple[int, int]) -> FloatMap:
    return np.asarray(cv2.resize(picture, fine[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _fill_nuclei(
    fine: tuple[int, int], cells: Sequence[Cell], generator: np.random.Generator
) -> tuple[FloatMap, FloatMap]:
    """Haematoxylin of the nuclei in H&E with their chromatin, and a mask of nuclei (0 to 1), [H,W]."""
    dark, solid, coarse = np.zeros(fine, np.float32), np.zeros(fine, np.float32), np.zeros(fine, np.float32)
    for cell in cells:
        oval = np.stack([np.cos(CORNERS) * np.sqrt(cell.stretch), np.sin(CORNERS) / np.sqrt(cell.stretch)], axis=1)
        oval = cell.radius * oval * (1 + wobble(CORNERS, 0.25 * cell.disorder, generator))[:, None]
        corners = [_corners(oval @ rotation(cell.angle).T + (cell.x, cell.y))]
        rim = cell.chromatin * (1.15 + 0.35 * cell.vesicle)
        cv2.fillPoly(dark, corners, cell.chromatin * (1 - 0.8 * cell.vesicle), shift=FRACTION)
        cv2.polylines(dark, corners, True, rim, thickness=1 + round(cell.vesicle * 2), shift=FRACTION)
        if cell.vesicle > 0:
            nucleolus = round(cell.x * FINENESS), round(cell.y * FINENESS)
            cv2.circle(dark, nucleolus, round(1.3 * cell.vesicle * FINENESS), rim, thickness=-1)
        cv2.fillPoly(solid, corners, 1.0, shift=FRACTION)
        cv2.fillPoly(coarse, corners, 0.1 + cell.disorder, shift=FRACTION)
    chromatin = 0.7 * smooth_noise(fine, 1.4 * FINENESS, generator) + 0.7 * smooth_noise(fine, 3 * FINENESS, generator)
    return dark * np.clip(1 + coarse * chromatin, 0.4, 1.6), solid


def _membranes(owner: NDArray[np.int32], lumen: NDArray[np.bool_], cells: Sequence[Cell]) -> FloatMap:
    """Membranes (0 to 1) [H,W]: where cells of a gland meet, and along its border, but not along the lumen."""
    empty = np.ones(owner.shape, np.uint8)
    for cell in cells:
        if cell.gland >= 0:
            empty[int(cell.y * FINENESS), int(cell.x * FINENESS)] = 0
    _, nearest = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    meeting = np.zeros(owner.shape, np.bool_)
    for place in (np.where(lumen, -1, nearest), owner):
        meeting[:, 1:] |= place[:, 1:] != place[:, :-1]
        meeting[1:] |= place[1:] != place[:-1]
    meeting &= ~cv2.dilate(lumen.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    distance = cv2.distanceTransform((~meeting).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(np.exp(-((distance / (1.1 * FINENESS)) ** 2)), np.float32)


def _soften(
    shape: tuple[int, int], maps: Sequence[NDArray[np.float32]], generator: np.random.Generator
) -> list[FloatMap]:
    """Bend straight edges as fixation does, by about a pixel, and bring the fine maps to `shape`."""
    height, width = maps[0].shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for size, reach in ((0.45, 6), (1.8, 25)):
        x += size * FINENESS * smooth_noise((height, width), reach * FINENESS, generator)
        y += size * FINENESS * smooth_noise((height, width), reach * FINENESS, generator)
    bent = [cv2.remap(m.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT) for m in maps]
    return [np.asarray(cv2.resize(b, shape[::-1], interpolation=cv2.INTER_AREA), np.float32) for b in bent]
