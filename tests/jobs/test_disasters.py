"""What becomes of a run over a folder when the world around it misbehaves.

All through the command on tiny real pairs, and held against a run to which nothing happened.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dualsr_cli import commands, jobs

REPOSITORY = Path(__file__).parent.parent.parent
sys.path.insert(0, str(REPOSITORY))

from benchmarks._tiny_pairs import make_pairs  # noqa: E402
from benchmarks.kills import Left, differences, left_in, results_in  # noqa: E402

COUNT = 4
OPTIONS = ("--scale", "1", "-q")
ROOM = "the disk is full; free some space or choose another folder"


@dataclass
class Meddler:
    """A task during whose computing of its n-th item something happens."""

    task: jobs.Task
    deeds: dict[int, Callable[[jobs.Item], None]]
    computed: list[str] = field(default_factory=list)

    def prepare(self) -> None:
        self.task.prepare()

    def memory(self, item: jobs.Item) -> int:
        return self.task.memory(item)

    def read(self, item: jobs.Item) -> Any:
        return self.task.read(item)

    def compute(self, item: jobs.Item, data: Any) -> Any:
        result = self.task.compute(item, data)
        self.deeds.pop(len(self.computed), lambda item: None)(item)
        self.computed.append(item.name)
        return result

    def write(self, item: jobs.Item, result: Any, target: Path) -> dict[str, Any]:
        return self.task.write(item, result, target)


@dataclass
class Ran:
    code: int
    said: str
    computed: list[str]


Go = Callable[..., Ran]


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Go:
    """Run upscale in this process; deeds are done while the item of their number is computed."""

    def run(source: Path, out: Path, deeds: dict[int, Callable[[jobs.Item], None]] = {}) -> Ran:  # noqa: B006
        meddlers: list[Meddler] = []

        def engine(task: jobs.Task, count: int, memory: int) -> jobs.Engine:
            meddlers.append(Meddler(task, dict(deeds)))
            return jobs.InlineEngine(meddlers[-1])

        monkeypatch.setattr(jobs, "LocalEngine", engine)
        capsys.readouterr()
        code = commands.run(["upscale", str(source), "-o", str(out), *OPTIONS])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return Ran(code, said, [name for meddler in meddlers for name in meddler.computed])

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disasters") / "photos"
    make_pairs(folder, COUNT + 1)
    for path in folder.glob("IMG_*"):
        path.unlink()
    return folder


@pytest.fixture(scope="module")
def finished(photos: Path) -> Path:
    """The folder of an undisturbed run."""
    out = photos.with_name("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "LocalEngine", lambda task, count, memory: jobs.InlineEngine(task))
        assert commands.run(["upscale", str(photos), "-o", str(out), *OPTIONS]) == 0
    return out


@pytest.fixture(scope="module")
def expected(finished: Path) -> Left:
    """What an undisturbed run leaves."""
    return left_in(finished)


@pytest.fixture
def source(photos: Path, tmp_path: Path) -> Path:
    """Photos to be changed."""
    return shutil.copytree(photos, tmp_path / "photos")


def start(source: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    """The real command with its worker process."""
    command = ["upscale", str(source), "-o", str(out), *OPTIONS, *words]
    return subprocess.Popen(
        [sys.executable, "-m", "dualsr_cli", *command],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def in_a_process(code: str, *words: object) -> str:
    """What a Python program prints that runs upscale in its own process, by go(source, out)."""
    done = subprocess.run(
        [sys.executable, "-c", _GO + code, *map(str, words)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


_GO = """
import os, random, resource, sys, time
from pathlib import Path
import cv2, pillow_heif, pyvips, torch
import dualsr_cli.alignment, dualsr_cli.commands.upscale, dualsr_cli.reconstruction
from dualsr_cli import commands, jobs

source, out = map(Path, sys.argv[1:3])
jobs.LocalEngine = lambda task, count, memory: jobs.InlineEngine(task)

def go(*words):
    words = ["upscale", str(source), "-o", str(out), "--scale", "1", "-q", *words]
    print("exit", commands.run(words), flush=True)
"""


# --- full and read-only disks ---


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """disk(options): mounts a disk, or mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def mount(options: str) -> Path:
        nonlocal mounted
        how = f"remount,{options}" if mounted else options
        command = ["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(place)]
        try:
            subprocess.run(command, capture_output=True, check=True)
        except (FileNotFoundError, subprocess.CalledProcessError):
            pytest.skip("only root may mount a disk")
        mounted = True
        return place

    yield mount
    if mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("pages", [2, 5, 20, 45])
def test_a_full_disk_ends_the_run_and_with_room_it_goes_on(
    go: Go, disk: Callable[[str], Path], photos: Path, expected: Left, pages: int
) -> None:
    out = disk(f"size={4 * pages}k") / "out"
    ran = go(photos, out)
    assert ran.code in (1, 3)
    (sentence,) = (line for line in ran.said.splitlines() if "black" not in line)
    assert sentence.startswith(f"dualsr: {out}")
    assert sentence.endswith(f" cannot be written: {ROOM}")
    for name, content in results_in(out).items() if out.exists() else ():
        assert content == expected.files[name]
    disk("size=10m")
    assert go(photos, out).code == 0
    assert differences(left_in(out), expected) == []


def test_a_full_disk_and_the_real_command(
    go: Go, disk: Callable[[str], Path], photos: Path, expected: Left
) -> None:
    out = disk("size=100k") / "out"
    with start(photos, out) as process:
        said = process.communicate()[1]
    assert process.returncode in (1, 3)
    assert said.count(ROOM) == 1
    disk("size=10m")
    assert go(photos, out).code == 0
    assert differences(left_in(out), expected) == []


def test_a_limit_on_files_sizes(photos: Path, tmp_path: Path, expected: Left) -> None:
    """In a process of its own: the limit would hold for the file that the tests' log goes to."""
    out = tmp_path / "out"
    limited = in_a_process(
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY)); go()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2); go()",
        photos,
        out,
    )
    assert "cannot be written: the disk does not take files of this size" in limited
    assert [line for line in limited.splitlines() if line.startswith("exit")] == [
        "exit 3",
        "exit 0",
    ]
    assert differences(left_in(out), expected) == []


def test_a_disk_that_becomes_read_only(
    go: Go, disk: Callable[[str], Path], photos: Path, expected: Left
) -> None:
    out = disk("size=10m") / "out"
    assert go(photos, out).code == 0
    (out / "scene 00_wide.jpg").unlink()
    disk("ro")
    ran = go(photos, out)
    assert ran.code == 1
    assert "cannot be written: the disk is read-only; choose another folder" in ran.said
    assert ran.said.count("\n") == 1
    disk("rw")
    assert go(photos, out).code == 0
    assert differences(left_in(out), expected) == []


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs Unix users")
def test_folders_of_somebody_else(photos: Path, finished: Path) -> None:
    """One that is empty, and one that results went to before."""
    with TemporaryDirectory() as name:  # pytest's own folders are closed to others
        place = Path(name)
        place.chmod(0o755)
        source = shutil.copytree(photos, place / "photos")
        begun, empty = shutil.copytree(finished, place / "begun"), place / "empty"
        empty.mkdir()
        (begun / "scene 00_wide.jpg").unlink()
        before = results_in(place)
        folders = [path for path in (begun, *begun.rglob("*"), empty) if path.is_dir()]
        for path in folders:
            path.chmod(0o555)
        said = in_a_process(
            'go("--dry-run")  # a stranger may not be able to import what that needs\n'
            "if os.geteuid() == 0: os.seteuid(65534)  # root may write everywhere\n"
            "go()\n"
            "out = Path(sys.argv[3])\n"
            "go()",
            source,
            begun,
            empty,
        )
        for path in folders:
            path.chmod(0o755)
        assert results_in(place) == before
        lines = said.splitlines()
        assert [line for line in lines if line.startswith("exit")] == ["exit 0", "exit 1", "exit 1"]
        sentences = [line for line in lines if line.startswith("dualsr: ")]
        assert len(sentences) == 2
        for sentence, out in zip(sentences, (begun, empty), strict=True):
            assert sentence.startswith(f"dualsr: {out}")
            assert "permission denied; choose a folder that you may write to" in sentence


# --- the manifest ---

BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda whole: whole[:-100],
    "a byte flipped": lambda whole: whole[:300] + bytes([whole[300] ^ 1]) + whole[301:],
    "a hole": lambda whole: whole[:500] + bytes(1700) + whole[2200:],
    "empty": lambda whole: b"",
    "noise": lambda whole: bytes(range(256)) * 40,
    "its end twice, its beginning gone": lambda whole: whole[len(whole) // 2 :] * 2,
    "without line ends": lambda whole: whole.replace(b"\n", b""),
    "lines of Windows": lambda whole: whole.replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_damaged_manifest_costs_work_only(
    go: Go, photos: Path, finished: Path, tmp_path: Path, expected: Left, how: str
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    manifest = out / ".dualsr" / "manifest"
    manifest.write_bytes(BROKEN[how](manifest.read_bytes()))
    assert go(photos, out).code == 0
    assert differences(left_in(out), expected) == []


def test_a_manifest_that_is_no_file(
    go: Go, photos: Path, finished: Path, tmp_path: Path, expected: Left
) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    manifest = out / ".dualsr" / "manifest"
    manifest.unlink()
    manifest.mkdir()
    ran = go(photos, out)
    assert ran.code == 1
    assert ran.said.startswith(f"dualsr: {manifest} cannot be written: it is a folder")
    assert ran.said.count("\n") == 1
    shutil.rmtree(out / ".dualsr")  # all that dualsr knew
    assert go(photos, out).code == 0
    assert differences(left_in(out), expected) == []


# --- time ---

_JUMPS = """
rng = random.Random(5)
now = time.time
def jumping():
    return now() + rng.choice((-1, 1)) * rng.uniform(0, 50_000)
time.time = jumping
time.time_ns = lambda: int(jumping() * 1e9)
for path in source.rglob("*.*"):
    there = now() + rng.choice((-1, 1)) * rng.uniform(0, 10**9)
    os.utime(path, (there, there))
go()
(out / "scene 00_wide.jpg").unlink()
go()
wide = source / "scene 00_wide.jpg"
times = wide.stat()
wide.write_bytes(wide.read_bytes().replace(b"12:00:00", b"12:00:02"))
os.utime(wide, ns=(times.st_atime_ns, times.st_mtime_ns))
go()
wide.write_bytes(wide.read_bytes().replace(b"12:00:02", b"12:00:00"))
go()
"""


def test_a_clock_that_jumps(source: Path, tmp_path: Path, go: Go) -> None:
    out = tmp_path / "out"
    said = in_a_process(_JUMPS, source, out)
    assert said.splitlines().count("exit 0") == 4
    assert go(source, tmp_path / "fresh").code == 0
    assert differences(left_in(out), left_in(tmp_path / "fresh")) == []
    assert go(source, out).computed == []


# --- two at once ---


def test_two_runs_at_once_share_the_work(photos: Path, tmp_path: Path, expected: Left) -> None:
    out = tmp_path / "out"
    runs = [start(photos, out, "--json") for _ in range(2)]
    printed = [process.communicate() for process in runs]
    assert [process.returncode for process in runs] == [0, 0], printed
    told = [json.loads(line) for stdout, _ in printed for line in stdout.splitlines()]
    states = [event["state"] for event in told if event["event"] == "upscaled"]
    assert sorted(states) == ["done"] * COUNT + ["unchanged"] * COUNT
    assert differences(left_in(out), expected) == []


# --- inputs that change ---


def same_size_other_content(path: Path) -> None:
    """Another capture time in the EXIF, the same size and modification time."""
    rewrite(path, b"12:04:00", b"12:04:02")


def another_camera(path: Path) -> None:
    """Two cameras make no pair."""
    rewrite(path, b"SM-N900A", b"SM-N900B")


def rewrite(path: Path, old: bytes, new: bytes) -> None:
    before = path.stat()
    content = path.read_bytes()
    changed = content.replace(old, new)
    assert changed != content
    path.write_bytes(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def grey(path: Path) -> None:
    """Another photo of the same name, as people replace one: a new file renamed over it."""
    from PIL import Image

    with Image.open(path) as image:
        exif = image.info["exif"]
        image.convert("L").convert("RGB").save(path.with_name("new.jpg"), quality=90, exif=exif)
    path.with_name("new.jpg").replace(path)


def orphans_aside(out: Path) -> Left:
    """What is left without orphans and their results."""
    left = left_in(out)
    orphans = {row["item"] for row in left.rows if row["state"] == "orphaned"}
    files = {name: content for name, content in left.files.items() if name not in orphans}
    rows = [row for row in left.rows if row["item"] not in orphans]
    return Left(files, rows, left.private)


# Items come by name, and are numbered so.
ZEROTH, SECOND = "scene 00_wide.jpg", "scene 04_wide.jpg"
LAST = "später/IMG_1002.png"
DEEDS: dict[str, tuple[int, Callable[[Path], None]]] = {
    "replaced before its turn": (1, lambda source: grey(source / SECOND)),
    "replaced while it is computed": (2, lambda source: grey(source / SECOND)),
    "replaced after it was done": (3, lambda source: grey(source / SECOND)),
    "its tele replaced while it is computed": (
        0, lambda source: grey(source / "scene 00_tele.jpg"),
    ),
    "same size and time, before": (1, lambda source: same_size_other_content(source / SECOND)),
    "same size and time, meanwhile": (2, lambda source: same_size_other_content(source / SECOND)),
    "same size and time, after": (3, lambda source: same_size_other_content(source / SECOND)),
    "deleted before its turn": (1, lambda source: (source / SECOND).unlink()),
    "deleted while it is computed": (2, lambda source: (source / SECOND).unlink()),
    "deleted after it was done": (3, lambda source: (source / SECOND).unlink()),
    "no pair any more, before its turn": (1, lambda source: another_camera(source / SECOND)),
    "no pair any more, meanwhile": (2, lambda source: another_camera(source / SECOND)),
    "no pair any more, after it was done": (3, lambda source: another_camera(source / SECOND)),
    "truncated before its turn": (1, lambda source: os.truncate(source / SECOND, 20_000)),
}  # fmt: skip


@pytest.mark.parametrize("what", DEEDS)
def test_inputs_that_change_during_a_run(go: Go, source: Path, tmp_path: Path, what: str) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    number, deed = DEEDS[what]
    first = go(source, out, {number: lambda item: deed(source)})
    assert first.code in (0, 3)
    again = go(source, out)
    anew = go(source, fresh)
    assert again.code == anew.code
    assert len(again.computed) < COUNT - 1  # what did not change is not done again
    assert differences(orphans_aside(out), left_in(fresh)) == []
    if "replaced while" in what or "meanwhile" in what:
        assert again.computed == []  # the first run noticed


def test_inputs_that_change_between_runs(go: Go, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in source.rglob("*.*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    assert go(source, out).code == 0
    kept = (out / LAST).read_bytes()
    same_size_other_content(source / SECOND)
    grey(source / "scene 00_tele.jpg")
    (source / LAST).unlink()
    ran = go(source, out)
    assert (ran.code, ran.computed) == (0, [ZEROTH, SECOND])
    assert (out / LAST).read_bytes() == kept
    states = {row["item"]: row["state"] for row in left_in(out).rows}
    assert states == dict.fromkeys(states, "done") | {LAST: "orphaned"}
    assert len(states) == COUNT
    assert go(source, tmp_path / "fresh").code == 0
    assert differences(orphans_aside(out), left_in(tmp_path / "fresh")) == []
