"""Every network's size, work, time and memory: `python -m benchmarks.networks [NAME ...]`.

With random weights, in their published and their compact configuration, at LR 896 x 448 -> 1792 x
896 and 1792 x 1280 -> 3584 x 2560 or at each --size; the reference shows the central half of both
sides. On a processor the larger size takes minutes to hours and is measured only when --size asks
for it. Each row is a process of its own, run as `dualsr upscale` runs it: encoded once, then
rendered in windows of --tile LR pixels (0: all at once).

parameters  numbers that the weights hold, trained or not
GFLOP       twice the multiplications of convolutions and matrix products, without the margins of
            windows: counted by PyTorch on an image of 256 x 256, of which it grows with the pixels;
            in brackets those of matching: 2 x d for each query and key that took part
s           of one image, the best of --repeat; the first of a process is not counted
CPU s       of all threads, which says more than s where other work takes its share of a processor
GFLOP/s     and its share of what a square float32 (with bf16: bfloat16) matrix product reaches on
            the same device right after
peak        MiB: on a processor all that the process had in memory, on CUDA all that was allocated
beyond      MiB of it that PyTorch itself, the weights and the inputs had not taken before
planned     MiB that `network.memory` says for these windows: what "beyond" should not exceed much
load        how many processes wanted a processor just before

Beside KeDuSR stands what it is measured against: tiles of 128 LR pixels and 8 around them, each of
which has the keys' features made again, both unfolded, all their products at once, windows
gathered and folded. "its way": so, with the modules of this project. "published": the published
code itself, from the folder that --published names (a checkout of ZifanCui/KeDuSR), with the same
weights; it is not part of this project.

On CUDA there are rows in bfloat16 too, and of DM3Net without Key Pruning ("exact").
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import torch

from benchmarks._memory import MIB
from benchmarks._networks_row import COUNTED, Row
from dualsr_cli.networks import ARCHITECTURES

KINDS = ("published", "compact")
SIZES = ((896, 448), (1792, 1280))  # of LR
LARGE = 10**6  # LR pixels: from there on hours of a processor


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*ARCHITECTURES, []], metavar="NAME")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", nargs="+", type=_size, metavar="WxH", help="of LR")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--tile", type=int, default=512, help="LR pixels of a window's side")
    parser.add_argument("--repeat", type=int, default=1, help="times that a row is measured")
    parser.add_argument("--published", type=Path, help="a checkout of KeDuSR's published code")
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    name = torch.cuda.get_device_name(options.device) if cuda else "CPU"
    print(f"{name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    for size in options.size or SIZES:
        print(f"\n== LR {size[0]} x {size[1]} ==")
        if not cuda and not options.size and size[0] * size[1] > LARGE:
            print(f"not measured on a processor: ask for it with --size {size[0]}x{size[1]}")
            continue
        print(f"{'':31}  parameters            GFLOP        s    CPU s  GFLOP/s of peak"
              "     peak   beyond  planned  load")  # fmt: skip
        start = Row("", "", *size, options.device, options.tile, options.repeat)
        for row in rows(
            options.names or list(ARCHITECTURES), options.kind, start, options.published
        ):
            _show(row)


def rows(
    names: list[str], kinds: Sequence[str], start: Row, checkout: Path | None
) -> Iterator[Row]:
    """What is measured at one size, in turn."""
    cuda = start.device.startswith("cuda")
    for name in names:
        for kind in kinds:
            ours = replace(start, name=name, kind=kind)
            yield ours
            if cuda:
                yield replace(ours, precision="bf16")
            if cuda and name == "dm3net":
                yield replace(ours, kind=f"{kind} exact")
                yield replace(ours, kind=f"{kind} exact", precision="bf16")
            if name == "kedusr" and kind == "published":
                yield replace(ours, way="its way", tile=0)
                if checkout is not None:
                    yield replace(ours, way=str(checkout.resolve()), tile=0)


def _show(row: Row) -> None:
    load = os.getloadavg()[0]
    words = (
        row.kind if row.way == "ours" else "- its way" if row.way == "its way" else "- published"
    )
    print(f"{row.name:10}{words:16}{row.precision:5}", end="", flush=True)
    try:
        counted = _count(replace(row, width=0, height=0, tile=0, repeat=0, precision="fp32"))
        found = _run("measure", row)
    except RuntimeError as error:
        print(f"  {error}", flush=True)
        return
    grown = row.width * row.height / (COUNTED[0] * COUNTED[1])
    matched = found["matched"] + counted["matched"] * grown**2
    work = counted["convolved"] * grown + matched
    planned = f"{found['planned'] / MIB:9,.0f}" if found["planned"] else f"{'':9}"
    print(
        f"{found['parameters']:12,}{work / 1e9:9,.0f}{f'({matched / 1e9:,.0f})':>8}"
        f"{found['seconds']:9.2f}{found['cpu']:9.1f}{work / found['seconds'] / 1e9:9,.0f}"
        f"{work / found['seconds'] / found['rate']:8.0%}{found['peak'] / MIB:9,.0f}"
        f"{found['beyond'] / MIB:9,.0f}{planned}{load:6.1f}",
        flush=True,
    )


@cache
def _count(row: Row) -> dict[str, float]:
    return _run("count", row)


def _run(what: str, row: Row) -> dict[str, float]:
    """In a process of its own. Raises RuntimeError with its last words."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._networks_row", what, json.dumps(asdict(row))],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1][:160] if lines else f"ended with {done.returncode}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


if __name__ == "__main__":
    main()
