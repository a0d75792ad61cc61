"""The search on a CUDA device: tensor cores and a running maximum in one Triton kernel.

Two passes, neither of which holds unfolded patches or similarities.

1. `_search_half` goes over all keys in float16 with float32 sums. Of each tile of keys only the
   maximum per query is taken, one operation a similarity, and which tile was the best: to find the
   key itself there would cost several operations a similarity, on units that are 30 times slower
   than the tensor cores. A tile is some hundred keys that follow one another.
2. `_look_again` computes the similarities of a query's best tile in float32: the key and its value.

For `exact`, pass 1 also keeps the best maximum of the other tiles. Where that could be a better key
but for the rounding (see `_rounding`), `_search_half` runs once more over those queries and marks
every tile that could hold the best key, and `_look_again` takes all marked tiles.

float16 and not bfloat16: both have the same rate, but float16 rounds to 2**-11 of a value where
bfloat16 rounds to 2**-8, so that eight times fewer similarities are too close to call. Its narrow
range is no harm, for a map is first scaled by a power of two to a peak just under 2**15: all down
to 2**-29 of the peak keeps the full precision, and below it the bound is measured, not assumed.
"""

# Triton has no types: neither its kernels' arguments nor what its decorator makes of them.
# mypy: disable-error-code="import-untyped, import-not-found, untyped-decorator, no-untyped-def"
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl

_MARKS_BYTES = 32 << 20  # of tiles marked at a time: one bit for each query and tile
_TINY = 2.0**-60  # a patch of a smaller norm (the map's peak being about 2**15) counts as zeros
_WORTH_TUNING = 1 << 42  # multiplications: about 25 ms of an H100; compiling takes seconds a plan
_SLACK = 256  # places after a map that the last tile may read: the most keys of a tile


class Plan(NamedTuple):
    """How `_search_half` is cut up.

    queries, keys: the tile of one program. warps: of a program. stages: tiles of keys on their way
    at once. programs: how many the device should have to do, at least; fewer query tiles than that
    and the keys are split among several programs.
    """

    queries: int
    keys: int
    warps: int
    stages: int
    programs: int = 1


# For an H100 at d = 144, where a tile of 128 queries and 128 keys keeps a processor's tensor cores
# busy for 1152 cycles at their peak. Its float32 sums take 64 registers a thread with 8 warps: 118
# in all, so that two programs share a processor and one takes its maxima while the other
# multiplies; its 300 instructions a warp take 600 cycles of the four schedulers. Queries and two
# stages of keys, 36 KiB each, are 108 KiB of the 227 KiB of shared memory: again two programs. The
# tensor cores read it 108 KiB a tile, and 36 KiB are written: all that it can do in that time.
# Tiles twice as large, in either direction, need an eighth less of it, but are one program a
# processor (128 registers of sums). Smaller tiles are for larger patches, whose queries fill the
# shared memory, and the last is for devices that have little of it.
_PLANS = (
    Plan(128, 128, 8, 2),
    Plan(128, 128, 4, 2),
    Plan(128, 128, 8, 3),
    Plan(256, 128, 8, 2),
    Plan(256, 128, 8, 3),
    Plan(128, 256, 8, 2),
    Plan(64, 128, 4, 2),
    Plan(64, 64, 4, 3),
    Plan(32, 32, 4, 2),
)


class _Depth(NamedTuple):
    """How the d products of a similarity are cut into blocks, whose widths are powers of two.

    steps == 1: a block of `main` and, unless it is 0, one of `tail`; the queries' stay in shared
    memory. steps > 1: so many blocks of `main`, those of the queries loaded again for each tile.
    """

    main: int
    steps: int
    tail: int


def _depth(size: int) -> _Depth:
    """The cut for d = `size`: at most an eighth is padding, or fewer than 32 numbers.

    d = 144 is 128 + 16 exactly: two products, where nine of 16, one for each place of the patch,
    would each wait for the tensor cores, and 256 would be 78 % padding.
    """
    main = min(256, max(16, 1 << (size.bit_length() - 1)))
    tail = max(16, triton.next_power_of_2(size - main)) if size > main else 0
    if size <= 64 or (size <= 384 and 8 * (main + tail) <= 9 * size):
        return _Depth(main, 1, tail)
    main = 64 if 8 * 64 * math.ceil(size / 64) <= 9 * size else 32
    return _Depth(main, math.ceil(size / main), 0)


@triton.jit
def _starts(key_base, places, CHANNELS: tl.constexpr, LISTED: tl.constexpr):
    """Where the patches of keys begin. Unlisted, a key is its place in the padded map: no division
    and no table in the loop, and the few places at the end of a row that are none are never chosen.
    """
    if LISTED:
        return tl.load(key_base + places).to(tl.int64) * CHANNELS
    return places.to(tl.int64) * CHANNELS


@triton.jit(do_not_specialize=["queries", "query_width", "key_width", "tiles", "split"])
def _search_half(
    query,  # float16 map
    query_base,  # (queries,) int32, the place where each patch begins
    key,  # float16 map
    key_base,  # LISTED: (tiles * KEYS,) int32
    scale,  # (tiles * KEYS,) float32, one over the key's norm; NaN: no key
    best,  # not MARK: (splits, queries) float32, the best tile's maximum; -inf: no key
    tile,  # not MARK: (splits, queries) int32, that tile; -1: no key
    second,  # not MARK: (splits, queries) float32, the best maximum of the other tiles
    threshold,  # MARK: (queries,) float32
    marks,  # MARK: (words, queries) int32, a bit for each tile whose maximum reaches it
    queries,
    query_width,
    key_width,
    tiles,
    split,  # tiles of one program, a multiple of 32
    SIZE: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROW: tl.constexpr,
    MAIN: tl.constexpr,
    STEPS: tl.constexpr,
    TAIL: tl.constexpr,
    LISTED: tl.constexpr,
    MARK: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    mine = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    real = mine < queries
    base = tl.load(query_base + mine, mask=real, other=0).to(tl.int64) * CHANNELS
    rows = query + base[:, None]

    # A row of a patch is patch * channels numbers in one piece, for the map has its channels last;
    # a row of the map on begins the next. Channels come in eights: each 16 bytes are one load.
    # Numbers beyond the patch, of which some depths have a few, are zeros on both sides.
    query_line, key_line = query_width * CHANNELS, key_width * CHANNELS
    main = tl.arange(0, MAIN)
    key_main = main // ROW * key_line + main % ROW
    tail = MAIN + tl.arange(0, TAIL if TAIL else 1)
    key_tail = tail // ROW * key_line + tail % ROW
    if STEPS == 1:
        query_main = main // ROW * query_line + main % ROW
        held = tl.load(rows + query_main[None, :], mask=(main < SIZE)[None, :], other=0.0)
        if TAIL:
            query_tail = tail // ROW * query_line + tail % ROW
            held_tail = tl.load(rows + query_tail[None, :], mask=(tail < SIZE)[None, :], other=0.0)

    minus_infinity = float("-inf")
    if MARK:
        needed = tl.load(threshold + mine, mask=real, other=float("inf"))
        word = tl.zeros([QUERIES], tl.int32)
    else:
        top = tl.full([QUERIES], minus_infinity, tl.float32)
        top_tile = tl.full([QUERIES], -1, tl.int32)
        runner_up = tl.full([QUERIES], minus_infinity, tl.float32)

    first = tl.program_id(1) * split
    for number in range(first, tl.minimum(first + split, tiles)):
        places = number * KEYS + tl.arange(0, KEYS)
        columns = key + _starts(key_base, places, CHANNELS, LISTED)[None, :]
        inverse = tl.load(scale + places)  # on its way while the tensor cores work
        # The cache of the processor may keep what the next rows of the patches read again: without
        # it each program would read its 36 KiB a tile from the second cache, three times over.
        if STEPS == 1:
            near = tl.load(
                columns + key_main[:, None],
                mask=(main < SIZE)[:, None],
                other=0.0,
                cache_modifier=".ca",
            )
            product = tl.dot(held, near)
            if TAIL:
                far = tl.load(
                    columns + key_tail[:, None],
                    mask=(tail < SIZE)[:, None],
                    other=0.0,
                    cache_modifier=".ca",
                )
                product = tl.dot(held_tail, far, product)
        else:
            product = tl.zeros([QUERIES, KEYS], tl.float32)
            for step in range(STEPS):
                k = step * MAIN + main
                inside = k < SIZE
                line, along = k // ROW, k % ROW
                left = tl.load(
                    rows + (line * query_line + along)[None, :], mask=inside[None, :], other=0.0
                )
                right = tl.load(
                    columns + (line * key_line + along)[:, None],
                    mask=inside[:, None],
                    other=0.0,
                    cache_modifier=".ca",
                )
                product = tl.dot(left, right, product)

        # The keys' norms cannot go into the operand: patches overlap in the map and each has its
        # own. One multiplication a similarity; a NaN for what is no key, which a maximum passes by.
        maximum = tl.max(product * inverse[None, :], axis=1)
        maximum = tl.where(maximum == maximum, maximum, minus_infinity)
        if MARK:
            bit = number % 32
            word = tl.where(bit == 0, 0, word) | ((maximum >= needed).to(tl.int32) << bit)
            tl.store(marks + number // 32 * queries + mine, word, mask=real)
        else:
            better = maximum > top  # of equals the first stays
            runner_up = tl.where(better, top, tl.maximum(runner_up, maximum))
            top = tl.where(better, maximum, top)
            top_tile = tl.where(better, number, top_tile)

    if not MARK:
        out = tl.program_id(1).to(tl.int64) * queries + mine
        tl.store(best + out, top, mask=real)
        tl.store(tile + out, top_tile, mask=real)
        tl.store(second + out, runner_up, mask=real)


@triton.jit
def _look(
    row,
    key,
    key_base,
    scale,
    number,
    query_width,
    key_width,
    SIZE: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROW: tl.constexpr,
    LISTED: tl.constexpr,
    KEYS: tl.constexpr,
):
    """One query and one tile in float32: the maximum and the first key that has it.

    2048 numbers at a time, 16 for each thread: of 128 keys 64 bytes each, one piece of memory with
    16 channels. The sums of a key stay apart until the end, which also rounds less.
    """
    WIDTH: tl.constexpr = 2048 // KEYS
    places = number * KEYS + tl.arange(0, KEYS)
    columns = key + _starts(key_base, places, CHANNELS, LISTED)[:, None]
    total = tl.zeros([KEYS, WIDTH], tl.float32)
    for step in range((SIZE + WIDTH - 1) // WIDTH):
        k = step * WIDTH + tl.arange(0, WIDTH)
        inside = k < SIZE
        line, along = k // ROW * CHANNELS, k % ROW
        left = tl.load(row + line * query_width + along, mask=inside, other=0.0)
        right = tl.load(
            columns + (line * key_width + along)[None, :], mask=inside[None, :], other=0.0
        )
        total += left[None, :] * right
    similarity = tl.sum(total, axis=1) * tl.load(scale + places)
    similarity = tl.where(similarity == similarity, similarity, float("-inf"))
    maximum = tl.max(similarity, axis=0)
    return maximum, tl.min(tl.where(similarity == maximum, places, 2147483647), axis=0)


@triton.jit(do_not_specialize=["queries", "query_width", "key_width", "words"])
def _look_again(
    query,  # float32 map
    query_base,  # (queries,) int32
    key,  # float32 map
    key_base,
    scale,
    tile,  # not MARKED: (queries,) int32, not -1
    marks,  # MARKED: (words, queries) int32
    best,  # (queries,) float32
    index,  # (queries,) int32, the key's number
    queries,
    query_width,
    key_width,
    words,
    SIZE: tl.constexpr,
    CHANNELS: tl.constexpr,
    ROW: tl.constexpr,
    LISTED: tl.constexpr,
    MARKED: tl.constexpr,
    KEYS: tl.constexpr,
):
    mine = tl.program_id(0)
    row = query + tl.load(query_base + mine).to(tl.int64) * CHANNELS
    if MARKED:
        top = float("-inf")
        where = -1
        for number in range(words):
            word = tl.load(marks + number * queries + mine)
            if word != 0:
                for bit in range(32):
                    if (word >> bit) & 1 != 0:
                        maximum, first = _look(
                            row,
                            key,
                            key_base,
                            scale,
                            number * 32 + bit,
                            query_width,
                            key_width,
                            SIZE,
                            CHANNELS,
                            ROW,
                            LISTED,
                            KEYS,
                        )
                        better = maximum > top
                        where = tl.where(better, first, where)
                        top = tl.where(better, maximum, top)
    else:
        top, where = _look(
            row,
            key,
            key_base,
            scale,
            tl.load(tile + mine),
            query_width,
            key_width,
            SIZE,
            CHANNELS,
            ROW,
            LISTED,
            KEYS,
        )
    tl.store(best + mine, top)
    tl.store(index + mine, where)


class _Map(NamedTuple):
    """A feature map as the kernels read it: padded, channels last, peak just under 2**15.

    values, half: (places + slack, channels) float32 and float16, channels filled up with zeros to
    a multiple of 8. width: of the padded map. base: (n,) int32, where the patches asked for begin.
    norm: (n,) float32, those patches' norms. error: (n,) float32, the norm of what `half` lacks.
    """

    values: torch.Tensor
    half: torch.Tensor
    width: int
    base: torch.Tensor
    norm: torch.Tensor
    error: torch.Tensor


def _map(features: torch.Tensor, patch: int, padding: str, places: torch.Tensor) -> _Map:
    """The map of features (C, H, W) and its patches at `places`, row * W + column.

    NaN and infinities, which no patch asked for holds, become 0.
    """
    channels, height, width = features.shape
    padded = torch.nan_to_num(_padded(features, patch // 2, padding), 0.0, 0.0, 0.0)
    low, high = torch.aminmax(padded)
    exponent = math.frexp(max(-float(low), float(high)))[1]
    size = padded.shape[1] * padded.shape[2]
    filled = -(-channels // 8) * 8
    values = padded.new_zeros(size + _SLACK, filled)
    inside = values[:size].view(*padded.shape[1:], filled)
    torch.mul(padded.permute(1, 2, 0), 2.0 ** min(15 - exponent, 127), out=inside[..., :channels])
    del padded
    half = values.half()
    row = torch.div(places, width, rounding_mode="floor")

    def norms(numbers: torch.Tensor) -> torch.Tensor:
        squares = torch.linalg.vector_norm(numbers[:size], dim=1).double().square_()
        squares = squares.view(inside.shape[:2])
        patches = torch.zeros(height, width, dtype=torch.float64, device=features.device)
        for down in range(patch):
            for right in range(patch):
                patches += squares[down : down + height, right : right + width]
        return patches.sqrt_().flatten()[places].float()

    padded_width = inside.shape[1]
    return _Map(
        values=values,
        half=half,
        width=padded_width,
        base=(row * padded_width + places % width).int(),
        norm=norms(values),
        error=norms(values - half),
    )


def _padded(features: torch.Tensor, radius: int, padding: str) -> torch.Tensor:
    """(C, H, W) with `radius` more on each side; an axis too small to be mirrored is repeated."""
    if padding == "zeros":
        return torch.nn.functional.pad(features, (radius,) * 4)
    for axis, sides in ((1, (0, 0, radius, radius)), (2, (radius, radius, 0, 0))):
        mode = "reflect" if features.shape[axis] > radius else "replicate"
        features = torch.nn.functional.pad(features[None], sides, mode=mode)[0]
    return features


def _rounding(queries: _Map, keys: _Map, size: int) -> torch.Tensor:
    """How far pass 1 can be from the truth, (n,) in its unit, cosine times the query's norm.

    Let q and k be patches, q' and k' what float16 makes of them, r the largest |k' - k| / |k| of
    all keys. With Cauchy and Schwarz

        |q'k' - qk| / |k|  <=  |q' - q| |k'| / |k| + |q| |k' - k| / |k|
                           <=  |q' - q| (1 + r) + |q| r

    where |q' - q| and r are measured: about half of the 2**-11 that they can be. The products are
    exact in float32; each of d additions in a tensor core, which cuts where others round, loses at
    most 2**-22 of |q'| |k'|. The key's norm, float32 itself in pass 2 (2**-24 for each of d
    additions) and this bound's own rounding stay below that again, hence d * 2**-21 and 1.001.
    """
    ratio = torch.where(keys.norm > _TINY, keys.error / keys.norm, 0.0).amax()
    bound = queries.error * (1 + ratio) + queries.norm * (ratio + size * 2.0**-21)
    return 1.001 * bound


class _Work:
    """One search: the kernels with everything that stays the same from launch to launch."""

    def __init__(
        self, query: _Map, key: _Map, patch: int, key_grid: tuple[int, int], plan: Plan
    ) -> None:
        channels = query.values.shape[1]
        self.query, self.key = query, key
        self.layout = {
            "SIZE": patch * patch * channels,
            "CHANNELS": channels,
            "ROW": patch * channels,
        }
        self.depth = _depth(self.layout["SIZE"])
        height, width = key_grid
        everywhere = (height - 1) * key.width + width
        # A list costs a table in the loop, everything else a search among places that are no keys.
        self.listed = len(key.base) < 0.75 * everywhere
        self.scale = torch.where(key.norm > _TINY, 1 / key.norm, 0.0)
        self.base = key.base if self.listed else None
        if not self.listed:
            among = self.scale.new_full((everywhere,), math.nan)
            among[key.base.long()] = self.scale
            self.scale = among
        # Filled up for the largest tile, so that a plan can be changed.
        self.keys = len(self.scale)
        self.scale = torch.nn.functional.pad(self.scale, (0, _SLACK), value=math.nan)
        if self.base is not None:
            self.base = torch.nn.functional.pad(self.base, (0, _SLACK))
        self.plan = plan

    def places(self, index: torch.Tensor, key_width: int, listed: torch.Tensor) -> torch.Tensor:
        """What the kernels call a key, as its place in the map."""
        if self.listed:
            return listed[index]
        row = torch.div(index, self.key.width, rounding_mode="floor")
        return row * key_width + index % self.key.width

    @property
    def tiles(self) -> int:
        return -(-self.keys // self.plan.keys)

    def best_tiles(self, base: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For each query its best tile (int32) and the best maximum of the others."""
        splits, split = self._splits(len(base))
        best = self.scale.new_empty(splits, len(base))
        tile = torch.empty_like(best, dtype=torch.int32)
        second = torch.empty_like(best)
        self._half(base, splits, split, best=best, tile=tile, second=second)
        if splits == 1:
            return tile[0], second[0]
        winner = best.argmax(dim=0, keepdim=True)  # the first of equals
        others = best.scatter(0, winner, second.gather(0, winner))
        return tile.gather(0, winner)[0], torch.maximum(second, others).amax(dim=0)

    def marked(self, base: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        """(words, n) int32: for each query a bit for each tile that reaches its threshold."""
        splits, split = self._splits(len(base))
        marks = torch.empty(-(-self.tiles // 32), len(base), dtype=torch.int32, device=base.device)
        self._half(base, splits, split, threshold=threshold, marks=marks)
        return marks

    def look_again(
        self,
        base: torch.Tensor,
        tile: torch.Tensor | None = None,
        marks: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The best of one tile, or of all marked, in float32: its value and the key (int64)."""
        best = self.scale.new_empty(len(base))
        index = torch.empty_like(best, dtype=torch.int32)
        _look_again[(len(base),)](
            self.query.values,
            base,
            self.key.values,
            self.base,
            self.scale,
            tile,
            marks,
            best,
            index,
            len(base),
            self.query.width,
            self.key.width,
            0 if marks is None else len(marks),
            **self.layout,
            LISTED=self.listed,
            MARKED=marks is not None,
            KEYS=self.plan.keys,
            enable_fp_fusion=True,
            num_warps=4,
        )
        return best, index.long()

    def _splits(self, queries: int) -> tuple[int, int]:
        """Programs a query tile and tiles of keys each, which are multiples of a word of marks."""
        words = -(-self.tiles // 32)
        wanted = self.plan.programs // -(-queries // self.plan.queries)
        split = -(-words // max(1, min(words, wanted))) * 32
        return -(-self.tiles // split), split

    def _half(
        self,
        base: torch.Tensor,
        splits: int,
        split: int,
        *,
        best: torch.Tensor | None = None,
        tile: torch.Tensor | None = None,
        second: torch.Tensor | None = None,
        threshold: torch.Tensor | None = None,
        marks: torch.Tensor | None = None,
    ) -> None:
        _search_half[(-(-len(base) // self.plan.queries), splits)](
            self.query.half,
            base,
            self.key.half,
            self.base,
            self.scale,
            best,
            tile,
            second,
            threshold,
            marks,
            len(base),
            self.query.width,
            self.key.width,
            self.tiles,
            split,
            **self.layout,
            MAIN=self.depth.main,
            STEPS=self.depth.steps,
            TAIL=self.depth.tail,
            LISTED=self.listed,
            MARK=marks is not None,
            QUERIES=self.plan.queries,
            KEYS=self.plan.keys,
            enable_fp_fusion=True,
            num_warps=self.plan.warps,
            num_stages=self.plan.stages,
        )


def search_cuda(
    query: torch.Tensor,
    key: torch.Tensor,
    patch: int,
    padding: str,
    query_places: torch.Tensor,
    key_places: torch.Tensor,
    precision: str,
    plan: Plan | None = None,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """For each query place the best key place and its cosine, and how many were searched twice.

    query (C, Hq, Wq), key (C, Hk, Wk), float32 on one CUDA device; the places are sorted, row * W +
    column, neither is empty, and no patch there holds a NaN or infinity. precision: "exact": the
    best key in float32, ties to the lowest place; "fast": the best key of the tile that is best in
    float16. The similarity is float32 either way. plan: None: chosen here.

    Returns (n,) int64, (n,) float32 and, for "exact", how many queries had a rival that float16
    cannot tell from the winner. Working memory for C = 16, 1008 x 756 and 504 x 378: 80 bytes a
    place and 48 more while they are made (`_map`), 48 a query, 32 MiB of marks: under 200 MiB.
    """
    with torch.cuda.device(query.device) if query.is_cuda else contextlib.nullcontext():
        queries = _map(query, patch, padding, query_places)
        keys = _map(key, patch, padding, key_places)
        work = _Work(queries, keys, patch, (key.shape[1], key.shape[2]), plan or _PLANS[0])
        if plan is None:
            work.plan = _chosen(work)
        tile, second = work.best_tiles(queries.base)
        best, index = work.look_again(queries.base, tile=tile)
        rescored = 0
        if precision == "exact":
            # Of a patch of zeros every key is a match, of which pass 1 has found the first.
            threshold = best - _rounding(queries, keys, work.layout["SIZE"])
            rivals = ((second >= threshold) & (queries.norm > _TINY)).nonzero().squeeze(1)
            rescored = len(rivals)
            part = max(1, _MARKS_BYTES // (4 * -(-work.tiles // 32)))
            for start in range(0, rescored, part):
                some = rivals[start : start + part]
                base = queries.base[some]
                marks = work.marked(base, threshold[some])
                best[some], index[some] = work.look_again(base, marks=marks)
        similarity = torch.where(queries.norm > _TINY, best / queries.norm, 0.0).clamp_(-1, 1)
        return work.places(index, key.shape[2], key_places), similarity, rescored


_tuned: dict[tuple[str, int, bool], Plan] = {}  # by device, d and whether keys are listed


def _chosen(work: _Work) -> Plan:
    """The fastest plan for this device and patch size, measured once on as many of the queries as
    fill the device some times; for little work the first, for each plan takes seconds to compile.
    """
    device = work.scale.device
    if not work.scale.is_cuda:  # Triton's interpreter
        return Plan(16, 16, 4, 2)
    properties = torch.cuda.get_device_properties(device)
    processors = properties.multi_processor_count
    name = (properties.name, work.layout["SIZE"], work.listed)
    queries = len(work.query.base)
    worth = queries * work.keys * work.layout["SIZE"] >= _WORTH_TUNING
    if name not in _tuned:
        took: dict[Plan, float] = {}
        for plan in _PLANS:
            work.plan = plan._replace(programs=2 * processors)
            try:
                work.best_tiles(work.query.base[:1])  # compiles
                if not worth:
                    return work.plan
                took[work.plan] = _milliseconds(work, work.query.base[: 512 * processors])
            except triton.runtime.OutOfResources:
                continue
        _tuned[name] = min(took, key=lambda plan: took[plan])
    return _tuned[name]


def _milliseconds(work: _Work, base: torch.Tensor) -> float:
    """The best of three runs of pass 1."""
    took = []
    for _ in range(3):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work.best_tiles(base)
        end.record()
        end.synchronize()
        took.append(float(start.elapsed_time(end)))
    return min(took)
