"""What the papers do to search less, against brute force on small maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dualsr_cli.matching.reducers import coarse_boxes, detail_mask, prune_keys
from dualsr_cli.matching.search import search


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scene(height: int, width: int, channels: int = 8, seed: int = 0) -> torch.Tensor:
    """Features with structure at all scales, as photos have them: (1, C, H, W)."""
    total = torch.zeros(1, channels, height, width)
    for level in range(5):
        side = 2 + (height >> (4 - level)), 2 + (width >> (4 - level))
        fine = noise(1, channels, *side, seed=seed + level)
        total += 0.8**level * F.interpolate(fine, (height, width), mode="bicubic")
    return total


def similarities(query: torch.Tensor, key: torch.Tensor, padding: str = "reflect") -> torch.Tensor:
    """All cosines of 3 x 3 patches, (Hq * Wq, Hk * Wk) float64."""
    mode = "reflect" if padding == "reflect" else "constant"
    patches = [
        F.normalize(F.unfold(F.pad(maps.double(), (1, 1, 1, 1), mode=mode), 3)[0], dim=0)
        for maps in (query, key)
    ]
    return patches[0].t() @ patches[1]


class TestPruneKeys:
    @pytest.mark.parametrize("padding", ["reflect", "zeros"])
    def test_removes_what_a_sample_stands_for(self, padding: str) -> None:
        key = scene(37, 50, channels=2)
        remain = prune_keys(key, padding=padding)
        rows, columns = torch.arange(8, 37, 16), torch.arange(8, 50, 16)
        samples = (rows[:, None] * 50 + columns).flatten()
        expected = (similarities(key, key, padding)[:, samples] <= 0.7).all(dim=1)
        expected[samples] = True
        assert torch.equal(remain[0].flatten(), expected)
        assert 0.1 < remain.float().mean() < 0.9

    def test_where_all_keys_are_alike_the_samples_remain(self) -> None:
        remain = prune_keys(torch.ones(2, 3, 33, 20))
        assert remain.dtype == torch.bool
        assert remain.shape == (2, 33, 20)
        assert remain[0].nonzero().tolist() == [[8, 8], [24, 8]]

    @pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 3), (16, 17)])
    def test_one_key_at_least_remains(self, size: tuple[int, int]) -> None:
        assert prune_keys(torch.ones(1, 2, *size)).any()

    def test_a_higher_threshold_keeps_more(self) -> None:
        key = scene(48, 48, channels=2)
        counts = [int(prune_keys(key, threshold=value).sum()) for value in (0.3, 0.7, 0.9, 1.1)]
        assert counts == sorted(counts)
        assert counts[0] < counts[2]
        assert counts[3] == 48 * 48

    def test_nan_neither_prunes_nor_is_pruned(self) -> None:
        key = torch.ones(1, 2, 32, 32)
        key[0, 0, 8, 8] = torch.nan  # the first sample's patch and its neighbours
        remain = prune_keys(key)
        assert int(remain.sum()) == 4 + 8
        found = search(key, key, key_mask=remain)
        assert int((found.index[0] < 0).sum()) == 9

    def test_blocks_give_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        key = scene(30, 41, channels=2)
        whole = prune_keys(key)
        monkeypatch.setattr("dualsr_cli.matching.reducers._HELD", 1000)
        assert torch.equal(prune_keys(key), whole)

    def test_what_remains_serves_nearly_as_well(self) -> None:
        query = scene(48, 56, channels=4)
        key = query[:, :, 8:40, 10:46]
        full = search(query, key)
        remain = prune_keys(key)
        pruned = search(query, key, key_mask=remain)
        assert bool((pruned.similarity <= full.similarity + 1e-6).all())
        assert remain.flatten(1)[0][pruned.index.flatten()].all()
        # No key is lost without a sample that is like it, so no query loses more than that.
        assert float((full.similarity - pruned.similarity).max()) < 0.7
        assert float((full.similarity - pruned.similarity).mean()) < 0.2

    def test_an_interval_of_nothing(self) -> None:
        with pytest.raises(ValueError, match="interval"):
            prune_keys(torch.ones(1, 1, 4, 4), interval=0)


class TestDetailMask:
    @pytest.mark.parametrize("size", [(40, 48), (20, 24), (13, 17)])
    def test_finds_the_textured_half(self, size: tuple[int, int]) -> None:
        smooth = torch.linspace(0, 1, 48).expand(2, 3, 40, 48)
        texture = torch.rand(2, 3, 40, 24, generator=torch.Generator().manual_seed(0))
        mask = detail_mask(torch.cat([smooth[..., :24], texture], dim=3), size)
        assert mask.shape == (2, *size)
        assert mask.dtype == torch.bool
        middle = size[1] // 2
        assert not mask[..., : middle - 2].any()
        assert mask[..., middle + 3 :].float().mean() > 0.9

    def test_half_of_an_image_is_above_its_median(self) -> None:
        image = torch.rand(3, 3, 31, 45, generator=torch.Generator().manual_seed(1))
        image[1] *= 0.01  # the median is the image's own
        for share in detail_mask(image, (31, 45)).float().mean(dim=(1, 2)):
            assert abs(float(share) - 0.5) < 0.01

    def test_serves_as_masks_of_a_search(self) -> None:
        query, key = scene(24, 32), scene(12, 16, seed=9)
        query_mask, key_mask = detail_mask(query, (24, 32)), detail_mask(key, (12, 16))
        found = search(query, key, query_mask=query_mask, key_mask=key_mask)
        assert torch.equal(found.index >= 0, query_mask)
        assert not found.similarity[~query_mask].any()
        assert key_mask[0].flatten()[found.index[query_mask]].all()

    def test_no_image(self) -> None:
        with pytest.raises(ValueError, match="no detail"):
            detail_mask(torch.ones(3, 8, 8), (4, 4))


class TestCoarseBoxes:
    def test_tiles_find_where_they_were_cut(self) -> None:
        """The key is a crop of the query's scene at twice its scale, as a tele photo is."""
        fine = scene(320, 384, channels=3)
        query = F.interpolate(fine, (160, 192), mode="area")
        key = fine[:, :, 64:256, 96:320]
        boxes = coarse_boxes(query, key, (32, 32))
        assert boxes.shape == (1, 5, 6, 4)
        assert boxes.dtype == torch.int64
        assert bool((boxes[..., 2:] - boxes[..., :2] == 64).all())
        for row, column in ((1, 2), (2, 3), (2, 2), (1, 3)):  # tiles that the key shows
            top, left, _, _ = boxes[0, row, column].tolist()
            assert abs(top - (64 * row - 64)) <= 16
            assert abs(left - (64 * column - 96)) <= 16

    @pytest.mark.parametrize(
        ("query", "key", "tile"),
        [
            ((75, 50), (120, 90), (24, 32)),
            ((16, 16), (16, 64), (16, 16)),
            ((9, 90), (33, 20), (40, 8)),
        ],
    )
    def test_boxes_lie_inside_the_key(
        self, query: tuple[int, int], key: tuple[int, int], tile: tuple[int, int]
    ) -> None:
        boxes = coarse_boxes(noise(2, 3, *query), noise(2, 3, *key), tile)
        assert boxes.shape[1:3] == tuple(
            -(-q // min(q, t)) for q, t in zip(query, tile, strict=True)
        )
        top, left, bottom, right = boxes.unbind(dim=-1)
        assert bool((top >= 0).all() and (left >= 0).all())
        assert bool((bottom <= key[0]).all() and (right <= key[1]).all())
        for size, (first, last), axis in ((key[0], (top, bottom), 0), (key[1], (left, right), 1)):
            wanted = min(size, 2 * min(tile[axis], query[axis]))
            assert bool((last - first == wanted).all())

    def test_equals_brute_force_at_full_resolution(self, monkeypatch: pytest.MonkeyPatch) -> None:
        query, key = noise(1, 2, 12, 15), noise(1, 2, 10, 9, seed=1)
        monkeypatch.setattr("dualsr_cli.matching.reducers._HELD", 200)
        boxes = coarse_boxes(query, key, (4, 5), query_factor=1, key_factor=1)
        windows = F.unfold(key, (4, 5))[0]
        for row in range(3):
            for column in range(3):
                tile = query[0, :, 4 * row : 4 * row + 4, 5 * column : 5 * column + 5].flatten()
                best = int((windows - tile[:, None]).abs().sum(dim=0).argmin())
                top, left = divmod(best, 5)
                assert boxes[0, row, column].tolist() == [top, left, top + 4, left + 5]

    def test_no_tile(self) -> None:
        with pytest.raises(ValueError, match="hold nothing"):
            coarse_boxes(noise(1, 1, 8, 8), noise(1, 1, 8, 8), (0, 4))
