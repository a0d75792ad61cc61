"""Windows of a network's result: all of it, whatever the memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dualsr_cli.errors import UsageError
from dualsr_cli.networks import Inputs, windows
from dualsr_cli.reconstruction import plan, restore_windows

from .pasting import Pasting


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def inputs() -> Inputs:
    """An LR of odd sides and a reference of its middle."""
    return Inputs(image(203, 301), image(2 * 90, 2 * 141, 1), torch.tensor([[55, 81, 145, 222]]))


def joined(network: Pasting, inputs: Inputs, tile: int, around: int = 0) -> torch.Tensor:
    """The windows, each cut out of what was made for it, laid side by side."""
    height, width = inputs.lr.shape[2:]
    result = torch.full((1, 3, 2 * height, 2 * width), torch.nan)
    for window, made, outputs in restore_windows(network, inputs, tile, around=around):
        top, left, bottom, right = (2 * edge for edge in window)
        y, x = top - 2 * made[0], left - 2 * made[1]
        part = outputs.sr[:, :, y : y + bottom - top, x : x + right - left]
        assert result[:, :, top:bottom, left:right].isnan().all()  # nothing is made twice
        result[:, :, top:bottom, left:right] = part
    return result


@pytest.mark.parametrize("tile", [32, 72, 200, 512])
@pytest.mark.parametrize("around", [0, 8])
def test_windows_make_the_whole(inputs: Inputs, tile: int, around: int) -> None:
    network = Pasting().eval()
    assert torch.equal(joined(network, inputs, tile, around), network(inputs).sr)


@pytest.mark.parametrize("fits", [40, 64, 150])
def test_where_memory_runs_out_windows_get_smaller_and_nothing_is_lost(
    inputs: Inputs, fits: int
) -> None:
    sides = []

    def asked(stage: str, side: int) -> None:
        if side > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sides.append(side)

    network = Pasting(asked=asked).eval()
    made = joined(network, inputs, 512)
    assert max(sides) <= fits
    assert torch.equal(made, Pasting().eval()(inputs).sr)


def test_memory_that_runs_out_late_costs_no_window(inputs: Inputs) -> None:
    calls = []

    def asked(stage: str, side: int) -> None:
        calls.append(side)
        if len(calls) == 5 or (len(calls) > 20 and side > 32):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")

    made = joined(Pasting(asked=asked).eval(), inputs, 64)
    assert torch.equal(made, Pasting().eval()(inputs).sr)


def test_other_errors_are_not_taken_for_it(inputs: Inputs) -> None:
    def asked(stage: str, side: int) -> None:
        if stage == "render":
            raise RuntimeError("the size of tensor a must match")

    with pytest.raises(RuntimeError, match="must match"):
        joined(Pasting(asked=asked).eval(), inputs, 64)


def test_a_machine_that_is_too_small_ends_it(inputs: Inputs) -> None:
    def asked(stage: str, side: int) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        joined(Pasting(asked=asked).eval(), inputs, 64)


@pytest.mark.skipif(sys.platform != "linux", reason="no limit on a process's memory elsewhere")
def test_a_real_limit_of_memory_is_felt(tmp_path: Path) -> None:
    """A convolution to many channels, in an address space that holds it in small windows only."""
    script = """
import resource, torch
torch.set_num_threads(1)
from dualsr_cli.networks import Inputs
from dualsr_cli.reconstruction import restore_windows
from tests.reconstruction.pasting import Pasting
box = torch.tensor([[0, 0, 32, 32]])
inputs = Inputs(torch.rand(1, 3, 512, 512), torch.rand(1, 3, 64, 64), box)
sides = []
def asked(stage, side):
    if stage == "render":
        torch.ones(side * side * 512 * 8)  # 16 KiB for each pixel of lr: 4 GiB for all
        sides.append(side)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), used + (1 << 30)))
made = restore_windows(Pasting(asked=asked).eval(), inputs, 512)
print(sum(outputs.sr[0, 0].numel() for _, _, outputs in made), max(sides))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(1024 * 1024), "128"]
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != 1 << 30


def test_less_memory_means_smaller_windows(inputs: Inputs) -> None:
    network = Pasting()
    tiles = [plan(network, inputs, memory)[0] for memory in (1 << 30, 64 << 20, 32 << 20)]
    assert tiles == sorted(tiles, reverse=True)
    assert tiles[0] == 768
    assert tiles[2] < 128
    held = 4 * (24 * 203 * 301 + 12 * 90 * 141)
    seen = min(tiles[2] + 8, 203) * min(tiles[2] + 8, 301)
    assert held + 4 * 1000 * seen <= 32 << 20
    assert plan(network, inputs, 1 << 30, taken=(1 << 30) - (32 << 20))[0] == tiles[2]


def test_too_little_memory_is_told_beforehand(inputs: Inputs) -> None:
    with pytest.raises(UsageError, match=r"301 x 203 pixels take about .* --max-memory"):
        plan(Pasting(), inputs, 1 << 20)


def test_only_windows_that_are_wanted_are_made(inputs: Inputs) -> None:
    network = Pasting().eval()
    made = [
        window
        for window, _, _ in restore_windows(
            network, inputs, 64, wanted=lambda window: window[0] < 64 and window[1] >= 128
        )
    ]
    assert made == [w for w in windows(203, 301, 64) if w[0] < 64 and w[1] >= 128]
