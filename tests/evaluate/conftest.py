"""What all tests of `evaluate` share: no weights and an empty cache, whatever the machine has."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAGSTAIN_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("MAGSTAIN_FEATURES", str(tmp_path / "features"))
