"""Memory: how much of it is ours, and that it goes back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dualsr_cli.machine import resident

KEPT = """
import torch
from dualsr_cli.machine import memory_kept, resident

def taken() -> int:
    large = torch.ones(48 << 20)  # 192 MiB
    return resident()

before = resident()
with memory_kept(True):
    full = taken()
    kept = resident()
after = resident()
assert full - before > 180 << 20
print(kept - before > 180 << 20, after - before < 20 << 20)
"""


@pytest.mark.skipif(not resident(), reason="no /proc here")
def test_freed_memory_is_kept_while_windows_are_made_and_given_back_after() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stdout + done.stderr
