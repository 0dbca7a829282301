"""What a run says: lines and a progress bar for a person on stderr, JSON lines for a scheduler on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """`speaks`: of several processes one does. `as_json`: events are written, and no bar is drawn between them."""

    speaks: bool = True
    as_json: bool = False

    def say(self, text: str) -> None:
        """A line for the person, above the progress bar."""
        if self.speaks:
            tqdm.write(text, file=sys.stderr)

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        """A line for a program: {"event": name, …}."""
        if self.speaks and self.as_json:
            sys.stdout.write(json.dumps({"event": name, **facts}) + "\n")
            sys.stdout.flush()

    def bar(self, *, total: int, done: int, what: str) -> tqdm[Any]:
        """The progress bar: steps a second, time left, terms."""
        hidden = self.as_json or not self.speaks
        return tqdm(total=total, initial=done, desc=what, unit="step", file=sys.stderr, disable=hidden)
