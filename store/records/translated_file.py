"""A translated picture that is whole in memory, and its record, get their names together: in two writes and no folder.

    NAME.json.partial, NAME.new.partial    both synced; then the picture gets its name, then the record

A kill leaves all of it, nothing, or a picture whose record has not got its name yet: `settle` gives it that. One
process at a time does this to an output: whoever calls holds its lock.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from store.files import PARTIAL, digest_bytes, digest_file, disk_errors, record_bytes
from store.records.translation import Translation, check_translation, record_of
from store.schema import RunError

NEW = ".new"


def publish(output: Path, data: bytes, record: Translation) -> Translation:
    """Write the bytes of a picture and the record of it, which is returned complete; its folder is not synced.

    Raises StoreError where that is not possible: what was there before is there still.
    """
    made = replace(record, output=digest_bytes(data))
    drafts = _draft_record(output), _new(output)
    with disk_errors(output):
        try:
            for file, content in zip(drafts, (record_bytes(made), data), strict=True):
                _write(file, content)
            drafts[1].replace(output)
        except OSError:
            for file in drafts:
                with suppress(OSError):
                    file.unlink(missing_ok=True)
            raise
        drafts[0].replace(record_of(output))
    return made


def settle(output: Path) -> None:
    """Give the record of a picture that is there its name, or remove what else a killed process left of `publish`."""
    draft = _draft_record(output)
    with disk_errors(output):
        if not draft.exists():
            return
        _new(output).unlink(missing_ok=True)
        if is_published(output):
            draft.replace(record_of(output))
        else:
            draft.unlink(missing_ok=True)


def is_published(output: Path) -> bool:
    """Whether a picture is there whose record has not got its name yet."""
    with suppress(RunError):
        return output.is_file() and check_translation(_draft_record(output), "").output == digest_file(output)
    return False


def _new(output: Path) -> Path:
    return output.with_name(f"{output.name}{NEW}{PARTIAL}")


def _draft_record(output: Path) -> Path:
    return output.with_name(record_of(output).name + PARTIAL)


def _write(file: Path, data: bytes) -> None:
    with file.open("wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
