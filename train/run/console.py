"""Messages of a run: lines and a progress bar for people on stderr, JSON lines for schedulers on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from store.cli import Progress, progress, say


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """`active`: of several processes one writes. `as_json`: events are written, and there is no progress bar."""

    active: bool = True
    as_json: bool = False

    def say(self, text: str) -> None:
        """Text for a person, above the progress bar."""
        if self.active:
            say(text)

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        """A line for a program: {"event": name, …}."""
        if self.active and self.as_json:
            sys.stdout.write(json.dumps({"event": name, **facts}) + "\n")
            sys.stdout.flush()

    def progress(self, *, total: int, done: int, what: str) -> Progress:
        """The progress of `total` steps, of which `done` are done."""
        return progress(total=total, done=done, what=what, unit="step", hidden=self.as_json or not self.active)
