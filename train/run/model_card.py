"""`MODEL_CARD.md` beside a generator: what it is, what it was made from, what it must not be used for."""

from __future__ import annotations

import json
from pathlib import Path

from store.files import disk_errors, write_whole
from store.reader import Store
from store.run_files import RunFacts, RunFolder
from store.settings import to_toml
from train.run.checkpoint import GeneratorHeader


def write_card(folder: RunFolder, store: Store, header: GeneratorHeader, facts: RunFacts, *, seconds: float) -> None:
    """Write the card of a finished run, whole or not at all."""
    with disk_errors(folder.model_card):
        write_whole(folder.model_card, draw_card(folder, store, header, facts, seconds=seconds).encode())


def draw_card(folder: RunFolder, store: Store, header: GeneratorHeader, facts: RunFacts, *, seconds: float) -> str:
    """The card's text, of nothing but what the run and its store know."""
    manifest = store.manifest
    counts = ", ".join(f"{count} {split}" for split, count in manifest.counts.items())
    mpp = ", ".join(f"{view} {value:g}" for view, value in manifest.mpp.items()) or "not stated"
    synthetic = (
        "**The pictures are drawn, not tissue: this generator shows that the programs work, no more.**\n\n"
        if facts.synthetic
        else ""
    )
    return f"""# {folder.path.resolve().name}: H&E to {manifest.stain} by {header.method}

{synthetic}A generator that turns H&E pictures into {manifest.stain}, trained with magstain.
`{folder.generator.name}` says in its own header what it is;
`python -m train predict --checkpoint {folder.generator.name} --store STORE` translates with it.

## Use

For research on stain translation. **Not for clinical use**: a translated picture is a guess at what {manifest.stain}
would look like, no measurement of it, and may show stain where there is none. The generator knows the data below only;
other scanners, staining protocols, organs and magnifications are outside of it.

## Data

| | |
|---|---|
| store | {manifest.name}, seal `{manifest.seal}` |
| stain | {manifest.stain} |
| pairs | {counts}; split {manifest.split} |
| learned from | {facts.pairs} train pairs, views {", ".join(header.settings.data.views)} at {manifest.view_side} px |
| micrometres per pixel | {mpp} |
| views enlarged by | {facts.upscaler} |
| terms of use | those of the pictures: whoever passes this file on has to keep to the terms of that data set |

## Training

| | |
|---|---|
| method | {header.method} |
| length | {header.step} steps, {header.pairs_seen} pairs seen |
| effective batch | {facts.effective_batch}, in {facts.processes} process(es) |
| time | {seconds / 3600:.2f} h on {facts.device} in {facts.precision} |
| parameters | {", ".join(f"{name} {count:,}" for name, count in facts.parameters.items())} |
| software | {", ".join(f"{name} {version}" for name, version in facts.software.items())} |

## Scores

{_scores(folder.validation)}
Scores on held-out pictures, with their protocol, are made by `python -m evaluate score` and lie in
`predictions/<split>/<view>/`.

## Settings

```toml
{to_toml(header.settings).strip()}
```
"""


def _scores(validation: Path) -> str:
    lines = validation.read_text(encoding="utf-8").splitlines() if validation.exists() else []
    if not lines:
        return "Nothing was validated while training.\n"
    last = json.loads(lines[-1])
    return (
        f"On {last['pictures']} pictures of val, other slides than those of train, at step {last['step']}: SSIM "
        f"{last['ssim']:.4f}, PSNR {last['psnr']:.2f} dB (rounded pictures, as they are).\n"
    )
