"""The CUDA search: under Triton's interpreter, compiled for a GPU that need not be there, and on
the GPU where there is one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

TESTS = Path(__file__).with_name("triton_kernels.py")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def run(interpret: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(TESTS)],
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


def compiled(kernel: Any, types: dict[str, str], constants: dict[str, Any], **options: Any) -> Any:
    """A kernel for Hopper; pointers are aligned as torch's are, those without a type are None."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compile_kernel

    names = kernel.arg_names
    absent = {name: None for name in names if name not in types}
    constants = absent | constants
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(names)
            if types.get(name, "").startswith("*")
        },
    )
    target = GPUTarget("cuda", 90, 32)
    return compile_kernel(source, target=target, options={"enable_fp_fusion": True} | options)


LAYOUT = {"SIZE": 144, "CHANNELS": 16, "ROW": 48, "LISTED": False}
WHOLE = ("queries", "query_width", "key_width", "tiles", "split", "words")


def types_of(kernel: Any, **pointers: str) -> dict[str, str]:
    return pointers | {name: "i32" for name in kernel.arg_names if name in WHOLE}


def test_the_first_pass_is_compiled_as_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensor cores, keys on their way past the registers, room for two programs a processor."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where it leaves its assembly
    from dualsr_cli.matching import _triton

    kernel = _triton._search_half
    plan, depth = _triton._PLANS[0], _triton._depth(144)
    types = types_of(
        kernel,
        query="*fp16",
        query_base="*i32",
        key="*fp16",
        scale="*fp32",
        best="*fp32",
        tile="*i32",
        second="*fp32",
    )
    cut = {"MAIN": depth.main, "STEPS": depth.steps, "TAIL": depth.tail, "MARK": False}
    tile = {"QUERIES": plan.queries, "KEYS": plan.keys}
    done = compiled(
        kernel, types, LAYOUT | cut | tile, num_warps=plan.warps, num_stages=plan.stages
    )
    assert "wgmma.mma_async" in done.asm["ptx"]
    assert re.search(r"cp\.async\.c[ag]\.shared", done.asm["ptx"])  # by either cache
    assert 2 * (done.metadata.shared + 1024) <= 228 * 1024


def test_the_second_pass_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where it leaves its assembly
    from dualsr_cli.matching import _triton

    kernel = _triton._look_again
    types = types_of(
        kernel,
        query="*fp32",
        query_base="*i32",
        key="*fp32",
        scale="*fp32",
        marks="*i32",
        best="*fp32",
        index="*i32",
    )
    done = compiled(kernel, types, LAYOUT | {"MARKED": True, "KEYS": 128}, num_warps=4)
    assert "ld.global" in done.asm["ptx"]
