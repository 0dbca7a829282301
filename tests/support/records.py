"""Records of runs that were never trained, and records changed by hand, which have no digest, like earlier ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from store.files import DIGEST, digest_file, write_json
from store.reader import Store
from store.records.facts import RunFacts
from store.records.predictions import load_predictions
from store.run_files import PredictionFolder, RunFolder


def unsigned(file: Path) -> dict[str, Any]:
    """What a record holds, without its digest."""
    tree: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {key: value for key, value in tree.items() if key != DIGEST}


def rewrite(file: Path, change: Mapping[str, Any]) -> None:
    """Write a record again with other values and without a digest."""
    file.write_text(json.dumps({**unsigned(file), **change}), encoding="utf-8")


def sign(folder: PredictionFolder, **change: Any) -> None:
    """Write the record of predictions as this version does, with the digests of the pictures that are there."""
    record = replace(load_predictions(folder, ""), **change)
    digests = {
        kind: tuple(digest_file(pictures / name) for name in record.pictures)
        for kind, pictures in (("rounded", folder.rounded), ("truncated", folder.truncated))
    }
    write_json(folder.record, replace(record, rounded=digests["rounded"], truncated=digests["truncated"]))


def write_facts(run: RunFolder, store: Store, *, pairs_seen: int) -> None:
    """The record of a run on a drawn store."""
    facts = RunFacts(
        store=str(store.path),
        seal=store.manifest.seal,
        method="attention_gan",
        synthetic=True,
        upscaler="lanczos",
        pairs=8,
        pairs_seen=pairs_seen,
        device="cpu",
        precision="fp32",
        parameters={},
        software={},
    )
    write_json(run.facts, facts)
