"""What the four command lines share: errors in one line, exit codes for schedulers, messages and progress on stderr.

Text in a terminal fits 100 columns. Progress is a bar on a terminal, and one line every 30 s in a log file.
"""

from __future__ import annotations

import codecs
import errno
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from tqdm import tqdm

from store.machine.cores import limit_libraries
from store.schema import Interrupted, MagstainError, SettingsError

if TYPE_CHECKING:
    import typer

_SILENT = ContextVar("silent", default=False)

T = TypeVar("T")
Progress: TypeAlias = "tqdm[Any]"
DONE, OUR_BUG, YOUR_INPUT, RUN_AGAIN = 0, 1, 2, 3
NO_MEMORY = (
    "this machine has not enough memory{}; what is already written is kept: end other programs, or use fewer workers "
    "and threads or smaller batches, and run the same command again"
)
CTRL_C = 130  # the exit code of typer after a KeyboardInterrupt
WIDTH = 100  # columns
PAD = "\0"  # stands for the other bytes of a sign while a text is wrapped
SPELLED = "magstain.spelled"  # how Python calls what is done with signs that a stream cannot write
SPELLING = {"…": "...", "–": "-", "—": "-", "’": "'", "×": "x", "±": "+-", "≤": "<=", "≥": ">=", "→": "->", "µ": "u"}
SLOW = re.compile(r"(?<=\d)s/ (\w+?)s?\b")  # tqdm writes 1.77s/ steps for 1.77 s/step
SECONDS = 30  # between two lines of progress where there is no terminal
LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {percentage:.0f} %, {rate_fmt}, {remaining} left{postfix}"


def run_app(app: typer.Typer) -> None:
    """Run a command line and exit: 0 done, 2 wrong input, 3 run it again, 1 (with a trace) a bug."""
    limit_libraries()  # the commands import them
    show_in_any_terminal()
    try:
        _check_words(sys.argv)
        app(standalone_mode=True)
    except SystemExit as leaving:
        if leaving.code != CTRL_C:
            raise
        print("stopped by Ctrl-C: what is already written is kept; run the same command to resume", file=sys.stderr)
        sys.exit(RUN_AGAIN)
    except Interrupted as stop:
        print(f"stopped: {stop}", file=sys.stderr)
        sys.exit(RUN_AGAIN)
    except MagstainError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(YOUR_INPUT)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        print(f"error: the name {error.filename} is too long for its disk; give a shorter one", file=sys.stderr)
        sys.exit(YOUR_INPUT)
    except MemoryError as error:
        print(f"error: {NO_MEMORY.format(f': {error}' if str(error) else '')}", file=sys.stderr)
        sys.exit(YOUR_INPUT)


def show_in_any_terminal() -> None:
    """Let stdout and stderr write what they cannot show, of a terminal in ASCII or Latin-1, in other signs."""
    codecs.register_error(SPELLED, _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=SPELLED)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """The signs that cannot be shown in ASCII: in the usual spelling, or as the number of the sign."""
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end]
    return "".join(SPELLING.get(sign) or ascii(sign)[1:-1] for sign in signs), error.end


def _check_words(words: Sequence[str]) -> None:
    """Refuse words of a command line that are no text, which names of files may be. Raises SettingsError."""
    for word in words:
        if not _is_text(word):
            raise SettingsError(
                f"{word!a} is no text in the encoding of this terminal ({sys.getfilesystemencoding()}), and records "
                "hold text: set PYTHONUTF8=1 or LC_ALL=C.UTF-8, or give the file or folder another name"
            )


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def say(text: str) -> None:
    """Print a line on stderr, above a progress bar if there is one."""
    if not _SILENT.get():
        tqdm.write(text, file=sys.stderr)


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph in lines of at most 100 columns; lines after the first begin with `indent`.

    Bytes are counted, not signs, so that lines fit for tools that count in bytes too.

    >>> print(wrapped("note: " + "word " * 20, indent="  "))
    note: word word word word word word word word word word word word word word word word word word word
      word
    """
    padded = "".join(sign + PAD * (len(sign.encode()) - 1) for sign in text)
    lines = textwrap.fill(padded, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace(PAD, "")


@contextmanager
def silent() -> Iterator[None]:
    """Show no progress and say nothing, in this thread, which works for another process that tells it."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


def progress(
    *, total: int | None, what: str, unit: str, done: int = 0, hidden: bool = False, scaled: bool = False
) -> Progress:
    """Progress of `what` on stderr, counted in `unit`s (in the singular): a bar on a terminal, else a line every 30 s.

    `scaled` writes 34.0M instead of 34000000, for bytes; `done` of the `total` were done before.
    """
    hidden = hidden or _SILENT.get()
    if sys.stderr.isatty():
        columns = min(WIDTH, shutil.get_terminal_size().columns)
        return tqdm(
            total=total, initial=done, desc=what, unit=f" {unit}", file=sys.stderr, disable=hidden, ncols=columns,
            unit_scale=scaled,
        )  # fmt: skip
    stream, units = cast("IO[str]", _OneLineEach()), f" {unit}" if scaled else f" {unit}s"
    return tqdm(
        total=total, initial=done, desc=what, unit=units, file=stream, disable=hidden, bar_format=LINE,
        mininterval=SECONDS, maxinterval=SECONDS, miniters=1, unit_scale=scaled,
    )  # fmt: skip


def track(
    items: Sequence[T] | Iterable[T],
    *,
    what: str,
    unit: str,
    total: int | None = None,
    done: int = 0,
    hidden: bool = False,
) -> Generator[T]:
    """The items one by one, with `progress`; `total` is for an iterable without a length, with the `done` before it."""
    known = done + len(items) if isinstance(items, Sequence) else total
    with progress(total=known, what=what, unit=unit, done=done, hidden=hidden) as bar:
        try:
            for item in items:
                yield item
                bar.update()
        except GeneratorExit:  # the caller stopped early and reports that itself
            bar.leave = False
            raise


class _OneLineEach:
    """A stream for tqdm: each update is a new line, where a terminal would overwrite the last one."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(SLOW.sub(r" s/\1", line), file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
