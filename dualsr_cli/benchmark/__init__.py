"""The bench: data sets as they lie, metrics, the papers' protocols and their published figures."""

from dualsr_cli.benchmark.layouts import (
    LAYOUTS,
    Box,
    Case,
    Found,
    Layout,
    Problem,
    Sample,
    as_tensor,
    dataset_root,
    find_cases,
    load,
)
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
    "LAYOUTS",
    "METRICS",
    "PAPERS",
    "PROTOCOLS",
    "REGIONS",
    "Box",
    "Case",
    "Figure",
    "Found",
    "Layout",
    "Problem",
    "Protocol",
    "Sample",
    "as_tensor",
    "dataset_root",
    "find_cases",
    "levels",
    "load",
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
