"""The bench: data sets as they lie, metrics, the papers' protocols and figures, and the report."""

from dualsr_cli.benchmark._report_lines import counts_of, notes_of
from dualsr_cli.benchmark.ablation_planning import find_ablation, plan_ablation
from dualsr_cli.benchmark.ablations import ABLATIONS, Grid, Training, Variant, model_name
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
from dualsr_cli.benchmark.machine_facts import machine_facts
from dualsr_cli.benchmark.methods import Method, Resources, list_methods
from dualsr_cli.benchmark.metrics import (
    levels,
    load_lpips,
    lpips_layers,
    lpips_map,
    lpips_value,
    luma,
    psnr,
    squared_error,
    ssim_map,
)
from dualsr_cli.benchmark.pictures import Picture, collect_pictures, take_picture
from dualsr_cli.benchmark.planning import Bench, plan_bench
from dualsr_cli.benchmark.protocols import METRICS, PROTOCOLS, REGIONS, Protocol, score
from dualsr_cli.benchmark.published import PAPERS, Figure, published_figures
from dualsr_cli.benchmark.report import terminal_table, write_report
from dualsr_cli.benchmark.results import (
    Efficiency,
    Entry,
    Missing,
    Row,
    Table,
    efficiency_by_size,
    tabulate,
)
from dualsr_cli.benchmark.runner import Benched, report_bench, run_bench

__all__ = [
    "ABLATIONS",
    "LAYOUTS",
    "METRICS",
    "PAPERS",
    "PROTOCOLS",
    "REGIONS",
    "Bench",
    "Benched",
    "Box",
    "Case",
    "Efficiency",
    "Entry",
    "Figure",
    "Found",
    "Grid",
    "Layout",
    "Method",
    "Missing",
    "Picture",
    "Problem",
    "Protocol",
    "Resources",
    "Row",
    "Sample",
    "Table",
    "Training",
    "Variant",
    "as_tensor",
    "collect_pictures",
    "counts_of",
    "dataset_root",
    "efficiency_by_size",
    "find_ablation",
    "find_cases",
    "levels",
    "list_methods",
    "load",
    "load_lpips",
    "lpips_layers",
    "lpips_map",
    "lpips_value",
    "luma",
    "machine_facts",
    "model_name",
    "notes_of",
    "plan_ablation",
    "plan_bench",
    "psnr",
    "published_figures",
    "report_bench",
    "run_bench",
    "score",
    "squared_error",
    "ssim_map",
    "tabulate",
    "take_picture",
    "terminal_table",
    "write_report",
]
