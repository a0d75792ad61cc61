"""The papers' figures as data, against what their tables print."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from dualsr_cli.benchmark import LAYOUTS, PAPERS, PROTOCOLS, published_figures

ALL = published_figures()

COUNTS = {
    # methods x columns; SDDuSR's table 1 has dashes for ESRGAN, BSRGAN and DATSR
    ("dm3net", "1"): 2 * 4,
    ("dm3net", "2"): 8 * 8,
    ("dm3net", "3"): 8 * 7,
    ("dm3net", "4"): 8 * 7,
    ("dm3net", "5"): 7 * 2,
    ("dm3net", "6"): 3 * 2,
    ("dm3net", "7"): 8 * 4,
    ("dm3net", "8"): 4 * 7,
    ("dm3net", "9"): 4 * 7,
    ("dm3net", "10"): 4 * 7,
    ("dm3net", "11"): 8 * 2,
    ("sddusr", "1"): 16 * 15 - 2 * 10 - 5,
    ("sddusr", "2"): 3 + 4,
    ("sddusr", "3"): 2 * 3,
    **{("selfdzsr", table): 17 * 7 for table in "12BCDE"},
    ("selfdzsr", "3"): 3 * 2,
    ("selfdzsr", "4"): 4 * 2,
    ("selfdzsr", "5"): 4 * 2,
    ("selfdzsr", "A"): 3 * 2,
    ("dcsr", "1"): 20 * 2,
    ("dcsr", "2"): 8 * 2,
    ("dcsr", "3"): 5 * 8,
    ("dcsr", "4"): 3 * 2,
    ("dcsr", "text 4.2.2"): 4,
    ("awnet", "2"): 4 * 4 + 2,
    ("awnet", "3"): 3 * 2,
    ("awnet", "4"): 2 * 4,
    ("awnet", "5"): 2,
    ("awnet", "6"): 2 * 4,
    ("awnet", "7"): 12 * 8,
    ("awnet", "8"): 4 * 3,
    ("awnet", "9"): 3 * 4,
    ("awnet", "text 5.1"): 7,
}


def test_all_tables_are_whole() -> None:
    assert Counter((figure.paper, figure.table) for figure in ALL) == COUNTS
    keys = [dataclasses.astuple(figure)[:9] for figure in ALL]  # all but unit, figure and note
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("paper", "table", "method", "place", "printed"),
    [
        ("dm3net", "2", "DM3Net", "dusr-real//full", "27.74 0.8879 0.159"),
        ("dm3net", "2", "KeDuSR", "dusr-real//center", "29.06 0.9219"),
        ("dm3net", "3", "MASA-SR", "realmcvsr-real//corner", "25.90 0.7941"),
        ("dm3net", "4", "SwinIR", "camerafusion-real//center", "25.90 0.8000"),
        ("dm3net", "7", "KeDuSR", "camerafusion-real//full", "26.78 0.7909"),
        ("dm3net", "9", "SelfDZSR-rec", "realmcvsr-real//corner", "25.33 0.7818"),
        ("dm3net", "10", "DM3Net-rec", "camerafusion-real//center", "32.10 0.9180"),
        ("sddusr", "1", "KeDuSR", "dusr-real//full", "27.18 0.8752 0.084"),
        ("sddusr", "1", "SDDuSR", "realmcvsr-real//corner", "26.27 0.8038"),
        ("sddusr", "1", "ZeDuSR-rec", "camerafusion-real//full", "26.16 0.7920 0.279"),
        ("selfdzsr", "1", "SelfDZSR", "drealsr/nikon/corner", "28.42 0.8238 0.231"),
        ("selfdzsr", "2", "C2-Matching-l1", "camerafusion/selfdzsr/full", "25.24 0.7992 0.346"),
        ("selfdzsr", "C", "SRNTT-l2", "drealsr/olympus/corner", "26.49 0.7879 0.441"),
        ("selfdzsr", "E", "DCSR", "drealsr/sony/full", "28.08 0.8128 0.272"),
        ("dcsr", "1", "TTSR-l1", "cufed5/L1/full", "27.09 0.804"),
        ("dcsr", "1", "ENet", "cufed5/L1/full", "24.24 0.695"),
        ("dcsr", "2", "Bicubic", "camerafusion/4k/full", "33.20 0.893"),
        ("dcsr", "2", "DCSR-l1", "camerafusion/4k/full", "36.98 0.933"),
        ("dcsr", "3", "DCSR-l1", "cufed5/L4/full", "26.70 .788"),
        ("awnet", "2", "ToFlow-SR", "vimeo90k/single/full", "33.08 0.9417"),
        ("awnet", "3", "ToFlow-Intp", "vimeo90k/between/full", "33.46 0.9615"),
        ("awnet", "7", "AWnet", "light-field/lfvideo-7/full", "39.36 0.9635 37.25 0.9487"),
        ("awnet", "8", "CrossNet", "light-field/stanford-5/full", "35.15"),
        ("awnet", "9", "AWnet", "kitti//full", "28.19 0.8882 26.01 0.8356"),
    ],
)
def test_rows_are_as_printed(paper: str, table: str, method: str, place: str, printed: str) -> None:
    dataset, part, region = place.split("/")
    row = published_figures(
        paper=paper, table=table, method=method, dataset=dataset, part=part, region=region
    )
    assert " ".join(figure.printed for figure in row) == printed
    names = ["psnr", "ssim"] * 2 if len(row) == 4 else ["psnr", "ssim", "lpips"][: len(row)]
    assert [figure.metric for figure in row] == names
    if len(row) == 4:
        assert [figure.scale for figure in row] == [4, 4, 8, 8]


@pytest.mark.parametrize(
    ("paper", "table", "method", "setting", "metric", "printed"),
    [
        ("awnet", "5", "AWnet", "two references", "psnr", "36.21"),
        ("awnet", "3", "AWnet", "with 1/64 of frame 4", "psnr", "36.63"),
        ("awnet", "text 5.1", "CrossNet", "640 x 448", "memory", "4511"),
        ("dcsr", "4", "DCSR-l1", "soft fusion", "psnr", "27.12"),
        ("dm3net", "5", "DM3Net", "scales 1/4 + 1/2 + 1", "ssim", "0.8364"),
        ("dm3net", "6", "DM3Net", "no embedding", "psnr", "27.37"),
        ("sddusr", "2", "SDDuSR-rec", "64 tokens", "psnr", "27.75"),
        ("selfdzsr", "4", "SelfDZSR", "pseudo-LR in no alignment", "psnr", "28.48"),
        ("selfdzsr", "5", "SelfDZSR", "Baseline + STN", "lpips", "0.219"),
        ("selfdzsr", "A", "SelfDZSR", "l1 + SW", "lpips", "0.219"),
    ],
)
def test_single_figures_are_as_printed(
    paper: str, table: str, method: str, setting: str, metric: str, printed: str
) -> None:
    (figure,) = published_figures(
        paper=paper, table=table, method=method, setting=setting, metric=metric
    )
    assert figure.printed == printed
    assert figure.value == float(printed)


def test_a_scale_is_chosen() -> None:
    row = published_figures(
        paper="awnet", table="4", setting="LR upscaled by bicubic", scale=8, metric="ssim"
    )
    assert [figure.printed for figure in row] == ["0.9766"]


def test_misprints_stay_and_are_noted() -> None:
    times = {
        (figure.table, figure.method): figure
        for figure in published_figures(paper="dm3net", metric="time")
        if figure.method in ("TTSR", "MASA-SR")
    }
    assert times["2", "TTSR"].value == times["11", "MASA-SR"].value == 6.013
    assert times["11", "TTSR"].value == times["2", "MASA-SR"].value == 7.067
    assert all("the other way round" in figure.note for figure in times.values())
    pruned = published_figures(paper="dm3net", setting="after Key Pruning", metric="ssim")
    assert [(figure.printed, "0.0072" in figure.note) for figure in pruned] == [("0.8364", True)]
    before, after = published_figures(paper="dm3net", metric="memory")
    assert (before.value, bool(before.note), after.value) == (49.41, True, 40.95)
    (count,) = published_figures(paper="dm3net", method="SelfDZSR", metric="parameters")
    assert (count.printed, count.note) == ("0.52", "its degradation network alone")


def test_each_figure_is_sound() -> None:
    ranges = {
        "psnr": (20, 45, "dB"),
        "ssim": (0.6, 1, ""),
        "lpips": (0.05, 0.5, ""),
        "time": (0.1, 60, "s"),
        "memory": (30, 5000, "GB MB"),
        "parameters": (0.5, 150, "M MB"),
        "flops": (200, 11000, "GFLOP"),
    }
    for figure in ALL:
        low, high, units = ranges[figure.metric]
        assert low < figure.value < high
        assert figure.unit in (units.split() or [""])
        assert (figure.region in ("full", "center", "corner")) == (
            figure.metric in ("psnr", "ssim", "lpips")
        )
        layout = LAYOUTS[figure.dataset]
        assert figure.part in layout.parts
        assert figure.scale in (*layout.scales, None)
    assert {figure.paper for figure in ALL} == set(PAPERS)
    assert set(PAPERS.values()) <= set(PROTOCOLS)
    assert published_figures(paper="dm3net", dataset="kitti") == []
