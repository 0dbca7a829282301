"""Whether given settings make a store whose root and copy of it are lost, as far as what is left of it can say.

The arrays say their shapes, units and codec, the pair tables which tiles, a rebuilt unit everything that its pixels
depend on. Data set, stain, mpp and the rule of the split are in the root only: these a person must confirm.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

import numpy as np

from store.format.layout import Unit, plan_arrays
from store.format.manifest import ROOT, all_units, recorded_seal, root_bytes, seal_root
from store.format.shards import encode_digests
from store.location.base import Location
from store.schema import Codec, Manifest, Split, StoreError
from store.settings import differences
from store.writing.journal import Digests, digests_of

Prove = Callable[[Unit], Mapping[str, bytes]]  # the shards of a unit by file name, from the given tiles and settings
TRIES = 3  # units that are built to prove the settings, where it is lost which are intact
PICTURES = re.compile(r"(train|val|test)/(tile|x\d+)/(?:he|ihc)/zarr\.json")


def facts_of(documents: Mapping[str, bytes]) -> dict[str, object]:
    """What most of the metadata of the picture arrays say about the store; documents that say nothing are left out."""
    votes: dict[str, Counter[object]] = defaultdict(Counter)
    for name, data in documents.items():
        if not (match := PICTURES.fullmatch(name)):
            continue
        try:
            tree = json.loads(data)
            shape, shard = tree["shape"], tree["chunk_grid"]["configuration"]["chunk_shape"]
            said = {
                f"counts.{match[1]}": shape[0],
                "unit": shard[0],
                "tile_side" if match[2] == "tile" else "view_side": shape[-2],
                "codec": Codec.COMPACT if "jpegxl" in json.dumps(tree["codecs"]) else Codec.PORTABLE,
            }
            if match[2] != "tile":
                said[f"pictures of {match[2]} a pair"] = shape[1]
            elif match[1] == Split.TRAIN:
                said["keep_tiles"] = True
            for fact, value in said.items():
                votes[fact][value] += 1
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            continue
    return {fact: counter.most_common(1)[0][0] for fact, counter in votes.items()}


def check_arrays(location: Location, layout: Mapping[str, bytes]) -> None:
    """Raise StoreError, with both values, unless the arrays have the shapes, units and codec of the layout."""
    present = {name: root_bytes(location, name) for name in location.names() if PICTURES.fullmatch(name)}
    found, given = facts_of(present), facts_of(layout)
    if changed := differences(found, {fact: given.get(fact) for fact in found}):
        raise StoreError(
            f"{location} was made with other settings or from other tiles ({'; '.join(changed[:3])}) and cannot be "
            "repaired from these; give those that it was made from"
        )


def has_recorded_seal(
    location: Location, manifest: Manifest, layout: Mapping[str, bytes], units: Mapping[str, Digests]
) -> bool:
    """Whether what is left of the root holds the seal that this store would have: then every setting is proven."""
    recorded = recorded_seal(root_bytes(location))
    if not recorded or len(units) < len(all_units(manifest)):
        return False
    documents = {name: data for name, data in layout.items() if name != ROOT}
    for split in manifest.counts:
        rows = [
            [list(bytes.fromhex(units[unit.name][plan.path])) for plan in plan_arrays(manifest, split)]
            for unit in all_units(manifest)
            if unit.split is split
        ]
        documents |= encode_digests(manifest, split, np.array(rows, np.uint8))
    return seal_root(manifest, digests_of(documents)).manifest.seal == recorded


def check_pixels(location: Location, manifest: Manifest, units: Mapping[str, Digests], prove: Prove) -> None:
    """Build a unit from the given tiles and settings. Raises StoreError unless its shards are those of the store.

    `units` holds the digests of the units that are known. The smallest unit that is intact is built; where no unit is
    known to be, up to three whose shards exist.
    """
    candidates = sorted(all_units(manifest), key=lambda unit: len(unit.pairs))
    known = [unit for unit in candidates if _shards(location, manifest, unit) == _expected(manifest, unit, units)]
    tried: list[str] = []
    for unit in known[:1] or candidates[:TRIES]:
        there, made = _shards(location, manifest, unit), digests_of(prove(unit))
        if there == made:
            return
        other = [name for name, digest in made.items() if there.get(name, digest) != digest]
        tried += [f"unit {unit.name}: {', '.join(other[:3]) or 'shards are missing'}"]
    raise StoreError(
        f"{location} was not made from these tiles with these settings, or nothing of it is intact: what they make has "
        f"other bytes ({'; '.join(tried)}); give the settings that it was made with (recipe, margin, seed, upscaler, "
        "device, precision), or build a new store"
    )


def check_trusted(location: Location, manifest: Manifest, *, trusted: bool) -> None:
    """Raise StoreError, which asks a person for what no file says, unless the answer is given."""
    facts = {"name": manifest.name, "stain": manifest.stain, "mpp": manifest.mpp, "split": manifest.split}
    said = ", ".join(f"{name} {json.dumps(value)}" for name, value in facts.items())
    if not trusted:
        raise StoreError(
            f"{location}: its {ROOT} and the copy of it are lost. What is left agrees with the given settings, but "
            f"does not say whether the store had {said}; if it had, run the same command with --trust-settings"
        )


def _shards(location: Location, manifest: Manifest, unit: Unit) -> dict[str, str]:
    """The digests of the shards of a unit that can be read, by file name."""
    found = {}
    for plan in plan_arrays(manifest, unit.split):
        name = plan.shard_name(unit)
        try:
            found[name] = location.digest(name)
        except OSError as error:
            if error.errno is None:  # object storage does not answer
                raise
    return found


def _expected(manifest: Manifest, unit: Unit, units: Mapping[str, Digests]) -> dict[str, str]:
    """The digests of the shards of a unit that are known, by file name."""
    known = units.get(unit.name, {})
    return {p.shard_name(unit): known.get(p.path, "") for p in plan_arrays(manifest, unit.split)}
