"""What the name of a folder says: of which split, which stain, which marker its tiles are. Reads names, never disks.

Names as they are in MIST (`trainA`), BCI (`HE/train`), HER2match (`HE_20x`), HEMIT (`train/input`) and IHC4BC
(`HandE/ER`); upper and lower case do not matter.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from prep.settings import Layout
from store.schema import Split


class Role(StrEnum):
    """Which pictures a folder holds: of one stain, or of both in one file."""

    HE = "H&E"
    IHC = "IHC"
    BOTH = "both stains"


class Family(StrEnum):
    """Words that are used together: HE with IHC and markers, A with B, input with label."""

    STAIN = "HE IHC"
    LETTER = "A B"
    WORD = "input label"


SPLITS = {
    **dict.fromkeys(("train", "training"), Split.TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), Split.VAL),
    **dict.fromkeys(("test", "testing"), Split.TEST),
}
EOSIN = [f"h{ae}matoxylin{joint}eosin" for ae in ("e", "ae") for joint in ("", "and")]
ROLES = {
    **dict.fromkeys(("he", "hande", "hne", *EOSIN), (Role.HE, Family.STAIN)),
    "ihc": (Role.IHC, Family.STAIN),
    "a": (Role.HE, Family.LETTER),
    "b": (Role.IHC, Family.LETTER),
    "ab": (Role.BOTH, Family.LETTER),
    **dict.fromkeys(("input", "inputs", "source", "sources"), (Role.HE, Family.WORD)),
    **dict.fromkeys(("label", "labels", "target", "targets", "output", "outputs", "gt"), (Role.IHC, Family.WORD)),
}
NAMES_OF_MARKERS = (
    "her2|her2neu|er|pr|pgr|ki67|pdl1|pd1|p16|p40|p53|p63|ttf1|egfr|ck5|ck56|ck7|ck20|panck|cd3|cd4|cd8|cd20|cd31|cd34|"
    "cd45|cd68|cd138|cd163|foxp3|sox10|s100|gata3|ecadherin|mlh1|msh2|msh6|pms2|desmin|vimentin"
)
MARKERS = frozenset(NAMES_OF_MARKERS.split("|"))
PADDING = re.compile(  # of which kind the pictures are, not what they show
    r"\d{3,4}|\d+x|\d+px|v\d+|tiles?|images?|imgs?|patch(es)?|data(set)?|set|png|jpe?g|tiff?|stain(ed)?|real|domain|"
    r"aligned|registered|warped|crop(ped|s)?|resized|normali[sz]ed|final"
)
LOOKED_THROUGH = "trainvalab"  # the folder of MIST that holds all others
GLUED = re.compile(rf"(?:({'|'.join(SPLITS)})(a|b|ab|he|ihc))|(?:(he|ihc)({'|'.join(SPLITS)}))")  # trainA, HEtrain
LETTERED = re.compile(r"(?:images?|imgs?|domain|folder)(a|b)")  # imagesA
LONGEST_TERM = 3  # words of one name, such as PD-L1 or Ki 67


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a name says, or a path of names: nothing, where a fact is missing. `layout` is the order it was said in."""

    split: Split | None = None
    role: Role | None = None
    family: Family | None = None
    marker: str = ""
    layout: Layout = Layout.AUTO

    @property
    def _names_stain(self) -> bool:
        return bool(self.role or self.marker)

    def and_below(self, said: Word) -> Word | None:
        """What this path says with another name below it; None if they contradict or say a stain twice."""
        if (
            (self.role and said.role)
            or (self.marker and said.marker)
            or (self.split or said.split) != (said.split or self.split)
        ):
            return None
        if said.layout is Layout.MIST:
            layout = Layout.MIST
        elif self._names_stain and said.split:
            layout = Layout.BCI
        elif self.split and said._names_stain:
            layout = Layout.SPLIT_FIRST
        else:
            layout = self.layout if said.layout is Layout.AUTO else said.layout
        return Word(
            split=self.split or said.split,
            role=self.role or said.role,
            family=self.family or said.family,
            marker=self.marker or said.marker,
            layout=layout,
        )


def read_word(name: str, stain: str = "") -> Word | None:
    """What the name of a folder says, `stain` being the marker that is looked for; None if a part of it is unknown.

    >>> read_word("trainA").role, read_word("HE_20x").role, read_word("PD-L1").marker, read_word("slide7")
    (<Role.HE: 'H&E'>, <Role.HE: 'H&E'>, 'pdl1', None)
    """
    terms = [term for part in re.split(r"[\s_.\-]+", name) if (term := plain_word(part))]
    if "".join(terms) == LOOKED_THROUGH:
        return Word()
    known = MARKERS | ({plain_word(stain)} - SPLITS.keys() - ROLES.keys())
    word: Word | None = Word()
    while terms and word is not None:
        length, said = next(
            ((n, one) for n in range(LONGEST_TERM, 0, -1) if (one := _term("".join(terms[:n]), known))), (1, None)
        )
        if said or not PADDING.fullmatch(terms[0]):
            word = _beside(word, said) if said else None
        terms = terms[length:]
    return word


def plain_word(text: str) -> str:
    """Letters and digits of a word in lower case: `PD-L1` and `pdl1` are one.

    >>> plain_word("H&E"), plain_word("Ki-67")
    ('he', 'ki67')
    """
    return "".join(sign for sign in unicodedata.normalize("NFKC", text).casefold() if sign.isalnum())


def _term(term: str, markers: frozenset[str]) -> Word | None:
    """What one term says."""
    if term in SPLITS:
        return Word(split=SPLITS[term])
    if term in ROLES:
        role, family = ROLES[term]
        return Word(role=role, family=family, layout=Layout.SIDE_BY_SIDE if role is Role.BOTH else Layout.FOLDERS)
    if term in markers:
        return Word(marker=term, layout=Layout.FOLDERS)
    if lettered := LETTERED.fullmatch(term):
        return _term(lettered[1], markers)
    if glued := GLUED.fullmatch(term):
        role, family = ROLES[glued[2] or glued[3]]
        return Word(split=SPLITS[glued[1] or glued[4]], role=role, family=family, layout=Layout.MIST)
    return None


def _beside(word: Word, said: Word) -> Word | None:
    """What two terms of one name say together, such as `train_A`: a folder of MIST's layout if split and stain."""
    if word.role and word.role is said.role:
        return word  # source_A
    both = word.and_below(said)
    if both and both.split and both.role:
        both = Word(split=both.split, role=both.role, family=both.family, marker=both.marker, layout=Layout.MIST)
    return both
