"""The CUDA search, under Triton's interpreter and, where there is one, on the GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).with_name("triton_kernels.py")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def run(interpret: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTS)],
        env={**os.environ, "TRITON_INTERPRET": interpret},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_kernels_interpreted() -> None:
    run("1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_kernels_on_the_gpu() -> None:
    run("0")
