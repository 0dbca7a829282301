"""`run.json`: what a run is made from, and the store that it was trained on. An unknown value is `null`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from store.files import check_record, read_json, with_current_names
from store.location.open import locate
from store.run_files import FIT, RunFolder
from store.schema import FORBID_UNKNOWN, RunError, SchemaError
from store.untrusted.documents import DocumentError, parse_toml, read_document
from store.untrusted.text import printable

if TYPE_CHECKING:
    from store.reader import Store  # imports Zarr, which translating a picture does not need


@dataclass(frozen=True, kw_only=True)
class StartedFrom:
    """The file that a run took its first weights from: its name and sha256.

    `taken` counts the tensors of each network that came from it. The networks `fresh` are not in the file and have
    weights of their own, those `left` are in the file and not in the run.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    file: str
    sha256: str
    taken: dict[str, int]
    fresh: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        came = ", ".join(f"{name} {count} tensors" for name, count in self.taken.items())
        fresh = f"; fresh: {', '.join(self.fresh)}" if self.fresh else ""
        left = f"; not taken: {', '.join(self.left)}" if self.left else ""
        return printable(f"{self.file} (sha256 {self.sha256[:12]}): {came}{fresh}{left}")


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """`run.json`: what a run is made from. Most of it is unknown (None) for an imported generator.

    `settings` is the digest of the settings that change numbers, `frozen` counts the parameters of each network that
    stay as they started.
    """

    __pydantic_config__ = FORBID_UNKNOWN

    store: str | None
    seal: str | None
    method: str
    synthetic: bool
    upscaler: str
    pairs: int | None
    pairs_seen: int | None
    device: str | None
    precision: str | None
    parameters: dict[str, int]
    software: dict[str, str]
    processes: int = 1
    effective_batch: int = 1
    settings: str | None = None
    started_from: StartedFrom | None = None
    frozen: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, count in self.frozen.items():
            if not 0 < count <= self.parameters.get(name, 0):
                raise SchemaError(
                    f"frozen.{name} = {count}: of {self.parameters.get(name, 0)} parameters at least 1 and at most all"
                )

    def describe_frozen(self, parts: Sequence[str]) -> str:
        """Which `parts` stay as they started, and how much of each network that is."""
        shares = [
            f"{'all' if count == self.parameters[name] else f'{count:,} of'} {self.parameters[name]:,} of the {name}"
            for name, count in self.frozen.items()
        ]
        return f"{', '.join(parts)}: {', '.join(shares)}"


def read_facts(folder: RunFolder) -> RunFacts:
    """What a run is made from. Raises RunError if the folder is not a run."""
    if not folder.facts.is_file():
        raise RunError(f"{folder.path} is not a run: it has no {folder.facts.name}; train one with `{FIT}`")
    remedy = (
        f"restore the file from a copy, or let the `{FIT}` that started the run write it again; keep the checkpoints "
        "beside it, which are not affected"
    )
    tree = with_current_names(
        read_json(folder.facts, remedy), unknown=("store", "seal", "pairs", "pairs_seen", "device", "precision")
    )
    return check_record(RunFacts, tree, folder.facts, remedy)


def open_store_of(folder: RunFolder) -> Store:
    """The store that a run was trained on, at its old address. Raises RunError if it was moved or replaced."""
    from store.reader import Store

    if folder.generator_file and not folder.facts.exists():
        raise RunError(f"{folder.generator} is not in a run folder; name the store with --store")
    facts = read_facts(folder)
    if facts.store is None:
        raise RunError(f"{folder.path} was imported, not trained on a store; name the store with --store")
    path = locate(facts.store).folder
    if path is not None and not path.exists():
        raise RunError(f"{folder.path} was trained on {facts.store}, which does not exist; name its copy with --store")
    store = Store.open(facts.store)
    if store.manifest.seal != facts.seal:
        raise RunError(
            f"{folder.path} was trained on a store with seal {str(facts.seal)[:12]}, but {facts.store} now has seal "
            f"{store.manifest.seal[:12]}; name the right store with --store"
        )
    return store


def trained_views(folder: RunFolder) -> tuple[str, ...] | None:
    """The views that a run was trained on, from its `settings.toml`; None if that file does not exist."""
    if not folder.settings.is_file():
        return None
    try:
        views = parse_toml(read_document(folder.settings))["data"]["views"]
        return tuple(str(view) for view in views)
    except (OSError, DocumentError, KeyError, TypeError) as error:
        raise RunError(f"{folder.settings} names no views ({error!r}); restore it from a copy") from error
