"""What the command line asks for: pictures are translated here or by other processes, and what came of it is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from store.cli import say
from store.schema import PictureError
from train.run.generator_file import load_generator
from train.runtime.threads import settle_threads
from train.translate.cluster.tasks import Order
from train.translate.inputs import about_others
from train.translate.names import Listing
from train.translate.run import translate_all


def translate_listing(listing: Listing, out: Path, order: Order) -> None:
    """Translate the pictures of a listing, whose translations are in `out`.

    Raises PictureError with all that are bad, when the others are done, and what `translate_all` raises.
    """
    for text in about_others(listing.others):
        say(f"note: not translated: {text}")
    trained = load_generator(order.generator)
    threads = settle_threads(order.settings.threads, 0)
    torch.set_num_threads(threads)
    order = replace(order, settings=replace(order.settings, threads=threads))
    if order.workers:
        from train.translate.cluster.coordinator import share_out  # Dask is an extra

        outcome = share_out(listing.items, replace(order, digest=trained.digest))
    else:
        outcome = translate_all(
            listing, trained, order.settings, order.request, order.device, overwrite=order.overwrite
        )
    say(f"{len(outcome.done)} of {len(listing.items)} pictures are translated in {out}; not for clinical use")
    if outcome.bad:
        listed = "\n  ".join(outcome.bad)
        raise PictureError(f"{len(outcome.bad)} of {len(listing.items)} pictures are not translated:\n  {listed}")
