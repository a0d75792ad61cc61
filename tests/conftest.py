"""What several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def sample_pairs(repository: Path) -> Path:
    """The folder of small real pairs."""
    return repository / "sample_pairs"
