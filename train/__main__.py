"""`python -m train`: train or resume a run, translate with it, export it, describe networks, import generators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from store.cli import run_app, say
from store.schema import Interrupted, Split
from train.importing.publications import Published
from train.options import (
    CheckpointOption,
    ConfigOption,
    DeviceOption,
    FileArgument,
    FormatOption,
    ImportedRunOption,
    InputsArgument,
    MaskOption,
    MppOption,
    NormStatisticsOption,
    OnnxOption,
    OutOption,
    OverwriteOption,
    PairsSeenOption,
    RegionOption,
    RunOption,
    SchedulerOption,
    SetOption,
    SourceMppOption,
    StatedMppOption,
    StatisticsFromOption,
    TranslateConfigOption,
    WithoutDropoutOption,
    WorkersOption,
)

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train H&E-to-IHC translation on a store, and translate with it."
)


@app.command()
def fit(
    store: Annotated[str, typer.Option("--store", metavar="STORE", help="a sealed store: a folder or s3://…")],
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="the run's folder; made if it does not exist")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    adapt: Annotated[
        bool, typer.Option("--adapt", help="lower generator.depth of a U-Net if the store's sides need it")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="a JSON line per event on stdout, for schedulers")] = False,
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", min=1, help="processes on this machine, one for each GPU")
    ] = 1,
) -> None:
    """Train a run, or resume it: the same command again continues after the last checkpoint.

    Several processes, started by --processes or by torchrun, train one run together.
    """
    from store.process import bound_workspaces, device_memory, keep_freed_memory, stop_requests, wait_passively
    from train.runtime.launch import is_first, is_member, launch

    keep_freed_memory()
    wait_passively()
    bound_workspaces()
    with stop_requests(say if is_first() else lambda _: None) as stop:  # from now on: the imports take seconds
        from store.reader import Store
        from store.run_files import RunFolder
        from train.loop.fit import fit as train
        from train.methods.recipes import load_recipe
        from train.runtime.memory import smaller_step, step_of

        folder, opened = RunFolder(run), Store.open(store)
        settings = load_recipe(config or [], overrides or [], resumed=folder.facts.exists())
    if stop.requested:
        raise Interrupted(f"before the first step of this start of {run}; run the same command again")
    if processes > 1 and not is_member():
        raise typer.Exit(launch(processes))
    with device_memory(step_of(settings, opened.manifest.view_side), smaller_step(settings)):
        train(folder, opened, settings, adapt=adapt, as_json=as_json)


@app.command()
def predict(
    run: RunOption = None,
    checkpoint: CheckpointOption = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="STORE", help="another store, or the run's store in its new place")
    ] = None,
    split: Annotated[Split, typer.Option("--split", help="the part of the store to translate")] = Split.TEST,
    view: Annotated[str, typer.Option("--view", metavar="VIEW", help="tile, x1, x2, x4")] = "tile",
    device: DeviceOption = "auto",
    gates: Annotated[bool, typer.Option("--gates", help="also draw attention maps over the H&E")] = False,
    batch: Annotated[
        int,
        typer.Option("--batch", metavar="N", min=1, help="pictures in one pass, if every bit comes out as one by one"),
    ] = 1,
) -> None:
    """Translate every picture of a split, with a run or a generator file; complete predictions are kept.

    Without --store it is the store that the run was trained on; if that was replaced since, it is
    refused. A store that is named is always translated, with a note if training used another one.
    """
    from store.process import bound_workspaces, device_memory, wait_passively

    wait_passively()
    bound_workspaces()
    from store.reader import Store
    from store.records.facts import open_store_of
    from train.predict import predict as translate
    from train.run.folder import generator_folder
    from train.run.generator_file import load_header
    from train.runtime.memory import smaller_pictures

    folder = generator_folder(run, checkpoint)
    opened = open_store_of(folder) if store is None else Store.open(store)
    if opened.manifest.seal != load_header(folder.generator).seal:
        say(f"note: {folder.generator} was not trained on {opened.address}")
    pictures = f"pictures of {opened.side(view)} px, {batch} at a time"
    with device_memory(pictures, smaller_pictures(batch)):
        predicted = translate(folder, opened, split, view, device, batch)
    what = "already exist in" if predicted.already_existed else "written to"
    say(f"{predicted.pictures} predictions {what} {predicted.folder}")
    if gates:
        from train.attention_maps import draw_attention_maps

        with device_memory(pictures, smaller_pictures(1)):
            say(f"attention maps are in {draw_attention_maps(folder, opened, split, view, device)}")


@app.command("export")
def export_onnx(
    out: OnnxOption,
    run: RunOption = None,
    checkpoint: CheckpointOption = None,
    statistics_from: StatisticsFromOption = None,
    without_dropout: WithoutDropoutOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a generator as an ONNX file, for programs without PyTorch, and compare it with PyTorch.

    Needs the extra `export`. examples/onnx_translate.py uses such a file.
    """
    from train.export.export import export
    from train.run.folder import generator_folder

    folder = generator_folder(run, checkpoint)
    say(export(folder, out, statistics_from, without_dropout=without_dropout, overwrite=overwrite).sentence)


@app.command()
def translate(
    inputs: InputsArgument,
    out: OutOption,
    run: RunOption = None,
    checkpoint: CheckpointOption = None,
    config: TranslateConfigOption = None,
    overrides: SetOption = None,
    norm_statistics: NormStatisticsOption = "",
    kind: FormatOption = "auto",
    region: RegionOption = "",
    mask: MaskOption = "auto",
    mpp: MppOption = "",
    source_mpp: SourceMppOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = 0,
    scheduler: SchedulerOption = "",
    overwrite: OverwriteOption = False,
) -> None:
    """Translate any picture, folder or whole slide, in tiles that fit together; needs no store and no GPU.

    What is finished is kept: the same command resumes, and keeps translations that are complete.
    """
    from store.process import bound_workspaces, wait_passively

    wait_passively()
    bound_workspaces()
    from store.cluster.workers import Workers
    from store.settings import load
    from train.run.folder import generator_folder
    from train.translate.cluster.tasks import Order
    from train.translate.command import translate_listing
    from train.translate.names import format_of, plan_names
    from train.translate.picture import Request, parse_region
    from train.translate.scale import Wish
    from train.translate.settings import TranslateSettings

    others = Workers(count=workers, scheduler=scheduler)
    chosen = [f"norm_statistics={norm_statistics}"] if norm_statistics else []
    settings = load(TranslateSettings, config, [*(overrides or []), *chosen])
    wish = Wish(wanted=mpp, said=source_mpp)
    request = Request(wish=wish, region=parse_region(region) if region else None, mask=mask)
    generator = generator_folder(run, checkpoint).generator
    order = Order(
        generator=generator, settings=settings, request=request, device=device, workers=others, overwrite=overwrite
    )
    translate_listing(plan_names(inputs, out, format_of(kind)), out, order)


@app.command()
def describe(
    config: ConfigOption = None,
    overrides: SetOption = None,
    side: Annotated[int, typer.Option("--side", metavar="PX", help="side of the picture to describe")] = 512,
) -> None:
    """Show settings, tensor shapes, parameter counts and operations of a method."""
    from train.describe import describe_method
    from train.methods.recipes import load_recipe

    typer.echo(describe_method(load_recipe(config or [], overrides or []), side))


@app.command("import")
def import_published(
    file: FileArgument,
    method: Annotated[Published, typer.Option("--as", help="the method that it was published for")],
    run: ImportedRunOption = None,
    pairs_seen: PairsSeenOption = None,
    mpp: StatedMppOption = None,
) -> None:
    """Turn a published generator into a finished run, for `predict --store`, `translate`, `export`."""
    from store.run_files import RunFolder
    from train.importing.publications import describe as in_words
    from train.importing.run import Stated, import_generator

    folder = RunFolder(run or Path("runs") / file.stem)
    header = import_generator(file, method, folder, Stated(pairs_seen=pairs_seen, mpp=mpp), say)
    say(
        f"{file.name}: {in_words(header.settings.generator)}, imported into {folder.path}\n"
        f"translate with: python -m train predict --run {folder.path} --store STORE\n"
        f"or without a store: python -m train translate PICTURE --run {folder.path} --out DIR"
    )


@app.command("import-asp")
def import_asp(
    file: FileArgument,
    run: ImportedRunOption = None,
    pairs_seen: PairsSeenOption = None,
    mpp: StatedMppOption = None,
) -> None:
    """The same as `import --as asp`."""
    import_published(file, Published.ASP, run, pairs_seen, mpp)


if __name__ == "__main__":
    run_app(app)
