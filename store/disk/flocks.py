"""flock(2), whose answer is one of three: taken, held by another, or that this file system has no locks."""

from __future__ import annotations

import errno
import fcntl
from enum import Enum
from typing import IO, Any

WITHOUT = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


class Flock(Enum):
    """What came of a try to lock a file."""

    TAKEN = "taken"
    BUSY = "busy"
    NONE = "none"  # Lustre without -o flock (ENOSYS), NFS without a lock daemon (ENOLCK), some FUSE (EOPNOTSUPP)


def try_flock(handle: IO[Any], *, shared: bool = False) -> Flock:
    """Lock an open file without waiting. Raises OSError for other errors than that there are no locks."""
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return Flock.BUSY
    except OSError as error:
        if error.errno in WITHOUT:
            return Flock.NONE
        raise
    return Flock.TAKEN
