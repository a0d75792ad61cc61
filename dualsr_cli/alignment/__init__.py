"""PhotoPair -> AlignedPair: where each wide pixel lies in the tele photo, and how surely."""

from dualsr_cli.alignment._align import align, expected_ratio, same_scene, working_memory
from dualsr_cli.alignment.aligned_pair import AlignedPair, Box, Fit, Floats, Grid, Tone
from dualsr_cli.alignment.clips import Laid, Reference, Rig, begin, find_rig, follow, prepare
from dualsr_cli.alignment.results import AlignReport, AlignTask, align_files

__all__ = [
    "AlignReport",
    "AlignTask",
    "AlignedPair",
    "Box",
    "Fit",
    "Floats",
    "Grid",
    "Laid",
    "Reference",
    "Rig",
    "Tone",
    "align",
    "align_files",
    "begin",
    "expected_ratio",
    "find_rig",
    "follow",
    "prepare",
    "same_scene",
    "working_memory",
]
