"""From an address to its location."""

from __future__ import annotations

from pathlib import Path

from store.disk.names import check_length
from store.location.base import BESIDE, S3, Location
from store.location.local import Folder
from store.schema import StoreError

WITHIN = 100  # bytes that the names in a store have at most


def locate(address: Location | Path | str) -> Location:
    """The location at an address: `s3://bucket/name.zarr`, otherwise a folder. Raises StoreError if it is neither.

    Nor may a folder's name, or that of the journal beside it, be too long for the disk.
    """
    if isinstance(address, Path):
        text = str(address)
        if text.startswith(S3.rstrip("/")) and not address.exists():
            raise StoreError(f"{text}: an address in object storage is a string, {S3}{text.removeprefix('s3:/')}")
        return _folder(address)
    if not isinstance(address, str):
        return address
    if address.startswith(S3):
        from store.location.s3 import Bucket

        return Bucket(address)
    if "://" in address:
        raise StoreError(f"{address}: a store is in a folder or at {S3}bucket/name.zarr; give one of these")
    return _folder(Path(address))


def _folder(path: Path) -> Folder:
    check_length(path, BESIDE, WITHIN)
    return Folder(path)
