"""The exact search on a processor: blocks of a size that its caches like, all cores at work.

Where most patches take part, products of places are added up (see `_rows`). Some few are unfolded:
for every block of queries and keys one sgemm and one pass for the maximum, which is all there is
to pay beside the product: where in a block the maximum lies is looked up only for queries that
have just found a better one, which after n keys happens with the chance 1/n.
"""

from __future__ import annotations

import torch

from dualsr_cli.matching._parallel import workers
from dualsr_cli.matching._patches import normalised
from dualsr_cli.matching._rows import search_rows

_FEW = 0.4  # share of all pairs of patches below which unfolding those is quicker
_QUERIES, _KEYS = 1024, 512  # of one product: 2 MiB of results, which stay in the cache
_HELD_BYTES = 12 << 20  # of unfolded keys, for which all queries are gone through


def search_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    patch: int,
    padding: str,
    query_places: torch.Tensor,
    key_places: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each query place the best key place and its cosine similarity.

    query (C, Hq, Wq), key (C, Hk, Wk); the places are sorted, row * W + column, and neither is
    empty. Returns (n,) int64 and (n,) float32.
    """
    width = query.shape[2]
    band = int(query_places[0]) // width, int(query_places[-1]) // width + 1
    pairs = (band[1] - band[0]) * width * key[0].numel()
    if len(query_places) * len(key_places) < _FEW * pairs:
        return _search_few(query, key, patch, padding, query_places, key_places)
    mask = None
    if len(key_places) < key[0].numel():
        mask = torch.zeros(key.shape[1:], dtype=torch.bool)
        mask.view(-1)[key_places] = True
    index, similarity = search_rows(query, key, patch, padding, band, mask)
    places = query_places - band[0] * width
    return index.view(-1)[places], similarity.view(-1)[places]


def _search_few(
    query: torch.Tensor,
    key: torch.Tensor,
    patch: int,
    padding: str,
    query_places: torch.Tensor,
    key_places: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    best = torch.full((len(query_places),), -torch.inf)
    index = torch.zeros(len(query_places), dtype=torch.int64)
    held = max(_KEYS, _HELD_BYTES // (4 * patch * patch * key.shape[0]))
    blocks = [slice(start, start + _QUERIES) for start in range(0, len(query_places), _QUERIES)]

    def look(block: slice) -> None:
        queries = normalised(query, patch, padding, query_places[block])
        product = torch.empty(len(queries), min(_KEYS, len(unfolded)))
        for start in range(0, len(unfolded), _KEYS):
            part = unfolded[start : start + _KEYS]
            similarity = product[:, : len(part)] if len(part) == product.shape[1] else None
            similarity = torch.mm(queries, part.t(), out=similarity)
            better = (torch.amax(similarity, dim=1) > best[block]).nonzero().squeeze(1)
            if len(better):
                values, where = similarity[better].max(dim=1)
                best[block][better] = values
                index[block][better] = chosen[start + where]

    with workers(query.device) as each:
        for start in range(0, len(key_places), held):
            chosen = key_places[start : start + held]
            unfolded = key.new_empty(0)  # frees the last, before these are made
            unfolded = normalised(key, patch, padding, chosen)
            for _ in each(look, blocks):
                pass
    return index, best
