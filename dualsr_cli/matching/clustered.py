"""The search for large photos: keys are sorted into clusters, queries look into the nearest few.

An inverted file, as retrieval has it (Sivic and Zisserman, "Video Google", 2003), for patches:
coarse, because both the clusters and the first look into them know patches by their principal
components alone; fine, because what each cluster gives is compared with what the neighbours' keys
point to, and measured by the patches themselves. All that is costly are matrix products. A search
from coarse to fine resolution, the other way to go, finds what is coherent, and outside the tele's
footprint little is: of the exact matches it found one in ten where this finds nine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from dualsr_cli.matching._parallel import Each, plain, workers
from dualsr_cli.matching._patches import Patches, normalised
from dualsr_cli.matching.correspondence import Correspondence
from dualsr_cli.matching.search import check, places_of

_SAMPLE_PER_CLUSTER = 16  # keys that a cluster's centre is learned from
_ROUNDS = 4  # of k-means
_PROBES, _FEW_PROBES = 4, 1  # of clusters by each query
_MANY_QUERIES = 1_000_000
_PROBED = 1 << 18  # queries that are looked up together: some hundred for each cluster
_ENERGY, _COMPONENTS = 0.96, 24  # of the keys that components hold at least, and how many at least
_PATCHES = 4096  # that are unfolded together
_BLOCK = 512  # patches that are compared with all centres together: in the cache
_PRODUCTS, _LEAST = 200_000, 16  # that are made at once, and of how many queries at least


def search_clustered(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    patch: int = 3,
    padding: str = "reflect",
    query_mask: torch.Tensor | None = None,
    key_mask: torch.Tensor | None = None,
    clusters: int | None = None,
    probes: int | None = None,
    components: int | None = None,
) -> Correspondence:
    """Like `search`, but a query may miss its best key for one that is nearly as good.

    clusters: that keys are sorted into, by default the root of their number; probes: how many of
    them a query looks into, by default 4, or 1 where there are more than a million queries;
    components: principal ones that the first look knows a patch by, by default as many as hold most
    of the keys' energy (gradient features: 24 of 144). The similarity is that of the key found. The
    same input gives the same result. Raises ValueError.
    """
    check(query, key, patch, padding, query_mask, key_mask)
    if any(number is not None and number < 1 for number in (clusters, probes, components)):
        raise ValueError("clusters, probes and components are at least 1")
    with plain(query.device), workers(query.device) as each:
        query, key = query.detach().float(), key.detach().float()
        size = (len(query), *query.shape[2:])
        index = torch.full(size, -1, dtype=torch.int64, device=query.device)
        similarity = torch.zeros(size, device=query.device)
        for n in range(len(query)):
            queries = places_of(query[n], patch, padding, query_mask, n)
            keys = places_of(key[n], patch, padding, key_mask, n)
            if not (len(queries) and len(keys)):
                continue
            count = clusters or max(1, round(len(keys) ** 0.5))
            tree = _sorted(key[n], patch, padding, keys, count, components, each)
            first = index[n].clone()
            few = _FEW_PROBES if len(queries) > _MANY_QUERIES else _PROBES
            probe = partial(_probe, tree, query[n], probes or few)
            first.view(-1)[queries] = torch.cat(list(each(probe, torch.split(queries, _PROBED))))
            settle = partial(_settle, tree, query[n], first)
            found, values = zip(*each(settle, torch.split(queries, _PATCHES)), strict=True)
            index[n].view(-1)[queries] = torch.cat(found)
            similarity[n].view(-1)[queries] = torch.cat(values)
    return Correspondence(index, similarity, (key.shape[2], key.shape[3]))


@dataclass(frozen=True, eq=False)
class _Clusters:
    """Keys sorted by cluster, none of which is empty.

    patches: of the key map; basis: (d, m), their principal components; centres: (m, count), of
    length 1; places: (n,), those of cluster c from starts[c] to starts[c + 1], each in order;
    reduced: (n, m), the normalised patches there by their components; seats: (Hk * Wk,), where each
    place is among them, -1 where it is no key.
    """

    patch: int
    padding: str
    patches: Patches
    key_size: tuple[int, int]
    basis: torch.Tensor
    centres: torch.Tensor
    starts: list[int]
    places: torch.Tensor
    reduced: torch.Tensor
    seats: torch.Tensor

    def unfold(self, query: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return normalised(query, self.patch, self.padding, places)


def _sorted(
    key: torch.Tensor,
    patch: int,
    padding: str,
    places: torch.Tensor,
    count: int,
    components: int | None,
    each: Each,
) -> _Clusters:
    def compare(part: torch.Tensor) -> torch.Tensor:
        return _nearest(part, centres, 1)

    def compared(reduced: torch.Tensor) -> torch.Tensor:
        return torch.cat(list(each(compare, torch.split(reduced, _PATCHES)))).flatten()

    def reduce(part: torch.Tensor) -> torch.Tensor:
        return torch.mm(normalised(key, patch, padding, part), basis)

    sample = places[_spread(len(places), count * _SAMPLE_PER_CLUSTER, places.device)]
    patches = normalised(key, patch, padding, sample)
    # Products of patches, not of their differences from a mean, are what is to be kept.
    energy, basis = torch.linalg.eigh(patches.t() @ patches)
    energy, basis = energy.flip(0), basis.flip(1)
    if components is None:
        held = energy.cumsum(0) / energy.sum().clamp(min=1e-30)
        components = max(_COMPONENTS, 1 + int((held < _ENERGY).sum()))
    basis = basis[:, :components].contiguous()
    patches = patches @ basis
    centres = patches[_spread(len(patches), count, places.device)].t()
    for _ in range(_ROUNDS):
        sums = torch.zeros_like(centres.t()).index_add_(0, compared(patches), patches)
        centres = torch.nn.functional.normalize(sums, dim=1).t().contiguous()
    reduced = torch.cat(list(each(reduce, torch.split(places, _PATCHES))))
    nearest = compared(reduced)
    order = nearest.argsort(stable=True)
    seats = torch.full((key[0].numel(),), -1, dtype=torch.int64, device=key.device)
    seats[places[order]] = torch.arange(len(places), device=key.device)
    sizes = torch.bincount(nearest, minlength=centres.shape[1])
    taken = sizes > 0
    starts = [0, *sizes[taken].cumsum(0).tolist()]
    return _Clusters(
        patch,
        padding,
        Patches(key, patch, padding),
        (key.shape[1], key.shape[2]),
        basis,
        centres[:, taken].contiguous(),
        starts,
        places[order],
        reduced[order],
        seats,
    )


def _probe(
    clusters: _Clusters, query: torch.Tensor, probes: int, places: torch.Tensor
) -> torch.Tensor:
    """For some places of a query map (C, Hq, Wq) the best key by components that probing finds."""
    parts = torch.split(places, _PATCHES)
    reduced = torch.cat([clusters.unfold(query, part) @ clusters.basis for part in parts])
    probed = _nearest(reduced, clusters.centres, min(probes, clusters.centres.shape[1]))
    best = probed
    if probed.shape[1] > 1:
        # Where in a cluster its best key lies is looked up in the best cluster only: the maximum
        # alone is several times as quick.
        values = torch.empty_like(probed, dtype=reduced.dtype)
        for _, seats, similarity in _visits(clusters, reduced, probed):
            values.view(-1)[seats] = similarity.amax(dim=1)
        best = probed.gather(1, values.argmax(dim=1, keepdim=True))
    found = torch.empty_like(places)
    for start, seats, similarity in _visits(clusters, reduced, best):
        found[seats] = clusters.places[start + similarity.argmax(dim=1)]
    return found


def _settle(
    clusters: _Clusters, query: torch.Tensor, index: torch.Tensor, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The key of each place, or one that its neighbours' keys point to, and its cosine similarity.

    index: (Hq, Wq), what has been found for all places. One place to the right of a neighbour on
    the left lies what would come next to its key, if the scene goes on there as it does here.
    """
    height, width = clusters.key_size
    patches = clusters.unfold(query, places)
    reduced = (patches @ clusters.basis)[:, :, None]
    rows = torch.div(places, index.shape[1], rounding_mode="floor")
    columns = places - rows * index.shape[1]

    def similarity(keys: torch.Tensor) -> torch.Tensor:
        seats = clusters.seats.index_select(0, keys)
        rows = clusters.reduced.index_select(0, seats.clamp(min=0))  # far quicker than indexing
        values = torch.bmm(rows[:, None], reduced).flatten()
        return values.masked_fill(seats < 0, -torch.inf)

    found = index.view(-1)[places]
    best = similarity(found)
    for down, right in ((0, -1), (0, 1), (-1, 0), (1, 0)):
        row, column = rows + down, columns + right
        keys = index[row.clamp(0, index.shape[0] - 1), column.clamp(0, index.shape[1] - 1)]
        key_row, key_column = keys // width - down, keys % width - right
        outside = (keys < 0) | (key_row < 0) | (key_row >= height)
        outside |= (key_column < 0) | (key_column >= width)
        keys = (key_row * width + key_column).masked_fill(outside, 0)
        values = similarity(keys).masked_fill(outside, -torch.inf)
        better = values > best
        best = torch.where(better, values, best)
        found = torch.where(better, keys, found)
    matched = clusters.patches.block(found)
    product = torch.bmm(patches[:, None], matched[:, :, None]).flatten()
    norms = torch.linalg.vector_norm(matched, dim=1)
    return found, torch.where(norms > 0, product / norms, 0).clamp_(-1, 1)


def _visits(
    clusters: _Clusters, reduced: torch.Tensor, chosen: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """For each cluster that is chosen (n, k): its first key, where it is chosen, and there the
    similarity to each of its keys, which the next one overwrites.
    """
    order = chosen.flatten().argsort(stable=True)
    sizes = torch.bincount(chosen.flatten(), minlength=len(clusters.starts) - 1)
    products = reduced.new_empty(0)
    for cluster, members in enumerate(torch.split(order, sizes.tolist())):
        start, stop = clusters.starts[cluster : cluster + 2]
        keys = clusters.reduced[start:stop].t()
        # Some clusters are large, and a matrix beyond the caches takes several times as long.
        most = max(_LEAST, _PRODUCTS // (stop - start))
        for seats in torch.split(members, most) if len(members) else ():
            queries = reduced.index_select(0, seats // chosen.shape[1])
            size = len(seats) * (stop - start)
            if len(products) < size:
                products = reduced.new_empty(size)
            similarity = products[:size].view(len(seats), stop - start)
            yield start, seats, torch.mm(queries, keys, out=similarity)


def _nearest(reduced: torch.Tensor, centres: torch.Tensor, count: int) -> torch.Tensor:
    """The nearest of centres (m, c) to each of (n, m), as (n, count)."""
    return torch.cat([_largest(part @ centres, count) for part in torch.split(reduced, _BLOCK)])


def _largest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Where in each row of (n, c) its `count` largest values are.

    What `topk` finds, in half the time: it looks among the maxima of some columns each, then among
    these columns. For rows shorter than 64 times what is sought it changes to a slower way.
    """
    if count == 1:
        return values.argmax(dim=1, keepdim=True)
    rows, columns = values.shape
    size = columns // (64 * count)
    if size < 2:
        return values.topk(count, dim=1).indices
    groups = columns // size
    grouped = values[:, : size * groups].view(rows, size, groups)
    best = grouped.amax(dim=1).topk(count, dim=1).indices
    steps = torch.arange(0, size * groups, groups, device=values.device)
    rest = torch.arange(size * groups, columns, device=values.device).expand(rows, -1)
    members = torch.cat([(best[:, :, None] + steps).flatten(1), rest], dim=1)
    return members.gather(1, values.gather(1, members).topk(count, dim=1).indices)


def _spread(size: int, count: int, device: torch.device) -> torch.Tensor:
    """At most `count` of `size` positions, spread evenly."""
    count = min(size, count)
    return torch.arange(count, device=device) * size // count
