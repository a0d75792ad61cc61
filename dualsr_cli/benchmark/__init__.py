"""The bench: metrics, the papers' protocols and their published figures."""

from dualsr_cli.benchmark.metrics import (
    levels,
    lpips_layers,
    lpips_map,
    lpips_value,
    luma,
    psnr,
    squared_error,
    ssim_map,
)
from dualsr_cli.benchmark.protocols import METRICS, PROTOCOLS, REGIONS, Protocol, score
from dualsr_cli.benchmark.published import PAPERS, Figure, published_figures

__all__ = [
    "METRICS",
    "PAPERS",
    "PROTOCOLS",
    "REGIONS",
    "Figure",
    "Protocol",
    "levels",
    "lpips_layers",
    "lpips_map",
    "lpips_value",
    "luma",
    "psnr",
    "published_figures",
    "score",
    "squared_error",
    "ssim_map",
]
