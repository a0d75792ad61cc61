"""The search beside the published way: `python -m benchmarks.matching [PART ...]`.

Parts: exactness, speed, clustered, reducers, gradients; all without one. Features have 16 channels
(speed: 64 as well) at half resolution and patches are 3 x 3, so that d = 144 (576): a wide photo of
2016 x 1512 has 762,048 queries, its tele photo of half the view 190,512 keys. They are random, or
the gradient features of photos: sample pairs, or with --data FOLDER hand-held photos of one facade.

exactness  wrong: queries, of those that were looked at, whose match is worse than the best by more
           than 1e-6, by an oracle in float64. On CUDA also of `fast`: the share within 1e-3.
speed      TFLOP is 2 x queries x keys x d. "of peak" is beside a square matrix product of 4096
           (CUDA: 8192, bfloat16) that is timed in turn with it. Working memory is what the search
           takes beyond inputs and outputs. "published": unfold, normalise, one product, its
           maximum, where the matrix of similarities fits into memory; else on fewer queries.
clustered  recall: the share of matches within 0.02 of the best one's cosine. Then a 12-megapixel
           photo (--photo, else a sample enlarged), from its pixels to its matches.
reducers   Key Pruning as DM3Net has it (table 1) and masks as SDDuSR has them (table 3), which
           masks both sides by their detail.
gradients  of the straight-through path, beside autograd through the dense formulation.

On a processor the larger sizes are searched for a part of the queries, as many as `looked at` says;
their times are times of that part, scaled up.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks._matching_inputs import (
    CHANNELS,
    PATCH,
    SIZES,
    Features,
    Oracle,
    enlarged,
    mask_of,
    pair_features,
    pairs,
    random_features,
    some,
)
from benchmarks._memory import MIB, available, forget_peak, give_back, peak, resident
from benchmarks._pairs import SAMPLES
from dualsr_cli.matching import (
    Correspondence,
    detail_mask,
    prune_keys,
    search,
    search_clustered,
    straight_through,
)
from dualsr_cli.matching._dense import published, search_dense

Masks = tuple[torch.Tensor, torch.Tensor]  # of queries, of keys

NEAR = 0.02  # cosine: a match so much worse than the best is as good
MANY = 2 * 10**9  # pairs of patches, of 144 numbers: some seconds of a processor


@dataclass
class Options:
    device: torch.device
    data: Path | None
    photo: Path
    sizes: tuple[tuple[int, int], ...]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data", type=Path, help="a folder that holds berlin/")
    parser.add_argument("--photo", type=Path, default=SAMPLES / "phone-jpeg" / "tele.jpg")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="so many of the sizes")
    given = parser.parse_args()
    device = torch.device(given.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    options = Options(device, given.data, given.photo, SIZES[: given.sizes])
    for part in given.parts or PARTS:
        print(f"\n== {part} ==", flush=True)
        PARTS[part](options)


# --- exactness ---


def exactness(options: Options) -> None:
    print("features       wide        precision  looked at   wrong   tied  rescored")
    for size in options.sizes:
        for features in (random_features(size), *_real(options, size)[:1]):
            looked = min(features.queries, MANY // 8 // features.keys)
            # Far apart and side by side: they are searched for in two ways on a processor.
            for places in (some(looked, features.queries), _together(looked, features)):
                _exact(size, features, places, options)


def _exact(
    size: tuple[int, int], features: Features, places: torch.Tensor, options: Options
) -> None:
    oracle = Oracle(features, places)
    ours = features.to(options.device)
    for precision in ("exact", "fast") if options.device.type == "cuda" else ("exact",):
        found = search(
            ours.query,
            ours.key,
            query_mask=mask_of(places, ours.query),
            precision=precision,
        )
        index = found.index.flatten().cpu()[places]
        other = index != oracle.index
        short = oracle.best - oracle.similarity(index)
        print(
            f"{features.name:12} {_shape(size):>11} {precision:>12} {len(places):10,}"
            f"{int((other & (short > 1e-6)).sum()):8,}"
            f"{int((other & (short <= 1e-6)).sum()):7,}{found.rescored:10,}"
            + (
                f"   within 1e-3: {float((short <= 1e-3).double().mean()):.4%}"
                if precision == "fast"
                else ""
            ),
            flush=True,
        )


# --- speed and memory ---


def speed(options: Options) -> None:
    print(
        "wide           d  precision   looked at   seconds   TFLOP/s  of peak  working MiB"
        "  published s    ratio"
    )
    cuda = options.device.type == "cuda"
    for size in options.sizes:
        for channels in (16, 64):
            features = random_features(size, channels).to(options.device)
            depth = 9 * channels
            full = features.queries
            looked = (
                full if cuda else min(full, max(16_384, 16 * MANY // (features.keys * channels)))
            )
            mask = None if looked == full else mask_of(_together(looked, features), features.query)
            for precision in ("exact", "fast") if cuda else ("exact",):

                def run(
                    features: Features = features,
                    mask: torch.Tensor | None = mask,
                    precision: str = precision,
                ) -> Correspondence:
                    return search(
                        features.query, features.key, query_mask=mask, precision=precision
                    )

                work = 2 * looked * features.keys * depth
                seconds, top = _beside_product(run, options.device)
                memory = _working_memory(run, options.device)
                rate = work / seconds / 1e12
                other, note = _published(features, looked, options.device)
                print(
                    f"{_shape(size):>11}{depth:5} {precision:>10} {looked:11,}"
                    f"{seconds * full / looked:10.3f}{rate:10.3f}{rate / top:9.1%}"
                    f"{memory / MIB:13.1f}{other * full:13.3f}{other * looked / seconds:9.2f}"
                    f"{note}",
                    flush=True,
                )
            if cuda:
                _unfused(features, options.device)


def _beside_product(run: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """The best seconds of a few runs, and the best TFLOP/s of a large product between them."""
    side = 8192 if device.type == "cuda" else 4096
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    matrix = torch.randn(side, side, device=device, dtype=kind)
    product = torch.empty_like(matrix)

    def multiply() -> None:
        torch.mm(matrix, matrix, out=product)

    multiply()
    run()  # compiles, tunes
    seconds, best = float("inf"), float("inf")
    for _ in range(5 if device.type == "cuda" else 3):
        best = min(best, _time(multiply, device))
        seconds = min(seconds, _time(run, device))
        best = min(best, _time(multiply, device))
    return seconds, 2 * side**3 / best / 1e12


def _published(features: Features, looked: int, device: torch.device) -> tuple[float, str]:
    """Seconds a query of the published way, and a word where it had to be on fewer queries."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available()
    fits = int(0.5 * free / (4 * features.keys))
    height, width = features.query.shape[2:]
    rows = min(height, max(3, min(fits, looked) // width))
    query = features.query[:, :, :rows].contiguous()
    seconds = min(
        _time(lambda: published(query, features.key, 3, "reflect"), device) for _ in range(2)
    )
    note = (
        ""
        if fits >= features.queries
        else f"   all: {4e-9 * features.queries * features.keys:,.0f} GB"
    )
    return seconds / (rows * width), note


def _unfused(features: Features, device: torch.device) -> None:
    """The search in blocks by PyTorch's own operations."""
    looked = min(features.queries, 100 * MANY // features.keys)
    queries = torch.arange(looked, device=device)
    keys = torch.arange(features.keys, device=device)
    seconds = min(
        _time(
            lambda: search_dense(features.query[0], features.key[0], 3, "reflect", queries, keys),
            device,
        )
        for _ in range(2)
    )
    print(f"{'':16} unfused {looked:13,}{seconds * features.queries / looked:10.3f}", flush=True)


def _together(count: int, features: Features) -> torch.Tensor:
    """Places of `count` queries side by side, in rows from the middle of the map on."""
    first = (features.queries - count) // 2
    return torch.arange(first, first + count)


# --- clustered ---


def clustered(options: Options) -> None:
    print("features       wide   exact s  seconds    ratio  recall  mean short")
    for features in _real(options, SIZES[-1]):
        _compare(features, options)
    wide, tele = enlarged(options.photo, (4032, 3024))
    start = time.perf_counter()
    features = pair_features(options.photo.stem, (4032, 3024), wide, tele)
    passed = time.perf_counter() - start
    total = passed + _compare(features, options)
    print(f"12 megapixels, features and matches: {total:.1f} s")


def _compare(features: Features, options: Options) -> float:
    ours = features.to(options.device)

    def run() -> Correspondence:
        return search_clustered(ours.query, ours.key)

    def look(places: torch.Tensor) -> Correspondence:
        return search(ours.query, ours.key, query_mask=mask_of(places, ours.query))

    together = _together(min(features.queries, 10 * MANY // features.keys), features)
    part = min(_time(lambda: look(together), options.device) for _ in range(2))
    seconds = min(_time(run, options.device) for _ in range(2))
    places = some(8192, features.queries)
    short = (look(places).similarity - run().similarity).flatten().cpu()[places]
    whole = part * features.queries / len(together)
    _, _, height, width = features.query.shape
    print(
        f"{features.name:12} {_shape((2 * width, 2 * height)):>11}{whole:10.1f}"
        f"{seconds:9.2f}{whole / seconds:9.1f}{float((short <= NEAR).double().mean()):8.3f}"
        f"{float(short.mean()):12.4f}",
        flush=True,
    )
    return seconds


# --- reducers ---


def reducers(options: Options) -> None:
    print("features            wide     kind      queries      keys    GFLOP  looked at  seconds"
          "  working MiB  matrix GB  similarity  change")  # fmt: skip
    for size in options.sizes:
        for features in _real(options, size):
            _reduce(size, features.to(options.device), options.device)


def _reduce(size: tuple[int, int], features: Features, device: torch.device) -> None:
    """A row for each way. change: of the mean similarity of the queries that are still matched."""
    wide, tele = features.images
    query, key = features.query, features.key
    full = features.queries
    looked = full if device.type == "cuda" else min(full, 5 * MANY // features.keys)
    part = mask_of(_together(looked, features), query)
    all_queries, all_keys = (torch.ones_like(maps[:, 0], dtype=torch.bool) for maps in (query, key))

    def whole() -> Masks:
        return all_queries, all_keys

    def pruned() -> Masks:
        return all_queries, prune_keys(key)

    def masked() -> Masks:
        return detail_mask(wide, query.shape[2:]), detail_mask(tele, key.shape[2:])

    everything = search(query, key, query_mask=part).similarity
    for way in (whole, pruned, masked):
        queries, keys = way()
        sought = part & queries

        def run(sought: torch.Tensor = sought, keys: torch.Tensor = keys) -> Correspondence:
            return search(query, key, query_mask=sought, key_mask=keys)

        def both(way: Callable[[], Masks] = way) -> Correspondence:
            queries, keys = way()
            return search(query, key, query_mask=part & queries, key_mask=keys)

        found = run()
        seconds = min(_time(way, device) for _ in range(2))
        seconds += min(_time(run, device) for _ in range(2)) * full / looked
        memory = _working_memory(both, device)
        mean = float(found.similarity[sought].double().mean())
        change = mean - float(everything[sought].double().mean())
        count = int(queries.sum()), int(keys.sum())
        print(
            f"{features.name:14}{_shape(size):>10} {way.__name__:>8}{count[0]:13,}{count[1]:10,}"
            f"{2e-9 * count[0] * count[1] * PATCH**2 * CHANNELS:9,.0f}{looked:11,}{seconds:9.2f}"
            f"{memory / MIB:13.1f}{4e-9 * count[0] * count[1]:11.2f}{mean:12.4f}{change:+8.4f}",
            flush=True,
        )


# --- gradients ---


def gradients(options: Options) -> None:
    print("query     key      scale   largest gradient   largest difference")
    generator = torch.Generator().manual_seed(0)
    for queries, keys, scale in (((7, 9), (6, 5), 2), ((12, 10), (5, 11), 1), ((9, 9), (8, 8), 4)):
        sizes = ((2, 4, *queries), (2, 4, *keys), (2, 3, scale * keys[0], scale * keys[1]))
        inputs = [
            torch.randn(size, generator=generator, dtype=torch.float64).to(options.device)
            for size in sizes
        ]
        weights = torch.randn(
            2, 3, scale * queries[0], scale * queries[1], generator=generator, dtype=torch.float64
        ).to(options.device)
        ours, dense = (
            _gradients(way, inputs, weights, scale) for way in (_straight_through, _dense)
        )
        difference = max(float((a - b).abs().max()) for a, b in zip(ours, dense, strict=True))
        largest = max(float(a.abs().max()) for a in dense)
        print(f"{_shape(queries):8}  {_shape(keys):8}{scale:4}{largest:19.3f}{difference:21.1e}")


Way = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def _gradients(
    way: Way, inputs: list[torch.Tensor], weights: torch.Tensor, scale: int
) -> tuple[torch.Tensor, ...]:
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    warped, confidence = way(*leaves, scale)
    return torch.autograd.grad((warped * weights).sum() + (confidence**2).sum(), leaves)


def _straight_through(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: int
) -> tuple[torch.Tensor, torch.Tensor]:
    warped, found = straight_through(
        query, key, value, scale=scale, padding="zeros", normalise="constant"
    )
    return warped, found.similarity


def _dense(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """SDDuSR's equations 2 to 5 as they are written."""
    queries, keys = (
        F.normalize(F.unfold(maps, PATCH, padding=PATCH // 2), dim=1) for maps in (query, key)
    )
    similarity = keys.transpose(1, 2) @ queries
    soft = similarity.softmax(dim=1)
    onehot = F.one_hot(similarity.argmax(dim=1), similarity.shape[1]).transpose(1, 2)
    matrix = onehot + soft - soft.detach()
    kernel, margin = PATCH * scale, PATCH // 2 * scale
    windows = F.unfold(value, kernel, stride=scale, padding=margin) @ matrix
    size = scale * query.shape[2], scale * query.shape[3]
    warped = F.fold(windows, size, kernel, stride=scale, padding=margin) / PATCH**2
    return warped, (similarity * matrix).sum(dim=1).view(len(query), *query.shape[2:])


# --- what all parts use ---


def _real(options: Options, size: tuple[int, int]) -> list[Features]:
    return [pair_features(name, size, wide, tele) for name, wide, tele in pairs(options.data)]


def _time(run: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _working_memory(run: Callable[[], Correspondence], device: torch.device) -> int:
    """Bytes at the peak of a run, beyond what was there before and what it leaves."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        found = run()
        most = torch.cuda.max_memory_allocated(device)
    else:
        give_back()
        forget_peak()
        before = resident()
        found = run()
        most = peak()
    left = sum(maps.numel() * maps.element_size() for maps in (found.index, found.similarity))
    return max(0, most - before - left)


def _shape(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


PARTS: dict[str, Callable[[Options], None]] = {
    "exactness": exactness,
    "speed": speed,
    "clustered": clustered,
    "reducers": reducers,
    "gradients": gradients,
}

if __name__ == "__main__":
    main()
