"""`--config` and `--save-config` as a person and a script meet them."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
import yaml

from dualsr_cli import commands
from dualsr_cli.commands.config import Config, SaveConfig, save_options
from dualsr_cli.commands.options import Json, Quiet
from dualsr_cli.errors import UsageError

from .conftest import Run


class Model(str, Enum):
    plain = "plain"
    very_good = "very-good"


def _even(value: int | None) -> int | None:
    if value is not None and value % 2:
        raise UsageError("odd numbers are not taken")
    return value


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each run of `dualsr probe` got; the probe has one option of each kind."""
    runs: list[dict[str, Any]] = []

    def probe(
        context: typer.Context,
        photo: Annotated[Path, typer.Argument()],
        output: Annotated[Path, typer.Option("-o", "--output")],
        model: Annotated[Model, typer.Option()] = Model.plain,
        scale: Annotated[float | None, typer.Option(min=1, max=16)] = None,
        retries: Annotated[int, typer.Option(min=0)] = 2,
        even: Annotated[int | None, typer.Option(callback=_even)] = None,
        device: Annotated[str, typer.Option()] = "auto",
        keep_going: Annotated[bool, typer.Option("--keep-going/--no-keep-going")] = True,
        json: Json = False,
        quiet: Quiet = False,
        config: Config = None,
        save_config: SaveConfig = None,
    ) -> int:
        given = {name: value for name, value in locals().items() if name in context.params}
        save_options(context, save_config)
        runs.append({name: value for name, value in given.items() if "config" not in name})
        return 0

    module = types.ModuleType("probe_module")
    module.probe = probe  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "probe_module", module)
    row = commands._Subcommand("probe_module", "probe", "Probe.")
    monkeypatch.setitem(commands._SUBCOMMANDS, "probe", row)
    return runs


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    """A new file with this content."""

    def make(content: str | bytes) -> Path:
        file = tmp_path / "my run.yaml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return make


Write = Callable[[str | bytes], Path]
Seen = list[dict[str, Any]]

FULL = """\
# a night's work
output: größere/out.png
model: very-good
scale: 2
retries: 5
even: "4"
device: cuda:1
keep-going: false
json: True
"""


def test_a_file_stands_for_the_words(dualsr: Run, seen: Seen, write: Write) -> None:
    words = [
        "-o", "größere/out.png", "--model", "very-good", "--scale", "2", "--retries", "5",
        "--even", "4", "--device", "cuda:1", "--no-keep-going", "--json",
    ]  # fmt: skip
    assert dualsr("probe", "a.jpg", *words)[0] == 0
    assert dualsr("probe", "a.jpg", "--config", write(FULL)) == (0, "", "")
    assert seen[0] == seen[1]
    assert all(type(value) is type(seen[0][name]) for name, value in seen[1].items())
    assert isinstance(seen[1]["output"], Path)
    assert seen[1]["scale"] == 2.0


@pytest.mark.parametrize("first", [True, False])
def test_the_command_line_overrides_the_file(
    dualsr: Run, seen: Seen, write: Write, first: bool
) -> None:
    own = ["--scale", "3", "--keep-going", "-o", "b.png", "--model", "plain"]
    config = ["--config", str(write(FULL))]
    words = [*own, "a.jpg", *config] if first else [*config, "a.jpg", *own]
    assert dualsr("probe", *words)[0] == 0
    (run,) = seen
    assert (run["scale"], run["keep_going"], run["model"]) == (3.0, True, Model.plain)
    assert (run["output"], run["retries"]) == (Path("b.png"), 5)


@pytest.mark.parametrize(
    "content", ["", "---\n", "{}", "# nothing yet\n", "\ufeff# with a mark\n", b"\xff\xfe{\0}\0"]
)
def test_an_empty_file_changes_nothing(
    dualsr: Run, seen: Seen, write: Write, content: str | bytes
) -> None:
    assert dualsr("probe", "a.jpg", "-o", "b", "--config", write(content))[0] == 0
    assert dualsr("probe", "a.jpg", "-o", "b")[0] == 0
    assert seen[0] == seen[1]


def test_words_stay_as_they_are_written(dualsr: Run, seen: Seen, write: Write) -> None:
    """YAML would make a date, a number, a truth or nothing of these."""
    for written, word in (
        ("2024-05-17", "2024-05-17"),
        ("007", "007"),
        ("no", "no"),
        ("1_000", "1_000"),
        ("'true'", "true"),
        ('"null"', "null"),
        ("C:\\photos\\new", "C:\\photos\\new"),
    ):
        assert dualsr("probe", "a", "--config", write(f"output: {written}"))[0] == 0
        assert seen[-1]["output"] == Path(word)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)

WRONG = [
    ("retrys: 3", "line 1: 'retrys' is no option of 'dualsr probe': write retries"),
    ("keep_going: true", "line 1: 'keep_going' is no option of 'dualsr probe': write keep-going"),
    ("--scale: 2", "line 1: '--scale' is no option of 'dualsr probe': write scale"),
    ("o: b.png", "line 1: 'o' is no option of 'dualsr probe': write output"),
    ("photo: a.jpg", "line 1: 'photo' is no option of 'dualsr probe': choose among output, model"),
    ("x" * 200 + ": 2", "xxx'... is no option of 'dualsr probe': choose among"),
    ("\nscale: big", "line 2: scale: 'big' is not possible ("),
    ("scale: 17", "line 1: scale: '17' is not possible ("),
    ("scale: true", "line 1: scale takes a value, not true: quote it"),
    ("retries: 2.5", "line 1: retries: '2.5' is not possible ("),
    ("retries: -1", "line 1: retries: '-1' is not possible ("),
    ("retries: " + "9" * 10_000, "999'... is not possible ("),
    ("model: best", "line 1: model: 'best' is not possible ('best' is not one of 'plain', 'very"),
    ("even: 3", "line 1: even: '3' is not possible (odd numbers are not taken): see 'dualsr probe"),
    ("json: yes", "line 1: json is a flag, not 'yes': write true or false"),
    ("json: 'true'", "line 1: json is a flag, not 'true': write true or false"),
    ("json: 1", "line 1: json is a flag, not '1': write true or false"),
    ("json:", "line 1: json is a flag, not '': write true or false"),
    ("device:", "line 1: device has no value: give one, or remove the line for the default"),
    ("device: null", "line 1: device has no value"),
    ('output: "a\\0b"', "line 1: output contains a NUL"),
    ("scale: [1, 2]", "line 1: 'scale' holds a list or a mapping: write one option a line"),
    ("json: true\nscale:\n  min: 1", "line 3: 'scale' holds a list or a mapping"),
    ("[scale]: 2", "line 1: there is a list or a mapping"),
    ("- scale", "line 1: there is a list or a mapping"),
    ("scale", "line 1: 'scale' is no option: write one option a line, like quiet: true"),
    ("scale: 2\nscale: 3", "line 2: scale stands there twice: remove one"),
    ("scale: 2\n---\nscale: 3", "line 2: a second document begins"),
    ("scale: !!float 2", "line 1: a tag, anchor or alias of 'scale' is not taken"),
    ("device: !!python/object/apply:os.system [ls]", "line 1: a tag, anchor or alias of 'device'"),
    ("!!map {scale: 2}", "line 1: a tag, anchor or alias is not taken: write plain words"),
    ("retries: &a 3\nscale: *a", "line 1: a tag, anchor or alias of 'retries' is not taken"),
    ("scale: *a", "line 1: a tag, anchor or alias of 'scale' is not taken"),
    (BOMB, "line 1: a tag, anchor or alias of 'a' is not taken"),
    ("[" * 100_000, "line 1: there is a list or a mapping"),
    ("device: " + "[" * 100_000, "line 1: 'device' holds a list or a mapping"),
    ("json: true\n\tscale: 2", "line 2: is no YAML ("),
    ('device: "cpu', "is no YAML (found unexpected end of stream): write one option a line"),
    (b"device: \xe9\xe9", "is no YAML (invalid continuation byte): write one option a line"),
    (b"\x89PNG\0\0", "is no YAML ("),
    ("config: other.yaml", "line 1: 'config' cannot stand in a file: give it on the command line"),
    ("save-config: b.yaml", "line 1: 'save-config' cannot stand in a file: give it on the"),
    ("help: true", "line 1: 'help' cannot stand in a file: give it on the command line"),
]


@pytest.mark.parametrize(("content", "told"), WRONG, ids=[f"{told[-50:]}" for _, told in WRONG])
def test_one_sentence_for_what_is_wrong(
    dualsr: Run, seen: Seen, write: Write, content: str | bytes, told: str
) -> None:
    file = write(content)
    code, out, err = dualsr("probe", "a.jpg", "-o", "b.png", "--config", file)
    assert (code, out, seen) == (2, "", [])
    assert err.startswith(f"dualsr: {file}")
    assert told in err
    assert err.count("\n") == 1
    assert len(err) < 500 + len(str(file))


def test_files_that_cannot_be_read(dualsr: Run, seen: Seen, write: Write, tmp_path: Path) -> None:
    for file, told in (
        (tmp_path / "none.yaml", "does not exist: check the path"),
        (tmp_path, "is a folder: name a YAML file"),
        (write("#" * ((1 << 20) + 1)), "is larger than 1 MiB, too large for options: name another"),
    ):
        code, out, err = dualsr("probe", "a.jpg", "-o", "b.png", "--config", file)
        assert (code, out, seen) == (1, "", [])
        assert err.startswith(f"dualsr: {file} {told}")


def test_a_required_option_is_still_asked_for(dualsr: Run, seen: Seen, write: Write) -> None:
    code, _, err = dualsr("probe", "a.jpg", "--config", write("scale: 2"))
    assert (code, seen) == (2, [])
    assert "--output" in err


def test_what_is_saved_reads_back_to_the_same_run(
    dualsr: Run, seen: Seen, write: Write, tmp_path: Path
) -> None:
    saved = tmp_path / "new folder" / "saved.yaml"
    words = ["probe", "a.jpg", "--save-config", saved, "--config", write(FULL), "--retries", "2"]
    assert dualsr(*words, "--quiet", "--scale", "1.5") == (0, "", "")
    assert yaml.safe_load(saved.read_text(encoding="utf-8")) == {
        "output": "größere/out.png",
        "model": "very-good",
        "scale": 1.5,
        "even": 4,
        "device": "cuda:1",
        "keep-going": False,
        "json": True,
        "quiet": True,
    }
    assert "größere" in saved.read_text(encoding="utf-8")
    assert dualsr("probe", "a.jpg", "--config", saved)[0] == 0
    assert seen[0] == seen[1]
    assert [path.name for path in saved.parent.iterdir()] == ["saved.yaml"]


@pytest.mark.parametrize(
    "word",
    [
        "true", "no", "null", "~", "007", "1e3", "2024-05-17", "- a", "a: b", "#", "'", '"', "*a",
        "a\nb", " blank ", "&", "!", "%", "@", "日本 📷", "odd\udcff", "x y" * 200, "C:\\new",
        "\x85",
    ],
)  # fmt: skip
def test_any_word_survives(dualsr: Run, seen: Seen, tmp_path: Path, word: str) -> None:
    saved = tmp_path / "saved.yaml"
    assert dualsr("probe", "a", "-o", word, "--device", word, "--save-config", saved)[0] == 0
    assert dualsr("probe", "a", "--config", saved)[0] == 0
    assert seen[0] == seen[1]
    assert seen[1]["device"] == word


def test_options_at_their_defaults_are_not_saved(dualsr: Run, seen: Seen, tmp_path: Path) -> None:
    saved = tmp_path / "saved.yaml"
    saved.write_text("an older file")
    words = ["--model", "plain", "--retries", "2", "--keep-going"]
    assert dualsr("probe", "a", "-o", "b", *words, "--save-config", saved)[0] == 0
    assert saved.read_text() == "output: b\n"


def test_a_file_may_be_saved_over_itself(dualsr: Run, seen: Seen, write: Write) -> None:
    file = write(FULL)
    assert dualsr("probe", "a", "--config", file, "--save-config", file, "--scale", "4")[0] == 0
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["scale"] == 4
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["even"] == 4


def test_nothing_is_done_where_the_options_cannot_be_saved(
    dualsr: Run, seen: Seen, tmp_path: Path
) -> None:
    code, _, err = dualsr("probe", "a", "-o", "b", "--save-config", tmp_path)
    assert (code, seen) == (1, [])
    assert err == f"dualsr: {tmp_path} cannot be written: it is a folder; name a file\n"


def test_wrong_options_are_not_saved(dualsr: Run, seen: Seen, tmp_path: Path) -> None:
    saved = tmp_path / "saved.yaml"
    assert dualsr("probe", "a", "-o", "b", "--scale", "99", "--save-config", saved)[0] == 2
    assert not saved.exists()


def test_pairs_takes_and_saves_its_options(dualsr: Run, write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    folder.mkdir()
    table, infinite = tmp_path / "p.csv", tmp_path / "infinite.yaml"
    file = write(f"csv: {table}\nno-content-check: true\njson: true\nquiet: true\n")
    words = ["pairs", folder, "--config", file, "--max-gap", "inf", "--save-config", infinite]
    code, out, err = dualsr(*words)
    assert (code, err) == (1, "")
    assert json.loads(out) == {"event": "summary", "pairs": 0, "leftovers": 0}
    assert table.read_text() == "wide,tele\n"
    assert dualsr("pairs", folder, "--config", infinite)[:2] == (1, out)
    assert "max-gap: inf\n" in infinite.read_text()


def test_help_needs_no_yaml() -> None:
    for words in (["--help"], ["pairs", "--help"]):
        script = (
            "import sys\nfrom dualsr_cli.commands import run\n"
            f"assert run({words}) == 0\nassert 'yaml' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
