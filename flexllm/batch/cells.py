"""Cells of tables that are more than texts, as JSON has them: those of workbooks, Parquet files and data frames."""

from __future__ import annotations

import base64
import datetime
import math
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from ..language import _


def extra_missing(name: str, package: str) -> ConfigError:
    """Return what is raised where the package that a kind of file needs is not installed."""
    return ConfigError(
        _("{name} needs {package}; install it with pip install 'flexllm[table]'", name=name, package=package)
    )


def plain(value: Any) -> Any:
    """Return a cell as JSON can hold it, exactly where JSON can.

    Numbers stay numbers; dates and times are texts of ISO 8601, bytes are base64. What says that there is no value (NaN,
    NaT) is None, an infinite number its text. Lists and mappings are taken apart, and all else is its own text.
    """
    if value is None or type(value) in (str, bool, int):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if is_nothing(value):
        return None
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if callable(getattr(value, "tolist", None)):  # numpy's numbers and arrays
        return plain(value.tolist())
    return str(value)


def is_nothing(value: Any) -> bool:
    """Return whether a value is None or one of those that are not equal to themselves, as NaN and the like of it."""
    if value is None:
        return True
    if getattr(value, "shape", ()) != ():  # an array, which compares each of its own
        return False
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA cannot tell whether it equals anything
        return True
