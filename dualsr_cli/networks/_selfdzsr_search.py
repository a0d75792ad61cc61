"""The exact search on a processor, for features of so many channels that their products cost most.

The product of two patches of 3 x 3 places is the sum of nine products of places, each of which has
a part in nine pairs of patches: here it is made once, and the rest is additions.
"""

from __future__ import annotations

import torch

from dualsr_cli.matching import Correspondence


def search_rows(query: torch.Tensor, key: torch.Tensor) -> Correspondence:
    """`matching.search` for patches of 3 x 3 that lie inside their maps; others take no part.

    query: (B, C, Hq, Wq), key: (B, C, Hk, Wk), on a processor, finite, float32 and of length 1 at
    each place, so that all patches are as long; three places at least along each axis.
    """
    batch, _, height, width = query.shape
    index = torch.full((batch, height, width), -1, dtype=torch.int64)
    similarity = torch.zeros(batch, height, width)
    for n in range(batch):
        _search_one(query[n], key[n], index[n, 1:-1, 1:-1], similarity[n, 1:-1, 1:-1])
    return Correspondence(index, similarity, (key.shape[2], key.shape[3]))


def _search_one(
    query: torch.Tensor, key: torch.Tensor, index: torch.Tensor, similarity: torch.Tensor
) -> None:
    """One image, into index and similarity (Hq - 2, Wq - 2)."""
    queries = query.permute(1, 2, 0).contiguous()  # (Hq, Wq, C)
    keys = key.permute(1, 0, 2).contiguous()  # (Hk, C, Wk)
    products = query.new_empty(query.shape[2], key.shape[2])
    # Of three places side by side, for three rows; then of patches.
    sums = query.new_empty(3, query.shape[2] - 2, key.shape[2] - 2)
    patches = torch.empty_like(sums[0])
    similarity.fill_(-torch.inf)
    # Each row of queries with the row of keys that lies so much further down: rows that follow one
    # another share sums. From above, so that of equal keys the first is taken.
    for down in range(3 - query.shape[1], key.shape[1] - 2):
        first = max(0, -down)
        for row in range(first, min(query.shape[1], key.shape[1] - down)):
            torch.mm(queries[row], keys[row + down], out=products)
            line = sums[row % 3]
            torch.add(products[:-2, :-2], products[1:-1, 1:-1], out=line).add_(products[2:, 2:])
            if row < first + 2:
                continue
            torch.add(sums[(row - 2) % 3], sums[(row - 1) % 3], out=patches).add_(line)
            best = similarity[row - 2]
            better = (patches.amax(dim=1) > best).nonzero().squeeze(1)
            if len(better):
                values, where = patches[better].max(dim=1)
                best[better] = values
                index[row - 2, better] = (row + down - 1) * key.shape[2] + where + 1
    similarity.div_(9).clamp_(-1, 1)
