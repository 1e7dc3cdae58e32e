"""JSON files of a model, which may be anybody's: read within bounds, and refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from boomerang_cli.engine.checkpoint.files import refuse_pointer
from boomerang_cli.engine.checkpoint.tensors import MAX_HEADER_BYTES
from boomerang_cli.engine.errors import CheckpointError

_MAX_JSON_BYTES = MAX_HEADER_BYTES  # an index says no more of a tensor than a header
_MAX_NESTING = 100
"""Of JSON: what goes deeper is no model's, and cannot be written again within Python's recursion limit."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: the file is missing, not JSON, or not an object.
    """
    content = read_json_value(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def read_json_value(path: Path) -> Any:
    """Read whatever JSON a file holds (errors as in :func:`read_json`)."""
    try:
        if (size := path.stat().st_size) > _MAX_JSON_BYTES:
            raise CheckpointError(f"{path} has {size:,} bytes: JSON of more than {_MAX_JSON_BYTES:,} is not read")
        data = path.read_bytes()
        refuse_pointer(path, data)
        content = json.loads(data)
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} has no {path.name}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if _nesting(content) > _MAX_NESTING:
        raise CheckpointError(f"{path} is nested more than {_MAX_NESTING} levels deep")
    return content


def _nesting(content: Any) -> int:
    """Return how many levels deep lists and objects stand in one another."""
    levels, level = 0, [content]
    while level:
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))]
        levels, level = levels + 1, [value for values in inner for value in values]
    return levels
