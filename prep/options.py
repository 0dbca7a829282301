"""What the options of the commands mean together: settings, data folders, what excludes each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from store.schema import SettingsError

if TYPE_CHECKING:
    from prep.settings import PrepSettings
    from prep.tiles.discovery import Data

PRESETS = Path(__file__).parent / "presets"


def check_options(*, cluster: bool, repair: bool, dry_run: bool, trust_settings: bool) -> None:
    """Raise SettingsError if options of `build` do not go together."""
    if cluster:
        raise SettingsError(
            "--workers starts processes on this machine, --scheduler uses those of a cluster; give one of them (make: "
            "WORKERS= or SCHEDULER=)"
        )
    if repair and dry_run:
        raise SettingsError(
            "--repair and --dry-run exclude each other; `python -m store verify` says what is damaged and writes "
            "nothing"
        )
    if trust_settings and not repair:
        raise SettingsError("--trust-settings goes with --repair only")


def read_settings(config: Path | None, overrides: list[str] | None) -> PrepSettings:
    """The settings of a file or preset and of `--set`. Raises SettingsError."""
    from prep.settings import PrepSettings
    from store.settings import load, resolve_preset

    return load(PrepSettings, resolve_preset(config, PRESETS) if config else None, overrides or [])


def name_data(data: str, he: str, ihc: str, pairs_from: str = "") -> Data:
    """The data folders that the options name. Raises SettingsError."""
    from prep.tiles.discovery import named_data

    return named_data(data, he, ihc, pairs_from)
