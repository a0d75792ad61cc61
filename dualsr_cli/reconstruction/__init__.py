"""AlignedPair -> Photo: the wide photo at the tele's resolution, tile by tile."""

from dualsr_cli.reconstruction.detail_transfer import Agreement
from dualsr_cli.reconstruction.match import MatchStatistics, MatchTask
from dualsr_cli.reconstruction.preview import Crop, write_preview
from dualsr_cli.reconstruction.reconstruct import (
    Progress,
    Reconstruction,
    default_scale,
    measure,
    reconstruct,
)
from dualsr_cli.reconstruction.upscale import (
    UpscaleOptions,
    UpscaleReport,
    UpscaleTask,
    described,
    upscale,
)

__all__ = [
    "Agreement",
    "Crop",
    "MatchStatistics",
    "MatchTask",
    "Progress",
    "Reconstruction",
    "UpscaleOptions",
    "UpscaleReport",
    "UpscaleTask",
    "default_scale",
    "described",
    "measure",
    "reconstruct",
    "upscale",
    "write_preview",
]
