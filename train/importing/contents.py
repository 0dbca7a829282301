"""What a file of tensors holds that has no published generator, told from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from train.importing.publications import Publication
from train.importing.unwrapping import dictionaries, older

CHECKPOINT = {"format", "modules", "optimisers"}  # keys of a checkpoint of this program


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A name, perhaps after a prefix, and a number of axes and kernel that show which network a tensor is of."""

    name: str
    title: str
    axes: int = 4
    kernel: int | None = None

    def fits(self, name: str, value: object) -> bool:
        """Whether an entry of a dictionary is such a tensor."""
        if not isinstance(value, Tensor) or not re.fullmatch(rf"(.*\.)?{self.name}", older(name)):
            return False
        return value.dim() == self.axes and (self.kernel is None or value.shape[-1] == self.kernel)


JUDGES = "which judges pictures and makes none; give the generator beside it"
SIGNS = (
    Sign(
        name=r"enc\.0\.weight(_orig)?",
        kernel=4,
        title=f"a discriminator (the PatchGAN of the ASP repository), {JUDGES}",
    ),
    Sign(name=r"model\.0\.weight(_orig)?", kernel=4, title=f"a discriminator (PatchGAN), {JUDGES}"),
    Sign(name=r"net\.0\.weight", kernel=1, title=f"a discriminator (PixelGAN), {JUDGES}"),
    Sign(
        name=r"mlp_\d+\.0\.weight",
        axes=2,
        title="projection heads (netF of CUT or ASP), which training uses and a translation does not; give the "
        "generator beside them",
    ),
    Sign(
        name=r"stem\.conv\.weight(_orig)?",
        title="a generator with the names of this program; give the generator.safetensors of its run to --checkpoint",
    ),
    Sign(
        name=r"(conv_first|model\.0|model\.model\.0)\.weight",
        kernel=3,
        title="a network that enlarges pictures (ESRGAN and its like), for `prep build`, not a translation",
    ),
)


def what_else(held: object, publication: Publication) -> str:
    """What there is in place of a generator of a publication, to follow the name of the file: "is not …"."""
    if isinstance(held, Mapping) and held.keys() >= CHECKPOINT:
        return (
            "is a checkpoint of this program, from which its run resumes: run the same `fit` to the end, and give the "
            "generator.safetensors of the run to --checkpoint"
        )
    start = f"is not a generator of the {publication.repository} repository:"
    for path, inner in dictionaries(held):
        place = f", in {'.'.join(path)}" if path else ""
        for sign in SIGNS:
            if any(sign.fits(name, value) for name, value in inner.items()):
                return f"{start} it holds {sign.title}{place}"
    return f"{start} it has no {publication.landmark}; {_contents(held)}"


def _contents(held: object) -> str:
    if not isinstance(held, Mapping):
        return f"it holds a {type(held).__name__}"
    return f"it has {', '.join(ascii(str(key)[:60]) for key in list(held)[:3]) or 'nothing'}"
