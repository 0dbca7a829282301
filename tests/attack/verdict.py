"""How a case ended, and what a command may never do, whatever is put before it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from textwrap import shorten

from tests.attack.machine.processes import HUNG, Done

LONGEST = 4000  # signs of a message: a value that fills a screen hides the rule


class Outcome(StrEnum):
    """What a case came to; all but the last keep the promise."""

    SAME = "same"
    RECOVERED = "recovered"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a case, what was attacked, and for a failure what was wrong."""

    outcome: Outcome
    what: str
    detail: str = ""


class Broken(Exception):  # noqa: N818 - it is a finding, not an error
    """A promise that was not kept: what was wrong, and with what."""

    def __init__(self, why: str, what: str = "") -> None:
        super().__init__(why)
        self.what = what


def require_orderly(done: Done, *codes: int) -> None:
    """Raise Broken unless a command ended with one of `codes`; 2 only with one sentence, and never with a trace."""
    command, last = shorten(" ".join(done.words), 80), (done.err.strip() or done.out.strip() or "nothing")[-400:]
    if done.code == HUNG:
        raise Broken(f"`{command}` hung for {done.seconds:.0f} s; it last said: {last}")
    if done.code < 0:
        raise Broken(f"`{command}` died of signal {-done.code}; it last said: {last}")
    if "Traceback (most recent call last)" in done.err or done.code == 1:
        raise Broken(f"`{command}` ended with exit code {done.code} and a trace: {last}")
    if "weights_only=False" in done.err + done.out:
        raise Broken(f"`{command}` prints the advice to load unsafely: {last}")
    if done.code not in codes:
        raise Broken(f"`{command}` ended with exit code {done.code}; it last said: {last}")
    if done.code == 2 and not any(sign in done.err for sign in ("error: ", "Usage: ")):
        raise Broken(f"`{command}` ended with exit code 2 and no sentence: {last}")
    if done.code == 2 and len(done.err) > LONGEST:
        raise Broken(f"`{command}` said {len(done.err)} signs: {done.err[:200]} …")
