"""Synthetic tissue, planned: position and appearance of glands and cells. `prep/demo/staining.py` draws it.

A gland has a score 0 to 3 (as HER2: 0, 1+, 2+, 3+). The score decides the appearance of its cells in both stains:
nuclear size, chromatin, layers and lumen in H&E, strength and completeness of the brown membranes in IHC. Glands of
every score may be solid, and larger nuclei are paler, so the score must be read from the cells and does not follow from
the brightness of a tile. Lengths are pixels of the finished picture, points are (x, y), concentrations are optical
densities along a unit stain vector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatMap = NDArray[np.float32]
Points = NDArray[np.float64]
AROUND_GLAND = np.linspace(0, 2 * np.pi, 80, endpoint=False)


@dataclass(frozen=True, slots=True)
class Appearance:
    """The appearance of the cells of one score."""

    radius: float  # of a nucleus
    spacing: float  # between neighbouring cells of a layer
    height: float  # of a layer
    layers: int  # around a lumen
    solid: float  # share of the glands that are solid instead
    chromatin: float  # haematoxylin of a nucleus in H&E
    vesicle: float  # share of the chromatin that has gone from the middle of a nucleus to its rim and nucleolus
    disorder: float  # spread of nuclear size, shape and place
    cytoplasm: float  # eosin in H&E
    membrane: float  # DAB of a complete membrane
    gaps: float  # share of the membrane that is missing


# radius, spacing, height, layers, solid, chromatin, vesicle, disorder, cytoplasm, membrane, gaps
APPEARANCES = (
    Appearance(4.1, 11.0, 20.0, 1, 0.6, 0.84, 0.0, 0.05, 0.36, 0.0, 1.0),
    Appearance(5.0, 13.0, 16.0, 2, 0.5, 0.82, 0.12, 0.08, 0.29, 0.4, 0.5),
    Appearance(6.2, 15.0, 15.0, 3, 0.4, 0.8, 0.32, 0.11, 0.22, 0.85, 0.2),
    Appearance(7.5, 18.5, 18.0, 2, 0.6, 0.78, 0.5, 0.15, 0.15, 1.35, 0.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gland:
    """One gland: closed outlines [K,2] of its border and of its lumen (a point where it is solid)."""

    score: int
    solid: bool
    height: float  # of its layers
    layers: int
    centre: tuple[float, float]
    radius: float
    border: Points
    lumen: Points


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One nucleus: `stretch` is length over width, `angle` the direction of the length, `gland` -1 in the stroma."""

    x: float
    y: float
    radius: float
    stretch: float
    angle: float
    chromatin: float
    vesicle: float
    disorder: float
    gland: int


def smooth_noise(shape: tuple[int, int], reach: float, generator: np.random.Generator) -> FloatMap:
    """Noise [H,W] of mean 0 and deviation about 1 that changes over `reach` px."""
    height, width = shape
    grid = (max(4, round(height / reach)), max(4, round(width / reach)))
    noise = generator.standard_normal(grid, dtype=np.float32)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.float32) * np.float32(1.3)


def plan_glands(shape: tuple[int, int], generator: np.random.Generator) -> tuple[Gland, ...]:
    """Glands with varying gaps between them; their scores follow a smooth random field over the slide."""
    height, width = shape
    grade, room = (smooth_noise(shape, reach, generator) for reach in (260, 200))
    places: list[tuple[float, float, float]] = []
    values: list[float] = []
    for _ in range(height * width // 350):
        x, y, radius = (float(n) for n in generator.uniform((-20, -20, 28), (width + 20, height + 20, 66)))
        at = min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)
        gap = 2 + 18 * max(0.0, float(room[at]))
        if all(np.hypot(x - u, y - v) > radius + other + gap for u, v, other in places):
            places.append((x, y, radius))
            values.append(float(grade[at]) + float(generator.normal(0, 0.2)))
    rank = np.array(values).argsort().argsort() / len(values) + generator.uniform(-0.25, 0.25)
    scores = np.clip(rank * len(APPEARANCES), 0, len(APPEARANCES) - 1).astype(int)
    return tuple(
        plan_gland(int(score), (x, y), radius, generator) for score, (x, y, radius) in zip(scores, places, strict=True)
    )


def plan_gland(score: int, centre: tuple[float, float], radius: float, generator: np.random.Generator) -> Gland:
    """One gland: an irregular oval; inside its layers of cells is the lumen."""
    aspect = np.sqrt(generator.uniform(1.0, 1.4))
    oval = radius * np.stack([np.cos(AROUND_GLAND) * aspect, np.sin(AROUND_GLAND) / aspect], axis=1)
    oval = oval * (1 + wobble(AROUND_GLAND, 0.04 + 0.015 * score, generator))[:, None]
    oval = oval @ rotation(generator.uniform(0, np.pi)).T
    appearance = APPEARANCES[score]
    solid = bool(generator.uniform() < appearance.solid)
    height = min(appearance.height, 2.5 * appearance.radius) if solid else appearance.height
    layers = round(radius / height) if solid else appearance.layers
    free = max(0.0, radius - layers * height) * (not solid)
    lumen = oval * (free / radius) * (1 + wobble(AROUND_GLAND, 0.08, generator))[:, None]
    return Gland(
        score=score,
        solid=solid,
        height=height,
        layers=layers,
        centre=centre,
        radius=radius,
        border=oval + centre,
        lumen=lumen + centre,
    )


def plan_epithelium(index: int, gland: Gland, generator: np.random.Generator) -> Iterator[Cell]:
    """The cells of gland number `index`, layer by layer from the border inwards."""
    appearance = APPEARANCES[gland.score]
    loose = 0.15 if gland.solid else 0.0
    for layer in range(gland.layers):
        share = 1 - gland.height * (layer + 0.45) / gland.radius
        if share < 0.08:
            return
        ring = (gland.border - gland.centre) * share
        for x, y in _along(ring, appearance.spacing, appearance.disorder + loose, generator) + gland.centre:
            size, shape, dark = generator.normal(1, appearance.disorder, 3)
            turn = generator.normal(0, 0.1 + 0.7 * gland.solid + 2 * appearance.disorder)
            yield Cell(
                x=x,
                y=y,
                radius=appearance.radius * max(size, 0.6),
                stretch=1.15 + abs(shape - 1) + 0.25 * (gland.score == 0),
                angle=float(np.arctan2(y - gland.centre[1], x - gland.centre[0]) + turn),
                chromatin=appearance.chromatin * (1 + 0.6 * (dark - 1)),
                vesicle=appearance.vesicle,
                disorder=appearance.disorder,
                gland=index,
            )


def plan_stroma(shape: tuple[int, int], flow: FloatMap, generator: np.random.Generator) -> Iterator[Cell]:
    """Spindle cells along the fibres, the level lines of `flow` [H,W], and groups of small dark lymphocytes."""
    height, width = shape
    slope_y, slope_x = (np.asarray(slope, np.float32) for slope in np.gradient(flow))
    crowd = smooth_noise(shape, 110, generator)
    for _ in range(height * width // 100):
        x, y, size, dark, turn, chance = generator.uniform(
            (0, 0, 0.85, 0.85, -0.3, 0), (width, height, 1.15, 1.15, 0.3, 1)
        )
        at = int(y), int(x)
        if crowd[at] > 0.9 and chance < 0.9:
            yield _stromal(x, y, 3.9 * size, 1.1, 10 * turn, 1.05 * dark)
        elif chance < 0.18:
            yield _stromal(
                x, y, 3.1 * size, 3.6 * dark, float(np.arctan2(-slope_x[at], slope_y[at])) + turn, 0.75 * dark
            )


def _stromal(x: float, y: float, radius: float, stretch: float, angle: float, chromatin: float) -> Cell:
    return Cell(
        x=x, y=y, radius=radius, stretch=stretch, angle=angle, chromatin=chromatin, vesicle=0.0, disorder=0.06, gland=-1
    )


def _along(ring: Points, spacing: float, disorder: float, generator: np.random.Generator) -> Points:
    """Points [N,2] about `spacing` px apart along a closed ring [K,2]."""
    closed = np.concatenate([ring, ring[:1]])
    length = np.concatenate([[0.0], np.hypot(*np.diff(closed, axis=0).T).cumsum()])
    count = max(1, round(float(length[-1]) / spacing))
    place = (np.arange(count) + generator.uniform()) % count * length[-1] / count
    points = np.stack([np.interp(place, length, closed[:, axis]) for axis in (0, 1)], axis=1)
    return points + generator.normal(0, (0.05 + disorder) * 0.6 * spacing, points.shape)


def wobble(around: Points, size: float, generator: np.random.Generator) -> Points:
    """A closed curve of mean 0 and deviation about `size` over the directions `around`."""
    waves = np.arange(2, 6)[:, None]
    curve: Points = (generator.normal(0, size, (4, 1)) * np.cos(waves * around + generator.uniform(0, 7, (4, 1)))).sum(
        axis=0
    )
    return curve


def rotation(angle: float) -> Points:
    """The matrix [2,2] that turns a column (x, y) by `angle`."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
