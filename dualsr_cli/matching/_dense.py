"""The search with nothing but torch: for devices without a kernel of their own, and as it is
published, to be compared with.
"""

from __future__ import annotations

import torch

from dualsr_cli.matching._patches import Patches

_QUERIES, _KEYS = 4096, 4096  # of one product: 64 MiB of similarities


def search_dense(
    query: torch.Tensor,
    key: torch.Tensor,
    patch: int,
    padding: str,
    query_places: torch.Tensor,
    key_places: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each query place the best key place and its cosine similarity; ties to the lowest place.

    query (C, Hq, Wq), key (C, Hk, Wk), on any device; the places are sorted, row * W + column, and
    neither is empty. Returns (n,) int64 and (n,) float32. As precise as the device's float32
    matrix product is set to be.

    The product is that of the patches as they are, and scaled afterwards: whole numbers then give
    exact ties, whichever order a device adds in.
    """
    queries, keys = Patches(query, patch, padding), Patches(key, patch, padding)
    blocks = torch.split(key_places, _KEYS)
    scale = torch.cat([_inverse_norms(keys.block(places)) for places in blocks])
    index, similarity = [], []
    for places in torch.split(query_places, _QUERIES):
        block = queries.block(places)
        best = block.new_full((len(block),), -torch.inf)
        where = torch.zeros_like(places)
        for start in range(0, len(key_places), _KEYS):
            stop = start + _KEYS
            product = (block @ keys.block(key_places[start:stop]).t()).mul_(scale[start:stop])
            values, columns = product.max(dim=1)  # the first of equals
            better = values > best
            best = torch.where(better, values, best)
            where = torch.where(better, start + columns, where)
        index.append(key_places[where])
        similarity.append((best * _inverse_norms(block)).clamp_(-1, 1))
    return torch.cat(index), torch.cat(similarity)


def published(
    query: torch.Tensor, key: torch.Tensor, patch: int, padding: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """The search as the papers' code has it: unfold both, normalise, one product, its maximum.

    query (B, C, Hq, Wq), key (B, C, Hk, Wk). Returns index (B, Hq, Wq) int64 and similarity, the
    same in float32. Holds all Hq * Wq * Hk * Wk similarities; knows no masks and no NaN.
    """
    size = query.shape[2:]
    queries, keys = (_unfolded(features, patch, padding) for features in (query, key))
    similarity, index = torch.bmm(queries.transpose(1, 2), keys).max(dim=2)
    return index.view(-1, *size), similarity.view(-1, *size)


def _unfolded(features: torch.Tensor, patch: int, padding: str) -> torch.Tensor:
    """All patches (B, C, H, W) -> (B, C * patch * patch, H * W), of length 1."""
    around = (patch // 2,) * 4
    mode = "constant" if padding == "zeros" else padding
    padded = torch.nn.functional.pad(features, around, mode=mode)
    return torch.nn.functional.normalize(torch.nn.functional.unfold(padded, patch), dim=1)


def _inverse_norms(patches: torch.Tensor) -> torch.Tensor:
    """1 / length of each (n, d); 0 of those of length 0."""
    norms = torch.linalg.vector_norm(patches, dim=1)
    return torch.where(norms > 0, 1 / norms, 0.0)
