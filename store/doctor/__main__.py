"""`python -m store.doctor`: the doctor without the packages of the toolkit, for an environment that is half made."""

from __future__ import annotations

import sys

OLDEST, NEWEST = (3, 11), (3, 12)


def python_fault(version: tuple[int, ...]) -> str:
    """Why the toolkit does not run on this version of Python, in one line; "" if it does."""
    if OLDEST <= version[:2] <= NEWEST:
        return ""
    return (
        f"error: this is Python {version[0]}.{version[1]}, and the toolkit needs 3.11 or 3.12 (basicsr 1.4.2 builds on "
        "no other); run `make setup`, with PYTHON=/path/to/python3.11 if it finds none"
    )


def main(words: list[str]) -> int:
    """Examine the folders that are named, and print the page, or JSON with --json; the exit code."""
    if fault := python_fault(sys.version_info[:3]):
        sys.stderr.write(fault + "\n")
        return 2
    from pathlib import Path

    from store.doctor.run import report

    try:
        text, problem = report([Path(word) for word in words if word != "--json"], as_json="--json" in words)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; nothing of the trial is left\n")
        return 3
    print(text)
    return 2 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
