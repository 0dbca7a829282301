"""What the four command lines share: errors as one line, and exit codes that a scheduler can act on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from store.schema import Interrupted, MagstainError

if TYPE_CHECKING:
    import typer

DONE, OUR_BUG, YOUR_INPUT, RUN_AGAIN = 0, 1, 2, 3
CTRL_C = 130  # how typer leaves at a KeyboardInterrupt


def run_app(app: typer.Typer) -> None:
    """Run a command line and exit: 0 done, 2 your input, 3 run it again, 1 (with a trace) our bug."""
    try:
        app(standalone_mode=True)
    except SystemExit as leaving:
        if leaving.code != CTRL_C:
            raise
        print("stopped by Ctrl-C: what is written so far is safe, the same command goes on", file=sys.stderr)
        sys.exit(RUN_AGAIN)
    except Interrupted as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        sys.exit(RUN_AGAIN)
    except MagstainError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(YOUR_INPUT)
