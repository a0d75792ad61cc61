"""Two photos, a folder, a table: what is to be done with each, and what its result is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dualsr_cli.errors import InputError, UsageError
from dualsr_cli.photos import FoundPair, Known, Source, find_pairs, read_source, snapshot

from .test_pairing import save, shoot


def named(source: Source) -> list[str]:
    return [source.name(pair) for pair in source.pairs]


# --- two photos


def test_two_photos_are_a_pair_named_after_the_wide_one(tmp_path: Path) -> None:
    wide, tele = tmp_path / "in" / "ä b.jpg", tmp_path / "c.jpg"
    source = read_source([wide, tele])  # neither is there: reading them will tell
    assert source == Source(tmp_path / "in", (FoundPair(wide, tele, None, None, "named"),), ())
    assert named(source) == ["ä b.jpg"]


def test_photos_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert named(read_source([Path("a.jpg"), Path("b.jpg")])) == ["a.jpg"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_other_numbers_of_photos_are_refused(tmp_path: Path, count: int) -> None:
    photos = [save(tmp_path / f"{number}.jpg") for number in range(count)]
    with pytest.raises(UsageError, match="name two photos, a folder or a pairs table"):
        read_source(photos)
    with pytest.raises(UsageError, match="name two photos, a folder or a pairs table"):
        snapshot(photos)


@pytest.mark.parametrize("name", ["Bilder", "pairs.csv", "a.jpg", "a\0b"])
def test_what_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="does not exist: check the path"):
        read_source([tmp_path / name])


# --- a folder


def test_a_folder_keeps_its_tree(tmp_path: Path) -> None:
    shoot(tmp_path / "Mai" / "a.jpg", 0, 26)
    shoot(tmp_path / "Mai" / "b.jpg", 1, 77)
    shoot(tmp_path / "c.jpg", 100, 26)
    source = read_source([tmp_path])
    assert source.root == tmp_path
    assert named(source) == ["Mai/a.jpg"]
    assert source.pairs == find_pairs(tmp_path).pairs
    assert [leftover.path.name for leftover in source.leftovers] == ["c.jpg"]


def test_a_folder_may_be_called_like_a_table(tmp_path: Path) -> None:
    shoot(tmp_path / "x.csv" / "a.jpg", 0, 26)
    shoot(tmp_path / "x.csv" / "b.jpg", 1, 77)
    assert named(read_source([tmp_path / "x.csv"])) == ["a.jpg"]


def test_the_longest_gap_is_the_callers(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 26)
    shoot(tmp_path / "b.jpg", 25, 77)
    assert not read_source([tmp_path]).pairs
    assert len(read_source([tmp_path], max_gap=30.0).pairs) == 1


def test_results_inside_the_folder_are_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    shoot(folder / "a.jpg", 0, 26)
    shoot(folder / "b.jpg", 1, 77)
    shoot(folder / "out" / "deep" / "a.jpg", 0.5, 26)
    shoot(folder / "out2" / "c.jpg", 100, 26)
    (tmp_path / "link").symlink_to(folder / "out")
    monkeypatch.chdir(folder)
    for out in (folder / "out", Path("out"), folder / "out2" / ".." / "out", tmp_path / "link"):
        source = read_source([folder], leave_out=out)
        assert named(source) == ["a.jpg"]
        assert [leftover.path.name for leftover in source.leftovers] == ["c.jpg"]
        assert sorted(path.name for path in snapshot([folder], leave_out=out)) == [
            "a.jpg",
            "b.jpg",
            "c.jpg",
        ]
    assert len(read_source([folder], leave_out=tmp_path / "elsewhere").leftovers) == 2


def test_results_do_not_go_to_the_folder_that_is_searched(tmp_path: Path) -> None:
    shoot(tmp_path / "a.jpg", 0, 26)
    with pytest.raises(UsageError, match="choose another folder"):
        read_source([tmp_path], leave_out=tmp_path / "." / "x" / "..")


# --- a table


def table(path: Path, *rows: tuple[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{wide},{tele}\n" for wide, tele in (("wide", "tele"), *rows)))
    return path


def test_a_table_beside_its_photos(tmp_path: Path) -> None:
    csv = table(tmp_path / "Pairs.CSV", ("in/a.jpg", "b.jpg"), ("x/../c.jpg", "../d.jpg"))
    source = read_source([csv])
    assert source.root == tmp_path
    assert named(source) == ["in/a.jpg", "c.jpg"]
    assert source.pairs[0] == FoundPair(
        tmp_path / "in/a.jpg", tmp_path / "b.jpg", None, None, "table"
    )
    assert source.leftovers == ()


def test_a_table_of_photos_that_lie_elsewhere(tmp_path: Path) -> None:
    csv = table(
        tmp_path / "tables" / "pairs.csv",
        ("../photos/mai/a.jpg", "b.jpg"),
        (str(tmp_path / "photos" / "juni" / "x" / "a.jpg"), "b.jpg"),
    )
    source = read_source([csv])
    assert source.root == tmp_path / "photos"
    assert named(source) == ["mai/a.jpg", "juni/x/a.jpg"]
    only = read_source([table(tmp_path / "tables" / "one.csv", ("../photos/mai/a.jpg", "b.jpg"))])
    assert only.root == tmp_path / "photos" / "mai"
    assert named(only) == ["a.jpg"]


def test_a_table_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(tmp_path / "here" / "pairs.csv", ("a.jpg", "b.jpg"))
    table(tmp_path / "here" / "up.csv", ("a.jpg", "b.jpg"), ("../c.jpg", "b.jpg"))
    monkeypatch.chdir(tmp_path / "here")
    assert named(read_source([Path("pairs.csv")])) == ["a.jpg"]
    assert named(read_source([Path("up.csv")])) == ["here/a.jpg", "c.jpg"]


def test_a_table_may_be_empty_but_not_wrong(tmp_path: Path) -> None:
    assert read_source([table(tmp_path / "a.csv")]) == Source(tmp_path, (), ())
    with pytest.raises(InputError, match="line 2: wide and tele are the same file"):
        read_source([table(tmp_path / "b.csv", ("a.jpg", "a.jpg"))])


# --- again and again


def test_only_new_and_changed_photos_are_opened_again(tmp_path: Path) -> None:
    wide = shoot(tmp_path / "a.jpg", 0, 26)
    shoot(tmp_path / "b.jpg", 1, 77)
    known: Known = {}
    first = read_source([tmp_path], known=known)
    assert named(first) == ["a.jpg"]
    # Other content that size and time do not show is not seen: the photo was not opened.
    status = wide.stat()
    wide.write_bytes(bytes(status.st_size))
    os.utime(wide, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert read_source([tmp_path], known=known) == first
    os.utime(wide, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert not read_source([tmp_path], known=known).pairs
    shoot(wide, 0, 26)
    shoot(tmp_path / "c.jpg", 100, 26)
    again = read_source([tmp_path], known=known)
    assert (again.pairs, len(again.leftovers)) == (first.pairs, 1)
    wide.unlink()
    assert [leftover.path.name for leftover in read_source([tmp_path], known=known).leftovers] == [
        "b.jpg",
        "c.jpg",
    ]
    assert {path.name for path in known} == {"b.jpg", "c.jpg"}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every file")
def test_a_photo_that_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    wide = shoot(tmp_path / "a.jpg", 0, 26)
    shoot(tmp_path / "b.jpg", 1, 77)
    known: Known = {}
    wide.chmod(0)
    assert not read_source([tmp_path], known=known).pairs
    wide.chmod(0o600)
    assert len(read_source([tmp_path], known=known).pairs) == 1


def test_a_snapshot_shows_what_comes_grows_and_goes(tmp_path: Path) -> None:
    wide = shoot(tmp_path / "in" / "a.jpg", 0, 26)
    (tmp_path / "notes.txt").write_text("x")
    before = snapshot([tmp_path])
    assert before == {wide: (wide.stat().st_size, wide.stat().st_mtime_ns)}
    with open(wide, "ab") as file:
        file.write(b"more")
    grown = snapshot([tmp_path])
    assert grown[wide][0] == before[wide][0] + 4
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert snapshot([tmp_path]) == grown
    wide.unlink()
    assert snapshot([tmp_path]) == {}


def test_a_snapshot_of_photos_and_of_a_table(tmp_path: Path) -> None:
    wide = save(tmp_path / "a.jpg")
    assert set(snapshot([wide, tmp_path / "not yet.jpg"])) == {wide}
    csv = table(tmp_path / "pairs.csv", ("a.jpg", "b.jpg"))
    assert set(snapshot([csv])) == {csv, wide}
    csv.write_text("wide,tele\na.jpg,b.jpg\nc.j")  # it is still being written
    assert set(snapshot([csv])) == {csv}
