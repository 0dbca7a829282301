"""Image sets of given pictures, without a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluate.inputs.baselines import AffineColourMap, Baselines, ConstantColour, CopyHE
from evaluate.inputs.image_set import ImageSet
from evaluate.inputs.predictions import FOREIGN, ONE_SIDE, PredictionFiles
from evaluate.inputs.reading import digest_pixels
from evaluate.protocol import ProtocolName
from store.images import PictureU8
from store.reader import Target

BLACK = (0.0, 0.0, 0.0)


def images_of(protocol: ProtocolName, sets: Mapping[str, Sequence[PictureU8]]) -> ImageSet:
    """Sets of equally many square pictures, the real ones among them, as the rows of one protocol."""
    first = next(iter(sets.values()))
    return ImageSet(
        targets=[Target(name=f"{n}.png", slide=f"slide {n}", pair=n, index=0) for n in range(len(first))],
        side=first[0].shape[0],
        predictions=PredictionFiles(
            method=FOREIGN,
            pairs_seen=None,
            generator=None,
            source=None,
            round_trip=ONE_SIDE,
            views=None,
            files={},
            digests={},
            contents={},
            record=None,
        ),
        baselines=Baselines(
            copy=CopyHE(),
            constant=ConstantColour(colour=BLACK),
            affine=AffineColourMap(matrix=(BLACK, BLACK, BLACK), offset=BLACK),
            view="tile",
            pictures=0,
        ),
        reads={(protocol, name): pictures.__getitem__ for name, pictures in sets.items()},
        digests={
            (protocol, name): tuple(digest_pixels(picture) for picture in pictures) for name, pictures in sets.items()
        },
    )
