"""What a source that is made from another one, a part or the same at another scale, says as that one does."""

from __future__ import annotations

from pathlib import Path

from store.slides.source import Source


class Derived:
    """Takes from `source` what does not change."""

    __slots__ = ()
    source: Source

    @property
    def path(self) -> Path:
        """The file of the source."""
        return self.source.path

    @property
    def mpp_from(self) -> str:
        """Where the scale of the source is from."""
        return self.source.mpp_from

    @property
    def is_slide(self) -> bool:
        """As the source."""
        return self.source.is_slide

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the source."""
        return self.source.notes

    def digest(self) -> str:
        """The sha256 of the source."""
        return self.source.digest()

    def close(self) -> None:
        """Close the source."""
        self.source.close()
