"""`MODEL_CARD.md` beside a generator: what it is, what it was made from, what it must not be used for."""

from __future__ import annotations

import json
import re
from pathlib import Path

from store.files import disk_errors, write_whole
from store.overview import describe_counts
from store.reader import Store
from store.records.facts import RunFacts
from store.run_files import RunFolder
from store.settings import to_toml
from store.untrusted.text import markdown_word
from train.methods.registry import METHODS
from train.run.generator_file import GeneratorHeader

SYNTHETIC = (
    "**SYNTHETIC DATA: the pictures are drawn, not tissue. This generator only shows that the programs work.**\n\n"
)


def write_model_card(
    folder: RunFolder, store: Store, header: GeneratorHeader, facts: RunFacts, *, seconds: float, skipped: int
) -> None:
    """Write the model card of a finished run, completely or not at all."""
    with disk_errors(folder.model_card):
        text = model_card(folder, store, header, facts, seconds=seconds, skipped=skipped)
        write_whole(folder.model_card, text.encode())


def model_card(
    folder: RunFolder, store: Store, header: GeneratorHeader, facts: RunFacts, *, seconds: float, skipped: int
) -> str:
    """The text, from what the run and its store know: training took `seconds`, and `skipped` steps moved nobody."""
    manifest, method, settings = store.manifest, METHODS[header.method], to_toml(header.settings).strip()
    stain, name = markdown_word(manifest.stain), markdown_word(folder.path.resolve().name)
    upscaler, device = _cell(facts.upscaler), _cell(str(facts.device))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", settings)), default=0))
    counts = describe_counts(manifest)
    trained = f"{facts.pairs} train pairs" if manifest.paired else "the train tiles of both stains, unpaired"
    mpp = ", ".join(f"{view} {value:g}" for view, value in manifest.mpp.items()) or "not stated"
    synthetic = SYNTHETIC if facts.synthetic else ""
    return f"""# {name}: H&E to {stain} by {header.method}

{synthetic}A generator that translates H&E pictures into {stain}, trained with magstain.
The header of `{folder.generator.name}` describes it; to use it:
`python -m train predict --checkpoint {folder.generator.name} --store STORE`

## Use

For research on stain translation. **Not for clinical use**: a translated picture is an estimate of how {stain}
would look, not a measurement, and may show stain where there is none. The generator was trained on the data below only;
it was not tested on other scanners, staining protocols, organs or magnifications.

## Data

| | |
|---|---|
| store | {_cell(manifest.name)}, seal `{manifest.seal}` |
| stain | {_cell(manifest.stain)} |
| pairs | {counts}; split {manifest.split} |
| trained on | {trained}, views {_views(header)} at {manifest.view_side} px |
| micrometres per pixel | {mpp} |
| views enlarged by | {upscaler} |
| terms of use | those of the data set also apply to this file and to anyone who receives it |

## Training

| | |
|---|---|
| method | {header.method}: {method.title} ({method.source}) |
| length | {_length(header, skipped)} |
{_start(header, facts)}| effective batch | {facts.effective_batch}, in {facts.processes} process(es) |
| time | {seconds / 3600:.2f} h on {device} in {facts.precision} |
| parameters | {", ".join(f"{name} {count:,}" for name, count in facts.parameters.items())} |
| software | {", ".join(f"{name} {version}" for name, version in facts.software.items())} |

## Scores

{_scores(folder.validation)}
`python -m evaluate score` scores it on held-out pictures and writes the scores, with their protocol, to
`predictions/<split>/<view>/`.

## Settings

{fence}toml
{settings}
{fence}
"""


def _length(header: GeneratorHeader, skipped: int) -> str:
    left_out = f"; steps skipped, as a term or gradient was not finite: {skipped}" if skipped else ""
    return f"{header.step} steps, {header.pairs_seen} pairs seen{left_out}"


def _views(header: GeneratorHeader) -> str:
    """The views that it was trained on, with the micrometres per pixel of those whose scale is known."""
    return ", ".join(
        f"{view} ({header.mpp[view]:.4g} um per pixel)" if view in header.mpp else view
        for view in header.settings.data.views
    )


def _start(header: GeneratorHeader, facts: RunFacts) -> str:
    """Lines on weights that are not fresh, and on those that were not trained, if there are any."""
    lines = [f"| started from | {_cell(str(facts.started_from))} |\n"] if facts.started_from else []
    if facts.frozen:
        lines.append(f"| frozen | {_cell(facts.describe_frozen(header.settings.freeze))} |\n")
    return "".join(lines)


def _cell(text: str) -> str:
    """A word in a table."""
    return markdown_word(text).replace("|", "\\|")


def _scores(validation: Path) -> str:
    lines = validation.read_text(encoding="utf-8").splitlines() if validation.exists() else []
    if not lines:
        return "There was no validation during training.\n"
    last = json.loads(lines[-1])
    return (
        f"On {last['pictures']} pictures of val, whose slides are not in train, at step {last['step']}: SSIM "
        f"{last['ssim']:.4f}, PSNR {last['psnr']:.2f} dB (rounded pictures, without registration).\n"
    )
