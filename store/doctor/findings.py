"""Findings: what was looked at, how it is, and what to do about it; as a page and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TypeAlias

WIDTH = 100  # columns
NAME, LEVEL = 12, 9  # columns of a finding's name and level
SHOWN = 160  # characters of what an error says


class Level(StrEnum):
    """How something is: `note` is good to know, `problem` keeps the toolkit, or a part of it, from working."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found, and what to do about it where it is not ok."""

    name: str
    text: str
    level: Level = Level.OK
    remedy: str = ""


Probe: TypeAlias = Callable[[], Iterable[Finding]]


def ask(name: str, probe: Probe) -> Iterator[Finding]:
    """What a probe finds, one by one; an error of the probe becomes a finding called `name`."""
    try:
        yield from probe()
    except Exception as error:  # whatever is wrong with a machine, the other probes are asked too
        yield Finding(
            name=name,
            text=f"cannot be looked at: {type(error).__name__}: {first_line(error)}",
            level=Level.NOTE,
            remedy="look at it by hand",
        )


def first_line(error: object) -> str:
    """The first line of an error, at most 160 characters."""
    return (str(error).strip() or "no reason given").partition("\n")[0][:SHOWN].rstrip(". ")


def write_page(findings: Sequence[Finding]) -> str:
    """The page: a line for each finding, below it what to do, and at the end whether there is a problem."""
    lines = []
    for finding in findings:
        head = f"{finding.name:<{NAME}} {finding.level:<{LEVEL}}"
        lines.append(_wrapped(head + finding.text, " " * (NAME + 1 + LEVEL)))
        if finding.remedy:
            lines.append(_wrapped(" " * (NAME + 1 + LEVEL) + f"-> {finding.remedy}", " " * (NAME + LEVEL + 4)))
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    notes = sum(finding.level is Level.NOTE for finding in findings)
    verdict = f"{problems} problem{'s' * (problems != 1)}" if problems else "no problem"
    return "\n".join([*lines, "", f"{verdict}, {notes} note{'s' * (notes != 1)}"])


def write_json(findings: Sequence[Finding]) -> str:
    """The same for programs."""
    facts = [asdict(finding) for finding in findings]
    return json.dumps({"problems": any_problem(findings), "findings": facts}, indent=1)


def any_problem(findings: Sequence[Finding]) -> bool:
    """Whether something keeps the toolkit from working."""
    return any(finding.level is Level.PROBLEM for finding in findings)


def _wrapped(text: str, indent: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
