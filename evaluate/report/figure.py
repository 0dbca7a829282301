"""One pair at every magnification in one picture: H&E, real IHC, translated IHC, for a README or a talk."""

from __future__ import annotations

from pathlib import Path

from evaluate.inputs.predictions import read_record
from evaluate.inputs.reading import read_exact
from evaluate.report.captions import length
from evaluate.scored_set import place_in
from store.contact_sheet import Row, draw_sheet
from store.images import PictureU8, read_picture, write_jpeg, write_png
from store.overview import describe_picture
from store.reader import Store, plan_targets
from store.records.predictions import Predictions
from store.schema import RunError, Split, Stain, View
from store.stain.dab import mean_dab
from store.untrusted.names import picture_name

WRITERS = {".jpg": write_jpeg, ".jpeg": write_jpeg, ".png": write_png}
SIDE = 256  # px, of each picture


def draw_figure(run: Path, store: Store, split: Split, row: int) -> PictureU8:
    """The pair in `row` of a split, one line for each view, u8 [H,W,3] RGB.

    RunError if a view has no predictions, or if they were made from another store.
    """
    manifest, pair = store.manifest, store.pairs(split)[row]
    records = [read_record(run, store, split, view.name) for view in manifest.views]
    seen = {length(record) for record in records}
    if len(seen) > 1 or len({record.generator for record in records}) > 1:
        raise RunError(
            f"the predictions of {run} are from different stages of its training ({', '.join(sorted(seen))}); "
            "predict every view again"
        )
    return draw_sheet(
        title=(
            f"{'SYNTHETIC, drawn and not tissue: ' if manifest.synthetic else ''}{manifest.name}, H&E to "
            f"{manifest.stain}, {split} pair {pair.id}"
        ),
        columns=("H&E", "real IHC", "translated IHC"),
        rows=[
            _draw_view(run, store, split, view, row, record)
            for view, record in zip(manifest.views, records, strict=True)
        ],
        footer=(
            f"{records[0].method}, {seen.pop()}; views enlarged by {manifest.upscaler.name}; slide {pair.slide}; "
            f"seal {manifest.seal[:12]}"
        ),
        side=SIDE,
    )


def median_row(store: Store, split: Split) -> int:
    """The row of the pair whose real IHC has the median mean DAB: a choice that does not depend on translations.

    RunError if the split has no pairs.
    """
    view = store.manifest.views[0].name
    rows = [target.pair for target in plan_targets(store, split, view)]
    dab = [mean_dab(store.picture(split, view, Stain.IHC, row)) for row in rows]
    return sorted(rows, key=lambda row: (dab[row], row))[(len(rows) - 1) // 2]


def write_figure(file: Path, figure: PictureU8) -> Path:
    """Write a figure as JPEG or PNG by the suffix of `file`. Raises RunError for another suffix."""
    if file.suffix.lower() not in WRITERS:
        raise RunError(f"{file}: a figure is written as {', '.join(WRITERS)}; give a name with one of these suffixes")
    WRITERS[file.suffix.lower()](file, figure)
    return file


def _draw_view(run: Path, store: Store, split: Split, view: View, row: int, record: Predictions) -> Row:
    """The first picture of the pair in a view: H&E, real and translated IHC."""
    he, ihc = (store.picture(split, view.name, stain, row) for stain in (Stain.HE, Stain.IHC))
    file = place_in(run, store, split, view.name).rounded / picture_name(store.pairs(split)[row].id, 0, view.count)
    translated = read_picture(file) if record.rounded is None else read_exact(file, record.rounded[row * view.count])
    return Row(
        label=f"{view.name}: {describe_picture(view, store.manifest)}",
        pictures=(he, ihc, translated),
        captions=("", f"DAB {mean_dab(ihc):.3f}", f"DAB {mean_dab(translated):.3f}"),
    )
