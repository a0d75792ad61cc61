"""What the bench tries unasked: what has no weights, and shipped networks that are quick."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dualsr_cli import jobs
from dualsr_cli.benchmark import Resources, plan_bench, run_bench
from dualsr_cli.networks import add_model, build, zoo
from dualsr_cli.reconstruction import load_restorer

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "dualsr-tiny": ("dualsr", {"features": 8, "blocks": (1, 1), "domain": 4}),
    "slow": ("kedusr", {"lr_blocks": 1, "flow_widths": (8, 8, 8, 8)}),
    "searching": ("dcsr", {"n_feats": 8, "blocks": 2, "match_feats": 16}),
    "times-four": ("dcsr", {"scale": 4, "n_feats": 8, "blocks": 2, "match_feats": 8}),
}


def test_shipped_models_that_two_cores_can_afford(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They need nothing but their folder; a slow one is left out with a sentence, and one whose
    search is quick on small photos alone."""
    papers = shutil.ignore_patterns("*-compact")
    shutil.copytree(repository / "models", tmp_path / "models", ignore=papers)
    monkeypatch.setenv("DUALSR_HOME", str(tmp_path))
    for name, (architecture, settings) in MODELS.items():
        weights = build(architecture, settings).state_dict()
        add_model(name, architecture, settings, weights, licence="CC0-1.0", source="a test")
    monkeypatch.setenv("DUALSR_HOME", str(tmp_path / "nobody"))
    monkeypatch.setattr(zoo, "shipped_folder", lambda: tmp_path / "models")
    load_restorer.cache_clear()
    plan = plan_bench("sample", subset=["city"], metrics=["psnr"], resources=Resources("cpu"))
    own = ["dualsr", "dualsr-sharp", "dualsr-tiny"]
    names = ["bicubic", "lanczos", "detail-transfer", "auto", *own]
    assert [method.name for method in plan.methods] == names
    assert [sentence.partition(" takes ")[0] for sentence in plan.skipped] == ["searching", "slow"]
    assert all(sentence.endswith("left out, --method names it") for sentence in plan.skipped)
    (table,) = run_bench(plan, tmp_path / "out", jobs.InlineEngine).tables
    assert [entry.method for entry in table.measured] == names
    took = table.measured[-1].efficiency
    assert took and took.operations and took.seconds and took.parameters
