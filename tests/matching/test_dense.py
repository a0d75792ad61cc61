"""The search in plain torch, and the published way, against float64."""

from __future__ import annotations

import pytest
import torch

from dualsr_cli.matching import _dense
from dualsr_cli.matching._dense import published, search_dense
from dualsr_cli.matching._patches import finite


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several of each, the last one not full."""
    monkeypatch.setattr(_dense, "_QUERIES", 7)
    monkeypatch.setattr(_dense, "_KEYS", 11)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unfolded(features: torch.Tensor, patch: int, padding: str) -> torch.Tensor:
    """(C, H, W) -> (H * W, d) float64."""
    radius = patch // 2
    padded = features[None].double()
    for axis, sides in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        mode = "reflect" if features.shape[axis - 1] > radius else "replicate"
        mode = "constant" if padding == "zeros" else mode
        padded = torch.nn.functional.pad(padded, sides, mode=mode)
    return torch.nn.functional.unfold(padded, patch)[0].t()


def cosines(
    query: torch.Tensor, key: torch.Tensor, patch: int = 3, padding: str = "reflect"
) -> torch.Tensor:
    """All of them, (queries, keys) float64."""
    queries, keys = unfolded(query, patch, padding), unfolded(key, patch, padding)
    norms = queries.norm(dim=1)[:, None] * keys.norm(dim=1)
    return torch.where(norms > 0, queries @ keys.t() / norms, 0.0)


def found(
    query: torch.Tensor,
    key: torch.Tensor,
    patch: int = 3,
    padding: str = "reflect",
    queries: torch.Tensor | None = None,
    keys: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    queries = torch.arange(query[0].numel()) if queries is None else queries
    keys = torch.arange(key[0].numel()) if keys is None else keys
    return search_dense(query, key, patch, padding, queries, keys)


def check(index: torch.Tensor, similarity: torch.Tensor, truth: torch.Tensor) -> None:
    """The found keys are the best save for ties within 1e-6, and their similarities are true."""
    chosen = truth.gather(1, index[:, None])[:, 0]
    assert (truth.amax(dim=1) - chosen).max() <= 1e-6
    assert (similarity - chosen).abs().max() <= 1e-6


SIZES = [((4, 7), (9, 5)), ((1, 1), (3, 8)), ((6, 3), (1, 1)), ((2, 2), (1, 9))]


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("patch", [1, 3, 5])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_best_key_is_found(
    patch: int, padding: str, sizes: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    query, key = random(6, *sizes[0]), random(6, *sizes[1], seed=1)
    check(*found(query, key, patch, padding), cosines(query, key, patch, padding))


def test_what_the_key_holds_is_found_where_it_lies() -> None:
    key = random(3, 9, 12)
    query = 0.25 * key[:, 2:8, 3:10]
    index, similarity = found(query, key)
    inner = index.view(6, 7)[1:-1, 1:-1]
    rows, columns = torch.meshgrid(torch.arange(3, 7), torch.arange(4, 9), indexing="ij")
    assert torch.equal(inner, rows * 12 + columns)
    assert similarity.view(6, 7)[1:-1, 1:-1].min() > 1 - 1e-6
    assert similarity.max() <= 1


def test_equal_keys_give_the_first() -> None:
    """Patches of plus and minus one are exact and all of one length."""
    query, key = random(6, 5, 5).sign(), random(6, 9, 13, seed=1).sign()
    index, _ = found(query, key, 1)
    truth = unfolded(query, 1, "zeros") @ unfolded(key, 1, "zeros").t()
    assert ((truth == truth.amax(dim=1, keepdim=True)).sum(dim=1) > 1).sum() > 10
    assert torch.equal(index, truth.argmax(dim=1))


def test_only_the_places_asked_for_take_part() -> None:
    query, key = random(4, 5, 6), random(4, 7, 8, seed=1)
    queries, keys = torch.tensor([0, 3, 17, 29]), torch.arange(56)[2::3]
    index, similarity = found(query, key, queries=queries, keys=keys)
    truth = cosines(query, key)[queries]
    left_out = torch.ones(56, dtype=torch.bool)
    left_out[keys] = False
    check(index, similarity, truth.masked_fill(left_out, -2))


def test_zeros_are_like_nothing() -> None:
    query, key = random(8, 3, 3).abs(), -random(8, 4, 9, seed=1).abs()
    query[:, 1, 1] = 0
    key[:, 2, 5] = 0
    index, similarity = found(query, key, 1)
    assert index.tolist() == [23, 23, 23, 23, 0, 23, 23, 23, 23]
    assert similarity.tolist() == [0.0] * 9
    index, similarity = found(query, key, 1, keys=torch.arange(7, 36))
    assert (index[4].item(), similarity[4].item()) == (7, 0.0)


def test_what_is_not_finite_stays_with_its_patches() -> None:
    query, key = random(8, 4, 5), random(8, 6, 7, seed=1)
    query[3, 0, 0] = torch.inf
    key[2, 4, 4] = torch.nan
    sound = [finite(features, 3, "reflect") for features in (query, key)]
    assert sound[0] is not None and sound[1] is not None
    queries, keys = (mask.flatten().nonzero()[:, 0] for mask in sound if mask is not None)
    index, similarity = found(query, key, queries=queries, keys=keys)
    truth = cosines(query.nan_to_num(0, 0, 0), key.nan_to_num(0, 0, 0))[queries]
    check(index, similarity, truth.masked_fill(~sound[1].flatten(), -2))


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
@pytest.mark.parametrize("patch", [1, 3])
def test_the_published_way_finds_the_same(patch: int, padding: str) -> None:
    query, key = random(2, 4, 5, 6), random(2, 4, 7, 3, seed=1)
    index, similarity = published(query, key, patch, padding)
    assert index.shape == similarity.shape == (2, 5, 6)
    for n in range(2):
        check(
            index[n].flatten(), similarity[n].flatten(), cosines(query[n], key[n], patch, padding)
        )
