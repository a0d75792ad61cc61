"""Checkpoints: whole or not there, and nothing in them is run; the logs that go on with them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from dualsr_cli.errors import InputError
from dualsr_cli.networks import Inputs, Outputs
from dualsr_cli.training.checkpointing import Checkpoint, checkpoints, load, save
from dualsr_cli.training.logs import Logs, Table


def checkpoint(step: int) -> Checkpoint:
    weights = {"a.weight": torch.rand(2, 3), "b": torch.arange(3)}
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.rand(2))])
    state = {"optimiser": optimiser.state_dict(), "losses": [0.5, float("nan")], "name": "x"}
    return Checkpoint(step, weights, None if step % 2 else weights, state)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    for step in (7, 8):
        written = checkpoint(step)
        read = load(save(tmp_path, written, keep=2))
        assert read.step == step
        assert all(torch.equal(read.weights[name], written.weights[name]) for name in read.weights)
        assert (read.averaged is None) == (written.averaged is None)
        assert repr(read.state) == repr(written.state)


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 100, 1000):
        save(tmp_path, checkpoint(step), keep=2)
    assert [int(path.name) for path in checkpoints(tmp_path)] == [100, 1000]
    save(tmp_path, checkpoint(1000), keep=2)  # again, as after a stop in between
    assert [int(path.name) for path in checkpoints(tmp_path)] == [100, 1000]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000100", "000001000"]


def test_one_that_was_cut_short_does_not_count(tmp_path: Path) -> None:
    """Killed while writing, it has another name."""
    save(tmp_path, checkpoint(5), keep=2)
    (tmp_path / ".000000006.abcd.part").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["000000005"]
    save(tmp_path, checkpoint(7), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000005", "000000007"]


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this was run",))


def test_damaged_and_hostile_ones_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, checkpoint(5), keep=2)
    state = path / "state.pt"
    whole = state.read_bytes()
    for data in (whole[:100], b"", pickle.dumps(Code())):
        state.write_bytes(data)
        with pytest.raises(InputError, match="is no whole checkpoint: delete that folder"):
            load(path)
    torch.save([1, 2], state)
    with pytest.raises(InputError, match="holds no training's state"):
        load(path)
    state.write_bytes(whole)
    (path / "weights.safetensors").write_bytes(b"12345678")
    with pytest.raises(InputError):
        load(path)
    assert capsys.readouterr().out == ""


def test_a_log_goes_on_where_its_training_does(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    table = Table(path, ["loss", "stage"], 0)
    for step in (1, 2, 3):
        table.add(step, {"loss": step / 2, "stage": "train"})
    with open(path, "a") as file:
        file.write("1")  # of 10, when the power went
    Table(path, ["loss", "stage", "l1"], 2).add(3, {"loss": 9.0})
    assert path.read_text().splitlines() == [
        "step,loss,stage,l1",
        "1,0.5,train,",
        "2,1,train,",
        "3,9,,",
    ]


def test_pictures_show_inputs_result_and_truth(tmp_path: Path) -> None:
    from PIL import Image

    lr, ref = torch.zeros(2, 3, 4, 6), torch.ones(2, 3, 4, 4)
    hr = torch.full((2, 3, 8, 12), 0.5)
    box = torch.tensor([[0, 0, 2, 2]] * 2)
    logs = Logs(tmp_path, ["l1"], 0)
    path = logs.picture(50, Inputs(lr, ref, box, hr), Outputs(hr + 1))
    logs.close()
    with Image.open(path) as picture:
        assert picture.size == (4 * 12, 8)
        shown = [picture.getpixel((12 * number + 6, 4)) for number in range(4)]
    assert shown == [(0, 0, 0), (255, 255, 255), (255, 255, 255), (128, 128, 128)]
