"""Means of rows, and what stands beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dualsr_cli.benchmark import Missing, Row, efficiency_by_size, published_figures, tabulate

ROW = Row(
    "dusr-real", "", "test", 2, "a", "bicubic", "kedusr", 96, 64,
    {"full": {"psnr": 30.0, "ssim": 0.9}, "corner": {"psnr": 20.0}},
    device="cpu", seconds=1.0, memory=100,
)  # fmt: skip


def test_means_are_of_the_cases_that_have_them() -> None:
    rows = [
        ROW,
        replace(ROW, case="b", scores={"full": {"psnr": 40.0}}, seconds=4.0, refused=("no", "No")),
        replace(ROW, case="c", scores={"full": {"psnr": 35.0}}, seconds=2.0, memory=300),
        replace(ROW, method="other", protocol="dcsr"),
    ]
    lack = Missing("d", "input", "d is gone", "other", "dcsr")
    first, second = tabulate(rows, expected={2: 4}, missing=[lack], parameters={"bicubic": 7})
    (entry,) = first.measured
    assert entry.scores == {"full": {"psnr": 35.0, "ssim": 0.9}, "corner": {"psnr": 20.0}}
    assert entry.counts == {"full": {"psnr": 3, "ssim": 1}, "corner": {"psnr": 1}}
    assert (entry.missing, entry.refused, entry.measured) == (1, 1, True)
    took = entry.efficiency
    assert took is not None
    assert (took.seconds, took.spread, took.memory, took.runs) == (2.0, (1.5, 3.0), 300, 3)
    assert (took.parameters, took.width, took.height) == (7, 96, 64)
    assert (first.protocol, first.missing) == ("kedusr", ())
    assert (second.protocol, second.missing, second.measured[0].missing) == ("dcsr", (lack,), 3)
    assert second.printed == ()


def test_times_are_apart_for_each_size_and_once_for_each_case() -> None:
    rows = [
        ROW,
        replace(ROW, protocol="dcsr"),
        replace(ROW, case="b", width=200, seconds=9.0),
        replace(ROW, case="c", device="cuda", seconds=0.1),
        replace(ROW, case="d", seconds=None),
    ]
    found = [(one.device, one.width, one.runs, one.seconds) for one in efficiency_by_size(rows)]
    assert found == [("cpu", 96, 1, 1.0), ("cpu", 200, 1, 9.0), ("cuda", 96, 1, 0.1)]


@pytest.mark.parametrize(
    ("dataset", "part", "scale", "protocol", "papers"),
    [
        ("dusr-real", "", 2, "kedusr", {"dm3net", "sddusr"}),
        ("dusr-real", "", 2, "dcsr", set()),
        ("cufed5", "L1", 4, "dcsr-x4", {"dcsr"}),
        ("drealsr", "sony", 4, "selfdzsr", {"selfdzsr"}),
        ("vimeo90k", "between", 8, "awnet", {"awnet"}),
    ],
)
def test_what_papers_print_by_that_protocol_stands_beside(
    dataset: str, part: str, scale: int, protocol: str, papers: set[str]
) -> None:
    row = replace(ROW, dataset=dataset, part=part, scale=scale, protocol=protocol)
    (table,) = tabulate([row], expected={scale: 1})
    assert {entry.paper for entry in table.printed} == papers
    for entry in table.printed:
        for region, metrics in entry.scores.items():
            for metric, value in metrics.items():
                figures = published_figures(
                    paper=entry.paper, table=entry.table, method=entry.method, setting="",
                    dataset=dataset, part=part, region=region, metric=metric,
                )  # fmt: skip
                there = [figure for figure in figures if figure.scale in (None, scale)]
                assert [figure.value for figure in there] == [value]
    (train,) = tabulate([replace(row, split="train")], expected={scale: 1})
    assert train.printed == (), "papers score what is to be tested with"
