"""The options that several commands have, and those of `translate` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--config",
        metavar="NAME|TOML",
        help="a bundled preset or a TOML file, over the method's published settings; repeatable, later ones win",
    ),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="one setting, over all files; repeatable")
]
RunOption = Annotated[Path | None, typer.Option("--run", metavar="DIR", help="the folder of a finished run")]
CheckpointOption = Annotated[
    Path | None, typer.Option("--checkpoint", metavar="FILE", help="a generator.safetensors without its run")
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1")]
InputsArgument = Annotated[
    list[str],
    typer.Argument(metavar="INPUT…", help="pictures, slides, folders with them, or @list.txt with one in each line"),
]
OutOption = Annotated[
    Path, typer.Option("--out", metavar="DIR|FILE", help="a folder; of one picture also a file, by its suffix")
]
FormatOption = Annotated[
    str,
    typer.Option("--format", metavar="KIND", help="auto, png, jpeg, tiff, ome-tiff, ome-zarr; auto: as the input"),
]
TranslateConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="TOML", help="a file with settings of the translation")
]
NormStatisticsOption = Annotated[
    str, typer.Option("--norm-statistics", metavar="MODE", help="tile, thumbnail, kernel, global (default) or local")
]
RegionOption = Annotated[
    str, typer.Option("--region", metavar="TOP,LEFT,HEIGHT,WIDTH", help="a part, in pixels as they are translated")
]
MaskOption = Annotated[
    str, typer.Option("--mask", metavar="auto|none|FILE", help="what is tissue; auto: found, of slides only")
]
MppOption = Annotated[
    str, typer.Option("--mpp", metavar="model|NUMBER", help="resample to the generator's µm per pixel, or to these")
]
SourceMppOption = Annotated[
    float | None,
    typer.Option("--source-mpp", metavar="NUMBER", help="µm per pixel of the pictures, if they do not say"),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", metavar="N", min=0, help="processes on this machine, one for each GPU")
]
SchedulerOption = Annotated[
    str, typer.Option("--scheduler", metavar="ADDRESS", help="a Dask scheduler, such as tcp://node:8786")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="replace outputs that exist")]
OnnxOption = Annotated[Path, typer.Option("--out", metavar="FILE", help="the .onnx file to write")]
StatisticsFromOption = Annotated[
    Path | None,
    typer.Option(
        "--statistics-from",
        metavar="PICTURE",
        help="norms have the statistics of this picture or slide for all pictures, so that tiles fit together",
    ),
]
WithoutDropoutOption = Annotated[
    bool, typer.Option("--without-dropout", help="leave out dropout that is active when pictures are translated")
]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="a *_net_G.pth as its publisher saved it")]
ImportedRunOption = Annotated[
    Path | None, typer.Option("--run", metavar="DIR", help="the folder to make; default runs/<name of the file>")
]
PairsSeenOption = Annotated[
    int | None, typer.Option("--pairs-seen", "--draws", metavar="N", help="pairs seen in training, if known")
]
StatedMppOption = Annotated[
    float | None,
    typer.Option("--mpp", metavar="NUMBER", help="micrometres per pixel of its training pictures, if known"),
]
