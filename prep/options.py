"""The options that several commands have, and what options mean together: settings, data folders, exclusions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from store.schema import SettingsError

if TYPE_CHECKING:
    from prep.settings import PrepSettings
    from prep.tiles.discovery import Data

PRESETS = Path(__file__).parent / "presets"

DataOption = Annotated[
    str,
    typer.Option("--data", metavar="DIR", help="data folder: MIST, BCI, HE and IHC, and others"),
]
HeOption = Annotated[str, typer.Option("--he", metavar="DIR", help="H&E tiles; with --ihc, instead of --data")]
IhcOption = Annotated[str, typer.Option("--ihc", metavar="DIR", help="IHC tiles, under the names of the H&E tiles")]
PairsOption = Annotated[
    str, typer.Option("--pairs-from", metavar="CSV", help="table of pairs: he, ihc; slide, split, id if you like")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="TOML|NAME", help="settings: a file or a preset (demo); else the paper's"),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change one setting; can be repeated")
]
ThreadsOption = Annotated[
    int, typer.Option("--threads", metavar="N", min=1, help="threads that read, cut and pack pictures")
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad/--strict", help="skip bad pairs and list them; else one stops the build")
]


def check_options(*, repair: bool, dry_run: bool, trust_settings: bool) -> None:
    """Raise SettingsError if options of `build` do not go together."""
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
