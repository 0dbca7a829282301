"""Which other processes work for this one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from store.schema import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """`count` processes that are started on this machine, or those of the Dask scheduler at an address.

    With neither, this process does the work. Raises SettingsError where both are given, or Dask is missing.
    """

    count: int = 0
    scheduler: str = ""

    def __post_init__(self) -> None:
        if self.count and self.scheduler:
            raise SettingsError(
                "--workers starts processes on this machine, --scheduler uses those of a cluster; give one of them "
                "(make: WORKERS= or SCHEDULER=)"
            )
        if self and find_spec("distributed") is None:
            raise SettingsError(
                f"{'--scheduler' if self.scheduler else '--workers'} needs an extra; run `make setup`, or pip install "
                "'.[cluster]' in the folder of the project"
            )

    def __bool__(self) -> bool:
        return bool(self.count or self.scheduler)
