"""The search: for every query patch the most similar key patch, wherever the features lie.

The similarity matrix of photos is never held: 762k queries and 191k keys would be 581 GB. Every
way to search goes over blocks of it with a running maximum.
"""

from __future__ import annotations

import importlib.util

import torch

from dualsr_cli.matching._cpu import search_cpu
from dualsr_cli.matching._dense import search_dense
from dualsr_cli.matching._parallel import plain
from dualsr_cli.matching._patches import finite
from dualsr_cli.matching.correspondence import Correspondence
from dualsr_cli.matching.counting import count

PADDINGS = ("reflect", "zeros")
PRECISIONS = ("exact", "fast")


def search(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    patch: int = 3,
    padding: str = "reflect",
    query_mask: torch.Tensor | None = None,
    key_mask: torch.Tensor | None = None,
    precision: str = "exact",
) -> Correspondence:
    """The best key of every query by cosine similarity; ties go to the lowest index.

    query: (B, C, Hq, Wq); key: (B, C, Hk, Wk), on one device, any floating type; the work is done
    in float32. patch: odd; a patch is patch x patch places of all channels, one around every place.
    padding: what lies outside a map, "reflect" or "zeros". query_mask, key_mask: (B, H, W) bool,
    True where a patch takes part. precision: "exact", or "fast" on CUDA, which takes the best key
    of the tile that a product in float16 finds best; elsewhere both are exact.

    A patch that holds a NaN or infinity matches nothing. A patch of zeros has the similarity 0 with
    everything. A query without any key, or masked out, has index -1 and similarity 0. No gradient
    flows; see `differentiable`. Raises ValueError for shapes that do not fit.
    """
    check(query, key, patch, padding, query_mask, key_mask)
    if precision not in PRECISIONS:
        raise ValueError(f"{precision!r} is unknown: take one of {', '.join(PRECISIONS)}")
    rescored = 0
    with plain(query.device):
        query, key = query.detach().float(), key.detach().float()
        size = (len(query), *query.shape[2:])
        index = torch.full(size, -1, dtype=torch.int64, device=query.device)
        similarity = torch.zeros(size, device=query.device)
        for n in range(len(query)):
            queries = places_of(query[n], patch, padding, query_mask, n)
            keys = places_of(key[n], patch, padding, key_mask, n)
            if len(queries) and len(keys):
                found, values, again = _search_one(
                    query[n], key[n], patch, padding, queries, keys, precision
                )
                index[n].view(-1)[queries] = found
                similarity[n].view(-1)[queries] = values
                rescored += again
    return Correspondence(index, similarity, (key.shape[2], key.shape[3]), rescored)


def _search_one(
    query: torch.Tensor,
    key: torch.Tensor,
    patch: int,
    padding: str,
    queries: torch.Tensor,
    keys: torch.Tensor,
    precision: str,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """One image: each query's key (n,) int64, its similarity (n,), how many were rescored."""
    numbers = patch * patch * query.shape[0]
    if query.device.type == "cpu":
        count(len(queries), len(keys), numbers)
        return *search_cpu(query, key, patch, padding, queries, keys), 0
    if query.device.type == "cuda" and _has_triton(query.device):
        from dualsr_cli.matching._triton import search_cuda

        count(len(queries), len(keys), numbers)
        return search_cuda(query, key, patch, padding, queries, keys, precision)
    return *search_dense(query, key, patch, padding, queries, keys), 0


def places_of(
    features: torch.Tensor, patch: int, padding: str, masks: torch.Tensor | None, n: int
) -> torch.Tensor:
    """Where the patches of image n are that take part, row * W + column, in order."""
    mask = None if masks is None else masks[n]
    sound = finite(features, patch, padding)
    if sound is not None:
        mask = sound if mask is None else mask & sound
    if mask is None:
        return torch.arange(features.shape[1] * features.shape[2], device=features.device)
    return mask.flatten().nonzero().squeeze(1)


def _has_triton(device: torch.device) -> bool:
    """Whether the kernels can run: from Ampere on; before it they would miss the tensor cores."""
    capable = torch.cuda.get_device_capability(device) >= (8, 0)
    return capable and importlib.util.find_spec("triton") is not None


def check(
    query: torch.Tensor,
    key: torch.Tensor,
    patch: int,
    padding: str,
    query_mask: torch.Tensor | None,
    key_mask: torch.Tensor | None,
) -> None:
    """Raise ValueError for what does not fit together."""
    shapes = f"query {tuple(query.shape)} and key {tuple(key.shape)}"
    if query.ndim != 4 or key.ndim != 4 or query.shape[:2] != key.shape[:2]:
        raise ValueError(f"{shapes} are not (B, C, H, W) with the same B and C")
    if 0 in query.shape or 0 in key.shape:
        raise ValueError(f"{shapes}: one is empty")
    if query.device != key.device:
        raise ValueError(f"query on {query.device} and key on {key.device}: bring them together")
    if patch < 1 or patch % 2 == 0:
        raise ValueError(f"a patch of {patch} has no centre: take an odd size")
    for name, mask, features in (("query", query_mask, query), ("key", key_mask, key)):
        size = (features.shape[0], *features.shape[2:])
        if mask is not None and (tuple(mask.shape) != size or mask.dtype != torch.bool):
            raise ValueError(f"{name}_mask is {tuple(mask.shape)} {mask.dtype}, not {size} bool")
    if padding not in PADDINGS:
        raise ValueError(f"{padding!r} is unknown: take one of {', '.join(PADDINGS)}")
