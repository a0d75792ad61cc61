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
    calls them; untrained: parts of the network that no stage trains. A stage that has no loss left,
    or no part, is left out. added: losses, as a recipe writes them, of the stage `train`; forward
    and data: of that stage, replaced. first: how a stage that goes before the others differs from
    the first of them. start: parts, or "all", and the models that they start from. dataset: what
    it is trained on, where it is not what it is scored on; "" for photos of one's own. patch: what
    the sides of LR's patch are multiplied by. name: of a model that several rows have.
    """

    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    added: tuple[Mapping[str, Any], ...] = ()
    forward: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    first: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, str] = field(default_factory=dict)
    dataset: str | None = None
    patch: float = 1.0
    name: str = ""


@dataclass(frozen=True)
class Variant:
    """A row. What is not given is its grid's.

    label: what tables call it, the paper's words where it has some. settings: of the given model's
    network, replaced. changes: of what it gets, see `Case.changes`. maps: those of the network that
    are saved as pictures. printed: by which fields of a `Figure` the paper's own figures of it
    are found, where the setting is not the label.
    """

    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[tuple[str, float], ...] = ()
    training: Training | None = None
    dataset: str = ""
    part: str | None = None
    scale: int | None = None
    maps: tuple[str, ...] = ()
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
_OF_TRUTH = ("charbonnier-sr_truth", "perceptual-sr_truth", "domain")  # DM3Net's losses
_REC = ("perceptual", "relativistic-gan")  # what SDDuSR-rec is trained without
_L1: Mapping[str, Any] = {  # DCSR-l1
    "without": ("blurred-l1", "contextual", "fidelity"),
    "added": ({"loss": "l1"},),
}
_WHOLE_OF_CUFED5 = {"patch": (40, 40)}  # its training photos have 160 pixels a side
_EDSR: Mapping[str, Any] = {  # as its paper has it, as far as AWnet's data go
    "name": "upscale",
    "iterations": 300000,
    "forward": "awnet-upscaling",
    "rates": {"upscaler": 1e-4},
    "losses": ({"loss": "l1"},),
}
_NIKON = {"scale": 4, "identity_drop": 0.3}  # SelfDZSR's settings for the Nikon photos
_NO_PSEUDO_LR: Mapping[str, Any] = {
    "settings": {**_NIKON, "alignment": "none", "pseudo_lr": (), "degradation": False},
    "untrained": ("degradation",),
    "without": ("l1-pseudo_lr", "centroid"),
}
_TUNED: Mapping[str, Any] = {  # from the row before, of which the Student stays as it is
    **_NO_PSEUDO_LR,
    "untrained": ("degradation", "student"),
    "start": {"all": "selfdzsr-strategies-bicubic-degradation"},
    "forward": "network",
}
_ADAPTATION: Mapping[str, Any] = {  # DCSR's, weights too
    "without": ("l1", "sliced-wasserstein", "l1-pseudo_lr", "centroid"),
    "added": (
        {"loss": "adaptation"},
        {
            "loss": "fidelity",
            "weight": 0.1,
            "settings": {"network": "vgg16", "layers": {"relu3_3": 1.0}, "bandwidth": 0.5},
        },
    ),
    # Where its crops lie is not told: as KeDuSR's, in proportion.
    "data": {"kind": "pairs", "reference": "nearby", "offset": (12, 36)},
}
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
    "awnet-fusion": Grid(
        "awnet",
        "section 6, FusionNet, table 6",
        "filters and shares for each pixel, or pixels predicted by stacked convolutions; LR is "
        "upscaled bicubically, in the paper by EDSR",
        "awnet",
        "vimeo90k",
        tuple(
            Variant(
                f"{label}, {scale}x",
                training=Training(
                    "awnet",
                    {"scale": scale, "noise_variance": 0.0, "direct": direct},
                    patch=4 / scale,
                ),
                scale=scale,
                printed={"setting": label},
            )
            for scale in (4, 8)
            for label, direct in (
                ("adaptive weighting fusion", False),
                ("direct prediction", True),
            )
        ),
        part="single",
        table="6",
    ),
    "awnet-interpolation": Grid(
        "awnet",
        "section 5.1, table 3",
        "how small the frame is that is to be restored from the next one, or from both beside it",
        "awnet",
        "vimeo90k",
        tuple(
            Variant(
                f"{before}with 1/{scale**2} of frame 4",
                training=Training(
                    "awnet",
                    {"scale": scale, "noise_variance": 0.0, "references": count},
                    patch=4 / scale,
                ),
                part=part,
                scale=scale,
            )
            for before, count, part in (("", 1, "single"), ("frames 3 and 5, ", 2, "between"))
            for scale in (8, 4)
        ),
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
    "awnet-references": Grid(
        "awnet",
        "section 6, reference structure, table 5",
        "one reference or two, before and after the frame",
        "awnet",
        "vimeo90k",
        tuple(
            Variant(
                label,
                training=Training(
                    "awnet",
                    {"scale": 8, "noise_variance": 0.0, "references": count},
                    patch=4 / 8,
                ),
                part=part,
            )
            for label, count, part in (
                ("single reference", 1, "single"),
                ("two references", 2, "multi"),
            )
        ),
        scale=8,
        table="5",
    ),
    "awnet-upscaling": Grid(
        "awnet",
        "section 6, upscale filter, table 4",
        "how LR is upscaled before the fusion",
        "awnet",
        "vimeo90k",
        tuple(
            Variant(
                f"{label}, {scale}x",
                training=Training(
                    "awnet",
                    {"scale": scale, "noise_variance": 0.0, "upscale": upscale},
                    first=first,
                    patch=4 / scale,
                ),
                scale=scale,
                printed={"setting": label},
            )
            for scale in (4, 8)
            for label, upscale, first in (
                ("LR upscaled by EDSR", "edsr", _EDSR),
                ("LR upscaled by bicubic", "bicubic", {}),
            )
        ),
        part="single",
        table="4",
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
    "dcsr-attention": Grid(
        "dcsr",
        "section 4.3.2, figure 7",
        "aligned attention: whether patches that were found are transformed",
        "dcsr",
        "camerafusion",
        (
            Variant("without aligned attention", training=Training("dcsr", {"align": False})),
            Variant("with aligned attention", training=Training("dcsr")),
        ),
        part="4k",
    ),
    "dcsr-fusion": Grid(
        "dcsr",
        "section 4.3.3, table 4",
        "how the reference's features are fused",
        "dcsr",
        "cufed5",
        tuple(
            Variant(
                label,
                training=Training(
                    "dcsr", {"scale": 4, "fusion": fusion}, **_L1, data=_WHOLE_OF_CUFED5
                ),
            )
            for label, fusion in (
                ("element-wise summation", "sum"),
                ("soft fusion", "soft"),
                ("adaptive fusion", "adaptive"),
            )
        ),
        part="L1",
        scale=4,
        table="4",
        method="DCSR-l1",
    ),
    "dcsr-high-band": Grid(
        "dcsr",
        "section 4.3.3, figure 8",
        "whether the reference's high band is fused in the image space too",
        "dcsr",
        "camerafusion",
        (
            Variant("feature space alone", training=Training("dcsr", {"high_band": False})),
            Variant("image space too", training=Training("dcsr")),
        ),
        part="4k",
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
                training=Training("dcsr", **_L1),
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
        "embedding of centre and reference, and whether the truth's supervises it",
        "dm3net",
        "camerafusion-real",
        (
            Variant(
                "no embedding", training=Training("dm3net", {"modulate": False}, without=_OF_TRUTH)
            ),
            Variant("LR center-Ref embedding", training=Training("dm3net", without=_OF_TRUTH)),
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
    "dm3net-scales": Grid(
        "dm3net",
        "section 4.4, table 5",
        "scales that are matched",
        "dm3net",
        "camerafusion-real",
        tuple(
            Variant(f"scales {label}", training=Training("dm3net", {"scales": scales}))
            for label, scales in (
                ("1/4", (4,)),
                ("1/2", (2,)),
                ("1", (1,)),
                ("1/4 + 1/2", (2, 4)),
                ("1/4 + 1", (1, 4)),
                ("1/2 + 1", (1, 2)),
                ("1/4 + 1/2 + 1", (1, 2, 4)),
            )
        ),
        table="5",
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
                training=Training("sddusr", without=_REC),
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
        "places that are matched (SFM), and those in the centre: white in the pictures",
        "sddusr",
        "dusr-real",
        (Variant("sparse feature matching", maps=("mask", "center_mask")),),
    ),
    "sddusr-matching": Grid(
        "sddusr",
        "section 4.5, table 3",
        "all places matched, or those alone that are rich in detail (SFM), and the operations",
        "sddusr",
        "dusr-real",
        (
            Variant("dense feature matching", {"sparse": False}),
            Variant("sparse feature matching", {"sparse": True}),
        ),
        table="3",
    ),
    "sddusr-modules": Grid(
        "sddusr",
        "section 4.4, table 2",
        "sparse feature matching (SFM) and token dictionary learning (TDL)",
        "sddusr",
        "dusr-real",
        (
            Variant(
                "without SFM and TDL",
                training=Training(
                    "sddusr", {"sparse": False, "tokens": 0}, without=("mask", *_REC)
                ),
            ),
            Variant("SFM without TDL", training=Training("sddusr", {"tokens": 0}, without=_REC)),
            Variant("SFM and TDL", training=Training("sddusr", without=_REC)),
        ),
        table="2",
        method="SDDuSR-rec",
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
                training=Training("sddusr", {"tokens": count}, without=_REC),
            )
            for count in (64, 128, 192, 256)
        ),
        table="2",
        method="SDDuSR-rec",
    ),
    "selfdzsr-adastn": Grid(
        "selfdzsr",
        "section 5.3, table 5",
        "how LR is bent onto the pseudo-LR; the baseline has none",
        "selfdzsr",
        "drealsr",
        tuple(
            Variant(label, training=Training("selfdzsr", {**_NIKON, **settings}))
            for label, settings in (
                ("Baseline", {"pseudo_lr": ()}),
                ("Baseline + Deformable Conv", {"alignment": "deformable"}),
                ("Baseline + STN", {"alignment": "stn"}),
                ("Baseline + AdaSTN", {}),
            )
        ),
        part="nikon",
        scale=4,
        table="5",
    ),
    "selfdzsr-alignment": Grid(
        "selfdzsr",
        "section 5.2, table 4",
        "what is aligned with the pseudo-LR in training, in whose place LR is else",
        "selfdzsr",
        "drealsr",
        tuple(
            Variant(
                f"pseudo-LR in {label}",
                training=Training("selfdzsr", {**_NIKON, "pseudo_lr": aligned}),
            )
            for label, aligned in (
                ("no alignment", ()),
                ("the alignment of LR", ("lr",)),
                ("the alignment of Ref", ("ref",)),
                ("both alignments", ("lr", "ref")),
            )
        ),
        part="nikon",
        scale=4,
        table="4",
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
    "selfdzsr-strategies": Grid(
        "selfdzsr",
        "section 5.1, table 3",
        "training on bicubically shrunk photos, and what it is tuned by on real ones",
        "selfdzsr",
        "drealsr",
        (
            Variant(
                "Bicubic Degradation",
                training=Training("selfdzsr", **_NO_PSEUDO_LR, forward="selfdzsr-bicubic"),
            ),
            Variant("SRA Fine-tuning", training=Training("selfdzsr", **{**_TUNED, **_ADAPTATION})),
            Variant("Our Fine-tuning", training=Training("selfdzsr", **_TUNED)),
        ),
        part="nikon",
        scale=4,
        table="3",
    ),
}
"""By the names that `dualsr bench --ablation` takes, in the papers' order."""
