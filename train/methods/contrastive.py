"""What CUT, FastCUT, ASP and the paper's method share: a GAN step with contrastive losses on patches (PatchNCE).

A patch of the translation must be more like the patch of the H&E at its place than like other patches. The
discriminator steps first, then generator and projection heads on the fake made before. The methods themselves are in
`cut.py`, `asp.py` and `attention_gan.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from store.schema import SettingsError
from train.data.batch import Batch
from train.losses import OBJECTIVES, adaptive_patch_nce, patch_nce, pyramid, schedule_shares
from train.methods.base import ADVERSARIAL, DISCRIMINATOR, GENERATOR, adversarial_pair
from train.methods.decisions import Decisions, Positions
from train.networks.build import make_discriminator, make_generator
from train.networks.patch_projector import Comparison, ProjectionHeads, draw_positions
from train.networks.patchgan import check_side
from train.networks.resnet import ResnetGenerator
from train.runtime.distributed import global_mean, mean_of_all
from train.settings import TrainSettings

NCE, IDENTITY, ADAPTIVE, PYRAMID = "nce", "nce_identity", "asp", "pyramid"  # names of terms
CONTRAST_SETTINGS = ("contrast", "weights.nce")
"""Settings that every method here reads besides those of a GAN."""
Loss = Callable[[Tensor, Tensor], Tensor]
CONTRASTS = {NCE: ("fake", "he"), IDENTITY: ("identity", "ihc"), ADAPTIVE: ("fake", "ihc")}
"""Query and key of each contrastive term, in the order in which they draw their patches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What a step's forward pass made from he, or from he and ihc where there is an identity term.

    pictures: the translations, signed [B,3,S,S] or [2B,3,S,S], those of he first; mirrored if `mirrored`. taps:
    features of the translated pictures, from the same pass, without gradient.
    """

    pictures: Tensor
    taps: list[Tensor]
    mirrored: bool


class Contrastive:
    """L_G = the weighted sum of some of: adversarial, NCE, identity NCE, adaptive supervised NCE, Gaussian pyramid.

    A step encodes each picture once (`contrast.share_passes`): features of what is translated come from the pass that
    translates it, keys carry no gradient, and both queries of the identity term share a pass. The published order
    encodes every picture again and computes gradients of keys, which it then discards. The gradients are the same, but
    each pass of a network with spectral norm makes a power iteration, and the shared step makes fewer of them.
    """

    players: tuple[str, ...] = (DISCRIMINATOR, GENERATOR)

    def __init__(
        self, settings: TrainSettings, names: Sequence[str], draw: Callable[..., Positions] = draw_positions
    ) -> None:
        generator = make_generator(settings)
        if not isinstance(generator, ResnetGenerator):
            raise SettingsError(
                f"generator.network = unet with method = {settings.method}: PatchNCE taps a ResNet; set "
                "generator.network=resnet"
            )
        self.generator = generator
        self.discriminator = make_discriminator(settings)
        self.contrast, self.asp = settings.contrast, settings.asp
        self.heads = ProjectionHeads(generator.tap_channels, settings.contrast.width, settings.contrast.unit_length)
        self.multiple: int = generator.multiple
        self.layers = settings.discriminator.layers
        self.objective = OBJECTIVES[settings.objective]
        self.constant_share = settings.optimiser.constant_epochs / settings.optimiser.epochs
        self.draw = draw
        self.names = tuple(names)
        self.contrasts = [name for name in CONTRASTS if name in names]
        self.weights = _weights(settings, self.names)
        self.needs_pairs = ADAPTIVE in names or PYRAMID in names or settings.discriminator.conditional
        self.input_channels = {"generator": 3, "discriminator": self.discriminator.channels}

    def modules(self) -> dict[str, nn.Module]:
        """Everything that has state."""
        return {"generator": self.generator, "discriminator": self.discriminator, "heads": self.heads}

    def owned(self, player: str) -> list[nn.Module]:
        """The heads belong to the generator's player; the published third Adam computes the same update."""
        return [self.discriminator] if player == DISCRIMINATOR else [self.generator, self.heads]

    def check_side(self, side: int) -> None:
        """Refuse sides, px, too small for the discriminator: SettingsError with the smallest that works."""
        check_side(side, self.layers)

    def decide(self, rows: int, side: int, progress: float, generator: torch.Generator) -> Decisions:
        """Whether the step is mirrored, the patches of each contrastive term, and how far ASP's schedule is."""
        mirrored = self.contrast.flip_equivariance and torch.rand((), generator=generator).item() < 0.5
        places = [tap_side**2 for tap_side in self.generator.tap_sides(side)]
        return Decisions(
            mirrored=mirrored,
            positions=tuple(self.draw(places, self.contrast.patches, generator) for _ in self.contrasts),
            shares=schedule_shares(self.asp.schedule, progress, self.constant_share),
        )

    def generate(self, batch: Batch, decisions: Decisions) -> Outputs:
        """The translations that both players use."""
        sources = torch.cat((batch.he, batch.ihc)) if IDENTITY in self.names else batch.he
        pictures, taps = self.generator.forward_with_taps(sources.flip(3) if decisions.mirrored else sources)
        return Outputs(pictures=pictures, taps=[tap.detach() for tap in taps], mirrored=decisions.mirrored)

    def terms(self, player: str, batch: Batch, outputs: Outputs, decisions: Decisions) -> dict[str, Tensor]:
        """The weighted terms of a player, by name."""
        he = batch.he.flip(3) if outputs.mirrored else batch.he
        fake = outputs.pictures[: len(he)]
        if player == DISCRIMINATOR:
            return adversarial_pair(
                self.objective,
                fake=self.discriminator.score(he, fake.detach()),
                real=self.discriminator.score(batch.he, batch.ihc),
            )
        values = self._contrasts(batch, outputs, decisions)
        values[ADVERSARIAL] = self.objective(self.discriminator.score(he, fake), 1.0).mean()
        if PYRAMID in self.names:
            values[PYRAMID] = pyramid(fake, batch.ihc.flip(3) if outputs.mirrored else batch.ihc).mean()
        return {name: weight * values[name] for name, weight in self.weights.items()}

    def _contrasts(self, batch: Batch, outputs: Outputs, decisions: Decisions) -> dict[str, Tensor]:
        """The contrastive terms, unweighted: means over patches, then over taps. Each has its own patches."""
        nce = partial(patch_nce, temperature=self.contrast.temperature)
        asp = partial(
            adaptive_patch_nce,
            temperature=self.contrast.temperature,
            shares=decisions.shares,
            lookup=self.asp.lookup,
            mean=_mean_of_tap,
        )
        taps = self._encode(batch, outputs)
        sides = [CONTRASTS[name] for name in self.contrasts]
        comparisons = [
            Comparison(query=taps[query], key=taps[key], positions=positions)
            for (query, key), positions in zip(sides, decisions.positions, strict=True)
        ]
        values = {}
        for name, (queries, keys) in zip(self.contrasts, self.heads.compare(comparisons), strict=True):
            loss = asp if name == ADAPTIVE else nce
            values[name] = torch.stack([loss(q, k).mean() for q, k in zip(queries, keys, strict=True)]).mean()
        return values

    def _encode(self, batch: Batch, outputs: Outputs) -> dict[str, list[Tensor]]:
        """The taps of all pictures that the terms compare: keys `he`, `ihc` without gradient, queries with.

        Queries are sliced only where needed: the gradient of a slice is a contiguous map of zeros, which every layer
        before it would have to add to a channels-last one, 7 % of a step.
        """
        shared, size = self.contrast.share_passes and not outputs.mirrored, len(batch.he)
        he = [tap[:size] for tap in outputs.taps] if shared else self._key(batch.he)
        queries = self.generator.encode(outputs.pictures)
        if outputs.mirrored:
            queries = [tap.flip(3) for tap in queries]
        if IDENTITY in self.names:
            halves = [torch.chunk(tap, 2) for tap in queries]
            fake, identity = ([half[n] for half in halves] for n in range(2))
            ihc = [tap[size:] for tap in outputs.taps] if shared else self._key(batch.ihc)
            return {"he": he, "fake": fake, "identity": identity, "ihc": ihc}
        if ADAPTIVE in self.names:
            return {"he": he, "fake": queries, "ihc": self._key(batch.ihc)}
        return {"he": he, "fake": queries}

    def _key(self, picture: Tensor) -> list[Tensor]:
        """Taps of a picture as keys. The published order computes with gradient here and discards it."""
        with torch.set_grad_enabled(not self.contrast.share_passes):
            return self.generator.encode(picture)


def _mean_of_tap(weights: Tensor) -> Tensor:
    """The mean over the pictures of all processes: of one tap [B,P] -> [], of all at once [taps,B,P] -> [taps,1,1]."""
    return global_mean(weights) if weights.dim() == 2 else mean_of_all(weights.mean(dim=(1, 2), keepdim=True))


def _weights(settings: TrainSettings, names: Sequence[str]) -> dict[str, float]:
    """The weight of each term. With the identity term, each of the two NCE terms counts half, as in the CUT repository.

    `weights.halve_nce = false` is the other reading: the ASP repository's `cpt_model.py`, the only published code with
    CUT and a pyramid, adds both in full.
    """
    weights = settings.weights
    half = 0.5 if IDENTITY in names and weights.halve_nce else 1.0
    table = {
        ADVERSARIAL: weights.adversarial,
        NCE: half * weights.nce,
        IDENTITY: half * weights.nce,
        ADAPTIVE: weights.asp,
        PYRAMID: weights.pyramid,
    }
    return {name: table[name] for name in names}
