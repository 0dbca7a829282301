"""The user's home, which a container or a cluster's node may lack: what is kept there is a cache, and can be missed."""

from __future__ import annotations

import os
from pathlib import Path

NOWHERE = Path("/nonexistent")  # what Debian calls the home of who has none


def home() -> Path:
    """The user's home folder; one that does not exist for a user who has none."""
    try:
        return Path.home()
    except RuntimeError:  # neither HOME nor an entry in the list of users
        return NOWHERE


def cache_folder(variable: str, kind: str) -> Path:
    """The folder that the environment's `variable` names, else `magstain/<kind>` in the user's cache."""
    if named := os.environ.get(variable):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "magstain" / kind
