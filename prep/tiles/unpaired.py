"""Tiles that are no pairs: each is a candidate of its own, is checked alone, and shares a row of the store by number.

Until the rows are made, a tile is a pair without the other one: its name is empty, its digest `NO_DIGEST`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from prep.settings import how_to_set
from prep.tiles.layouts import DataSet
from prep.tiles.names.naming import Naming
from prep.tiles.pairs import Candidate, Discovery, name_tiles, read_as
from store.pairs.table import NO_DIGEST, Pair
from store.schema import PairingError, Split, Stain

ALONE = "ihc"  # the folder of the names of rows without H&E


def list_tiles(data_set: DataSet, naming: Naming) -> Discovery:
    """Every tile of a data set as a candidate of its own, in its published split. Raises PairingError.

    A name that occurs in both stains means nothing; a note says so.
    """
    if data_set.sources.joined:
        raise PairingError(
            f"paired = false with layout {data_set.layout}: a picture that holds both stains is a pair; leave "
            "paired=false away"
        )
    candidates, same = [], 0
    for tiles in data_set.splits:
        named = name_tiles(tiles, naming)
        same += len(named.he.keys() & named.ihc.keys())
        candidates += [
            Candidate(id=one, split=tiles.split, slide="", he=tile.source, ihc="") for one, tile in named.he.values()
        ]
        candidates += [
            Candidate(id=one, split=tiles.split, slide="", he="", ihc=tile.source) for one, tile in named.ihc.values()
        ]
    doubt = (
        f"{same} names of H&E tiles are names of IHC tiles: these look like pairs, and paired = false takes them for "
        f"none; if they show the same places, leave it away, or set {how_to_set('paired=true')}"
    )
    return Discovery(
        layout=data_set.layout,
        sources=data_set.sources.absolute(),
        published=data_set.published,
        candidates=tuple(sorted(candidates, key=lambda candidate: candidate.rank)),
        unpaired=(),
        notes=(*data_set.notes, *([doubt] if same else [])),
        read_as=read_as(data_set, f"{count_tiles(candidates)}, unpaired"),
        paired=False,
    )


def count_tiles(candidates: Sequence[Candidate]) -> str:
    """How many tiles of each stain each split has: `7 H&E and 4 IHC in train, 2 H&E and 5 IHC in test`."""
    counts = {
        split: [sum(one.split is split and stain in one.stains for one in candidates) for stain in Stain]
        for split in Split
    }
    return ", ".join(f"{he} H&E and {ihc} IHC in {split}" for split, (he, ihc) in counts.items() if he or ihc)


def make_rows(tiles: Iterable[Pair]) -> tuple[Pair, ...]:
    """The rows of a split: the n-th H&E tile beside the n-th IHC tile, each stain in the order of its names.

    A row without H&E is named after its IHC, in a folder that no H&E tile is in.
    """
    ordered = sorted(tiles, key=lambda tile: tile.id)
    he, ihc = [tile for tile in ordered if tile.he], [tile for tile in ordered if tile.ihc]
    folder = ALONE
    while any(tile.id.casefold() == folder or tile.id.casefold().startswith(f"{folder}/") for tile in he):
        folder += "_"
    both = zip(he, ihc, strict=False)
    return (
        *(_beside(one, two) for one, two in both),
        *he[len(ihc) :],
        *(replace(tile, id=f"{folder}/{tile.ihc_id}") for tile in ihc[len(he) :]),
    )


def tiles_of_row(row: Pair) -> tuple[Pair, ...]:
    """The tiles of a row that belong together: the pair itself, or each tile of an unpaired row alone."""
    if not row.ihc_id:
        return (row,)
    ihc = replace(row, id=row.ihc_id, slide="", he="", he_digest=NO_DIGEST, he_box=None)
    if not row.he:
        return (ihc,)
    return replace(row, ihc="", ihc_digest=NO_DIGEST, ihc_box=None, ihc_id="", ihc_slide=""), ihc


def _beside(he: Pair, ihc: Pair) -> Pair:
    """A row of both tiles, named after its H&E."""
    return replace(
        he,
        ihc=ihc.ihc,
        ihc_digest=ihc.ihc_digest,
        ihc_box=ihc.ihc_box,
        ihc_id=ihc.ihc_id,
        ihc_slide=ihc.ihc_slide,
    )
