"""The processes of one training: one, or those that torchrun started, on one machine or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

_PATIENCE = timedelta(hours=2)  # the others wait while the first one validates


@dataclass(frozen=True)
class Processes:
    """rank: the number of this one of `count`. device: where it computes."""

    rank: int
    count: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> Processes:
        """Meet the others that torchrun's variables tell of. device: "cpu", "cuda", "cuda:1"..."""
        rank, count = (int(os.environ.get(name, default)) for name, default in
                       (("RANK", "0"), ("WORLD_SIZE", "1")))  # fmt: skip
        place = torch.device(device)
        if place.type == "cuda":
            if place.index is None:
                place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(place)
        if count > 1 and not dist.is_initialized():
            backend = "nccl" if place.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=_PATIENCE)
        return cls(rank, count, place)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give each of the tensors, of one type, the sum over the processes."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        start = 0
        for tensor in tensors:
            total = flat[start : start + tensor.numel()]
            tensor.copy_(total.view(tensor.shape))
            start += tensor.numel()

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()

    def leave(self) -> None:
        if self.count > 1 and dist.is_initialized():
            dist.destroy_process_group()
