"""What a run does, leaves and says: in this process and in a worker's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Ran, computed, fill, items_of, tree
from toy_task import Join

from dualsr_cli.errors import OutputError
from dualsr_cli.jobs import (
    InlineEngine,
    LocalEngine,
    Manifest,
    Record,
    RunOptions,
    Stop,
    mark_orphans,
    planned,
    read_records,
    run,
)

Go = Callable[..., Ran]
EXPECTED = {f"{n % 2}/item {n}": f"WIDE {n}, TELE {n}".encode() for n in range(5)}


def rows(out: Path) -> list[Record]:
    """The manifest without what differs from run to run."""
    return [
        replace(
            record,
            attempts=0,
            started=None,
            seconds={},
            inputs=tuple((name, replace(stamp, stat=None)) for name, stamp in record.inputs),
            outputs=tuple(replace(made, mtime_ns=0, before=None) for made in record.outputs),
        )
        for record in read_records(out)[0]
    ]


def age(source: Path) -> None:
    """Set files' times back, so that they are trusted."""
    for path in source.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))


@pytest.mark.parametrize("how", ["inline", "local"])
def test_every_item_is_done_once(how: str, request: pytest.FixtureRequest, out: Path) -> None:
    go: Go = request.getfixturevalue(how)
    tally, results = go()
    assert tally.exit_code() == 0
    assert (tally.done, tally.remaining) == (5, 0)
    assert tree(out) == EXPECTED
    assert computed(out) == sorted(EXPECTED)
    assert results["0/item 0"].outputs == (out / "0/item 0",)
    assert results["0/item 0"].facts == {"length": 14, "nothing": None}
    tally, _ = go()
    assert (tally.done, tally.unchanged, tally.exit_code()) == (0, 5, 0)
    assert computed(out) == []
    assert sorted(path.name for path in (out / ".dualsr").iterdir()) == ["lock", "manifest"]


def test_what_changed_is_done_again_and_nothing_else(inline: Go, source: Path, out: Path) -> None:
    inline()
    computed(out)
    age(source)
    inline()  # other times, the same contents
    assert computed(out) == []
    (source / "0/item 2.b").write_bytes(b"tele, better")
    inline()
    assert computed(out) == ["0/item 2"]
    assert tree(out)["0/item 2"] == b"WIDE 2, TELE, BETTER"
    inline(items_of(source, scale=3.0))
    assert computed(out) == sorted(EXPECTED)
    (out / "0/item 4").unlink()
    inline(items_of(source, scale=3.0))
    assert computed(out) == ["0/item 4"]


def test_an_input_replaced_by_one_of_the_same_size_and_time_is_noticed(
    inline: Go, source: Path, out: Path
) -> None:
    age(source)
    inline()
    path = source / "0/item 0.a"
    path.write_bytes(b"WIDE 9, ")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    inline()
    assert tree(out)["0/item 0"] == b"WIDE 9, TELE 0"


def test_one_bad_item_does_not_stop_the_rest(inline: Go, source: Path, out: Path) -> None:
    (source / "0/item 2.a").write_bytes(b"BAD")
    (source / "1/item 3.b").unlink()
    tally, results = inline()
    assert (tally.done, tally.failed, tally.exit_code()) == (3, 2, 3)
    problems = {name: r.problem for name, r in results.items() if r.problem}
    assert problems["0/item 2"].sentence == f"{source / '0/item 2.a'} is bad: bring a good one"
    assert (
        problems["1/item 3"].sentence == f"{source / '1/item 3.b'} does not exist: check the path"
    )
    assert computed(out) == ["0/item 0", "0/item 4", "1/item 1"]
    (source / "0/item 2.a").write_bytes(b"wide 2, ")
    (source / "1/item 3.b").write_bytes(b"tele 3")
    tally, results = inline()
    assert (tally.done, tally.unchanged, tally.exit_code()) == (2, 3, 0)
    assert results["0/item 2"].attempts == 2
    assert tree(out) == EXPECTED


def test_the_first_failure_ends_the_run_where_that_is_asked_for(inline: Go, source: Path) -> None:
    (source / "0/item 2.a").write_bytes(b"BAD")
    tally, _ = inline(keep_going=False)
    assert (tally.done, tally.failed, tally.remaining, tally.exit_code()) == (1, 1, 3, 3)


def test_passing_failures_are_tried_again(inline: Go, source: Path, out: Path) -> None:
    (source / "0/item 0.a").write_bytes(b"FLAKY ")
    (source / "0/luck").write_bytes(b"12")
    tally, results = inline(retries=2)
    assert (tally.done, results["0/item 0"].attempts) == (5, 3)
    (source / "0/item 0.a").write_bytes(b"FLAKY again ")
    (source / "0/luck").write_bytes(b"12345")
    tally, results = inline(retries=2)
    assert (tally.failed, results["0/item 0"].attempts) == (1, 6)


def test_a_full_disk_ends_the_run_and_loses_nothing(inline: Go, source: Path, out: Path) -> None:
    (source / "0/item 2.a").write_bytes(b"FULL")
    tally, _ = inline()
    assert (tally.done, tally.failed, tally.remaining, tally.exit_code()) == (1, 0, 4, 3)
    assert tally.problem
    assert tally.problem.sentence == f"{out / '0/item 2'} cannot be written: the disk is full"
    (source / "0/item 2.a").write_bytes(b"wide 2, ")
    assert inline()[0].exit_code() == 0
    assert tree(out) == EXPECTED


def test_a_crash_costs_the_item_that_crashes(local: Go, source: Path, out: Path) -> None:
    (source / "0/item 2.a").write_bytes(b"CRASH")
    tally, results = local(retries=1)
    assert (tally.done, tally.quarantined, tally.exit_code()) == (4, 1, 3)
    problem = results["0/item 2"].problem
    assert problem
    assert problem.sentence.startswith(f"{source / '0/item 2.a'} could not be worked on")
    computed(out)
    tally, results = local()
    assert (tally.unchanged, tally.quarantined, tally.exit_code()) == (4, 1, 3)
    assert computed(out) == []
    (source / "0/item 2.a").write_bytes(b"wide 2, ")  # another file: no reason to leave it out
    assert local()[0].exit_code() == 0
    assert tree(out) == EXPECTED


def test_an_item_that_hangs_is_given_up(local: Go, source: Path, out: Path) -> None:
    (source / "0/item 2.a").write_bytes(b"HANG")
    tally, results = local(retries=0, timeout=3)
    assert (tally.done, tally.quarantined) == (4, 1)
    problem = results["0/item 2"].problem
    assert problem
    assert "takes longer than 3 s" in problem.sentence


def test_what_no_worker_can_do_ends_the_run(source: Path, out: Path) -> None:
    manifest = Manifest(out)
    engine = LocalEngine(Join(needs="cuda"), 1, 1 << 30)
    try:
        tally = run(items_of(source), out, engine, manifest)
    finally:
        engine.stop()
        manifest.close()
    assert (tally.remaining, tally.exit_code()) == (5, 2)
    assert tally.problem
    assert "--device cuda is not on this machine" in tally.problem.sentence


def test_somebody_elses_file_is_never_written_over(inline: Go, source: Path, out: Path) -> None:
    (out / "0").mkdir(parents=True)
    (out / "0/item 0").write_bytes(b"my holiday")
    tally, results = inline()
    assert (tally.done, tally.failed, tally.exit_code()) == (4, 1, 3)
    problem = results["0/item 0"].problem
    assert problem
    assert "is there already and not known to be dualsr's" in problem.sentence
    assert tree(out)["0/item 0"] == b"my holiday"
    assert inline(overwrite=True)[0].exit_code() == 0
    assert tree(out) == EXPECTED


def test_a_result_that_somebody_edited_is_left_alone(inline: Go, source: Path, out: Path) -> None:
    inline()
    (out / "0/item 0").write_bytes(b"retouched")
    tally, results = inline()
    assert (tally.unchanged, results["0/item 0"].altered) == (5, True)
    (source / "0/item 0.a").write_bytes(b"new")
    tally, _ = inline()
    assert tally.failed == 1
    assert tree(out)["0/item 0"] == b"retouched"


def test_a_photo_is_never_written_over(inline: Go, source: Path, out: Path) -> None:
    items = [replace(items_of(source)[0], name="item 0.a")]
    out.mkdir()
    os.link(items[0].inputs[0], out / "item 0.a")
    _, results = inline(items, overwrite=True)
    problem = results["item 0.a"].problem
    assert problem
    assert "is one of the photos themselves" in problem.sentence
    assert items[0].inputs[0].read_bytes() == b"wide 0, "


def test_results_of_several_files(inline: Go, source: Path, out: Path) -> None:
    items = items_of(source, folder=True)
    _, results = inline(items)
    assert results["0/item 0"].outputs == (out / "0/item 0/joined", out / "0/item 0/sizes")
    assert len(tree(out)) == 10
    (out / "0/item 0/sizes").unlink()
    computed(out)
    inline(items)
    assert computed(out) == ["0/item 0"]
    assert len(tree(out)) == 10


def test_lost_and_damaged_lines_cost_work_and_nothing_else(
    inline: Go, source: Path, out: Path
) -> None:
    inline()
    before = rows(out)
    manifest = out / ".dualsr" / "manifest"
    whole = manifest.read_bytes()
    lines = whole.splitlines(keepends=True)
    broken = {
        "torn": whole[:-100],
        "a byte flipped": whole[:300] + bytes([whole[300] ^ 1]) + whole[301:],
        "a hole": whole[:500] + bytes(700) + whole[1200:],
        "empty": b"",
        "noise": os.urandom(5000),
        "one long line": b"x" * 3_000_000,
        "a line twice, the order lost": b"".join([lines[3], lines[4], *lines[:4]]),
    }
    for what, content in broken.items():
        manifest.write_bytes(content)
        tally, _ = inline()
        assert tally.exit_code() == 0, what
        assert tree(out) == EXPECTED, what
        assert rows(out) == before, what


def test_a_forged_manifest_leads_nowhere(inline: Go, source: Path, out: Path) -> None:
    import json
    import zlib

    inline()
    manifest = out / ".dualsr" / "manifest"
    line = manifest.read_bytes().splitlines()[0]
    for change in (
        {"item": "../../etc/passwd"},
        {"state": "great"},
        {"outputs": [{"path": "/etc/passwd", "sha256": "", "size": 1, "mtime_ns": 1}]},
        {"outputs": 7},
        {"inputs": [["a"]]},
        {"seconds": {"read": "long"}},
        {"attempts": True},
        {"v": 2},
        {"more": 1},
    ):
        fields = {**json.loads(line), **change}
        del fields["crc"]
        body = json.dumps(fields, separators=(",", ":")).encode()[:-1]
        manifest.write_bytes(body + b',"crc":"%08x"}\n' % zlib.crc32(body))
        assert read_records(out) == ([], 1), change
    deep = b'{"v":' + b"[" * 100_000
    manifest.write_bytes(deep + b',"crc":"%08x"}\n' % zlib.crc32(deep))
    assert read_records(out) == ([], 1)


def test_deleted_inputs_leave_the_result_and_a_note(inline: Go, source: Path, out: Path) -> None:
    inline()
    (source / "0/item 0.a").unlink()
    items = items_of(source)
    manifest = Manifest(out)
    assert mark_orphans(items, manifest, str(source), "join") == ["0/item 0"]
    assert mark_orphans(items, manifest, str(source), "join") == []
    manifest.close()
    assert tree(out) == EXPECTED
    assert {r.item for r in read_records(out)[0] if r.state == "orphaned"} == {"0/item 0"}
    (source / "0/item 0.a").write_bytes(b"wide 0, ")
    computed(out)
    inline()
    assert computed(out) == []
    assert {r.state for r in read_records(out)[0]} == {"done"}


def test_what_would_be_done(inline: Go, source: Path, out: Path) -> None:
    (source / "0/item 0.a").write_bytes(b"BAD")
    inline()
    (source / "0/item 2.a").write_bytes(b"other")
    (out / "0/item 4").unlink()
    fill(source, 6)
    (source / "0/item 0.a").write_bytes(b"BAD")
    (source / "0/item 2.a").write_bytes(b"other")
    manifest = Manifest(out)
    actions = {item.name: action for item, action in planned(items_of(source), manifest)}
    manifest.close()
    assert actions == {
        "0/item 0": "again",
        "0/item 2": "changed",
        "0/item 4": "again",
        "1/item 1": "unchanged",
        "1/item 3": "unchanged",
        "1/item 5": "new",
    }


def test_a_folder_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="a part of its path is a file"):
        Manifest(tmp_path / "file")


_RUNS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import items_of
from toy_task import Join
from dualsr_cli.jobs import LocalEngine, Manifest, run

if __name__ == "__main__":
    source, out = map(Path, sys.argv[2:4])
    engine, manifest = LocalEngine(Join(log=out.with_suffix(".log")), 1, 1 << 30), Manifest(out)
    print("ready", flush=True)
    sys.stdin.readline()
    tally = run(items_of(source), out, engine, manifest)
    engine.stop()
    manifest.close()
    print(tally.done, tally.unchanged, tally.failed)
"""


def test_two_runs_at_once_share_the_work(source: Path, out: Path) -> None:
    fill(source, 40)
    command = [sys.executable, "-c", _RUNS, str(Path(__file__).parent), str(source), str(out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for process in runs:
        assert process.stdout.readline() == "ready\n"
    for process in runs:
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate()[0] for process in runs]
    assert [process.returncode for process in runs] == [0, 0]
    counts = [list(map(int, line.split())) for line in printed]
    assert [sum(count) for count in counts] == [40, 40]
    assert sum(count[0] for count in counts) == 40  # each was done once
    assert sorted(tree(out).values()) == sorted(f"WIDE {n}, TELE {n}".encode() for n in range(40))
    assert len(computed(out)) == 40


def test_a_stop_leaves_a_manifest_to_go_on_from(source: Path, out: Path) -> None:
    (source / "0/item 2.a").write_bytes(b"HANG")
    stop = Stop()
    engine, manifest = LocalEngine(Join(), 1, 1 << 30), Manifest(out)
    with stop.signals():
        threading.Timer(0, lambda: None).start()
        tally = run(
            items_of(source),
            out,
            engine,
            manifest,
            report=lambda result: os.kill(os.getpid(), signal.SIGTERM),
            stop=stop,
        )
    manifest.close()
    assert (tally.interrupted, tally.exit_code()) == (True, 130)
    assert tally.done >= 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    (source / "0/item 2.a").write_bytes(b"wide 2, ")
    manifest = Manifest(out)
    assert run(items_of(source), out, InlineEngine(Join()), manifest).exit_code() == 0
    manifest.close()
    assert tree(out) == EXPECTED


def test_without_a_manifest_only_the_result_is_left(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    out.mkdir()
    (out / "mine").write_bytes(b"mine")
    (out / "0").mkdir()
    (out / "0" / "item 0").write_bytes(b"old")
    tally = run(items_of(source)[:1], out, InlineEngine(Join()), None)
    assert tally.exit_code() == 0
    assert tree(out) == {"mine": b"mine", "0/item 0": EXPECTED["0/item 0"]}
    assert sorted(path.name for path in out.iterdir()) == ["0", "mine"]


def test_options_have_sound_defaults() -> None:
    assert RunOptions().keep_going
    assert RunOptions().retries == 2
