"""`dualsr bench --list`: the names that its options take."""

from __future__ import annotations

from collections.abc import Sequence

from dualsr_cli.console import Console
from dualsr_cli.errors import DualsrError

_METRICS = {
    "psnr": "peak signal-to-noise ratio, dB",
    "ssim": "structural similarity",
    "lpips": "learned perceptual distance, by AlexNet",
    "lpips-vgg": "the same by VGG16, whose weights are torchvision's",
}


def tell_choices(console: Console) -> int:
    """Print data sets, protocols, metrics, methods and ablations; returns the exit code."""
    from dualsr_cli.benchmark import ABLATIONS, LAYOUTS, PROTOCOLS, list_methods

    sets = [
        (
            name,
            ", ".join(filter(None, layout.parts)) or "-",
            ", ".join(layout.splits),
            ", ".join(map(str, layout.scales)),
            _place(name),
        )
        for name, layout in LAYOUTS.items()
    ]
    _tell(console, "dataset", ["part", "split", "scale", "lies in"], sets)
    rules = [(name, protocol.source) for name, protocol in PROTOCOLS.items()]
    _tell(console, "protocol", ["whose rules"], rules)
    _tell(console, "metric", ["what it is"], list(_METRICS.items()))
    makers = [
        (method.name, f"network, {method.scale}x" if method.scale else "no network")
        for method in list_methods()
    ]
    _tell(console, "method", ["what it is"], makers)
    grids = [
        (
            name,
            grid.varies,
            f"{grid.paper}, {grid.source}",
            grid.dataset,
            "models of their own" if grid.is_trained else "one model",
        )
        for name, grid in ABLATIONS.items()
    ]
    _tell(console, "ablation", ["what varies", "paper", "dataset", "of"], grids)
    return 0


def _place(dataset: str) -> str:
    from dualsr_cli.benchmark import dataset_root

    try:
        return str(dataset_root(dataset))
    except DualsrError:
        return "-"


def _tell(
    console: Console, option: str, header: Sequence[str], rows: Sequence[tuple[str, ...]]
) -> None:
    """What an option takes: the first of a row is the name, the rest what is to be known of it."""
    console.table([f"--{option}", *header], rows)
    console.result("")
    for name, *about in rows:
        told = dict(zip(header, about, strict=True))
        console.emit_json({"event": "choice", "option": option, "name": name, "about": told})
