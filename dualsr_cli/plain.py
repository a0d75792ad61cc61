"""Python's values -> JSON's, the same for what is printed and what is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any


def json_types(value: Any) -> Any:
    """A value in the types that JSON knows.

    Paths become strings, NumPy's scalars and arrays numbers and lists, times ISO 8601, NaN and
    infinity null. Raises TypeError for what has no such form.
    """
    if hasattr(value, "tolist"):  # NumPy's and torch's scalars and arrays
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): json_types(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [json_types(item) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form")
