"""One row of the networks' benchmark, in a process of its own: JSON in, JSON out.

`count` or `measure`: what counts operations takes memory, which is not to be measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from benchmarks._memory import forget_peak, give_back, peak, resident
from benchmarks._networks_published import KeDuSRWay, published_kedusr
from dualsr_cli import matching, networks
from dualsr_cli.machine import memory_kept
from dualsr_cli.networks import Inputs, Network, windows

COUNTED = (256, 256)  # LR pixels of the image that work is counted on: whole tiles of any network
WARM = (128, 128)  # of the first image of a process, which is not measured
SQUARE = {"cpu": 3072, "cuda": 8192}  # of the matrix product that is compared with


@dataclass(frozen=True)
class Row:
    """kind: "published" or "compact", for DM3Net with "exact" behind it. width, height: of LR.
    way: "ours", "its way", or the folder of the published code. precision: "fp32" or "bf16".
    """

    name: str
    kind: str
    width: int
    height: int
    device: str
    tile: int
    repeat: int
    precision: str = "fp32"
    way: str = "ours"


def main() -> None:
    row = Row(**json.loads(sys.argv[2]))
    with torch.inference_mode():
        print(json.dumps({"count": count, "measure": measure}[sys.argv[1]](row)))


def count(row: Row) -> dict[str, float]:
    """Floating-point operations of a small image: all, and those of the published way's matching.

    Without the searches of our own, which `measure` counts.
    """
    from torch.utils.flop_counter import FlopCounterMode

    network = build(row)
    inputs = inputs_of(network, COUNTED, row)
    run = runner(row, network)
    with FlopCounterMode(display=False) as counter:
        run(inputs)
    by_name = counter.get_flop_counts()["Global"]
    products = 0 if row.way == "ours" else by_name.get(torch.ops.aten.bmm, 0)
    return {"convolved": counter.get_total_flops() - products, "matched": products}


def measure(row: Row) -> dict[str, float]:
    network = build(row)
    device = torch.device(row.device)
    run = runner(row, network)
    large = inputs_of(network, (row.width, row.height), row)
    if device.type == "cuda":
        run(large)  # kernels are tuned to a size
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        run(inputs_of(network, WARM, row))
        give_back()
        before = resident()
        forget_peak()
    seconds, used = [], []
    # As `dualsr upscale` does it; the published code as whoever runs it does.
    keeping = memory_kept(True) if row.way == "ours" else nullcontext()
    with keeping, matching_work() as matched:
        for _ in range(row.repeat):
            start = time.process_time()
            seconds.append(clock(lambda: run(large), device))
            used.append(time.process_time() - start)
    most = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak()
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "matched": sum(matched) / row.repeat,
        "seconds": min(seconds),
        "cpu": min(used),
        "rate": product_rate(row, device),
        "peak": most,
        "beyond": most - before,
        "planned": planned(network, large, row.tile) if row.way == "ours" else 0,
    }


def build(row: Row) -> Network[Any]:
    """With weights as it starts training, seeded."""
    kind, _, exact = row.kind.partition(" ")
    settings = {"compact": kind == "compact"} | ({"prune": False} if exact else {})
    torch.manual_seed(0)
    network = networks.build(row.name, settings)
    network.eval().requires_grad_(False)  # as restored; PyTorch's counter fails on a bare parameter
    return network.to(row.device, precision_of(row))


def runner(row: Row, network: Network[Any]) -> Callable[[Inputs], torch.Tensor]:
    """What makes a result of inputs."""
    if row.way == "its way":
        return KeDuSRWay(network)
    if row.way != "ours":
        return published_kedusr(row.way, network)

    def run(inputs: Inputs) -> torch.Tensor:
        scale, (height, width) = network.scale, inputs.lr.shape[2:]
        tile = row.tile or None
        encoded = network.encode(inputs, tile)
        sr = inputs.lr.new_empty(len(inputs.lr), 3, scale * height, scale * width)
        for window in windows(height, width, tile):
            top, left, bottom, right = (scale * side for side in window)
            sr[:, :, top:bottom, left:right] = network.render(encoded, window).sr
        return sr

    return run


def inputs_of(network: Network[Any], size: tuple[int, int], row: Row) -> Inputs:
    """Noise; the reference shows the central half of both sides."""
    width, height = size
    generator = torch.Generator().manual_seed(1)
    box = height // 4, width // 4, height // 4 + height // 2, width // 4 + width // 2
    sides = (network.scale * (height // 2), network.scale * (width // 2))
    inputs = Inputs(
        lr=torch.rand(1, 3, height, width, generator=generator),
        ref=torch.rand(1, 3, *sides, generator=generator),
        box=torch.tensor([box]),
    )
    return inputs.to(row.device, precision_of(row))


def precision_of(row: Row) -> torch.dtype:
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[row.precision]


@contextmanager
def matching_work() -> Iterator[list[float]]:
    """Collects 2 x queries x keys x d of each search that a network makes meanwhile.

    The searches' products run in threads and kernels that PyTorch's counter does not see.
    """
    work: list[float] = []

    def search(query: torch.Tensor, key: torch.Tensor, **options: Any) -> matching.Correspondence:
        places = [features[:, 0].numel() for features in (query, key)]
        for n, name in enumerate(("query_mask", "key_mask")):
            if options.get(name) is not None:
                places[n] = int(options[name].sum())
        depth = query.shape[1] * options.get("patch", 3) ** 2
        work.append(2 * places[0] * places[1] / len(query) * depth)
        return matching.search(query, key, **options)

    users = [
        module
        for name, module in sys.modules.items()
        if name.startswith("dualsr_cli.networks.")
        and getattr(module, "search", None) is matching.search
    ]
    patches = [patch.object(module, "search", search) for module in users]
    for each in patches:
        each.start()
    try:
        yield work
    finally:
        for each in patches:
            each.stop()


def planned(network: Network[Any], inputs: Inputs, tile: int) -> float:
    """Bytes that windows of a tile are expected to take."""
    height, width = inputs.lr.shape[2:]
    top, left, bottom, right = inputs.box[0].tolist()
    needs = network.memory
    held = needs.image * height * width + needs.reference * (bottom - top) * (right - left)
    side = tile + 2 * network.margin if tile else max(height, width)
    return inputs.lr.element_size() * (held + needs.window * min(side, height) * min(side, width))


def product_rate(row: Row, device: torch.device) -> float:
    """FLOP/s of a square matrix product."""
    side = SQUARE.get(device.type, 4096)
    factors = [torch.rand(side, side, device=device, dtype=precision_of(row)) for _ in range(2)]
    return 2 * side**3 / min(clock(lambda: factors[0] @ factors[1], device) for _ in range(3))


def clock(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
