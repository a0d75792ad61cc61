"""What a search finds: for every query patch the most similar key patch."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Correspondence:
    """The best key of every query, by cosine similarity of normalised patches.

    index: (B, Hq, Wq) int64, the key's place row * Wk + column; -1 where a query has none.
    similarity: (B, Hq, Wq) float32, -1..1; 0 where a query has none: the papers' confidence map.
    key_size: (Hk, Wk). rescored: how many queries a half-precision search had to look at again in
    float32 to be exact.
    """

    index: torch.Tensor
    similarity: torch.Tensor
    key_size: tuple[int, int]
    rescored: int = 0

    def places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and column of each query's key, both (B, Hq, Wq) int64; -1 where it has none."""
        none = self.index < 0
        rows = torch.div(self.index, self.key_size[1], rounding_mode="floor")
        columns = self.index - rows * self.key_size[1]
        return rows.masked_fill(none, -1), columns.masked_fill(none, -1)
