"""The papers' ablations as named grids: what each row varies, and where the paper prints it.

A row varies a model that is given (settings that need no training, or the photos that it gets), or
it is a model of its own, trained by a recipe that differs in one thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Training:
    """How the model of a row is trained: by a shipped recipe, in which something is changed.

    settings: of the network, replaced. without: losses that all stages do without, as `Stage.label`
    calls them. added: losses, as a recipe writes them, of the stage `train`. dataset: what it is
    trained on, where it is not what it is scored on; "" for photos of one's own. patch: what the
    sides of LR's patch are multiplied by. name: of a model that several rows have.
    """

    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    added: tuple[Mapping[str, Any], ...] = ()
    dataset: str | None = None
    patch: float = 1.0
    name: str = ""


@dataclass(frozen=True)
class Variant:
    """A row. What is not given is its grid's.

    label: what tables call it, the paper's words where it has some. settings: of the given model's
    network, replaced. changes: of what it gets, see `Case.changes`. map: of the network's maps one
    that is saved as a picture. printed: by which fields of a `Figure` the paper's own figures of it
    are found, where the setting is not the label.
    """

    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[tuple[str, float], ...] = ()
    training: Training | None = None
    dataset: str = ""
    part: str | None = None
    scale: int | None = None
    map: str = ""
    printed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The label in lower-case letters, digits and dashes."""
        return "-".join(re.findall(r"[a-z0-9.]+", self.label.lower())).replace(".", "")


@dataclass(frozen=True)
class Grid:
    """One ablation.

    paper: of `PAPERS`. source: the table or figure there, and the section. varies: in some words.
    architecture: of the networks that are varied. dataset, part, scale: what rows are scored on;
    None is what the data set has first. table, method: where `published.csv` has the figures.
    """

    paper: str
    source: str
    varies: str
    architecture: str
    dataset: str
    rows: tuple[Variant, ...]
    part: str | None = None
    scale: int | None = None
    table: str = ""
    method: str = ""

    @property
    def is_trained(self) -> bool:
        """Whether rows are models of their own, not one model that is given."""
        return self.rows[0].training is not None

    def of(self, row: Variant) -> tuple[str, str | None, int | None]:
        """Data set, part and scale that a row is scored on."""
        return (
            row.dataset or self.dataset,
            self.part if row.part is None else row.part,
            row.scale or self.scale,
        )


def model_name(ablation: str, row: Variant) -> str:
    """What the model of a row that is trained has to be called, and its recipe."""
    return f"{ablation}-{(row.training and row.training.name) or row.slug}"


_PERCEPTUAL: Mapping[str, Any] = {
    # Table A's weights are not told: KeDuSR's.
    "loss": "perceptual",
    "weight": 1e-3,
    "settings": {"network": "vgg16", "layers": {"conv3_3": 1.0}},
}
_ADVERSARIAL: Mapping[str, Any] = {
    "loss": "relativistic-gan",
    "weight": 1e-4,
    "settings": {"rate": 1e-4},
}
_NIKON = {"scale": 4, "identity_drop": 0.3}  # SelfDZSR's settings for the Nikon photos
_CAMERAS = {"canon": "B", "olympus": "C", "panasonic": "D", "sony": "E"}
_TRAINED_ON_DUSR = ("dcsr", "DCSR"), ("selfdzsr", "SelfDZSR"), ("kedusr", "KeDuSR")
_PARALLAX = {
    "Flower(1,1)": ("light-field", "flower-1", "7"),
    "Flower(7,7)": ("light-field", "flower-7", "7"),
    "LFVideo(1,1)": ("light-field", "lfvideo-1", "7"),
    "LFVideo(7,7)": ("light-field", "lfvideo-7", "7"),
    "Stanford (1,0)": ("light-field", "stanford-1", "8"),
    "Stanford (3,0)": ("light-field", "stanford-3", "8"),
    "Stanford (5,0)": ("light-field", "stanford-5", "8"),
    "KITTI": ("kitti", "", "9"),
}


ABLATIONS: Mapping[str, Grid] = {
    "awnet-exposure": Grid(
        "awnet",
        "section 6, exposure time, and figure 11",
        "exposure of the low-resolution camera, its brightness kept by the gain",
        "awnet",
        "vimeo90k",
        tuple(
            Variant(f"{time:g} ms", changes=(("exposure", time / 10),))
            for time in (10, 5, 2.5, 1, 0.5)
        ),
        part="single",
        scale=4,
    ),
    "awnet-interpolation": Grid(
        "awnet",
        "section 5.1, table 3",
        "how small the frame is that is to be restored from its neighbour",
        "awnet",
        "vimeo90k",
        tuple(
            Variant(
                f"with 1/{scale**2} of frame 4",
                training=Training(
                    "awnet", {"scale": scale, "noise_variance": 0.0}, patch=4 / scale
                ),
                scale=scale,
            )
            for scale in (8, 4)
        ),
        part="single",
        table="3",
    ),
    "awnet-noise": Grid(
        "awnet",
        "section 5.2.2",
        "variance of the noise in the low-resolution photo",
        "awnet",
        "vimeo90k",
        tuple(
            Variant(f"variance {variance:g}", changes=(("noise", variance),))
            for variance in (0, 0.001, 0.01)
        ),
        part="single",
        scale=4,
    ),
    "awnet-noise-training": Grid(
        "awnet",
        "section 5.2.2 and figure 5",
        "variance of the noise that training adds (noise regularization)",
        "awnet",
        "vimeo90k",
        tuple(
            Variant(
                f"variance {variance:g}",
                training=Training("awnet", {"noise_variance": variance}),
            )
            for variance in (0.0, 0.001, 0.01)
        ),
        part="single",
        scale=4,
    ),
    "awnet-parallax": Grid(
        "awnet",
        "section 6, camera parallax, tables 7 to 9",
        "distance between the two cameras",
        "awnet",
        "light-field",
        tuple(
            Variant(label, dataset=dataset, part=part, printed={"setting": "", "table": table})
            for label, (dataset, part, table) in _PARALLAX.items()
        ),
        scale=8,
    ),
    "cross-dataset": Grid(
        "dm3net",
        "section 4.5, table 7",
        "networks trained on DuSR-Real, on the other two data sets",
        "dm3net",
        "realmcvsr-real",
        tuple(
            Variant(
                f"{title} on {where}",
                training=Training(recipe, dataset="dusr-real", name=recipe),
                dataset=where,
                printed={"method": title, "setting": "trained on dusr-real"},
            )
            for recipe, title in (*_TRAINED_ON_DUSR, ("dm3net", "DM3Net"))
            for where in ("realmcvsr-real", "camerafusion-real")
        ),
        table="7",
    ),
    "dcsr-adaptation": Grid(
        "dcsr",
        "section 4.3.5, figure 10",
        "self-supervised real-image adaptation (SRA); pairs to train on are one's own",
        "dcsr",
        "camerafusion",
        (
            Variant("without SRA", training=Training("dcsr", dataset="")),
            Variant("with SRA", training=Training("dcsr-sra", dataset="")),
        ),
        part="selfdzsr",  # 8k has no truth
    ),
    "dcsr-losses": Grid(
        "dcsr",
        "section 4.3.4, figure 9, and table 2",
        "loss terms",
        "dcsr",
        "camerafusion",
        (
            Variant(
                "l1",
                training=Training(
                    "dcsr",
                    without=("blurred-l1", "contextual", "fidelity"),
                    added=({"loss": "l1"},),
                ),
                printed={"method": "DCSR-l1", "setting": ""},
            ),
            Variant("without fidelity loss", training=Training("dcsr", without=("fidelity",))),
            Variant("all", training=Training("dcsr"), printed={"setting": ""}),
        ),
        part="4k",
        table="2",
    ),
    "dcsr-similarity": Grid(
        "dcsr",
        "section 4.3.1, table 3",
        "how similar the reference is, from L1 to L4",
        "dcsr",
        "cufed5",
        tuple(
            Variant(level, part=level, printed={"setting": ""})
            for level in ("L1", "L2", "L3", "L4")
        ),
        scale=4,
        table="3",
        method="DCSR-l1",
    ),
    "dm3net-embeddings": Grid(
        "dm3net",
        "section 4.4, table 6",
        "whether the truth's embedding supervises that of centre and reference",
        "dm3net",
        "camerafusion-real",
        (
            Variant(
                "LR center-Ref embedding",
                training=Training(
                    "dm3net", without=("charbonnier-sr_truth", "perceptual-sr_truth", "domain")
                ),
            ),
            Variant("both embeddings", training=Training("dm3net")),
        ),
        table="6",
    ),
    "dm3net-losses": Grid(
        "dm3net",
        "appendix B, tables 2 and 8",
        "loss terms",
        "dm3net",
        "dusr-real",
        (
            Variant(
                "Charbonnier + domain",
                training=Training("dm3net", without=("perceptual", "perceptual-sr_truth")),
                printed={"table": "8", "method": "DM3Net-rec", "setting": ""},
            ),
            Variant(
                "Charbonnier + perceptual + domain",
                training=Training("dm3net"),
                printed={"table": "2", "setting": ""},
            ),
        ),
    ),
    "dm3net-pruning": Grid(
        "dm3net",
        "section 3.3, table 1",
        "Key Pruning",
        "dm3net",
        "camerafusion-real",
        (
            Variant("before Key Pruning", {"prune": False}),
            Variant("after Key Pruning", {"prune": True}),
        ),
        table="1",
    ),
    "dm3net-pruning-settings": Grid(
        "dm3net",
        "appendix C.1, figure 7",
        "sampling interval and threshold of Key Pruning",
        "dm3net",
        "dusr-real",
        tuple(
            Variant(
                f"interval {interval}, threshold {threshold}",
                {"prune": True, "interval": interval, "threshold": threshold},
            )
            for interval in (8, 16, 32)
            for threshold in (0.5, 0.6, 0.7, 0.8, 0.9)
        ),
    ),
    "sddusr-losses": Grid(
        "sddusr",
        "section 4.3, table 1",
        "loss terms",
        "sddusr",
        "dusr-real",
        (
            Variant(
                "reconstruction + mask",
                training=Training("sddusr", without=("perceptual", "relativistic-gan")),
                printed={"method": "SDDuSR-rec", "setting": ""},
            ),
            Variant(
                "reconstruction + mask + perceptual + adversarial",
                training=Training("sddusr"),
                printed={"setting": ""},
            ),
        ),
        table="1",
    ),
    "sddusr-masks": Grid(
        "sddusr",
        "section 4.5, figure 4",
        "places that are matched (SFM): white in the pictures beside the scores",
        "sddusr",
        "dusr-real",
        (Variant("sparse feature matching", map="mask"),),
    ),
    "sddusr-tokens": Grid(
        "sddusr",
        "section 4.4, table 2",
        "tokens in each dictionary",
        "sddusr",
        "dusr-real",
        tuple(
            Variant(
                f"{count} tokens",
                training=Training(
                    "sddusr", {"tokens": count}, without=("perceptual", "relativistic-gan")
                ),
            )
            for count in (64, 128, 192, 256)
        ),
        table="2",
        method="SDDuSR-rec",
    ),
    "selfdzsr-cameras": Grid(
        "selfdzsr",
        "supplement E, tables B to E",
        "cameras that the training on the Nikon has not seen",
        "selfdzsr",
        "drealsr",
        tuple(
            Variant(camera.capitalize(), part=camera, printed={"setting": "", "table": table})
            for camera, table in _CAMERAS.items()
        ),
        scale=4,
    ),
    "selfdzsr-losses": Grid(
        "selfdzsr",
        "supplement D, table A",
        "loss terms",
        "selfdzsr",
        "drealsr",
        (
            Variant("l1", training=Training("selfdzsr", _NIKON, without=("sliced-wasserstein",))),
            Variant("l1 + SW", training=Training("selfdzsr", _NIKON)),
            Variant(
                "l1 + Perceptual + Adversarial",
                training=Training(
                    "selfdzsr",
                    _NIKON,
                    without=("sliced-wasserstein",),
                    added=(_PERCEPTUAL, _ADVERSARIAL),
                ),
            ),
        ),
        part="nikon",
        scale=4,
        table="A",
    ),
    "selfdzsr-paste": Grid(
        "selfdzsr",
        "section 3.3",
        "whether the reference's features are pasted into the centre",
        "selfdzsr",
        "drealsr",
        (
            Variant("matched features", {"paste": False}),
            Variant("matched features, pasted in the centre", {"paste": True}),
        ),
        part="nikon",
        scale=4,
    ),
}
"""By the names that `dualsr bench --ablation` takes, in the papers' order."""
