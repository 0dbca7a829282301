"""Whether the sizes of two pictures make them tiles, or let squares be cut from them; else the reason.

A store keeps these reasons, so the words of those without a square are part of older seals.
"""

from __future__ import annotations

from prep.settings import how_to_set
from prep.tiles.reading import SourcePair, in_px
from prep.tiles.squares import SLACK, Cutting, Field


def halves_fault(read: SourcePair, cutting: Cutting) -> str:
    """What is wrong with the size of a picture that holds both stains; empty if it can be cut in the middle."""
    if not read.joined:
        return ""
    height, width = read.he_file.pixels.shape[:2]
    if width == 2 * height or (cutting and cutting.halves and width % 2 == 0):
        return ""
    if cutting and cutting.halves:
        return f"is {in_px(read.he_file.pixels)}, and its halves must be equally wide; cut it again"
    fault = f"is {in_px(read.he_file.pixels)}, and a side-by-side picture must be twice as wide as high; "
    if cutting:
        return f"{fault}if its halves are the two stains, say so: {how_to_set('layout=side-by-side')}"
    return f"{fault}cut it again, or choose another layout"


def shape_fault(read: SourcePair) -> str:
    """Why two pictures are no tiles as they are; empty if they are."""
    if read.he.shape != read.ihc.shape:
        return f"H&E is {in_px(read.he)}, IHC is {in_px(read.ihc)}; the two must show one field: cut them alike"
    if read.he.shape[0] != read.he.shape[1]:
        return f"is {in_px(read.he)}, and a tile must be square; cut it again"
    return ""


def uneven_fault(read: SourcePair, field: Field) -> str:
    """Why two pictures have no known field in common; empty if they have."""
    if field.uneven <= SLACK:
        return ""
    return (
        f"H&E is {in_px(read.he)}, IHC is {in_px(read.ihc)}: more than {SLACK} px apart, and which part is in both is "
        "not known; cut them alike"
    )


def room_fault(field: Field, cutting: Cutting) -> str:
    """Why a field has room for no square; empty if it has."""
    if min(field.height, field.width) >= cutting.side:
        return ""
    return (
        f"is {field.width} x {field.height} px, smaller than a square of tile_side = {cutting.side} px; leave it out, "
        "or cut smaller squares"
    )


def common_field(read: SourcePair) -> Field:
    """What both pictures show, from their top left."""
    (he_height, he_width), (ihc_height, ihc_width) = read.he.shape[:2], read.ihc.shape[:2]
    return Field(
        height=min(he_height, ihc_height),
        width=min(he_width, ihc_width),
        uneven=max(abs(he_height - ihc_height), abs(he_width - ihc_width)),
    )
