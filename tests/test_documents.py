"""The documents beside the code: what they name exists, and what a person types is said as it is."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tests.support.places import ROOT

OUTSIDE = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}  # `make test` runs these too
MARKDOWN = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/README.md")])


@pytest.mark.parametrize("file", MARKDOWN, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)", text):
        linked = (file.parent / target) if target else file
        assert linked.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in anchors, f"{target}#{anchor}"


def test_every_target_of_the_readme_is_in_the_makefile() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for file in MARKDOWN:
        text = file.read_text(encoding="utf-8")
        commands = re.findall(r"(?:^ {4}|^|`)make ((?:[a-z-]+ )*[a-z-]+)", text, re.MULTILINE)
        for word in {word for command in commands for word in command.split()}:
            assert word in targets, f"{file.name}: make {word}"


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
def test_the_help_of_make_fits_a_terminal() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, env=OUTSIDE, capture_output=True, text=True, check=True).stdout
    assert "make demo" in shown
    assert max(map(len, shown.splitlines())) <= 100


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("prepare", "SET=stain=X", "DATA=t"), "--set 'stain=X'"),
        (("train", "SET=seed=1"), "--set 'seed=1'"),
        (("prepare", "train", "PREP_SET=stain=X", "TRAIN_SET=seed=1", "DATA=t"), "--set 'seed=1'"),
    ],
)
def test_set_goes_to_the_stage_that_is_named(words: tuple[str, ...], expected: str) -> None:
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, env=OUTSIDE, capture_output=True, text=True, check=True)
    assert expected in done.stdout.splitlines()[-1]


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("PAIRS=my/pairs.csv",), ["--pairs-from", "my/pairs.csv", "--store", "data/pairs.zarr"]),
        (("PAIRS=p.csv", "DATA=t"), ["--data", "t", "--pairs-from", "p.csv", "--store", "data/t.zarr"]),
        (("PAIRS=p.csv", "HE=a", "IHC=b", "STORE=s"), ["--he", "a", "--ihc", "b", "--pairs-from", "p.csv"]),
    ],
)
def test_a_table_of_pairs_is_handed_on(words: tuple[str, ...], expected: list[str]) -> None:
    done = subprocess.run(
        ["make", "-n", "prepare", *words], cwd=ROOT, env=OUTSIDE, capture_output=True, text=True, check=True
    )
    typed = shlex.split(done.stdout.splitlines()[-1])
    assert typed[typed.index("build") + 1 :][: len(expected)] == expected
    assert "demo" not in done.stdout


ODD = """it's 2+, [a] (b) $x $$ ;& "q" `c` \\d {e}"""  # what a name may hold and a shell or make would read otherwise
GIVEN = {  # a variable, the targets that read it, and the option that it becomes
    "DATA": ("prepare", "--data"),
    "HE": ("prepare", "--he"),
    "IHC": ("prepare HE=a", "--ihc"),
    "PAIRS": ("prepare", "--pairs-from"),
    "STORE": ("prepare train eval", "--store"),
    "RUN": ("train eval", "--run"),
    "INPUT": ("translate", "translate"),
    "OUT": ("translate INPUT=a", "--out"),
    "CONFIG": ("train", "--config"),
    "PREP_CONFIG": ("prepare DATA=a", "--config"),
    "WEIGHTS": ("prepare DATA=a", "--weights"),
    "SCHEDULER": ("prepare DATA=a", "--scheduler"),
    "FROM": ("weights", "--from"),
    "CHECKPOINT": ("translate INPUT=a", "--checkpoint"),
    "NORMS": ("translate INPUT=a", "--norm-statistics"),
    "REGION": ("translate INPUT=a", "--region"),
    "MASK": ("translate INPUT=a", "--mask"),
    "MPP": ("translate INPUT=a", "--mpp"),
    "SOURCE_MPP": ("translate INPUT=a", "--source-mpp"),
}


def made(*words: str) -> list[list[str]]:
    """The commands of ours that make would run, each as its words."""
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, env=OUTSIDE, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if re.match(r"\S*python -m (prep|train|evaluate|store) ", line)]
    return [shlex.split(line) for line in lines]


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
@pytest.mark.parametrize("name", GIVEN)
def test_a_value_that_is_given_to_make_reaches_the_command_as_it_is(name: str) -> None:
    targets, option = GIVEN[name]
    found = made(*targets.split(), f"{name}={ODD}")
    assert found
    for words in found:
        assert words[words.index(option) + 1] == ODD


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
@pytest.mark.parametrize("target", ["compare METHODS=asp", "ablation ROWS=both"])
def test_names_reach_the_commands_of_commands(target: str) -> None:
    odd = ODD.replace("\\d", "d")
    build, *others = made(*target.split(), f"DATA=tiles/{odd}", """TRAIN_SET=seed=1 x='a $b'""")
    assert build[build.index("--data") + 1] == f"tiles/{odd}"
    store = build[build.index("--store") + 1]
    assert store == f"data/{odd}.zarr"
    (fit,) = [words for words in others if words[1:4] == ["-m", "train", "fit"]]
    assert fit[fit.index("--store") + 1] == store
    assert [word for option, word in pairwise(fit) if option == "--set"] == ["seed=1", "x=a $b"]
    for words in others:
        assert words[words.index("--run") + 1].startswith(f"runs/{odd}-{target.partition(' ')[0]}/")


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("slide_pattern='(s .)_'", ["slide_pattern=(s .)_"]),
        (r"slide_pattern=^(.*)_\d+$", [r"slide_pattern=^(.*)_\d+$"]),
        (r"""slide_pattern="it's (.)_\d" stain=X""", [r"slide_pattern=it's (.)_\d", "stain=X"]),
        ("a=1  b=$HOME;`c`", ["a=1", "b=$HOME;`c`"]),
        ("name='x y' 'z w=#3'", ["name=x y", "z w=#3"]),
    ],
)
def test_set_is_split_as_a_shell_splits_words(given: str, expected: list[str]) -> None:
    """But nothing is expanded, and a backslash stays: patterns have them."""
    for words in (("prepare", "DATA=t", f"SET={given}"), ("train", "STORE=s", f"SET={given}")):
        (typed,) = made(*words)
        assert [word for option, word in pairwise(typed) if option == "--set"] == expected


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
def test_a_quotation_mark_that_is_not_closed_is_refused() -> None:
    words = ["make", "-n", "prepare", "DATA=t", "SET=name=it's"]
    done = subprocess.run(words, cwd=ROOT, env=OUTSIDE, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert """SET="name=it's": a quotation mark is not closed""" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="this machine has no make")
@pytest.mark.parametrize("name", ["SET", "CONFIG"])
def test_set_is_refused_where_two_stages_are_named(name: str) -> None:
    words = ["make", "-n", "prepare", "train", f"{name}=x=1"]
    done = subprocess.run(words, cwd=ROOT, env=OUTSIDE, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f'Use PREP_{name}="…" for prepare or TRAIN_{name}="…" for train' in done.stderr


def test_the_citation_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = citation["preferred-citation"]
    assert paper["title"].startswith("Advancing H&E-to-IHC Stain Translation in Breast Cancer")
    assert paper["title"] in (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " ")
