"""The search for large photos: keys are sorted into clusters, queries look into the nearest few.

An inverted file, as retrieval has it (Sivic and Zisserman, "Video Google", 2003), for patches:
coarse, because both the clusters and the first look into them know patches by their principal
components alone; fine, because what each cluster gives is compared by the patches themselves. All
that is costly are matrix products. A search from coarse to fine resolution, the other way to go,
finds what is coherent, and outside the tele's footprint little is: of the exact matches it found
one in ten where this finds nine.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from dualsr_cli.matching._patches import Patches, normalised
from dualsr_cli.matching.correspondence import Correspondence
from dualsr_cli.matching.search import check, places_of

_SAMPLE_PER_CLUSTER = 16  # keys that a cluster's centre is learned from
_ROUNDS = 4  # of k-means
_BAND = 1 << 15  # queries that are looked up together


def search_clustered(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    patch: int = 3,
    padding: str = "reflect",
    query_mask: torch.Tensor | None = None,
    key_mask: torch.Tensor | None = None,
    clusters: int | None = None,
    probes: int = 8,
    components: int = 48,
) -> Correspondence:
    """Like `search`, but a query may miss its best key for one that is nearly as good.

    clusters: that keys are sorted into, by default about the root of 4 keys; probes: how many of
    them a query looks into; components: principal ones that the first look knows a patch by. The
    similarity is that of the key found. The same input gives the same result. Raises ValueError.
    """
    check(query, key, patch, padding, query_mask, key_mask)
    if min(clusters or 1, probes, components) < 1:
        raise ValueError("clusters, probes and components are at least 1")
    index = torch.full((len(query), *query.shape[2:]), -1, dtype=torch.int64, device=query.device)
    similarity = torch.zeros(index.shape, device=query.device)
    query, key = query.detach().float(), key.detach().float()
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        for n in range(len(query)):
            queries = places_of(query[n], patch, padding, query_mask, n)
            keys = places_of(key[n], patch, padding, key_mask, n)
            if not (len(queries) and len(keys)):
                continue
            count = clusters or max(1, round(2 * len(keys) ** 0.5))
            tree = _sorted(key[n], patch, padding, keys, min(count, len(keys)), components)
            found, values = _look_up(tree, query[n], queries, min(probes, tree.count))
            index[n].view(-1)[queries] = found
            similarity[n].view(-1)[queries] = values
    return Correspondence(index, similarity, (key.shape[2], key.shape[3]))


@dataclass(frozen=True, eq=False)
class _Clusters:
    """Keys sorted by cluster.

    basis: (d, m); centres: (count, m), of length 1; places: (n,), of cluster c those from
    starts[c] to starts[c + 1], each in the order of the places; reduced: (n, m), the normalised
    patches at these places by their components.
    """

    key: torch.Tensor
    patch: int
    padding: str
    basis: torch.Tensor
    centres: torch.Tensor
    starts: list[int]
    places: torch.Tensor
    reduced: torch.Tensor

    @property
    def count(self) -> int:
        return len(self.centres)


def _sorted(
    key: torch.Tensor, patch: int, padding: str, places: torch.Tensor, count: int, components: int
) -> _Clusters:
    sample = places[_spread(len(places), count * _SAMPLE_PER_CLUSTER, places.device)]
    patches = normalised(key, patch, padding, sample)
    # Products of patches, not of their differences from a mean, are what is to be kept.
    moments = patches.t() @ patches
    basis = torch.linalg.eigh(moments).eigenvectors[:, -components:].flip(1).contiguous()
    patches = patches @ basis
    centres = patches[_spread(len(patches), count, places.device)].clone()
    for _ in range(_ROUNDS):
        nearest = _nearest(patches, centres)
        centres = torch.zeros_like(centres).index_add_(0, nearest, patches)
        centres = torch.nn.functional.normalize(centres, dim=1)  # an empty one stays zero
    reduced = torch.cat(
        [normalised(key, patch, padding, part) @ basis for part in torch.split(places, _BAND)]
    )
    nearest = torch.cat([_nearest(part, centres) for part in torch.split(reduced, _BAND)])
    order = nearest.argsort(stable=True)
    sizes = torch.bincount(nearest, minlength=count)
    starts = [0, *sizes.cumsum(0).tolist()]
    return _Clusters(
        key, patch, padding, basis, centres, starts, places[order], reduced[order].contiguous()
    )


def _look_up(
    clusters: _Clusters, query: torch.Tensor, places: torch.Tensor, probes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each query place the best key place found and its cosine similarity."""
    keys = Patches(clusters.key, clusters.patch, clusters.padding)
    everywhere = torch.arange(clusters.key[0].numel(), device=query.device)
    norms = torch.cat([
        torch.linalg.vector_norm(keys.block(part), dim=1)
        for part in torch.split(everywhere, _BAND)
    ])  # fmt: skip
    inverse = torch.where(norms > 0, 1 / norms, 0)

    def look(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patches = normalised(query, clusters.patch, clusters.padding, part)
        candidates = _candidates(clusters, patches @ clusters.basis, probes)
        best = patches.new_full((len(part),), -torch.inf)
        index = torch.zeros_like(part)
        for column in candidates.unbind(1):
            sound = column >= 0
            there = column.clamp(min=0)
            values = (patches * keys.block(there)).sum(1) * inverse[there]
            better = sound & ((values > best) | ((values == best) & (there < index)))
            best = torch.where(better, values, best)
            index = torch.where(better, there, index)
        return index, best

    parts = list(torch.split(places, _BAND))
    if query.device.type != "cpu":
        found = [look(part) for part in parts]
    else:
        with ThreadPoolExecutor(
            torch.get_num_threads(), initializer=lambda: torch.set_num_threads(1)
        ) as pool:
            found = list(pool.map(look, parts))
    indices, values = zip(*found, strict=True)
    return torch.cat(indices), torch.cat(values)


def _candidates(clusters: _Clusters, reduced: torch.Tensor, probes: int) -> torch.Tensor:
    """(n, probes): the best key place of each probed cluster by components; -1 of an empty one."""
    found = torch.full((len(reduced), probes), -1, dtype=torch.int64, device=reduced.device)
    probed = (reduced @ clusters.centres.t()).topk(probes, dim=1).indices.flatten()
    order = probed.argsort(stable=True)
    sizes = torch.bincount(probed, minlength=clusters.count)
    for cluster, seats in enumerate(torch.split(order, sizes.tolist())):
        start, stop = clusters.starts[cluster : cluster + 2]
        if start == stop or not len(seats):
            continue
        similarity = reduced[seats // probes] @ clusters.reduced[start:stop].t()
        found.view(-1)[seats] = clusters.places[start + similarity.argmax(dim=1)]
    return found


def _nearest(patches: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    return (patches @ centres.t()).argmax(dim=1)


def _spread(size: int, count: int, device: torch.device) -> torch.Tensor:
    """At most `count` of `size` positions, spread evenly."""
    count = min(size, count)
    return torch.arange(count, device=device) * size // count
