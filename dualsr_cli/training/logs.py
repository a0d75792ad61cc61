"""A training's logs: CSV, pictures of samples, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dualsr_cli.errors import OutputError
from dualsr_cli.files import atomic_writer, output_error
from dualsr_cli.networks import Inputs, Outputs


class Table:
    """A CSV file that rows are added to, the iteration in the first column.

    A training that goes on from `step` drops the rows after it: they will come again. Columns that
    an older file lacks stay empty there.
    """

    def __init__(self, path: Path, columns: Sequence[str], step: int) -> None:
        """Raises OutputError."""
        self.path = path
        self.columns = ["step", *columns]
        kept = [row for row in _rows(path) if row.get("step", "").isdigit()]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in kept if int(row["step"]) <= step)
        with atomic_writer(path) as file:
            file.write(text.getvalue().encode())

    def add(self, step: int, values: Mapping[str, float | str]) -> None:
        """Raises OutputError."""
        row = {name: f"{v:.6g}" if isinstance(v, float) else v for name, v in values.items()}
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns, lineterminator="\n").writerow(
                    {"step": step, **row}
                )
        except OSError as error:
            raise output_error(self.path, error) from error


class Logs:
    """The logs of a run's folder: log.csv, validation.csv, samples/ and tensorboard/."""

    def __init__(self, folder: Path, losses: Sequence[str], step: int) -> None:
        """losses: by the names of their columns. Raises OutputError."""
        self.folder = folder
        self.step = step
        self.table = Table(
            folder / "log.csv", ["stage", "seconds", "rate", "norm", "loss", *losses], step
        )
        self.validation: Table | None = None
        self.board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def losses(self, step: int, values: Mapping[str, float | str]) -> None:
        """Means since the last call. Raises OutputError."""
        self.table.add(step, values)
        self._scalars("training", step, values)

    def validated(self, step: int, values: Mapping[str, float]) -> None:
        """What validation measured. Raises OutputError."""
        if self.validation is None:
            self.validation = Table(self.folder / "validation.csv", list(values), self.step)
        self.validation.add(step, {name: float(value) for name, value in values.items()})
        self._scalars("validation", step, values)

    def picture(self, step: int, inputs: Inputs, outputs: Outputs) -> Path:
        """The first sample's LR and Ref, enlarged, result and truth side by side, as a PNG.

        Raises OutputError.
        """
        shown = [inputs.lr, inputs.ref, outputs.sr, *([] if inputs.hr is None else [inputs.hr])]
        size = (outputs.sr.shape[2], outputs.sr.shape[3])
        images = [
            F.interpolate(image[:1].detach().float().cpu(), size, mode="bicubic").clamp(0, 1)
            for image in shown
        ]
        strip = torch.cat(images, dim=3)[0]
        pixels = (strip * 255).round().byte().permute(1, 2, 0).numpy()
        path = self.folder / "samples" / f"{step:09}.png"
        from PIL import Image

        with atomic_writer(path) as file:
            Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
        if self.board is not None:
            self.board.add_image("samples", strip, step)
        return path

    def close(self) -> None:
        if self.board is not None:
            self.board.close()

    def _scalars(self, group: str, step: int, values: Mapping[str, float | str]) -> None:
        if self.board is None:
            return
        for name, value in values.items():
            if isinstance(value, float) and math.isfinite(value):
                self.board.add_scalar(f"{group}/{name}", value, step)


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a log that is there. Raises OutputError."""
    if not path.exists():
        return []
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            # A row that a kill cut short lacks values, or has a column too many.
            return [row for row in csv.DictReader(file) if None not in (*row, *row.values())]
    except (OSError, csv.Error) as error:
        raise OutputError(path, "is no log of a training: choose another folder") from error
