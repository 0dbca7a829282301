"""A location on a local disk: a folder, whose files are written under another name, synced and renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from store.cli import say, wrapped
from store.disk.locks import locked
from store.disk.removing import remove_file
from store.files import PARTIAL, digest_file, disk_errors, files_of, sync, sync_all
from store.location.base import Location

SERVERS_OWN = ".nfs"  # the start of the name of a file that was removed while a program had it open
WRITABLE = 0o222  # write permission of owner, group and others


class Folder:
    """A location on a local disk."""

    can_lock = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.path

    def beside(self, suffix: str) -> Folder:
        """The sibling folder whose name is this one's followed by `suffix`."""
        return Folder(self.path.with_name(self.path.name + suffix))

    def within(self, name: str) -> Folder:
        """A folder in this one."""
        return Folder(self.path / name)

    def exists(self, name: str) -> bool:
        """Whether a file of this name exists."""
        return (self.path / name).is_file()

    def names(self) -> Iterator[str]:
        """The names of all files, sorted; not what a file server keeps for programs that have it open."""
        return (name for name in files_of(self.path) if not name.rpartition("/")[2].startswith(SERVERS_OWN))

    def sizes(self) -> dict[str, int]:
        """The length of every file in bytes, sorted by name."""
        sizes = {}
        for name in self.names():
            with suppress(FileNotFoundError):  # another process removed it meanwhile
                sizes[name] = (self.path / name).stat().st_size
        return sizes

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        return (self.path / name).read_bytes()

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes of a file from `offset`, fewer at its end."""
        handle = os.open(self.path / name, os.O_RDONLY)
        try:
            return os.pread(handle, length, offset)
        finally:
            os.close(handle)

    def read_end(self, name: str, length: int) -> bytes:
        """The last `length` bytes of a file, fewer if it is shorter."""
        handle = os.open(self.path / name, os.O_RDONLY)
        try:
            return os.pread(handle, length, max(0, os.fstat(handle).st_size - length))
        finally:
            os.close(handle)

    def digest(self, name: str) -> str:
        """The sha256 of a file, in hex."""
        return digest_file(self.path / name)

    def write(self, name: str, *parts: bytes) -> None:
        """Write under a unique name in the same folder, sync, rename, sync the folders that are new.

        An empty folder in the place of the file is damage, and removed.
        """
        file = self.path / name
        new = [folder for folder in file.parents if not folder.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{os.getpid()}-{os.urandom(4).hex()}{PARTIAL}")
        try:
            with partial.open("wb") as handle:
                handle.writelines(parts)
                handle.flush()
                os.fsync(handle.fileno())
            if file.is_dir():
                file.rmdir()
            partial.replace(file)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        for folder in (file.parent, *(folder.parent for folder in new)):
            sync(folder)

    def claim(self, name: str, data: bytes) -> bytes:
        """Write a file unless it exists; returns its bytes. Safe only while `lock` is held."""
        if not self.exists(name):
            self.write(name, data)
        return self.read(name)

    def remove(self, name: str) -> None:
        """Remove a file, or an empty folder in its place, if it exists."""
        if (file := self.path / name).is_dir():
            file.rmdir()
        else:
            file.unlink(missing_ok=True)

    def remove_all(self) -> None:
        """Remove the folder, as far as possible."""
        shutil.rmtree(self.path, ignore_errors=True)

    def publish(self, files: Mapping[str, bytes], last: str, scratch: Location) -> None:
        """Write all files into `scratch`, then rename it to this folder: all of them appear at once."""
        draft = scratch.folder
        assert draft is not None, "a folder is renamed from a folder"
        scratch.remove_all()
        for name, data in files.items():
            file = draft / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        sync_all(draft / name for name in files)
        draft.rename(self.path)
        sync(self.path.parent)

    def occupied(self, last: str) -> bool:
        """Whether anything exists at this path."""
        return self.path.exists()

    @contextmanager
    def lock(self, name: str, what: str) -> Iterator[bool]:
        """Create the folder if it is missing and lock its file `name`; yields whether the folder is new."""
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            with disk_errors(what), suppress(FileNotFoundError):  # its last holder removed the folder
                self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path / name, what):
                yield self.path in made
            with suppress(OSError):  # it holds files, or its last holder has removed it, and on NFS not all of it
                self.path.rmdir()
        except BaseException:
            for folder in made:
                with suppress(OSError):  # another process uses it, or it holds files
                    folder.rmdir()
            raise

    def discard(self, names: Iterable[str]) -> None:
        """Remove these files, as far as possible: the disk may be full."""
        for name in names:
            with suppress(OSError):
                self.remove(name)

    def forget(self, names: Iterable[str]) -> None:
        """Drop the pages of these files, where the system can; a file that is missing has none."""
        for name in names if hasattr(os, "posix_fadvise") else ():
            with suppress(OSError):
                handle = os.open(self.path / name, os.O_RDONLY)
                try:
                    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(handle)

    def remove_partial(self) -> None:
        """Remove the partial files of interrupted writes."""
        for name in self.names():
            if name.endswith(PARTIAL):
                remove_file(self.path / name)

    def make_read_only(self) -> None:
        """Remove the write permission of every file, where the file system allows that; else a line says so."""
        refused: OSError | None = None
        for name in self.names():
            file = self.path / name
            try:
                if (mode := file.stat().st_mode) & WRITABLE:
                    file.chmod(mode & ~WRITABLE)
            except FileNotFoundError:  # another process finishes the same store
                continue
            except OSError as error:
                refused = error
        if refused:
            say(
                wrapped(
                    f"note: {self} is complete and good, but its files stay writable, as their permissions cannot be "
                    f"changed here ({refused.strerror}): take care that nothing writes to them"
                )
            )

    def stray_folders(self, files: Collection[str]) -> Iterator[str]:
        """Folders that hold none of `files`, each name ending in a slash."""
        needed = {folder.as_posix() for file in files for folder in Path(file).parents}
        for folder in self.path.rglob("*"):
            if folder.is_dir() and (name := folder.relative_to(self.path).as_posix()) not in needed:
                yield f"{name}/"

    def check_writable(self) -> None:
        """Raise OSError if no file can be created where the folder is, or will be."""
        with tempfile.TemporaryFile(dir=self._nearest()):
            pass

    def free_bytes(self) -> float:
        """Free bytes on the disk."""
        return shutil.disk_usage(self._nearest()).free

    def _nearest(self) -> Path:
        """The nearest parent folder that exists."""
        return next(folder for folder in self.path.absolute().parents if folder.exists())
