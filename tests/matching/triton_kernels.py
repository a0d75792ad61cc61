"""What the CUDA search finds, against float64; run by test_triton.py in a process of its own.

Triton decides when it is imported whether it interprets its kernels: TRITON_INTERPRET=1 makes this
file run on a processor, without it on a GPU.
"""

from __future__ import annotations

import os

import pytest
import torch

from dualsr_cli.matching import _triton
from dualsr_cli.matching._patches import finite
from dualsr_cli.matching._triton import Plan, search_cuda

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
SMALL = Plan(16, 16, 4, 2)
SPLIT = Plan(16, 16, 4, 2, programs=64)

# A tile of places that are no keys has no maximum, which is what the kernel expects.
pytestmark = pytest.mark.filterwarnings("ignore:All-NaN")


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
    precision: str = "exact",
    plan: Plan | None = None,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    queries = torch.arange(query[0].numel()) if queries is None else queries
    keys = torch.arange(key[0].numel()) if keys is None else keys
    there = [tensor.to(DEVICE) for tensor in (query, key, queries, keys)]
    index, similarity, rescored = search_cuda(
        there[0], there[1], patch, padding, there[2], there[3], precision, plan
    )
    return index.cpu(), similarity.cpu(), rescored


def check(
    index: torch.Tensor, similarity: torch.Tensor, truth: torch.Tensor, within: float = 1e-6
) -> None:
    """The found keys are the best save for ties, and their similarities are true."""
    chosen = truth.gather(1, index[:, None])[:, 0]
    assert (truth.amax(dim=1) - chosen).max() <= within
    assert (similarity - chosen).abs().max() <= 1e-6


@pytest.mark.parametrize(
    ("channels", "patch", "padding", "plan"),
    [
        (16, 3, "reflect", None),  # 128 + 16
        (16, 3, "zeros", Plan(32, 64, 4, 2)),
        (3, 1, "reflect", SMALL),  # less than a block
        (3, 5, "zeros", SMALL),  # blocks of 32, the last one not full
        (64, 3, "reflect", Plan(32, 32, 4, 2)),  # blocks of 64
    ],
)
def test_exact_finds_the_best_key(
    channels: int, patch: int, padding: str, plan: Plan | None
) -> None:
    query, key = random(channels, 4, 5), random(channels, 7, 5, seed=1)
    index, similarity, _ = found(query, key, patch, padding, plan=plan)
    check(index, similarity, cosines(query, key, patch, padding))


def test_every_depth_is_cut_into_blocks_that_hold_it() -> None:
    for size in range(8, 4000, 8):
        main, steps, tail = _triton._depth(size)
        assert steps * main + tail >= size > (steps - 1) * main + (main if tail else 0)
        padding = steps * main + tail - size
        assert 8 * padding <= size or padding < 32


@pytest.mark.parametrize("kept", ["a third", "most"])  # listed, and as holes in the map
@pytest.mark.parametrize("plan", [SMALL, SPLIT])
def test_only_the_places_asked_for_take_part(kept: str, plan: Plan) -> None:
    query, key = random(8, 3, 4), random(8, 29, 61, seed=1)
    places = torch.arange(29 * 61)
    keys = places[1::3] if kept == "a third" else places[(places % 61) > 9]
    queries = torch.tensor([0, 3, 4, 11])
    index, similarity, _ = found(query, key, 1, "reflect", queries, keys, plan=plan)
    truth = cosines(query, key, 1)[queries]
    assert set(index.tolist()) <= set(keys.tolist())
    left_out = torch.ones(29 * 61, dtype=torch.bool)
    left_out[keys] = False
    check(index, similarity, truth.masked_fill(left_out, -2))


@pytest.mark.parametrize("plan", [SMALL, SPLIT])
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_equal_keys_give_the_first(plan: Plan, precision: str) -> None:
    """Patches of plus and minus one are exact in every precision and all of one length."""
    query, key = random(8, 3, 5).sign(), random(8, 20, 61, seed=1).sign()
    index, _, rescored = found(query, key, 1, precision=precision, plan=plan)
    truth = unfolded(query, 1, "zeros") @ unfolded(key, 1, "zeros").t()
    tied = (truth == truth.amax(dim=1, keepdim=True)).sum(dim=1) > 1
    assert tied.sum() > 10
    assert torch.equal(index, truth.argmax(dim=1))
    assert rescored == (tied.sum() if precision == "exact" else 0)


def near_ties() -> tuple[torch.Tensor, torch.Tensor]:
    """Keys that are all much alike: float16 cannot tell them apart, float32 can."""
    common = random(8, 1, 1)
    return common + 0.01 * random(8, 3, 5, seed=1), common + 0.01 * random(8, 9, 11, seed=2)


def test_exact_looks_again_where_half_precision_is_wrong() -> None:
    query, key = near_ties()
    truth = cosines(query, key)
    index, similarity, rescored = found(query, key, plan=SMALL)
    check(index, similarity, truth)
    assert rescored > 0
    fast, value, none = found(query, key, precision="fast", plan=SMALL)
    check(fast, value, truth, within=1e-3)
    missed = truth.amax(dim=1) - truth.gather(1, fast[:, None])[:, 0]
    assert (missed > 1e-6).any()
    assert none == 0


def test_the_marks_of_a_few_queries_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = near_ties()
    monkeypatch.setattr(_triton, "_MARKS_BYTES", 16)
    index, similarity, _ = found(query, key, plan=SMALL)
    check(index, similarity, cosines(query, key))


@pytest.mark.parametrize("plan", [SMALL, SPLIT])
def test_the_best_tile_is_known_and_how_good_the_others_are(plan: Plan) -> None:
    query, key = random(8, 2, 5), random(8, 11, 61, seed=1)
    queries, keys = (
        _triton._map(features.to(DEVICE), 1, "zeros", torch.arange(features[0].numel()).to(DEVICE))
        for features in (query, key)
    )
    tile, second = _triton._Work(queries, keys, 1, (11, 61), plan).best_tiles(queries.base)
    scores = cosines(query, key, 1) * queries.norm.cpu()[:, None]
    tiles = torch.nn.functional.pad(scores, (0, 1), value=-torch.inf).view(10, -1, 16).amax(dim=2)
    values, order = tiles.topk(2, dim=1)
    assert torch.equal(tile.cpu().long(), order[:, 0])
    assert ((second.cpu() - values[:, 1]).abs() <= 1e-3 * queries.norm.cpu()).all()


def one_sided(exact: torch.Tensor) -> torch.Tensor:
    """Just under half a step of float16 above a whole number: all are rounded down alike."""
    return exact * (1 + 0.45 * 2.0**-10)


def uneven(features: torch.Tensor, factor: float) -> torch.Tensor:
    return torch.cat([features[:, :1] * factor, features[:, 1:]], dim=1)


ONES = torch.ones(8, 5, 6)


@pytest.mark.parametrize(
    ("query", "key"),
    [
        (random(8, 5, 6), random(8, 7, 5, seed=1)),
        (one_sided(ONES), ONES),
        (ONES, one_sided(ONES)),
        (one_sided(ONES), one_sided(ONES)),
        (uneven(random(8, 5, 6), 1e-9), uneven(random(8, 7, 5, seed=1), 1e-11)),
    ],
    ids=["random", "query", "key", "both", "uneven"],
)
def test_half_precision_stays_within_its_bound(query: torch.Tensor, key: torch.Tensor) -> None:
    queries, keys = (
        _triton._map(features, 3, "reflect", torch.arange(features[0].numel()))
        for features in (query, key)
    )

    def patches(some: _triton._Map, numbers: torch.Tensor) -> torch.Tensor:
        steps = torch.arange(3)[:, None] * some.width + torch.arange(3)
        return numbers.double()[some.base[:, None].long() + steps.flatten()].flatten(1)

    half = patches(queries, queries.half) @ patches(keys, keys.half).t()
    whole = patches(queries, queries.values) @ patches(keys, keys.values).t()
    off = ((half - whole) / patches(keys, keys.values).norm(dim=1)).abs().amax(dim=1)
    bound = _triton._rounding(queries, keys, 72)
    assert (off <= bound).all()
    if key.abs().amin() > 1e-6:  # float16 has its full precision
        assert (bound <= 2.0**-9.9 * queries.norm).all()


def test_unlike_keys_are_better_than_none() -> None:
    """Every similarity is below 0, and what lies beyond the keys is not taken for a 0."""
    query, key = random(8, 2, 3).abs(), -random(8, 5, 7, seed=1).abs()
    index, similarity, _ = found(query, key, 1, plan=SMALL)
    check(index, similarity, cosines(query, key, 1))
    some = torch.arange(35)[::2]
    index, similarity, _ = found(query, key, 1, keys=some, plan=SMALL)
    check(index, similarity, cosines(query, key, 1).index_fill(1, torch.arange(35)[1::2], -2))


def test_of_any_size() -> None:
    query, key = random(8, 3, 4), random(8, 5, 4, seed=1)
    expected = found(query, key, plan=SMALL)
    for factor in (2.0**-110, 2.0**100):
        index, similarity, _ = found(query * factor, key / factor, plan=SMALL)
        assert torch.equal(index, expected[0])
        assert torch.equal(similarity, expected[1])


def test_faint_patches_are_matched_as_well_as_strong_ones() -> None:
    query, key = random(8, 3, 6), random(8, 9, 4, seed=1)
    query[:, :, :3] *= 1e-11
    key[:, 3:] *= 1e-11
    index, similarity, _ = found(query, key, plan=SMALL)
    check(index, similarity, cosines(query, key))


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_zeros_are_like_nothing(precision: str) -> None:
    query, key = random(8, 3, 3).abs(), -random(8, 4, 9, seed=1).abs()
    query[:, 1, 1] = 0
    key[:, 2, 5] = 0
    index, similarity, _ = found(query, key, 1, precision=precision, plan=SMALL)
    assert index.tolist() == [23, 23, 23, 23, 0, 23, 23, 23, 23]
    assert similarity.tolist() == [0.0] * 9
    keys = torch.arange(7, 36)
    index, similarity, _ = found(query, key, 1, keys=keys, precision=precision, plan=SMALL)
    assert (index[4].item(), similarity[4].item()) == (7, 0.0)


def test_one_key_and_one_query() -> None:
    query, key = random(4, 1, 1), random(4, 1, 1, seed=1)
    for padding in ("reflect", "zeros"):
        index, similarity, rescored = found(query, key, padding=padding)
        check(index, similarity, cosines(query, key, padding=padding))
        assert rescored == 0


def test_what_is_not_finite_stays_with_its_patches() -> None:
    query, key = random(8, 4, 5), random(8, 6, 7, seed=1)
    query[3, 0, 0] = torch.inf
    key[2, 4, 4] = torch.nan
    sound = [finite(features, 3, "reflect") for features in (query, key)]
    assert sound[0] is not None and sound[1] is not None
    queries, keys = (mask.flatten().nonzero()[:, 0] for mask in sound if mask is not None)
    index, similarity, _ = found(query, key, queries=queries, keys=keys, plan=SMALL)
    truth = cosines(query.nan_to_num(0, 0, 0), key.nan_to_num(0, 0, 0))[queries]
    check(index, similarity, truth.masked_fill(~sound[1].flatten(), -2))
