"""The ids of the file's models and nothing else: a shell asks for them at each keystroke, so that it must be quick."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .nodes import NULL, compose_quickly, read_file, yaml_errors


def listed_ids(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the ids in the file's order. What else the file says is not looked at.

    Raises:
        ConfigError: The file is unreadable, or no YAML.
    """
    file, data, _is_open = read_file(path, environ)
    if data is None:
        return []
    with yaml_errors(data, file):
        loader, root = compose_quickly(data)
        ids: dict[str, None] = {}
        for entry in _entries(root):
            loader.flatten_mapping(entry)
            named = _texts(entry)
            found = named.get("id") or named.get("name")
            if found:
                ids[found] = None
    return list(ids)


def _entries(root: Any) -> list[Any]:
    """Return the nodes of the models, as far as they are where they should be."""
    for key, value in root.value if root is not None and root.id == "mapping" else ():
        if key.value == "models" and value.id == "sequence":
            return [entry for entry in value.value if entry.id == "mapping"]
    return []


def _texts(entry: Any) -> dict[str, str]:
    scalars = ((key, value) for key, value in entry.value if key.id == value.id == "scalar")
    return {key.value: value.value for key, value in scalars if value.tag != NULL}
