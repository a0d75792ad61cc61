"""The figures that the five papers print, as data, for a table that shows paper and ours together.

`published.csv` has one figure a line. What a note says of a figure (a misprint, a table that
contradicts another) never changes it: it stands there as printed.

Figures of different papers go into one column only where they agree on the metric: DM3Net and
SDDuSR print 0.164 and 0.084 as LPIPS of the same KeDuSR, with the same PSNR and SSIM.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
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
    versions trained without perceptual and adversarial losses. setting: the row of an ablation, or
    what else was chosen; empty in the main comparisons. dataset, part: as the layouts are called.
    scale: None for what is not enlarged. region: full, center or corner; empty for what is no
    quality. metric: psnr, ssim, lpips, time, memory, parameters or flops. unit: dB, s, GB, MB, M
    (millions), GFLOP, or none. printed: the figure as it stands in the paper. note: what is odd
    about it.
    """

    paper: str
    table: str
    method: str
    setting: str
    dataset: str
    part: str
    scale: int | None
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
    part: str | None = None,
    scale: int | None = None,
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
        "part": part,
        "scale": scale,
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
        rows = list(csv.DictReader(file))
    scales = [row.pop("scale") for row in rows]
    return tuple(
        Figure(**row, scale=int(scale) if scale else None)
        for row, scale in zip(rows, scales, strict=True)
    )
