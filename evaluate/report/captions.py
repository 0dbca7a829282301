"""What a table says about itself: the data its numbers come from, and what a reader of the numbers has to know."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from evaluate.columns import MISSING, Key, list_heads
from evaluate.inputs.predictions import FOREIGN
from evaluate.protocol import FIXES, ProtocolName
from evaluate.report.comparable import provenance_notes
from evaluate.report.paper_tables import PICTURES, PaperTable, beside, left_out, remarks
from evaluate.report.tables import TEST_CAPTION, ZOOM_CAPTION, verdict
from evaluate.scores_file import Scores
from store.records.predictions import Predictions

PUBLISHED_PAIRS_SEEN = 185_680  # the published run of ASP: 4642 pairs x 40 epochs at batch 1
SYNTHETIC = "SYNTHETIC DATA"
ENOUGH_SLIDES = 6  # the smallest p of the paired test is 2^(1 - slides)
FETCH = "run `make weights NAMES=evaluate`, then score again"
ARROWS = "↑: higher is better, ↓: lower is better, →: nearer to the number is better."
DAB = (
    "DAB: mean optical density of a picture. Spearman and Pearson: its rank and linear correlation between real and "
    "translated pictures; slope: of the regression line of translated on real density, below 1 it is flatter; bias: "
    "mean difference, below 0 there is too little. A high correlation alone does not say that the amount is right. "
    "DAB error: mean absolute difference; rel. error: the same divided by the real density."
)
PAPER = (
    "Rows `paper, MIST-HER2` have the paper's numbers, from its 1,000 test pictures of MIST-HER2, not from this store."
)
COPY_NOTE = (
    "DAB of `copy H&E`: colour deconvolution of an H&E picture finds eosin and nuclei, not DAB, so its DAB error means "
    "little"
)


def caption(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> str:
    """The title and what the numbers were made from, in one paragraph."""
    return f"{label(runs[0])}{title(runs[0])}: {data_facts(runs, paper)}"


def data_facts(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> str:
    """What the numbers were made from."""
    first = runs[0]
    training = "; ".join(f"{scores.run}: {scores.method}, {length(scores)}" for scores in runs)
    sentences = [
        f"{len(first.pictures)} pictures of {first.slides} slide(s).",
        f"Upscaler: {upscaler_label(first.upscaler)}.",
        f"Training: {training}; the published run: {PUBLISHED_PAIRS_SEEN:,} pairs seen.",
        f"Baselines fitted on {first.baselines_pictures} train pictures ({first.baselines_view} view).",
    ]
    return " ".join([*sentences, *_on_the_paper(first, paper)])


def _on_the_paper(scores: Scores, paper: PaperTable) -> list[str]:
    """Where the paper's rows come from, or why they were asked for and are not here."""
    if paper is PaperTable.NONE:
        return []
    if reason := left_out(scores):
        return [f"The paper's rows are left out: its numbers are of MIST-HER2, and {reason}."]
    count = len(scores.pictures)
    few = f" FID and KID of {count} pictures cannot be compared with those of {PICTURES}." if count != PICTURES else ""
    return [f"{PAPER}{few}"]


def how_to_read(runs: Sequence[Scores]) -> str:
    """What the cells of a table with intervals hold."""
    subsets = runs[0].protocols[ProtocolName.PUBLISHED].kid_subsets
    return (
        f"Means over pictures; in brackets 95 % intervals over slides{of_few_slides(runs)}; ± is the standard "
        f"deviation of KID's {subsets} subsets. {DAB}"
    )


def zoom_caption(runs: Sequence[Scores]) -> str:
    """What stands in the table of agreement by zoom."""
    return f"{ZOOM_CAPTION}{of_few_slides(runs)}."


def test_caption(runs: Sequence[Scores]) -> str:
    """What stands in the table of paired tests."""
    return f"{TEST_CAPTION}{of_few_slides(runs)}."


def of_few_slides(runs: Sequence[Scores]) -> str:
    """What is said beside every interval and p of few slides, in brackets; nothing where there are enough."""
    return "".join(f" ({text})" for text in few_slides(runs[0].slides))


def title(scores: Scores) -> str:
    """What was translated, and which part of the store the pictures are.

    For example `demo: H&E to membrane IHC, test split, tile view`.
    """
    return f"{scores.store}: H&E to {scores.stain}, {scores.split} split, {scores.view} view"


def notes(runs: Sequence[Scores], paper: PaperTable = PaperTable.NONE) -> list[str]:
    """What a reader of the numbers has to know: protocols, differences, warnings, remarks on the paper's numbers."""
    found = [f"{scores.run}: {said}" for scores in runs if (said := verdict(scores))]
    found += few_slides(runs[0].slides)
    found += [f"corrected, {fix}" for fix in FIXES]
    found += _together({scores.run: [f"published, 8-bit round trip on {scores.round_trip}"] for scores in runs})
    found.append(COPY_NOTE)
    found += provenance_notes(runs)
    found += _together(
        {
            f"{scores.run} ({protocol})": [
                text
                for cell in scores.row(protocol).cells.values()
                for text in cell.note.split("; ")
                if text and not cell.missing
            ]
            for scores in runs
            for protocol in scores.rows
        }
    )
    found += [f"({mark}) {remark}" for mark, remark in remarks(beside(paper, runs[0])).items()]
    return list(dict.fromkeys(found))


def few_slides(slides: int) -> list[str]:
    """A warning where so few slides were scored that intervals and p values say nothing.

    >>> few_slides(2)
    ['2 test slides: intervals and p values say little, p cannot be below 0.5; take at least 6 slides']
    """
    if slides >= ENOUGH_SLIDES:
        return []
    smallest = f"p cannot be below {2.0 ** (1 - slides):.3g}" if slides > 1 else "there is no p"
    counted = f"{slides} test {'slide' if slides == 1 else 'slides'}"
    return [f"{counted}: intervals and p values say little, {smallest}; take at least {ENOUGH_SLIDES} slides"]


def _together(texts: Mapping[str, Sequence[str]]) -> list[str]:
    """Each text once, with the names that it holds for where it does not hold for all.

    >>> _together({"one": ["few slides", "no FID"], "two": ["few slides"]})
    ['few slides', 'one: no FID']
    """
    names: dict[str, list[str]] = {}
    for name, said in texts.items():
        for text in dict.fromkeys(said):
            names.setdefault(text, []).append(name)
    return [text if len(where) == len(texts) else f"{', '.join(where)}: {text}" for text, where in names.items()]


def no_numbers(runs: Sequence[Scores], hidden: Collection[Key]) -> list[str]:
    """Why the columns `hidden` are not shown, and why some cells of the others have no number: a line for each reason.

    >>> no_numbers([], [])
    []
    """
    missing: dict[str, set[Key]] = {
        f"{scores.run} ({protocol})": {metric for metric, cell in scores.row(protocol).cells.items() if cell.missing}
        for scores in runs
        for protocol in scores.rows
    }
    everywhere = set[Key].intersection(*missing.values()) if missing else set[Key]()
    somewhere: dict[str, list[str]] = {}
    for where, keys in missing.items():
        if keys - everywhere:
            somewhere.setdefault(list_heads(keys - everywhere), []).append(where)
    undefined = [key for key in hidden if key not in everywhere]
    return [
        *([f"No {list_heads(everywhere)}: {MISSING}; {FETCH}"] if everywhere else []),
        *(f"No {heads} for {', '.join(where)}: {MISSING}; {FETCH}" for heads, where in somewhere.items()),
        *([f"No {list_heads(undefined)}: undefined in every row"] if undefined else []),
    ]


def upscaler_label(name: str) -> str:
    """The upscaler by name; a replacement of BSRGAN is called that.

    >>> upscaler_label("lanczos"), upscaler_label("bsrgan")
    ('lanczos (instead of BSRGAN)', 'bsrgan')
    """
    return name if name == "bsrgan" else f"{name} (instead of BSRGAN)"


def length(scores: Scores | Predictions) -> str:
    """How long a run was trained; not always known of an imported generator, never of foreign pictures."""
    if scores.pairs_seen is not None:
        return f"{scores.pairs_seen:,} pairs seen"
    return f"number of pairs seen unknown ({'foreign' if scores.method == FOREIGN else 'imported'})"


def label(scores: Scores) -> str:
    """A warning where the tissue was drawn, and where pictures of other splits are among those that were scored."""
    return f"{SYNTHETIC}. " * scores.synthetic + "".join(f"LEAKAGE: {text}. " for text in scores.leakage)
