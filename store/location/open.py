"""From an address to its location."""

from __future__ import annotations

from pathlib import Path

from store.location.base import S3, Location
from store.location.local import Folder
from store.schema import StoreError


def locate(address: Location | Path | str) -> Location:
    """The location at an address: `s3://bucket/name.zarr`, otherwise a folder. Raises StoreError if it is neither."""
    if isinstance(address, Path):
        text = str(address)
        if text.startswith(S3.rstrip("/")) and not address.exists():
            raise StoreError(f"{text}: an address in object storage is a string, {S3}{text.removeprefix('s3:/')}")
        return Folder(address)
    if not isinstance(address, str):
        return address
    if address.startswith(S3):
        from store.location.s3 import Bucket

        return Bucket(address)
    if "://" in address:
        raise StoreError(f"{address}: a store is in a folder or at {S3}bucket/name.zarr; give one of these")
    return Folder(Path(address))
