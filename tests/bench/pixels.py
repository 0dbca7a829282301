"""Scoring without networks, measured: `tests.bench.pixel_ways`.

Worker processes import the main module, which is therefore as light as that of the command.
"""

from __future__ import annotations


def main() -> None:
    """Measure and print the tables."""
    from tests.bench.pixel_ways import measure

    measure()


if __name__ == "__main__":
    main()
