"""How long a store of a million pairs takes to open and to give one view, and how much memory.

The store is laid out as a build would: every metadata document, pair table and table of digests of a million pairs, but
the shards of one unit only. What is timed runs in a process of its own, after its imports, with the files in the page
cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import zarr

from prep.settings import Recipe
from prep.views import plan_views
from store.format.layout import Unit, plan_arrays, plan_units
from store.format.manifest import ROOT, seal_root
from store.format.shards import encode_digests, encode_unit, lay_out
from store.format.tables import TEXT, write_numbers, write_text
from store.pairs.table import Table
from store.schema import Manifest, Split, Upscaler
from tests.bench.pictures import find_sets

PAIRS = 1_000_000
VIEW, TILE = 512, 1024  # px
ROUNDS = 5

MEASURE = """
import json, resource, sys, time
from pathlib import Path
from store.reader import Store
from store.schema import Split, Stain
import store.settings, zarr, numcodecs

def memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024

before, start = memory(), time.perf_counter()
store = Store.open(Path(sys.argv[1]))
opened = time.perf_counter()
view = store.picture(Split.TRAIN, "x4", Stain.IHC, int(sys.argv[2]))
read = time.perf_counter()
box = store.box(Split.TRAIN, "x4", int(sys.argv[2]))
boxed = time.perf_counter()
assert view.std() > 1
times = {"open": opened - start, "view": read - opened, "box": boxed - read}
print(json.dumps({**{name: 1e3 * seconds for name, seconds in times.items()}, "MB": memory() - before}))
"""


def manifest() -> Manifest:
    """A store as it is by default, of a million training pairs."""
    return Manifest(
        format=1,
        name="simulated",
        stain="test",
        synthetic=True,
        tile_side=TILE,
        view_side=VIEW,
        recipe=Recipe.PAPER,
        views=plan_views(Recipe.PAPER, 1),
        keep_tiles=True,
        margin=16,
        mpp={},
        upscaler=Upscaler(name="lanczos", digests={}, precision="u8", batch=4),
        unit=16,
        counts={Split.TRAIN: PAIRS},
        skipped=0,
        split="published",
        seed=0,
        settings={"seed": 0},
        software={},
    )


def write_store(path: Path) -> Unit:
    """The simulated store; returns the unit that has pictures."""
    facts = manifest()
    units = plan_units(Split.TRAIN, PAIRS, facts.unit)
    unit, plans = units[len(units) // 2], plan_arrays(facts, Split.TRAIN)
    files = lay_out(facts, Table(pairs={}))  # the pair table follows, a column at a time
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    group = zarr.open_group(path, mode="r+")
    for column in TEXT:
        write_text(group, f"train/pair/{column}", [f"slide{n % 997:04d}_{n // 997}_{n % 31}.png" for n in range(PAIRS)])
    digests = np.random.default_rng(0).integers(0, 256, (PAIRS, 32), dtype=np.uint8)
    for column in ("he_digest", "ihc_digest"):
        write_numbers(group, f"train/pair/{column}", digests, ("pair", "byte"))
    table = np.random.default_rng(1).integers(0, 256, (len(units), len(plans), 32), dtype=np.uint8)
    tile = find_sets(None).tiles[0]
    blocks = {
        p.path: np.broadcast_to(
            np.resize(tile, p.shape[-3:]) if p.pictures else np.int32(64), (len(unit.pairs), *p.shape[1:])
        ).astype(p.dtype)
        for p in plans
    }
    for name, data in {**encode_digests(facts, Split.TRAIN, table), **encode_unit(facts, unit, blocks)}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    shards = {plan.shard_name(unit) for plan in plans}
    documents = {name: "00" * 32 for name in names if name not in shards | {ROOT}}
    (path / ROOT).write_bytes(seal_root(facts, documents).document)
    return unit


def main() -> None:
    """Write the store, open it in fresh processes and print the table."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "million.zarr"
        unit = write_store(path)
        words = [sys.executable, "-c", MEASURE, str(path), str(unit.first)]
        rounds = [json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout) for _ in range(ROUNDS)]
        size = (path / ROOT).stat().st_size
    print(f"{PAIRS:,} pairs, {size / 1e3:.0f} kB of root document; medians of {ROUNDS} processes\n")
    print("| open, ms | first view, ms | first box, ms | memory, MB |\n|--:|--:|--:|--:|")
    print(f"| {' | '.join(f'{np.median([r[name] for r in rounds]):.1f}' for name in ('open', 'view', 'box', 'MB'))} |")


if __name__ == "__main__":
    main()
