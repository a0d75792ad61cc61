"""The figures that the five papers print, as data, for a table that shows paper and ours together.

`published.csv` has one figure a line. What a note says of a figure (a misprint, a table that
contradicts another) never changes it: it stands there as printed.

Figures of different papers go into one column only where they agree on the metric: DM3Net and
SDDuSR print 0.164 and 0.084 as LPIPS of the same KeDuSR, with the same PSNR and SSIM.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

PAPERS = {
    "awnet": "awnet",
    "dcsr": "dcsr",
    "dm3net": "kedusr",
    "sddusr": "kedusr",
    "selfdzsr": "selfdzsr",
}
"""The papers, and the protocol by which each one scores (on CUFED5, DCSR's is dcsr-x4)."""


@dataclass(frozen=True)
class Figure:
    """One printed figure.

    paper: one of `PAPERS`. table: its number or letter there, or "text" and the section. method:
    as the paper calls it, the system of the paper by its name; "-rec", "-l1" and "-l2" are
    versions trained without perceptual and adversarial losses. setting: what else was chosen:
    camera, scale, the row of an ablation. dataset: as the layouts are called, and flower, lfvideo
    and stanford, which are light fields. region: full, center or corner; empty for what is no
    quality. metric: psnr, ssim, lpips, time, memory, parameters or flops. unit: dB, s, GB, MB, M
    (millions), GFLOP, or none. printed: the figure as it stands in the paper. note: what is odd
    about it.
    """

    paper: str
    table: str
    method: str
    setting: str
    dataset: str
    region: str
    metric: str
    unit: str
    printed: str
    note: str

    @property
    def value(self) -> float:
        return float(self.printed)


def published_figures(
    *,
    paper: str | None = None,
    table: str | None = None,
    method: str | None = None,
    setting: str | None = None,
    dataset: str | None = None,
    region: str | None = None,
    metric: str | None = None,
) -> list[Figure]:
    """The figures that equal what is given, in the papers' order; nothing given: all of them."""
    asked = {
        "paper": paper,
        "table": table,
        "method": method,
        "setting": setting,
        "dataset": dataset,
        "region": region,
        "metric": metric,
    }
    wanted = {name: value for name, value in asked.items() if value is not None}
    return [
        figure
        for figure in _figures()
        if all(getattr(figure, name) == value for name, value in wanted.items())
    ]


@cache
def _figures() -> tuple[Figure, ...]:
    with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == [field.name for field in fields(Figure)]
    return tuple(Figure(*row) for row in rows)
