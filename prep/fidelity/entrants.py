"""The upscalers of a comparison: named by a person, settled for this machine, loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from prep.settings import Enlarger, PrepSettings
from prep.upscaling.choosing import choose
from prep.upscaling.files.given import GivenNetwork, by_factor, path_exists
from prep.upscaling.upscale import Enlarges, make_upscaler, read_networks, record_upscaler, upscaler_choice
from store.schema import SettingsError, Upscaler
from store.weights import BSRGAN_FILES, weights_folder

NAMED = {str(enlarger): enlarger for enlarger in (Enlarger.LANCZOS, Enlarger.BSRGAN)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An upscaler that was asked for: its short name, the settings that choose it, the file that it is."""

    title: str
    settings: PrepSettings
    networks: tuple[GivenNetwork, ...]

    @property
    def factors(self) -> frozenset[int]:
        """What it can enlarge by."""
        most = max((network.scale for network in self.networks), default=max(BSRGAN_FILES))
        return frozenset(factor for factor in BSRGAN_FILES if factor <= most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """An upscaler that is ready, what is recorded of it, and the factors that it enlarges by."""

    title: str
    record: Upscaler
    factors: frozenset[int]
    upscaler: Enlarges

    @property
    def interpolates(self) -> bool:
        """Whether it is a plain filter and no network."""
        return not self.record.digests


def ask(names: str, settings: PrepSettings) -> list[Asked]:
    """The upscalers of a list with commas: `lanczos`, `bsrgan`, or the path of a network's file, which is checked.

    Raises SettingsError for a name that is none of these or is given twice, WeightsError for a file of another kind.
    """
    if settings.upscaler is not Enlarger.BSRGAN:
        raise SettingsError(f"upscaler = {settings.upscaler}: a comparison takes its upscalers from --upscalers")
    asked = [_ask(name, settings) for part in names.split(",") if (name := part.strip())]
    if not asked:
        raise SettingsError("--upscalers names none; give some, for example --upscalers lanczos,bsrgan,weights/x4.pth")
    titles = [one.title for one in asked]
    if twice := [title for title in titles if titles.count(title) > 1]:
        raise SettingsError(f"--upscalers {names}: {twice[0]} is named twice; give each once")
    return asked


def missing_weights(one: Asked, factors: Mapping[int, str]) -> str:
    """Which weight file of BSRGAN is not here, and how to get it; "" if none is missing."""
    if one.settings.upscaler is not Enlarger.BSRGAN:
        return ""
    absent = [weight for factor, weight in BSRGAN_FILES.items() if factor in factors]
    absent = [weight for weight in absent if not (weights_folder() / weight.name).is_file()]
    return f"{absent[0].name} is not in {weights_folder()}; `make weights` fetches it" if absent else ""


def load_entrant(one: Asked, factors: Mapping[int, str]) -> Entrant:
    """An upscaler, loaded for those of these factors that it can enlarge by."""
    able = one.factors & factors.keys()
    settings = one.settings if one.settings.upscaler is Enlarger.LANCZOS else choose(one.settings, one.networks)
    record = record_upscaler(settings, by_factor(one.networks, able) if one.networks else {})
    return Entrant(
        title=one.title,
        record=record,
        factors=able,
        upscaler=make_upscaler(upscaler_choice(settings, able, one.networks)),
    )


def _ask(name: str, settings: PrepSettings) -> Asked:
    if enlarger := NAMED.get(name):
        return Asked(title=name, settings=replace(settings, upscaler=enlarger), networks=())
    if not path_exists(name):
        raise SettingsError(
            f"--upscalers: {name!r} is neither {' nor '.join(NAMED)}, nor a file that exists; correct the name or the "
            "path of the network"
        )
    chosen = replace(settings, upscaler=Enlarger.FILE, upscaler_file=name)
    networks = read_networks(chosen)
    return Asked(title=networks[0].title, settings=chosen, networks=networks)
