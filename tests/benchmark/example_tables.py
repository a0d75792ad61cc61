"""Tables of the bench as tests need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dualsr_cli.benchmark.results import Missing, Row, Table, tabulate

PSNR = {"bicubic": [24.0, 30.0, 27.0], "kedusr": [26.0, 29.0, 31.0], "dm3net": [25.5, 31.0, 30.5]}


def row(method: str, case: str, psnr: float, **more: float) -> Row:
    return Row(
        dataset="dusr-real",
        part="",
        split="test",
        scale=2,
        case=case,
        method=method,
        protocol="kedusr",
        width=40,
        height=30,
        scores={"full": {"psnr": psnr, **more}},
    )


def psnr_table(
    psnr: Mapping[str, Sequence[float]],
    lpips: Mapping[str, Sequence[float]] | None = None,
    part: str = "crop",
) -> Table:
    """One of a data set of no paper; its cases are case0, case1, ..."""
    rows = [
        replace(
            row(method, f"case{at}", value, **({"lpips": lpips[method][at]} if lpips else {})),
            dataset="sample",
            part=part,
            split="all",
            protocol="half-size",
        )
        for method, values in psnr.items()
        for at, value in enumerate(values)
    ]
    (table,) = tabulate(rows, expected={2: max(map(len, psnr.values()))})
    return table


def paper_table() -> Table:
    """Three methods on three cases of DuSR-Real, of four that there should be, and what papers
    print of it; dm3net lacks another one."""
    seconds = {"bicubic": 0.01, "kedusr": 2.0, "dm3net": 4.0}
    rows = [
        replace(
            row(method, f"{at:04d}", value, ssim=0.8 + value / 1000, lpips=0.5 - value / 100),
            device="cpu",
            seconds=seconds[method] * (1 + at / 10),
            memory=500_000_000,
            operations=None if method == "bicubic" else 3 * 10**9,
            refused=("featureless", "it has no structure") if at == 1 != value else None,
        )
        for method, values in PSNR.items()
        for at, value in enumerate(values)
    ]
    rows.pop()
    missing = [
        Missing("0002", "memory", "there is not enough memory", "dm3net"),
        Missing("0003", "input", "0003.png is damaged: copy it there again"),
    ]
    (table,) = tabulate(
        rows, expected={2: 4}, missing=missing, parameters={"kedusr": 5_600_000, "dm3net": None}
    )
    return table
