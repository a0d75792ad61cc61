"""PhotoPair -> AlignedPair: where each wide pixel lies in the tele photo, and how surely."""

from dualsr_cli.alignment._align import align, same_scene
from dualsr_cli.alignment.aligned_pair import AlignedPair, Box, Fit, Floats, Grid, Tone
from dualsr_cli.alignment.results import AlignReport, align_files

__all__ = [
    "AlignReport",
    "AlignedPair",
    "Box",
    "Fit",
    "Floats",
    "Grid",
    "Tone",
    "align",
    "align_files",
    "same_scene",
]
