"""Small pairs as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualsr_cli import commands, jobs

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dualsr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """dualsr("upscale", wide, tele, "-o", out): exit code, standard output, standard error.

    A folder's pairs are worked on in this process: to start the other one takes seconds, and the
    tests that start the real command have it.
    """
    monkeypatch.setattr(jobs, "LocalEngine", lambda task, count, memory: jobs.InlineEngine(task))

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = commands.run([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture(scope="session")
def pair(sample_pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A real pair at half its size, with its EXIF, in a folder with spaces and umlauts."""
    folder = tmp_path_factory.mktemp("pair") / "größere Fotos"
    folder.mkdir()
    for name in ("wide", "tele"):
        with Image.open(sample_pairs / "phone-jpeg" / f"{name}.jpg") as image:
            image.reduce(2).save(folder / f"{name}.jpg", quality=95, exif=image.info["exif"])
    return folder / "wide.jpg", folder / "tele.jpg"


@pytest.fixture(scope="session")
def small(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The pair at half its size: 400 x 225 pixels."""
    return reduced(pair, 2, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def tiny(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The pair as small as it still shows one scene: 267 x 150 pixels."""
    return reduced(pair, 3, tmp_path_factory.mktemp("tiny"))


def reduced(pair: tuple[Path, Path], factor: int, folder: Path) -> tuple[Path, Path]:
    for path in pair:
        with Image.open(path) as image:
            image.reduce(factor).save(folder / path.name, quality=95, exif=image.info["exif"])
    return folder / pair[0].name, folder / pair[1].name


@pytest.fixture(scope="session")
def quick(pair: tuple[Path, Path]) -> tuple[Path, Path]:
    """A small wide photo and a black tele, which is refused: a whole run in no time."""
    folder = pair[0].parent
    with Image.open(pair[0]) as image:
        image.crop((200, 100, 320, 190)).save(folder / "small.jpg", exif=image.info["exif"])
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(folder / "black.png")
    return folder / "small.jpg", folder / "black.png"
