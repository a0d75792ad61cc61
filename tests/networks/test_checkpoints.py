"""Files of weights: what is read from them, and that nothing else comes of hostile ones."""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from dualsr_cli.errors import InputError
from dualsr_cli.networks import load_into, read_weights

WEIGHTS = {
    "head.weight": torch.arange(6.0).reshape(2, 3),
    "head.bias": torch.tensor([0.5, -1.0]).half(),
    "steps": torch.tensor(7),
}
STATE = OrderedDict(WEIGHTS)


def zipped(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def legacy(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def safe(content: Any) -> bytes:
    data: bytes = safetensors.torch.save(content)
    return data


FORMATS: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "safetensors": ("a.safetensors", safe),
    "zipped": ("a.pth", zipped),
    "legacy": ("a.pt", legacy),
}


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return set(found) == set(expected) and all(
        torch.equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype
        for name in expected
    )


@pytest.mark.parametrize("form", FORMATS)
def test_tensors_come_back_as_they_were_saved(tmp_path: Path, form: str) -> None:
    name, save = FORMATS[form]
    path = tmp_path / name
    path.write_bytes(save(WEIGHTS))
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert same(read_weights(path, right), WEIGHTS)
    path.write_bytes(save({f"module.{name}": value for name, value in WEIGHTS.items()}))
    assert same(read_weights(path), WEIGHTS)
    with pytest.raises(InputError, match=r"\(its SHA-256 differs\): get it again"):
        read_weights(path, right)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3, "optimizer": {"lr": 1e-4}},
        {"params": {"head": torch.ones(1)}, "params_ema": STATE},
        {"model": OrderedDict((f"module.{name}", value) for name, value in STATE.items())},
    ],
)
def test_what_training_programs_wrap_weights_in(tmp_path: Path, content: Any) -> None:
    for save in (zipped, legacy):
        (tmp_path / "a.ckpt").write_bytes(save(content))
        assert same(read_weights(tmp_path / "a.ckpt"), WEIGHTS)


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("save", [zipped, legacy, pickle.dumps, lambda c: pickle.dumps(c, 2)])
def test_code_in_a_file_is_not_run(tmp_path: Path, save: Callable[[Any], bytes]) -> None:
    sprung = tmp_path / "sprung"
    for content in (Trap(sprung), {"state_dict": STATE, "extra": Trap(sprung)}):
        for name in ("a.pth", "a.safetensors"):
            (tmp_path / name).write_bytes(save(content))
            with pytest.raises(InputError):
                read_weights(tmp_path / name)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung))).close()
    assert sprung.exists()


def test_code_in_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(zipped({"a": torch.ones(1), "b": Trap(tmp_path)}))
    with pytest.raises(InputError, match=r"a\.pth holds more than tensors \([a-z_]*\.?open\)"):
        read_weights(tmp_path / "a.pth")


class Claim:
    """A tensor of 10 million numbers, told of one stored number."""

    def __reduce__(self) -> Any:
        stored = torch.ones(1)
        storage = torch.storage.TypedStorage(
            wrap_storage=stored.untyped_storage(), dtype=stored.dtype, _internal=True
        )
        return torch._utils._rebuild_tensor_v2, (
            (storage, 0, (10_000_000,), (1,), False, OrderedDict())
        )


def compressed(content: Any) -> bytes:
    stored, packed = io.BytesIO(zipped(content)), io.BytesIO()
    with (
        zipfile.ZipFile(stored) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return packed.getvalue()


def overlapping(content: Any) -> bytes:
    """Its largest entry is listed once more, under another name: the same bytes for both."""
    file = io.BytesIO(zipped(content))
    with zipfile.ZipFile(file, "a") as archive:
        entry = max(archive.filelist, key=lambda entry: entry.file_size)
        twin = copy.copy(entry)
        twin.filename = f"{entry.filename}x"
        archive.filelist.append(twin)
        archive.writestr("x", b"")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.safetensors", b"", "is damaged or holds no weights"),
        ("a.safetensors", b"\xff" * 100, "its header would have 18446744073709551615 bytes"),
        ("a.safetensors", safe(WEIGHTS)[:-1], "is damaged or holds no weights"),
        ("a.safetensors", safe(WEIGHTS) + b"\0", "is damaged or holds no weights"),
        ("a.safetensors", safe({}), "holds no tensors by name"),
        ("a.safetensors", safe({"a": torch.ones(2).byte()}), "has a as uint8, which weights"),
        ("a.safetensors", safe({"a": torch.ones(2) * 1j}), "has a as complex64, which weights"),
        ("a.safetensors", safe({"a": torch.tensor([torch.nan])}), "has NaN or infinity in a"),
        ("a.safetensors", safe({"a": -torch.tensor([torch.inf]).half()}), "has NaN or infinity"),
        ("a.safetensors", safe({"x" * 999: torch.ones(2).byte()}), f"has {'x' * 100}... as"),
        ("a.pth", b"", "is damaged or holds no weights"),
        ("a.pth", zipped(WEIGHTS)[:-30], "is damaged or holds no weights"),
        ("a.pth", zipped([torch.ones(1)]), "holds no tensors by name, neither as such nor under"),
        ("a.pth", zipped({"state_dict": {}}), "holds no tensors by name"),
        ("a.pth", zipped({1: torch.ones(1)}), "holds no tensors by name"),
        ("a.pth", zipped({"a": torch.ones(2, device="meta")}), "has a as a tensor without values"),
        ("a.pth", zipped({"a": torch.eye(2).to_sparse()}), "has a as a tensor without values"),
        ("a.pth", zipped({"a": torch.ones(1).expand(10**9)}), "a is larger than what is stored"),
        ("a.pth", zipped({"a": Claim()}), "is damaged or holds no weights"),
        ("a.pth", legacy({"a": Claim()}), "is damaged or holds no weights"),
        ("a.pth", compressed({"a": torch.zeros(10**6)}), "unpacks to more than it holds"),
        ("a.pth", overlapping({"a": torch.zeros(10**4)}), "unpacks to more than it holds"),
        ("a.onnx", b"x", r"is no file of weights: name one that ends in .safetensors, .pth"),
    ],
)
def test_what_is_no_weights_is_refused_with_a_sentence(
    tmp_path: Path, name: str, data: bytes, sentence: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path} ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.pth does not exist"):
        read_weights(tmp_path / "a.pth")
    with pytest.raises(InputError, match="is a folder: name a file of weights"):
        read_weights(tmp_path)


@given(data=st.data())
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damage_is_told_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever bytes are changed, cut out or put in: weights that are sound, or an InputError."""
    name, save = FORMATS[data.draw(st.sampled_from(sorted(FORMATS)))]
    content = bytearray(save(WEIGHTS))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 1, 1, 8, 400]))
        content[start : start + length] = data.draw(st.binary(max_size=9))
    path = tmp_path / name
    path.write_bytes(content)
    try:
        weights = read_weights(path)
    except InputError as error:
        assert str(error).startswith(f"{path} ")
        assert "\n" not in str(error)
    else:
        assert weights
        assert all(value.double().isfinite().all() for value in weights.values())


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.register_buffer("steps", torch.tensor(0))


def test_weights_are_copied_into_a_network(tmp_path: Path) -> None:
    network = Tiny()
    weights = {name: value.clone() for name, value in WEIGHTS.items()}
    load_into(network, weights, tmp_path / "a.pth")
    weights["head.weight"].zero_()
    for name, value in network.state_dict().items():
        assert torch.equal(value, WEIGHTS[name].to(value.dtype))
    assert network.head.bias.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": None}, "it lacks steps;"),
        ({name: torch.ones(1) for name in "abcde"}, "it has a, b, c and 2 more, unknown there;"),
        ({"head.bias": torch.ones(3)}, "it has head.bias as (3,) in place of (2,);"),
        ({"steps": torch.tensor(0.5)}, "it has other kinds of numbers in steps;"),
        ({"steps": None, "x": torch.ones(1)}, "it lacks steps and has x, unknown there;"),
    ],
)
def test_what_does_not_fit_is_told_and_changes_nothing(
    change: dict[str, Any], sentence: str
) -> None:
    network = Tiny()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given = {name: value for name, value in {**WEIGHTS, **change}.items() if value is not None}
    with pytest.raises(InputError) as caught:
        load_into(network, given, Path("x.pth"))
    assert str(caught.value).startswith("x.pth does not fit Tiny: ")
    assert sentence in str(caught.value)
    assert same(network.state_dict(), before)
