"""Paths: the project, its golden numbers, and the folder of real pictures beside it, which may be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
SHARED = ROOT.parent / "shared"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the folder ../shared of real pictures is missing")
