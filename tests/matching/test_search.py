"""The exact search on a processor, and the one for large photos, against a matrix in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dualsr_cli.matching import Correspondence, _rows, search, search_clustered


def unfolded(features: torch.Tensor, patch: int, padding: str) -> torch.Tensor:
    """(B, C, H, W) -> (B, H * W, d), float64, of length 1 or 0."""
    around = (patch // 2,) * 4
    wide = F.pad(features.double(), around, mode={"zeros": "constant"}.get(padding, padding))
    patches = F.unfold(wide, patch).transpose(1, 2)
    lengths = patches.norm(dim=2, keepdim=True)
    return patches / lengths.masked_fill(lengths == 0, 1)


def matrix(
    query: torch.Tensor, key: torch.Tensor, patch: int = 3, padding: str = "reflect"
) -> torch.Tensor:
    """All similarities (B, queries, keys) in float64."""
    return unfolded(query, patch, padding) @ unfolded(key, patch, padding).transpose(1, 2)


def assert_best(found: Correspondence, similarity: torch.Tensor, *, lowest: bool = False) -> None:
    """Each index is the best, or within 1e-6 of it; `lowest`: exactly the first of the best."""
    best, index = similarity.max(dim=2)
    flat = found.index.flatten(1)
    taken = similarity.gather(2, flat[..., None]).squeeze(2)
    assert (best - taken).max() < 1e-6
    assert (found.similarity.flatten(1).double() - best).abs().max() < 1e-5
    if lowest:
        assert torch.equal(flat, index)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("patch", [1, 3, 5])
@pytest.mark.parametrize(
    ("query", "key"),
    [
        ((2, 16, 37, 53), (2, 16, 21, 40)),
        ((1, 3, 64, 9), (1, 3, 7, 64)),
        ((1, 5, 8, 9), (1, 5, 5, 5)),
    ],
)
def test_the_best_key_of_every_query(
    query: tuple[int, ...], key: tuple[int, ...], patch: int, padding: str
) -> None:
    one, other = noise(*query), noise(*key, seed=1)
    found = search(one, other, patch=patch, padding=padding)
    assert found.index.shape == found.similarity.shape == (query[0], *query[2:])
    assert found.index.dtype == torch.int64
    assert_best(found, matrix(one, other, patch, padding))
    rows, columns = found.places()
    assert torch.equal(rows * key[3] + columns, found.index)


@pytest.mark.parametrize("look", [search, search_clustered])
def test_training_and_half_precision_around_it_change_nothing(look) -> None:  # type: ignore[no-untyped-def]
    query, key = noise(1, 8, 20, 30), noise(1, 8, 15, 20, seed=1)
    plain = look(query, key)
    with torch.autocast("cpu", torch.bfloat16):
        learned = look(query.clone().requires_grad_(), key.clone().requires_grad_())
    assert torch.equal(learned.index, plain.index)
    assert torch.equal(learned.similarity, plain.similarity)
    assert not learned.similarity.requires_grad
    with torch.inference_mode():
        inferred = look(query.clone(), key.clone())
    assert torch.equal(inferred.index, plain.index)


def test_more_keys_and_queries_than_a_block() -> None:
    query, key = noise(1, 4, 40, 70), noise(1, 4, 90, 110, seed=1)
    assert_best(search(query, key), matrix(query, key))
    mask = torch.zeros(1, 40, 70, dtype=torch.bool)
    mask[:, ::3, ::2] = True  # so few that their patches are unfolded
    assert torch.equal(
        search(query, key, query_mask=mask).index[mask], search(query, key).index[mask]
    )


def test_parts_of_rows_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = noise(1, 4, 29, 31), noise(1, 4, 17, 23, seed=1)
    whole = search(query, key)
    monkeypatch.setattr(_rows, "_PRODUCTS", 1)
    monkeypatch.setattr(_rows, "_LEAST", 10)
    monkeypatch.setattr(_rows, "_ROWS", 7)
    parts = search(query, key)
    assert torch.equal(parts.index, whole.index)
    torch.testing.assert_close(parts.similarity, whole.similarity, atol=1e-6, rtol=0)


def test_ties_go_to_the_lowest_index() -> None:
    """Whole numbers, so that products are exact; every key is there many times."""
    key = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(40, 60)[None, None]
    query = key[..., :20, :20].clone()
    found = search(query, key, padding="zeros")
    inside = matrix(query, key, padding="zeros")
    best = inside.max(dim=2, keepdim=True).values
    first = (inside > best - 1e-9).int().argmax(dim=2)
    assert torch.equal(found.index.flatten(1), first)


@pytest.mark.parametrize("least", [-1.5, 0.5])  # most take part, and few
def test_masks(least: float) -> None:
    query, key = noise(2, 8, 13, 17), noise(2, 8, 11, 9, seed=1)
    query_mask = noise(2, 13, 17, seed=2) > least
    key_mask = noise(2, 11, 9, seed=3) > least
    found = search(query, key, query_mask=query_mask, key_mask=key_mask)
    similarity = matrix(query, key).masked_fill(~key_mask.flatten(1)[:, None], -2)
    index = similarity.argmax(dim=2)
    kept = query_mask.flatten(1)
    assert torch.equal(found.index.flatten(1)[kept], index[kept])
    assert (found.index.flatten(1)[~kept] == -1).all()
    assert (found.similarity.flatten(1)[~kept] == 0).all()
    rows, columns = found.places()
    assert (rows.flatten(1)[~kept] == -1).all()
    assert (columns.flatten(1)[~kept] == -1).all()


@pytest.mark.parametrize("look", [search, search_clustered])
def test_nothing_to_search(look) -> None:  # type: ignore[no-untyped-def]
    query, key = noise(1, 4, 6, 7), noise(1, 4, 5, 8, seed=1)
    none = torch.zeros(1, 6, 7, dtype=torch.bool), torch.zeros(1, 5, 8, dtype=torch.bool)
    for masks in ({"query_mask": none[0]}, {"key_mask": none[1]}):
        found = look(query, key, **masks)
        assert (found.index == -1).all()
        assert (found.similarity == 0).all()
    one = look(query, key[..., :1, :1])
    assert (one.index == 0).all()


@pytest.mark.parametrize("look", [search, search_clustered])
def test_a_patch_that_is_no_number_matches_nothing(look) -> None:  # type: ignore[no-untyped-def]
    query, key = noise(1, 4, 12, 14), noise(1, 4, 10, 15, seed=1)
    clean = look(query, key, query_mask=hole((12, 14), 3, 4), key_mask=hole((10, 15), 6, 6))
    query[0, 1, 3, 4] = torch.nan
    key[0, 2, 6, 6] = torch.inf
    found = look(query, key)
    gone = ~hole((12, 14), 3, 4)
    assert (found.index[gone] == -1).all()
    assert (found.similarity[gone] == 0).all()
    assert torch.equal(found.index[~gone], clean.index[~gone])
    assert torch.isfinite(found.similarity).all()


def hole(size: tuple[int, int], row: int, column: int) -> torch.Tensor:
    """All places but those whose patch holds (row, column)."""
    mask = torch.ones(1, *size, dtype=torch.bool)
    mask[0, row - 1 : row + 2, column - 1 : column + 2] = False
    return mask


def test_patches_of_zeros_are_like_everything_and_nothing() -> None:
    query, key = torch.zeros(1, 3, 6, 6), noise(1, 3, 5, 5)
    found = search(query, key)
    assert (found.index == 0).all()
    assert (found.similarity == 0).all()
    key[:] = -noise(1, 3, 5, 5).abs()
    key[..., 1:4, 1:4] = 0  # the place (2, 2) sees zeros only, all others less than zeros
    found = search(torch.ones(1, 3, 6, 6), key)
    assert (found.index == 12).all()
    assert (found.similarity == 0).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"key": noise(1, 3, 5, 5)}, "same B and C"),
        ({"key": noise(2, 4, 0, 5)}, "one is empty"),
        ({"patch": 4}, "no centre"),
        ({"padding": "wrap"}, "'wrap' is unknown"),
        ({"precision": "half"}, "'half' is unknown"),
        ({"query_mask": torch.ones(2, 6, 5, dtype=torch.bool)}, "query_mask is"),
        ({"key_mask": torch.ones(2, 5, 5)}, "key_mask is"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], sentence: str) -> None:
    given = {"query": noise(2, 4, 6, 6), "key": noise(2, 4, 5, 5), **change}
    with pytest.raises(ValueError, match=sentence):
        search(given.pop("query"), given.pop("key"), **given)  # type: ignore[arg-type]


def scene(height: int, width: int) -> torch.Tensor:
    """Features of a picture: structure of many sizes, (1, 8, height, width)."""
    parts = [
        F.interpolate(noise(1, 8, height // n, width // n, seed=n), (height, width), mode="bicubic")
        for n in (2, 4, 8)
    ]
    return sum(parts)  # type: ignore[return-value]


def test_clusters_find_what_the_exact_search_finds() -> None:
    whole = scene(96, 128)
    key = whole[..., 24:72, 32:96] + 0.1 * noise(1, 8, 48, 64, seed=9)
    exact = search(whole, key)
    found = search_clustered(whole, key)
    assert (found.similarity > exact.similarity - 0.02).float().mean() > 0.9
    taken = matrix(whole, key).gather(2, found.index.flatten(1)[..., None]).squeeze(2)
    assert (taken - found.similarity.flatten(1)).abs().max() < 1e-5
    assert torch.equal(found.index, search_clustered(whole, key).index)
    every = search_clustered(whole, key, clusters=20, probes=20, components=72)
    assert (every.similarity - exact.similarity).abs().max() < 1e-5


def test_clusters_know_masks() -> None:
    whole = scene(40, 50)
    key = whole[..., 8:32, 10:40].contiguous()
    query_mask, key_mask = noise(1, 40, 50) > 0, noise(1, 24, 30, seed=2) > 0
    found = search_clustered(whole, key, query_mask=query_mask, key_mask=key_mask)
    assert (found.index[~query_mask] == -1).all()
    assert key_mask.flatten()[found.index[query_mask]].all()
    with pytest.raises(ValueError, match="at least 1"):
        search_clustered(whole, key, probes=0)
