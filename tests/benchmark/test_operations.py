"""Operations as they are counted, against a count of one's own."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from dualsr_cli.benchmark._operations import Operations
from dualsr_cli.networks import Inputs, build


class Shapes(TorchFunctionMode):  # type: ignore[no-untyped-call]
    """Counts by shapes, a level above PyTorch's table: a product for each output and weight."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name == "conv2d":
            self.total += 2 * result.numel() * args[1][0].numel()
        else:
            assert name not in ("matmul", "mm", "bmm", "linear", "einsum", "conv_transpose2d")
        return result


def test_kedusrs_operations_are_those_of_its_layers_and_its_search() -> None:
    """Of convolutions, run by rows, and of the patches of 3 x 3 at half of LR's size."""
    network = build("kedusr", {"features": 8, "lr_blocks": 1, "blocks": 1, "groups": 2}).eval()
    lr, ref = torch.rand(1, 3, 48, 64), torch.rand(1, 3, 48, 64)
    inputs = Inputs(lr, ref, torch.tensor([[8, 16, 32, 48]]))
    with torch.no_grad(), Operations() as counted:
        network(inputs)
    with torch.no_grad(), Shapes() as expected:
        network(inputs)
    queries, keys = (48 // 2) * (64 // 2), (24 // 2) * (32 // 2)
    assert counted.total == expected.total + 2 * 9 * 16 * queries * keys
    assert expected.total > 10**8
