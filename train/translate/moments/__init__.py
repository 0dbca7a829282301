"""The statistics of a larger picture for the tiles of it, so that tiles fit together without seams.

A pass over tiles collects their moments (`collect`), a table of them becomes the field of a window (`table`), and a
second pass translates windows with it (`given`). Of the modes, `tile` needs none of this. `thumbnail`: `collect` of the
thumbnail, everywhere. `global`: `collect_together` of the sample, everywhere. `kernel`: `kernel_field`, `local`:
`local_field`, both of the table of all tiles.
"""
