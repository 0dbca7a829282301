"""One optimisation step of ASP written plainly: stock layers, contiguous float32, every picture encoded anew.

It is what the fast path of `train` is measured against and what its gradients are held against: nothing of `train`
computes here, it lends its settings. Pictures are `signed` [B,3,S,S]. Sources: CUT (ECCV 2020), ASP (MICCAI 2023), the
ASP repository.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from tests.bench.plain_networks import Discriminator, Generator, Heads, outer
from train.settings import OptimiserSettings, TrainSettings

BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)
PYRAMID = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # gp_weights, finest level first
MASKED = -10.0
Draw = Callable[[Sequence[Tensor], int, torch.Generator], list[Tensor]]


def draw_positions(taps: Sequence[Tensor], patches: int, generator: torch.Generator) -> list[Tensor]:
    """For each map some different positions, counted row by row, [P]."""
    return [torch.randperm(tap.shape[2] * tap.shape[3], generator=generator)[:patches] for tap in taps]


def patch_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """Each patch's cross entropy between its positive, in front, and its picture's other patches. [B,P,C] -> [B,P]."""
    key = key.detach()
    positive = (query * key).sum(dim=2, keepdim=True)  # [B,P,1]
    others = torch.bmm(query, key.transpose(1, 2))  # [B,P,P]
    others = others.masked_fill(torch.eye(query.shape[1], dtype=torch.bool), MASKED)
    logits = torch.cat((positive, others), dim=2) / temperature
    target = torch.zeros(query.shape[:2], dtype=torch.long)
    return F.cross_entropy(logits.transpose(1, 2), target, reduction="none")


def asp_weights(query: Tensor, key: Tensor, trust: float) -> Tensor:
    """`lambda_linear`: towards the cosine of the two patches as `trust` grows, with mean 1. [B,P,C] -> [B,P]."""
    similarity = (query * key).sum(dim=2).detach()
    weights = (1 - trust) + trust * similarity.clamp(min=0)
    return weights / weights.mean()


def pyramid(fake: Tensor, real: Tensor) -> Tensor:
    """Mean over six levels of weight x L1; each picture has a pyramid of its own."""
    kernel = outer(BINOMIAL, fake.shape[1]).to(fake.dtype)

    def levels(picture: Tensor) -> list[Tensor]:
        made = []
        for _ in PYRAMID[:-1]:
            picture = F.conv2d(F.pad(picture, (2, 2, 2, 2), mode="reflect"), kernel, groups=picture.shape[1])
            made.append(picture)
            picture = picture[:, :, ::2, ::2]
        return [*made, picture]

    pairs = zip(PYRAMID, levels(fake), levels(real), strict=True)
    return torch.stack([weight * F.l1_loss(one, other) for weight, one, other in pairs]).mean()


class PlainAsp:
    """The networks with their three optimisers, and the step: the discriminator moves, then generator and heads."""

    def __init__(self, settings: TrainSettings, draw: Draw = draw_positions) -> None:
        base, optimiser = settings.generator.base, settings.optimiser
        self.settings, self.draw = settings, draw
        self.generator = Generator(settings.generator)
        self.discriminator = Discriminator(settings.discriminator)
        self.heads = Heads((3, 2 * base, 4 * base, 4 * base, 4 * base), settings.contrast.width)
        self.optimisers = {name: _adam(network, optimiser) for name, network in self.modules().items()}
        self.constant_share = optimiser.constant_epochs / optimiser.epochs

    def modules(self) -> dict[str, nn.Module]:
        """The networks, under the names that `train` has for them."""
        return {"generator": self.generator, "discriminator": self.discriminator, "heads": self.heads}

    def load(self, states: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over the tensors of each network, under their published names."""
        for name, network in self.modules().items():
            network.load_state_dict({key: tensor.detach().clone() for key, tensor in states[name].items()})

    def step(self, he: Tensor, ihc: Tensor, progress: float, generator: torch.Generator) -> dict[str, Tensor]:
        """One move of all; returns the weighted terms, detached."""
        fake = self.generator(he)
        terms = self.discriminator_terms(fake, ihc)
        self._move(terms, "discriminator")
        self.discriminator.requires_grad_(False)
        moved = self.generator_terms(he, fake, ihc, progress, generator)
        self._move(moved, "generator", "heads")
        self.discriminator.requires_grad_(True)
        return {name: term.detach() for name, term in (terms | moved).items()}

    def discriminator_terms(self, fake: Tensor, ihc: Tensor) -> dict[str, Tensor]:
        """Least squares: 0 asked of the fake, 1 of the real picture."""
        return {
            "discriminator_fake": 0.5 * self.discriminator(fake.detach()).square().mean(),
            "discriminator_real": 0.5 * (self.discriminator(ihc) - 1).square().mean(),
        }

    def generator_terms(
        self, he: Tensor, fake: Tensor, ihc: Tensor, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The weighted terms of generator and heads. All three encodings keep what their gradients would need."""
        weights = self.settings.weights
        trust = max(0.0, (progress - self.constant_share) / (1 - self.constant_share))
        seen_he, seen_fake, seen_ihc = (self.generator.encode(picture) for picture in (he, fake, ihc))
        verdict = self.discriminator(fake)
        return {
            "adversarial": weights.adversarial * (verdict - 1).square().mean(),
            "nce": weights.nce * self._contrast(seen_fake, seen_he, 0.0, generator),
            "asp": weights.asp * self._contrast(seen_fake, seen_ihc, trust, generator),
            "pyramid": weights.pyramid * pyramid(fake, ihc),
        }

    def _contrast(self, query: list[Tensor], key: list[Tensor], trust: float, generator: torch.Generator) -> Tensor:
        """Mean over taps at positions drawn anew; without trust the weights of ASP are 1, and it is PatchNCE."""
        contrast = self.settings.contrast
        positions = self.draw(query, contrast.patches, generator)
        losses = [
            (asp_weights(q, k, trust) * patch_nce(q, k, contrast.temperature)).mean()
            for q, k in zip(self.heads(query, positions), self.heads(key, positions), strict=True)
        ]
        return torch.stack(losses).mean()

    def _move(self, terms: Mapping[str, Tensor], *names: str) -> None:
        for name in names:
            self.optimisers[name].zero_grad()
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]  # torch
        for name in names:
            self.optimisers[name].step()


def _adam(network: nn.Module, settings: OptimiserSettings) -> Adam:
    return Adam(network.parameters(), lr=settings.learning_rate, betas=(settings.beta1, settings.beta2))
