"""Models as data: what is shipped and sound, where others lie, and what a bad description costs."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualsr_cli.errors import DualsrError, InputError, UsageError
from dualsr_cli.networks import find_model, list_models, published_weights, read_weights, zoo

SOUND = {
    "kind": "backbone",
    "architecture": "vgg16",
    "settings": {"last": "relu3_3", "widths": [64, 128], "scale": 2.5, "bias": True},
    "licence": "MIT",
    "source": "trained here",
    "sha256": "0" * 64,
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUALSR_HOME", str(tmp_path))
    return tmp_path


def describe(home: Path, name: str, text: str | bytes) -> Path:
    config = home / "models" / name / "config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config


def test_each_shipped_model_is_whole(home: Path, repository: Path) -> None:
    models = list_models()
    assert {model.name for model in models} >= {"vgg16"}
    table = (repository / "models" / "README.md").read_text(encoding="utf-8")
    for model in models:
        assert model.shipped
        assert model == find_model(model.name)
        weights = read_weights(model.weights, model.sha256)
        card = (model.folder / "README.md").read_text(encoding="utf-8")
        assert card.startswith(f"# {model.name}\n")
        assert model.licence in card
        assert f"[`{model.name}`]({model.name}/README.md)" in table
        if model.licence == "BSD-3-Clause":
            text = (model.folder / "LICENSE").read_text(encoding="utf-8")
            assert "Redistributions in binary form" in text
        if model.name == "vgg16":
            assert {value.dtype.itemsize for value in weights.values()} == {2}
            assert model.weights.stat().st_size < 3.7e6


def test_models_of_ones_own(home: Path) -> None:
    describe(home, "mine", yaml.safe_dump(SOUND))
    describe(home, "vgg16", yaml.safe_dump(SOUND))
    (home / "models" / "no-model").mkdir()
    mine = find_model("mine")
    assert mine.weights == home / "models" / "mine" / "weights.safetensors"
    assert (mine.shipped, mine.licence, mine.sha256) == (False, "MIT", "0" * 64)
    assert mine.settings == {**SOUND["settings"], "widths": (64, 128)}  # type: ignore[dict-item]
    assert find_model("vgg16").shipped  # no one's own takes its place
    names = [model.name for model in list_models()]
    assert names == sorted(names)
    assert mine in list_models()
    assert "no-model" not in names


@pytest.mark.parametrize("name", ["your", "../models/mine", "mine/", "Mine", "", "no-model"])
def test_an_unknown_name_is_told_with_the_known_ones(home: Path, name: str) -> None:
    describe(home, "mine", yaml.safe_dump(SOUND))
    with pytest.raises(UsageError, match=r"^there is no model '.*': choose among .*mine, .*vgg16"):
        find_model(name)


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_DATA_HOME", "{data}/dualsr/models"),
        ("linux", "", "{home}/.local/share/dualsr/models"),
        ("darwin", "", "{home}/Library/Application Support/dualsr/models"),
        ("win32", "LOCALAPPDATA", "{data}/dualsr/models"),
        ("win32", "", "{home}/AppData/Local/dualsr/models"),
    ],
)
def test_where_ones_own_models_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, expected: str
) -> None:
    for name in ("DUALSR_HOME", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "h"))
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "d"))
    monkeypatch.setattr(sys, "platform", platform)
    assert zoo.own_folder() == Path(expected.format(home=tmp_path / "h", data=tmp_path / "d"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (yaml.safe_dump({**SOUND, "speed": 3, "size": 4}), "has unknown keys ('size', 'speed')"),
        (yaml.safe_dump({"kind": "backbone", "source": "x"}), "lacks architecture, settings, lic"),
        (yaml.safe_dump({**SOUND, "kind": "toy"}), "has a kind that is not one of backbone"),
        (yaml.safe_dump({**SOUND, "kind": ["a"]}), "has a kind that is not one of backbone"),
        (yaml.safe_dump({**SOUND, "sha256": 3}), "has a sha256 that is not a SHA-256 of 64"),
        (yaml.safe_dump({**SOUND, "licence": "a\nb"}), "has a licence that is not an SPDX name"),
        (yaml.safe_dump({**SOUND, "settings": {"a": {"b": 1}}}), "has a settings that is not a m"),
        (yaml.safe_dump({**SOUND, "settings": {"a": [[1]]}}), "has a settings that is not a m"),
        (yaml.safe_dump({**SOUND, "settings": {1: 1}}), "has a settings that is not a mapping"),
        ("", "is no YAML mapping"),
        ("- a", "is no YAML mapping"),
        ("a: [", "is no YAML (expected the node content, but found '<stream end>')"),
        ("a: !!python/name:os.system", "is no YAML (could not determine a constructor"),
        ("a: !!int ''", "is no YAML (IndexError)"),
        ("[" * 800, "is no YAML (RecursionError)"),
        (b"\xff\xfe\xff", "is no YAML"),
        ("a" * 70000, "is larger than 64 KiB"),
    ],
)
def test_a_bad_description_is_told(home: Path, text: str | bytes, sentence: str) -> None:
    config = describe(home, "mine", text)
    for ask in (list_models, lambda: find_model("mine")):
        with pytest.raises(InputError) as caught:
            ask()
        assert str(caught.value).startswith(f"{config} {sentence}")
        assert "\n" not in str(caught.value)
    told: list[InputError] = []
    assert {"vgg16"} <= {model.name for model in list_models(told.append)}
    assert [str(error) for error in told] == [str(caught.value)]
    with pytest.raises(UsageError, match=r"^there is no model 'other': choose among .*vgg16"):
        find_model("other")


def test_a_bad_description_of_a_shipped_model_is_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = describe(home, "theirs", "- a")
    monkeypatch.setattr(zoo, "shipped_folder", lambda: config.parent.parent)
    with pytest.raises(InputError, match=r"theirs.* is no YAML mapping"):
        list_models(lambda error: None)


def test_a_folder_with_no_models_name_is_told(home: Path) -> None:
    describe(home, "My model", yaml.safe_dump(SOUND))
    with pytest.raises(InputError, match=r"My model is no model's name: use lower-case letters"):
        list_models()


@given(data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damage_is_told_or_harmless(home: Path, data: st.DataObject) -> None:
    content = bytearray(yaml.safe_dump(SOUND).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 8, 100]))
        content[start : start + length] = data.draw(
            st.sampled_from([b"", b": ", b"- ", b"!!int ", b"&a ", b"*a", b"\n", b"{", b"'"])
            | st.binary(max_size=4)
        )
    describe(home, "mine", bytes(content))
    try:
        assert find_model("mine").name == "mine"
    except DualsrError as error:
        assert "\n" not in str(error)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, Any]]:
    """What a server has, and a table that names it; torchvision's cache is an empty folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    served = tmp_path / "served-0123.pth"
    served.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    table = {"toy": zoo.Published(served.as_uri(), sha256, 1)}
    monkeypatch.setattr(zoo, "PUBLISHED", table)
    return served, table


def test_nothing_is_downloaded_unasked(published: tuple[Path, dict[str, Any]]) -> None:
    served, _ = published
    place = served.parent / "torch" / "hub" / "checkpoints" / served.name
    with pytest.raises(InputError, match=r"does not exist: get file:.*1 MB"):
        published_weights("toy")
    assert not place.exists()
    assert published_weights("toy", download=True) == place
    assert place.read_bytes() == b"weights"
    served.unlink()
    assert published_weights("toy") == place


def test_a_download_that_fails_or_is_not_right_leaves_nothing(
    published: tuple[Path, dict[str, Any]],
) -> None:
    served, table = published
    served.write_bytes(b"others")
    with pytest.raises(InputError, match=r"cannot be had from .* \(invalid hash value"):
        published_weights("toy", download=True)
    table["toy"] = zoo.Published((served.parent / "gone.pth").as_uri(), "", 1)
    with pytest.raises(InputError, match=r"gone\.pth cannot be had from"):
        published_weights("toy", download=True)
    assert [path for path in (served.parent / "torch").rglob("*") if path.is_file()] == []


def test_the_tables_hashes_are_those_in_torchvisions_file_names() -> None:
    for file in zoo.PUBLISHED.values():
        assert file.url.endswith(f"-{file.sha256[:8]}.pth")


def test_models_and_the_sample_are_in_the_wheel(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        "import json, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from dualsr_cli.networks import list_models, pretrained_vgg\n"
        "pretrained_vgg('vgg16', ['relu3_3'])\n"
        "print(json.dumps([[m.name, str(m.folder)] for m in list_models() if m.shipped]))\n"
        "from dualsr_cli.benchmark import dataset_root\n"
        "print(dataset_root('sample'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "site")],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    packaged = tmp_path / "site" / "dualsr_cli" / "models"
    shipped = sorted(config.parent.name for config in repository.glob("models/*/config.yaml"))
    models, sample = done.stdout.splitlines()
    assert json.loads(models) == [[name, str(packaged / name)] for name in shipped]
    assert sample == str(packaged.parent / "sample_pairs")
    for path in repository.glob("sample_pairs/*/*"):
        assert (Path(sample) / path.relative_to(repository / "sample_pairs")).is_file()
    for name in shipped:
        assert sorted(path.name for path in (packaged / name).iterdir()) == sorted(
            path.name for path in (repository / "models" / name).iterdir()
        )
