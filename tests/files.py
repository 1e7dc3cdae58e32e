"""safetensors files made by hand, whole or broken, and what a folder holds."""

from __future__ import annotations

import json
import resource
import struct
from pathlib import Path
from typing import Any

from safetensors import safe_open

from boomerang_cli.engine.init_student import init_student
from boomerang_cli.engine.output.output_marker import MARKER_FILE
from boomerang_cli.engine.patch import patch


def write_raw(path: Path, header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> Path:
    """Write a safetensors file with whatever header and data, and a header length that may lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(start: int, stop: int, shape: tuple[int, ...] | None = None, dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape or (stop - start,)), "data_offsets": [start, stop]}


def tensor_bytes(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return dtype, shape and bytes of each tensor of a folder, read by the safetensors library."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                found[name] = (part.get_dtype(), tuple(part.get_shape()), file.get_tensor(name).tobytes())
    return found


def names(folder: Path) -> list[str]:
    """Return what a folder holds, apart from the record of it that each output has."""
    return sorted(path.name for path in folder.iterdir() if path.name != MARKER_FILE)


def processor_seconds_of_children() -> float:
    """Return what the processes that this one has waited for took so far; others on the machine do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON object in a file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def rewritten(teacher: Path, output: Path) -> Path:
    """Write the whole of a teacher once more, from a student of it in which every block is patched."""
    student = init_student(teacher, output=output.with_name("smaller"), keep=[0, 2])
    written = patch(depth=student.teacher_layers, student=student.path, output=output).path
    assert written is not None
    return written


def flip(path: Path, position: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
