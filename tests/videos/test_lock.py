"""One run at a time for one result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dualsr_cli.errors import OutputError
from dualsr_cli.videos import sole_writer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")

HOLDER = """
import sys
from pathlib import Path
from dualsr_cli.videos import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("mine", flush=True)
    input()
"""


def test_the_second_is_told_and_the_next_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.mp4"
    with sole_writer(path), sole_writer(path.with_name("other.mp4")):
        with (
            pytest.raises(OutputError, match=r"out\.mp4 is being written by another run: wait"),
            sole_writer(path),
        ):
            raise AssertionError
        assert path.parent.exists()
    with pytest.raises(KeyboardInterrupt), sole_writer(path):
        raise KeyboardInterrupt
    with sole_writer(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_killed_process_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        with pytest.raises(OutputError, match="another run"), sole_writer(path):
            raise AssertionError
        process.kill()
    with sole_writer(path):
        pass
    assert list(tmp_path.iterdir()) == []
