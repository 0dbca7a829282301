"""The pairs of a data folder: the layout is found, tiles are paired, slides are named, every pair gets its split.

Only names are read here, no picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from prep.refusals import Refusals
from prep.settings import Layout, PrepSettings, SplitRule, how_to_set
from prep.tiles.folders.recognise import Asked
from prep.tiles.layouts import DataSet, find_data_set, two_folders
from prep.tiles.names.naming import WITHOUT, Naming, check_template, stains_in_names
from prep.tiles.overlaps.together import check_stride, keep_together
from prep.tiles.pairs import UNFIT, Discovery, pair_tiles
from prep.tiles.row_pairs import pair_rows
from prep.tiles.splitting.slides import join_forms, name_slides, require_slides
from prep.tiles.splitting.splits import hold_out_val, resplit
from prep.tiles.unpaired import list_tiles
from prep.views import check_tile_side
from store.schema import PairingError, SettingsError, Split, Stain
from store.untrusted.names import clash


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """Where the tiles are: one data folder, or (`he` and `ihc` differ) one folder for each stain.

    A table of pairs names the tiles in the folders; without one they are found by what folders and files are called.
    """

    he: Path
    ihc: Path
    table: Path | None = None

    @property
    def single(self) -> bool:
        """Whether one folder holds everything, in a layout that is read from its folders."""
        return self.he == self.ihc

    @property
    def name(self) -> str:
        """The name of the data set unless a setting gives one."""
        return self.he.resolve().name if self.single else self.he.resolve().parent.name


def named_data(data: str, he: str, ihc: str, pairs_from: str = "") -> Data:
    """The data folders: `data` alone, or `he` with `ihc`, or that of the table of pairs. Raises SettingsError.

    An empty one is not given: make passes empty values on.
    """
    table = Path(pairs_from) if pairs_from else None
    if table and not data and not he and not ihc:
        return Data(he=table.parent, ihc=table.parent, table=table)
    if data and not he and not ihc:
        return Data(he=Path(data), ihc=Path(data), table=table)
    if he and ihc and not data:
        return Data(he=Path(he), ihc=Path(ihc), table=table)
    if data:
        raise SettingsError("--data and --he/--ihc exclude each other; name the tiles with one of them (make: DATA=)")
    if he:
        raise SettingsError("--he is given without --ihc; name the folder of the IHC tiles as well (make: IHC=DIR)")
    if ihc:
        raise SettingsError("--ihc is given without --he; name the folder of the H&E tiles as well (make: HE=DIR)")
    raise SettingsError(
        "no tiles are named; give --data DIR (make: DATA=DIR), or --he DIR and --ihc DIR (make: HE=DIR IHC=DIR), or a "
        "table of pairs with --pairs-from CSV (make: PAIRS=CSV)"
    )


def find_pairs(settings: PrepSettings, data: Data, refusals: Refusals | None = None) -> Discovery:
    """The candidates in the data folders, in the split that the settings ask for.

    Raises PairingError, or SchemaError if squares of the side that the settings ask for do not fit the recipe. With
    `refusals` a split that is refused is collected there, and the candidates are not split.
    """
    check_tile_side(settings)
    found = find_candidates(settings, data)
    check_stride(settings, found)
    if refusals is None:
        found = _split(settings, data, found)
    else:
        with refusals.collect():
            found = _split(settings, data, found)
    for split, stain in product(Split, Stain):
        if fault := clash(one.id for one in found.candidates if one.split is split and stain in one.stains):
            what = "pairs" if found.paired else f"{stain} tiles"
            raise PairingError(f"{data.he}: of the {split} {what} {fault}; rename one of them")
    return found


def find_candidates(settings: PrepSettings, data: Data) -> Discovery:
    """The candidates in the data folders, in the split that the data come with. Raises PairingError."""
    for name, template in (("he_name", settings.he_name), ("ihc_name", settings.ihc_name)):
        check_template(name, template)
    naming = Naming(he=settings.he_name or WITHOUT, ihc=settings.ihc_name or WITHOUT, ignore_case=settings.ignore_case)
    by_name = naming.he != naming.ihc
    asked = Asked(layout=settings.layout, stain=settings.stain, by_name=by_name, paired=settings.paired)
    if data.table:
        _refuse_for_table(settings, data.table)
        found = pair_rows(data.table, data.he, data.ihc, asked.layout)
        if found.slides_named and settings.slide_pattern:
            raise SettingsError(
                f"slide_pattern = {settings.slide_pattern!r}, and {data.table} has a column slide; give one of both"
            )
    else:
        data_set = find_data_set(data.he, asked) if data.single else two_folders(data.he, data.ihc, settings.layout)
        if data_set.sources.joined and settings.layout is Layout.AUTO:
            _refuse_named_stains(data, data_set)
        found = pair_tiles(data_set, naming) if settings.paired else list_tiles(data_set, naming)
    found = join_forms(found if found.slides_named else name_slides(found, settings.slide_pattern))
    if not any(candidate.split is Split.TRAIN for candidate in found.candidates):
        raise PairingError(_no_row(data, found) if data.table else _no_pair(data, found))
    return found


def _refuse_for_table(settings: PrepSettings, table: Path) -> None:
    """Raise SettingsError for a setting that names of folders and pictures obey, and the rows of a table do not."""
    if not settings.paired:
        raise SettingsError(f"paired = false, and {table} names pairs; give one of both")
    unread = {"he_name": settings.he_name, "ihc_name": settings.ihc_name, "ignore_case": settings.ignore_case}
    if settings.layout not in (Layout.AUTO, Layout.TABLE, Layout.SIDE_BY_SIDE):
        unread["layout"] = settings.layout
    for name, value in unread.items():
        if value:
            raise SettingsError(
                f"{name} = {value}: says what folders and pictures are called, and {table} names the pairs; leave it "
                "away"
            )


def _refuse_named_stains(data: Data, data_set: DataSet) -> None:
    """Raise PairingError if pictures that could hold both stains have names that say one each."""
    if hint := stains_in_names([tile.name for tiles in data_set.splits for tile in tiles.he]):
        raise PairingError(
            f"{data.he}: its pictures are in no folders of stains, and their names say one each: {hint}; if each holds "
            f"both stains side by side, say so: {how_to_set('layout=side-by-side')}"
        )


def _split(settings: PrepSettings, data: Data, found: Discovery) -> Discovery:
    """The candidates in the split that the settings ask for."""
    holds_out = settings.val_fraction or settings.val_slides
    if (settings.split is SplitRule.BY_SLIDE or holds_out) and not (settings.slide_pattern or found.slides_named):
        require_slides(found)
    if settings.split is SplitRule.BY_SLIDE:
        found, groups = keep_together(settings, found)
        return resplit(
            found,
            seed=settings.seed,
            val_fraction=settings.val_fraction,
            test_fraction=settings.test_fraction,
            test_slides=settings.test_slides,
            val_slides=settings.val_slides,
            groups=groups,
        )
    if not found.published:
        raise PairingError(
            f"{data.table or data.he}: layout {found.layout} has no test set of its own, and split = published needs "
            f"one; set split=by-slide to hold slides out for test: {how_to_set('split=by-slide')}"
            f"{f'; {found.doubt}' if found.doubt else ''}"
        )
    if not holds_out:
        return found
    if any(candidate.split is Split.VAL for candidate in found.candidates):
        raise SettingsError(
            f"val_fraction and val_slides hold pairs of train out for val, and {data.he} has val pairs of its own; "
            f"leave these settings away, or draw all splits anew: {how_to_set('split=by-slide')}"
        )
    found, groups = keep_together(settings, found)
    return hold_out_val(
        found,
        seed=settings.seed,
        val_fraction=settings.val_fraction,
        val_slides=settings.val_slides,
        groups=groups,
    )


def _no_row(data: Data, found: Discovery) -> str:
    """The error if no row of a table gives a pair of train: the first that names a file that is missing."""
    bad = [tile for tile in found.unpaired if tile.split is Split.TRAIN]
    if not bad:
        return f"{data.table}: no row is of train; add such rows"
    where = data.he if data.single else f"{data.he} and {data.ihc}"
    return (
        f"{data.table}: of none of its {len(bad)} pairs of train both files exist: {bad[0].reason} in {where}; correct "
        "the table, or name the folder that its names are relative to: --data DIR (make: DATA=DIR)"
    )


def _no_pair(data: Data, found: Discovery) -> str:
    """The error if no names of train agree: how many tiles each stain has, with a name of each, and what would do."""
    bad = [tile for tile in found.unpaired if tile.split is Split.TRAIN]
    he, ihc = [tile.he for tile in bad if tile.he], [tile.ihc for tile in bad if tile.ihc]
    where = data.he if data.single else f"{data.he} and {data.ihc}"
    examples = [f"{len(names)} {stain} tile(s)" + (f", for example {names[0]!r}" if names else "")
                for stain, names in (("H&E", he), ("IHC", ihc))]  # fmt: skip
    examples += [note for note in found.notes if note.endswith(UNFIT)]
    other = (
        "give the two tiles of a pair the same name (suffixes such as .png may differ), list the pairs: --pairs-from "
        f"pairs.csv (make: PAIRS=pairs.csv), or take tiles that are no pairs: {how_to_set('paired=false')}"
    )
    hint = f"{found.hint}; if they are of different places, {how_to_set('paired=false')}" if found.hint else other
    return f"{where}: no pair was found: no H&E and IHC tile have the same name; {', and '.join(examples)}; {hint}"
